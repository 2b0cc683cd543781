"""API keys: the credentials of agents, dashboards and operators."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.database.tenant_owned import TenantOwned
from app.models.base import Base, Name


class ApiKey(TenantOwned, Base):
    """One key. Only the SHA-256 of the secret is stored; the runtime role can't read this table at all."""

    __tablename__ = "api_keys"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        CheckConstraint("octet_length(key_hash) = 32", name="key_hash"),
        Index("api_keys_key_hash_key", "key_hash", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[Name]
    key_prefix: Mapped[Name]
    key_hash: Mapped[bytes]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text()))
    agent_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
