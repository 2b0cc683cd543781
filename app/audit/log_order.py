"""Reading events in the order of the sealed log: the order of commits, in which nothing appears behind one's back."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Select, bindparam, literal_column, select

from app.audit.filter import AuditEventFilter
from app.database.session import TenantSession
from app.database.statements import compile_statement
from app.models import AuditEvent, AuditLogLeaf, AuditLogState

_SIZE = compile_statement(select(AuditLogState.size))


async def log_size(session: TenantSession) -> int:
    """Return how many events the tenant's log holds; its last place is one less."""
    rows = await session.fetch(_SIZE, {})
    return rows[0][0] if rows else 0


def in_log_order(columns: Sequence[str], where: AuditEventFilter, limit: int) -> Select[Any]:
    """Return the query for the first matching events with a place > `:place` and <= `:end`, in their order.

    The rows hold the named columns (attributes of `AuditEvent`) and `sequence`.
    """
    place, end = (bindparam(name, type_=BigInteger()) for name in ("place", "end"))
    of_event = [getattr(AuditEvent, name).label(name) for name in columns if name != "sequence"]
    return (
        select(*of_event, AuditLogLeaf.sequence.label("sequence"))
        .join(
            AuditLogLeaf,
            (AuditLogLeaf.tenant_id == AuditEvent.tenant_id)
            & (AuditLogLeaf.event_created_at == AuditEvent.created_at)
            & (AuditLogLeaf.event_id == AuditEvent.id),
        )
        .where(AuditLogLeaf.sequence > place, AuditLogLeaf.sequence <= end, where.condition())
        .order_by(AuditLogLeaf.sequence)
        .limit(literal_column(str(limit)))
    )
