"""Facets: which values the matching events have, and how often, for the choices beside a filter."""

from collections.abc import Sequence
from dataclasses import dataclass

from cachetools import cached
from sqlalchemy import ColumnElement, func, literal_column, select, tuple_

from app.audit.dimensions import Dimension, check_dimensions, check_group_limit
from app.audit.filter import AuditEventFilter
from app.audit.lanes import Lane, fetch_all, through
from app.database.session import TenantSession
from app.database.statements import Statement, compile_statement, statement_cache
from app.settings import Limits

_STATEMENTS = statement_cache()


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value, and how many events have it; `None` stands for those without one."""

    value: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The most frequent values of one dimension, the most frequent first."""

    dimension: Dimension
    values: Sequence[FacetValue]


async def event_facets(
    session: TenantSession,
    where: AuditEventFilter,
    limits: Limits,
    *,
    dimensions: Sequence[Dimension],
    limit: int = 20,
) -> list[Facet]:
    """Return up to `limit` values of each dimension, all counted in one pass over the matching events.

    Raises `InvalidInput` for an impossible filter, for dimensions given twice and for an impossible limit.
    """
    wanted = check_dimensions("dimensions", dimensions, most=len(Dimension))
    check_group_limit(limit, limits.page_size)
    values = dict(where.checked(limits).operands())
    if not wanted:
        return []
    rows = await fetch_all(
        session, where.index_key(), lambda lane: _statement((tuple(values), wanted, limit, lane), where), values
    )
    found: dict[Dimension, list[FacetValue]] = {dimension: [] for dimension in wanted}
    for row in rows:
        dimension = wanted[row["dimension"]]
        found[dimension].append(FacetValue(dimension.shown(row[dimension.value]), row["count"]))
    return [Facet(dimension, values) for dimension, values in found.items()]


@cached(_STATEMENTS, key=lambda shape, _where: shape)
def _statement(shape: tuple[tuple[str, ...], tuple[Dimension, ...], int, Lane], where: AuditEventFilter) -> Statement:
    _, dimensions, limit, lane = shape
    keys = [dimension.column for dimension in dimensions]
    # GROUPING has a bit for each column that a row does not group by, the last column's the lowest.
    which = {(1 << len(keys)) - 1 - (1 << (len(keys) - 1 - number)): number for number in range(len(keys))}
    number_of = "CASE GROUPING({}) " + " ".join(f"WHEN {bits} THEN {number}" for bits, number in which.items()) + " END"
    columns = ", ".join(f"audit_events.{dimension.value}" for dimension in dimensions)
    grouping: ColumnElement[int] = literal_column(number_of.format(columns))
    grouped = (
        through(lane, select(grouping.label("dimension"), *keys, func.count().label("count")).where(where.condition()))
        .group_by(func.grouping_sets(*(tuple_(key) for key in keys)))
        .subquery("grouped")
    )
    order = [grouped.c.count.desc(), *(grouped.c[dimension.value].asc().nulls_last() for dimension in dimensions)]
    place = func.row_number().over(partition_by=grouped.c.dimension, order_by=order).label("place")
    ranked = select(grouped, place).subquery("ranked")
    query = select(ranked).where(ranked.c.place <= literal_column(str(limit)))
    return compile_statement(query.order_by(ranked.c.dimension, ranked.c.place))
