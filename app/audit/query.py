"""Reading the trail back: filtered pages, single events, bounded counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cachetools import cached
from sqlalchemy import ARRAY, ColumnElement, Uuid, any_, bindparam, func, literal_column, select

from app.audit.events import RecordedEvent
from app.audit.filter import AuditEventFilter
from app.audit.lanes import Lane, fetch_all, fetch_page, through
from app.audit.order import NEWEST_FIRST, EventOrder, OrderField
from app.audit.representation import JsonMember, json_array
from app.database.session import TenantSession
from app.database.statements import Statement, compile_statement, statement_cache
from app.models import AuditEvent
from app.pagination import Page, PagePlan, PageRequest
from app.settings import Limits

# Counting stops here: an exact number beyond it helps nobody and costs a scan.
COUNT_LIMIT = 10_000

# Every column that the API shows, by its attribute of `AuditEvent`.
EVENT_COLUMNS = (
    "id", "created_at", "agent_id", "user_id", "action_type", "action_name", "status", "error", "input_summary",
    "output_summary", "latency_ms", "input_tokens", "output_tokens", "cost_usd", "event_metadata", "occurred_at",
    "session_id", "trace_id", "parent_event_id", "submitted_by",
)  # fmt: skip

# And what the log knows of an event, which costs a look-up for each.
READABLE_COLUMNS = (*EVENT_COLUMNS, "sequence")

_STATEMENTS = statement_cache()


@dataclass(frozen=True, slots=True)
class BoundedCount:
    """A number of rows; when it is not exact, there are more."""

    value: int
    is_exact: bool


async def list_events(
    session: TenantSession,
    where: AuditEventFilter,
    page: PageRequest,
    limits: Limits,
    *,
    columns: Sequence[str] = READABLE_COLUMNS,
    order: EventOrder = NEWEST_FIRST,
) -> Page[Any]:
    """Return one page of the tenant's events, newest first unless told otherwise.

    The rows hold the named columns (attributes of `AuditEvent`), and what the order needs. Raises `InvalidInput` for an
    impossible page or filter and `CursorMismatch` for a cursor of another list.
    """
    keyset = order.keyset("audit_events", where)
    plan = keyset.plan(page, limits.page_size)
    wanted = tuple(dict.fromkeys((*columns, order.column_name, "id")))
    values = dict(where.checked(limits).operands())
    rows: list[Any] = await fetch_page(
        session,
        where.index_key(),
        lambda lane: _list_statement((tuple(values), plan, order, wanted, lane), where),
        {**values, **plan.values},
        lambda rows: len(rows) > plan.size,
        is_first=_is_first(plan, order),
    )
    return keyset.page(rows, plan)


def _is_first(plan: PagePlan, order: EventOrder) -> bool:
    return order.field is OrderField.CREATED_AT and not (plan.is_after or plan.is_before)


@cached(_STATEMENTS, key=lambda shape, _where: ("list", shape))
def _list_statement(
    shape: tuple[tuple[str, ...], PagePlan, EventOrder, tuple[str, ...], Lane], where: AuditEventFilter
) -> Statement:
    _, plan, order, columns, lane = shape
    query = through(lane, select(*_event_columns(columns)).where(where.condition()), plan, order)
    return compile_statement(plan.apply(query, order.column, AuditEvent.id))


@dataclass(frozen=True, slots=True)
class JsonPage:
    """A page of events as the text of a JSON array, and its ends."""

    events: str
    has_next: bool
    has_previous: bool
    start_cursor: str | None
    end_cursor: str | None


async def list_events_as_json(
    session: TenantSession,
    where: AuditEventFilter,
    page: PageRequest,
    limits: Limits,
    *,
    members: Sequence[JsonMember],
    order: EventOrder = NEWEST_FIRST,
    with_ends: bool = True,
) -> JsonPage:
    """Return the same page as `list_events`, written by PostgreSQL; without its ends unless they are wanted.

    Pages that are counted from the end (`last`) are not written so: use `list_events` for them.
    """
    if page.is_backward:
        raise ValueError("a page that is counted from the end is read in reverse")
    keyset = order.keyset("audit_events", where)
    plan = keyset.plan(page, limits.page_size)
    values = dict(where.checked(limits).operands())
    # Without its ends a page does not tell whether it is full, which a filter that the index knows must.
    key = where.index_key()
    with_ends = with_ends or key is not None
    (row,) = await fetch_page(
        session,
        key,
        lambda lane: _json_statement((tuple(values), plan, order, tuple(members), with_ends, lane), where),
        {**values, **plan.values},
        lambda rows: rows[0]["found"] > plan.size,
        is_first=_is_first(plan, order),
    )
    events: str = row["events"] or "[]"
    if not with_ends:
        return JsonPage(events, has_next=False, has_previous=plan.is_after, start_cursor=None, end_cursor=None)
    has_next = row["found"] > plan.size
    if has_next:
        # The row beyond the page. JSON text has line ends between the elements only, never within one.
        events = events.rpartition(", \n")[0] + "]" if plan.size else "[]"
    cursor_of = keyset.cursor_writer()
    ends = [
        None if row[f"{end}_id"] is None else cursor_of({order.column_name: row[f"{end}_key"], "id": row[f"{end}_id"]})
        for end in ("first", "last")
    ]
    return JsonPage(events, has_next, plan.is_after, *ends)


@cached(_STATEMENTS, key=lambda shape, _where: ("json", shape))
def _json_statement(
    shape: tuple[tuple[str, ...], PagePlan, EventOrder, tuple[JsonMember, ...], bool, Lane], where: AuditEventFilter
) -> Statement:
    _, plan, order, members, with_ends, lane = shape
    attributes = dict.fromkeys(member.attribute for member in members if member.attribute is not None)
    wanted = dict.fromkeys((*attributes, order.column_name, "id")) if with_ends else attributes
    # Named, since `sequence` is a query of its own: alone it would not say that events are listed.
    events = select(*_event_columns(tuple(wanted) or ("id",))).select_from(AuditEvent)
    query = through(lane, events.where(where.condition()), plan, order)
    rows = plan.apply(query, order.column, AuditEvent.id, beyond=with_ends).cte("page")
    columns = [json_array(rows, members).label("events")]
    if with_ends:
        found = select(func.count()).select_from(rows).scalar_subquery()
        last = select(func.greatest(func.least(func.count(), plan.size) - 1, 0)).select_from(rows).scalar_subquery()
        columns.append(found.label("found"))
        for label, name in (("key", order.column_name), ("id", "id")):
            of_rows = select(rows.c[name]).limit(literal_column("1"))
            columns.append(of_rows.scalar_subquery().label(f"first_{label}"))
            columns.append(of_rows.offset(last).scalar_subquery().label(f"last_{label}"))
    return compile_statement(select(*columns))


async def count_events(session: TenantSession, where: AuditEventFilter, limits: Limits) -> BoundedCount:
    """Count the matching events, up to 10,000."""
    values = dict(where.checked(limits).operands())
    rows = await fetch_all(
        session, where.index_key(), lambda lane: _count_statement((tuple(values), lane), where), values
    )
    found = rows[0][0]
    return BoundedCount(min(found, COUNT_LIMIT), is_exact=found <= COUNT_LIMIT)


@cached(_STATEMENTS, key=lambda shape, _where: ("count", shape))
def _count_statement(shape: tuple[tuple[str, ...], Lane], where: AuditEventFilter) -> Statement:
    _, lane = shape
    matching = through(lane, select(AuditEvent.id).where(where.condition()))
    bounded = matching.limit(literal_column(str(COUNT_LIMIT + 1))).subquery()
    return compile_statement(select(func.count()).select_from(bounded))


async def find_events(session: TenantSession, ids: Iterable[UUID]) -> dict[UUID, RecordedEvent]:
    """Return those of the events that exist in the tenant, by id."""
    rows = await session.fetch(_FIND, {"ids": list(ids)})
    return {row["id"]: RecordedEvent(**row) for row in rows}


def _event_columns(names: Sequence[str]) -> list[ColumnElement[Any]]:
    return [getattr(AuditEvent, name).label(name) for name in names]


_FIND = compile_statement(
    select(*_event_columns(READABLE_COLUMNS)).where(AuditEvent.id == any_(bindparam("ids", type_=ARRAY(Uuid()))))
)
