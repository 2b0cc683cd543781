"""Reading the trail back: filtered pages, single events, bounded counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput, Path
from app.filters import (
    Condition,
    RangeFilter,
    SetFilter,
    StringFilter,
    TimeFilter,
    all_of,
    any_of,
    check_count,
    negation,
)
from app.json_predicates import JsonPredicate
from app.models import AuditEvent
from app.pagination import Keyset, Page, PageRequest, Position, fingerprint
from app.settings import Limits

# Counting stops here: an exact number beyond it helps nobody and costs a scan.
COUNT_LIMIT = 10_000

_COLUMNS = {
    "id": AuditEvent.id,
    "agent_id": AuditEvent.agent_id,
    "user_id": AuditEvent.user_id,
    "action_type": AuditEvent.action_type,
    "action_name": AuditEvent.action_name,
    "status": AuditEvent.status,
    "session_id": AuditEvent.session_id,
    "trace_id": AuditEvent.trace_id,
    "created_at": AuditEvent.created_at,
    "latency_ms": AuditEvent.latency_ms,
    "cost_usd": AuditEvent.cost_usd,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEventFilter:
    """Which events are wanted. All conditions given must hold; an empty filter matches every event."""

    id: SetFilter[UUID] | None = None
    agent_id: SetFilter[UUID] | None = None
    user_id: StringFilter | None = None
    action_type: StringFilter | None = None
    action_name: StringFilter | None = None
    status: StringFilter | None = None
    session_id: StringFilter | None = None
    trace_id: StringFilter | None = None
    created_at: TimeFilter | None = None
    latency_ms: RangeFilter[int] | None = None
    cost_usd: RangeFilter[Decimal] | None = None
    metadata: Sequence[JsonPredicate] | None = None
    and_: Sequence["AuditEventFilter"] | None = None
    or_: Sequence["AuditEventFilter"] | None = None
    not_: "AuditEventFilter | None" = None

    def checked(self, limits: Limits, path: Path = ("filter",), depth: int = 0) -> "AuditEventFilter":
        """Return itself if it is within the limits and every operand can be compared."""
        if depth > limits.filter_depth:
            raise InvalidInput(path, f"and, or and not may be nested at most {limits.filter_depth} deep")
        for name in _COLUMNS:
            operators = getattr(self, name)
            if operators is not None:
                operators.checked((*path, name), limits)
        check_count((*path, "metadata"), self.metadata, limits)
        for position, predicate in enumerate(self.metadata or ()):
            predicate.checked((*path, "metadata", position), limits)
        for name, branches in (("and", self.and_), ("or", self.or_)):
            check_count((*path, name), branches, limits)
            for position, branch in enumerate(branches or ()):
                branch.checked(limits, (*path, name, position), depth + 1)
        if self.not_ is not None:
            self.not_.checked(limits, (*path, "not"), depth + 1)
        return self

    def condition(self) -> Condition:
        """Translate into one condition on `AuditEvent`."""
        found: list[Condition] = []
        for name, column in _COLUMNS.items():
            operators = getattr(self, name)
            if operators is not None:
                found.extend(operators.conditions(column))
        for predicate in self.metadata or ():
            found.extend(predicate.conditions(AuditEvent.event_metadata))
        if self.and_ is not None:
            found.append(all_of([branch.condition() for branch in self.and_]))
        if self.or_ is not None:
            found.append(any_of([branch.condition() for branch in self.or_]))
        if self.not_ is not None:
            found.append(negation(self.not_.condition()))
        return all_of(found)

    @property
    def is_empty(self) -> bool:
        """Whether it matches every event."""
        return all(getattr(self, item.name) is None for item in fields(self))


@dataclass(frozen=True, slots=True)
class BoundedCount:
    """A number of rows; when it is not exact, there are more."""

    value: int
    is_exact: bool


async def list_events(
    session: AsyncSession,
    where: AuditEventFilter,
    page: PageRequest,
    limits: Limits,
    *,
    descending: bool = True,
) -> Page[AuditEvent]:
    """Return one page of the tenant's events in the order of (created_at, id), newest first unless told otherwise.

    Raises `InvalidInput` for an impossible page or filter and `CursorMismatch` for a cursor of another list.
    """
    keyset = _keyset(where, descending=descending)
    query, size = keyset.plan(_matching(where, limits), page, limits.page_size)
    rows = (await session.scalars(query)).all()
    return keyset.page(rows, page, size)


async def count_events(session: AsyncSession, where: AuditEventFilter, limits: Limits) -> BoundedCount:
    """Count the matching events, up to 10,000."""
    matching = _matching(where, limits).with_only_columns(AuditEvent.id).limit(COUNT_LIMIT + 1).subquery()
    found = (await session.execute(select(func.count()).select_from(matching))).scalar_one()
    return BoundedCount(min(found, COUNT_LIMIT), is_exact=found <= COUNT_LIMIT)


async def find_events(session: AsyncSession, ids: Iterable[UUID]) -> dict[UUID, AuditEvent]:
    """Return those of the events that exist in the tenant, by id."""
    events = await session.scalars(select(AuditEvent).where(AuditEvent.id.in_(list(ids))))
    return {event.id: event for event in events}


def _matching(where: AuditEventFilter, limits: Limits) -> Select[Any]:
    where.checked(limits)
    return select(AuditEvent) if where.is_empty else select(AuditEvent).where(where.condition())


def _keyset(where: AuditEventFilter, *, descending: bool) -> Keyset[AuditEvent]:
    return Keyset(
        key=AuditEvent.created_at,
        id=AuditEvent.id,
        position_of=lambda event: Position.at_time(event.created_at, event.id),
        key_from=lambda position: position.time,
        descending=descending,
        list_fingerprint=fingerprint("audit_events", where, descending),
    )
