"""Three ways to the same events, of which the fastest is chosen by how often the filter matches.

Filters on metadata and on words can be looked up in an index, but only through a function that gives candidates in no
order (see migration 004). For a value that half of the events have, that is a waste: the newest events hold a page of
them. For one that few have, reading in order would be. So a filter that the index knows is tried

1. on a window: the first thousand events of the order, with the exact conditions; a full page ends the matter;
2. on the index: when there are no more candidates than some thousands, they are all, and the conditions sort them out.
   Some hundred are named in the query, with the time that they span, so that it is planned for those months only;
3. plainly: in order, until the page is full. The events are frequent then, though not among the first.

Every way ends in the same exact conditions, so that they differ in nothing but time.

The window of a first page in the order of time is best read in that order, whoever the tenant is: it is planned once a
connection. All else is planned each time, since the best plan depends on how much the tenant has.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from asyncpg import Record
from sqlalchemy import ARRAY, ColumnElement, Select, Text, bindparam, func, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB

from app.audit.filter import IndexKey
from app.audit.order import NEWEST_FIRST, EventOrder
from app.database.session import Plans, TenantSession
from app.database.statements import Statement, compile_statement
from app.models import AuditEvent
from app.pagination import PagePlan

WINDOW_EVENTS = 1000
MOST_CANDIDATES = 5000
FEW_CANDIDATES = 200


class Lane(StrEnum):
    """Where the events are looked for first."""

    PLAIN = "plain"
    WINDOW = "window"
    CANDIDATES = "candidates"
    FEW_CANDIDATES = "few candidates"


def through(
    lane: Lane, query: Select[Any], plan: PagePlan | None = None, order: EventOrder = NEWEST_FIRST
) -> Select[Any]:
    """Restrict a query on events, which has its exact conditions already, to what a lane looks at."""
    if lane is Lane.WINDOW and plan is not None:
        bound = _window_end(plan, order)
        return query.where(order.column >= bound if plan.downwards else order.column <= bound)
    if lane is Lane.CANDIDATES:
        return query.where(_is_of(_candidates()))
    if lane is Lane.FEW_CANDIDATES:
        named = func.unnest(_TIMES, _IDS).table_valued("created_at", "id").render_derived()
        return query.where(AuditEvent.created_at.between(_FIRST_TIME, _LAST_TIME), _is_of(named))
    return query


async def fetch_page(
    session: TenantSession,
    key: IndexKey | None,
    statement_of: Callable[[Lane], Statement],
    values: Mapping[str, Any],
    is_full: Callable[[list[Record]], bool],
    *,
    is_first: bool,
) -> list[Record]:
    """Run the statement of the best lane; `is_full` tells whether rows are all that were wanted.

    `is_first` says that it is a first page in the order of time.
    """
    if key is not None:
        await session.plan(Plans.ONCE if is_first and key.is_all else Plans.EACH_TIME)
        rows = await session.fetch(statement_of(Lane.WINDOW), values)
        if is_full(rows):
            return rows
    return await fetch_all(session, key, statement_of, values)


async def fetch_all(
    session: TenantSession, key: IndexKey | None, statement_of: Callable[[Lane], Statement], values: Mapping[str, Any]
) -> list[Record]:
    """Run the statement over the candidates of the index, unless it knows none or too many."""
    if key is None:
        return await session.fetch(statement_of(Lane.PLAIN), values)
    await session.plan(Plans.EACH_TIME)
    values = {**values, "candidate_documents": key.documents, "candidate_words": key.words}
    (found,) = await session.fetch(_FIND_CANDIDATES, values)
    if found["candidates"] <= FEW_CANDIDATES:
        return await session.fetch(statement_of(Lane.FEW_CANDIDATES), {**values, **found})
    are_all = found["candidates"] <= MOST_CANDIDATES
    return await session.fetch(statement_of(Lane.CANDIDATES if are_all else Lane.PLAIN), values)


def _window_end(plan: PagePlan, order: EventOrder) -> Any:
    # A page further on has a window of its own, which begins at its cursor.
    inner = plan.in_order(select(order.column), order.column, AuditEvent.id)
    one_row = inner.offset(literal_column(str(WINDOW_EVENTS - 1))).limit(literal_column("1"))
    return one_row.correlate(None).scalar_subquery()


def _candidates(**options: Any) -> Any:
    arguments: tuple[Any, ...] = (
        bindparam("candidate_documents", type_=ARRAY(JSONB())),
        bindparam("candidate_words", type_=Text()),
        literal_column(str(MOST_CANDIDATES + 1)),
    )
    return func.audit_event_candidates(*arguments).table_valued("created_at", "id", **options)


def _is_of(candidates: Any) -> ColumnElement[bool]:
    event = tuple_(AuditEvent.created_at, AuditEvent.id)
    return event.in_(select(candidates.c.created_at, candidates.c.id))


_TIME, _ID = (AuditEvent.__table__.c[name].type for name in ("created_at", "id"))
_TIMES = bindparam("candidate_times", type_=ARRAY(_TIME))
_IDS = bindparam("candidate_ids", type_=ARRAY(_ID))
_FIRST_TIME, _LAST_TIME = bindparam("first_candidate", type_=_TIME), bindparam("last_candidate", type_=_TIME)


def _find_candidates() -> Statement:
    """Return how many candidates there are, and, as far as they are few, which and the time that they span."""
    found = _candidates(with_ordinality="place").render_derived()
    is_named = found.c.place <= literal_column(str(FEW_CANDIDATES))
    nothing: ColumnElement[Any] = literal_column("'{}'")
    return compile_statement(
        select(
            func.count().label("candidates"),
            func.coalesce(func.array_agg(found.c.created_at).filter(is_named), nothing).label(_TIMES.key),
            func.coalesce(func.array_agg(found.c.id).filter(is_named), nothing).label(_IDS.key),
            func.min(found.c.created_at).label(_FIRST_TIME.key),
            func.max(found.c.created_at).label(_LAST_TIME.key),
        )
    )


_FIND_CANDIDATES = _find_candidates()
