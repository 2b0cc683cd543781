"""Three ways to the same events, of which the fastest is chosen by how often the filter matches.

Filters on metadata and on words can be looked up in an index, but only through a function that gives candidates in no
order (see migration 004). For a value that half of the events have, that is a waste: the newest events hold a page of
them. For one that few have, reading in order would be. So a filter that the index knows is tried

1. on a window: the first thousand events of the order, with the exact conditions; a full page ends the matter;
2. on the index: when there are no more candidates than some thousands, they are all, and the conditions sort them out;
3. plainly: in order, until the page is full. The events are frequent then, though not among the first.

Every way ends in the same exact conditions, so that they differ in nothing but time.

The window of a first page in the order of time is best read in that order, whoever the tenant is: it is planned once a
connection. All else is planned each time, since the best plan depends on how much the tenant has.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from asyncpg import Record
from sqlalchemy import ARRAY, Select, Text, bindparam, func, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB

from app.audit.filter import IndexKey
from app.audit.order import NEWEST_FIRST, EventOrder
from app.database.session import Plans, TenantSession
from app.database.statements import Statement, compile_statement
from app.models import AuditEvent
from app.pagination import PagePlan

WINDOW_EVENTS = 1000
MOST_CANDIDATES = 5000


class Lane(StrEnum):
    """Where the events are looked for first."""

    PLAIN = "plain"
    WINDOW = "window"
    CANDIDATES = "candidates"


def through(
    lane: Lane, query: Select[Any], plan: PagePlan | None = None, order: EventOrder = NEWEST_FIRST
) -> Select[Any]:
    """Restrict a query on events, which has its exact conditions already, to what a lane looks at."""
    if lane is Lane.WINDOW and plan is not None:
        bound = _window_end(plan, order)
        return query.where(order.column >= bound if plan.downwards else order.column <= bound)
    if lane is Lane.CANDIDATES:
        found = _candidates()
        return query.where(tuple_(AuditEvent.created_at, AuditEvent.id).in_(select(found.c.created_at, found.c.id)))
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
    given = {**values, "candidate_documents": key.documents, "candidate_words": key.words}
    ((found,),) = await session.fetch(_COUNT_CANDIDATES, given)
    return await session.fetch(statement_of(Lane.CANDIDATES if found <= MOST_CANDIDATES else Lane.PLAIN), given)


def _window_end(plan: PagePlan, order: EventOrder) -> Any:
    # A page further on has a window of its own, which begins at its cursor.
    inner = plan.in_order(select(order.column), order.column, AuditEvent.id)
    one_row = inner.offset(literal_column(str(WINDOW_EVENTS - 1))).limit(literal_column("1"))
    return one_row.correlate(None).scalar_subquery()


def _candidates() -> Any:
    arguments: tuple[Any, ...] = (
        bindparam("candidate_documents", type_=ARRAY(JSONB())),
        bindparam("candidate_words", type_=Text()),
        literal_column(str(MOST_CANDIDATES + 1)),
    )
    return func.audit_event_candidates(*arguments).table_valued("created_at", "id")


_COUNT_CANDIDATES = compile_statement(select(func.count()).select_from(_candidates()))
