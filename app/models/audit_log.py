"""The sealed log: each event's place in the order of commits, and the hash that it will be proven by.

The sealer writes these tables under a role of its own; the server reads them.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Boolean, CheckConstraint, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.tenant_owned import TenantOwned
from app.models.base import Base, Xid8


class AuditLogLeaf(TenantOwned, Base):
    """One event of the log. Insert-only, like the event. The numbers are dense: 0, 1, 2 ... in each tenant."""

    __tablename__ = "audit_log_leaves"
    __table_args__ = (
        UniqueConstraint("tenant_id", "event_id", name="audit_log_leaves_event_key"),
        CheckConstraint("sequence >= 0", name="sequence"),
        CheckConstraint("octet_length(leaf_hash) = 32", name="leaf_hash"),
    )

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[UUID]
    event_created_at: Mapped[datetime]
    leaf_hash: Mapped[bytes]


class AuditLogState(TenantOwned, Base):
    """How many events a tenant's log holds."""

    __tablename__ = "audit_log_states"
    __table_args__ = (CheckConstraint("size >= 0", name="size"),)

    size: Mapped[int] = mapped_column(BigInteger)


class AuditLogCursor(Base):
    """One row, the sealer's own: up to where it has seen all events, and when it was last at work."""

    __tablename__ = "audit_log_cursor"
    __table_args__ = (CheckConstraint("is_only", name="is_only"),)

    is_only: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default=text("true"))
    next_xid: Mapped[int] = mapped_column(Xid8())
    next_id: Mapped[UUID]
    pending: Mapped[list[int]] = mapped_column(ARRAY(Xid8()))
    system_identifier: Mapped[int] = mapped_column(BigInteger)
    swept_at: Mapped[datetime]
    worked_at: Mapped[datetime]
