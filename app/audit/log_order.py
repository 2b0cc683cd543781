"""Reading events in the order of the sealed log: the order of commits, in which nothing appears behind one's back."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Select, bindparam, literal_column, select

from app.audit.filter import AuditEventFilter
from app.database.session import TenantSession
from app.database.statements import compile_statement
from app.models import AuditEvent, AuditLogLeaf, AuditLogState

# A filter that few events match is looked for among so many places at once.
_LONGEST_STRETCH = 10_000

_SIZE = compile_statement(select(AuditLogState.size))


class Stride:
    """How many places of the log are read at once: as many as a batch, more where few events match."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._length = batch

    def end(self, place: int, last: int) -> int:
        """Return the last place to read with the next step from a place."""
        return min(place + self._length, last)

    def found(self, events: int) -> None:
        """Take in how many events there were."""
        if events * 4 < self._batch:
            self._length = min(self._length * 2, _LONGEST_STRETCH)
        elif events * 2 > self._batch:
            self._length = self._batch


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
