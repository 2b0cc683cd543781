"""Statistics of the trail: counts, errors, latency, tokens and cost, as a whole or by one or two dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from asyncpg import Record
from cachetools import cached
from sqlalchemy import ColumnElement, Float, case, cast, func, literal_column, select

from app.audit.dimensions import Dimension, check_dimensions, check_group_limit
from app.audit.filter import AuditEventFilter
from app.audit.lanes import Lane, fetch_all, through
from app.database.session import TenantSession
from app.database.statements import Statement, compile_statement, statement_cache
from app.models import AuditEvent
from app.settings import Limits

MOST_DIMENSIONS = 2

_STATEMENTS = statement_cache()
_ZERO: ColumnElement[int] = literal_column("0")


@dataclass(frozen=True, slots=True)
class LatencyStats:
    """How long the actions took, in milliseconds; `None` everywhere when no event says."""

    avg: float | None
    min: int | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: int | None


@dataclass(frozen=True, slots=True)
class EventStats:
    """The events of one group; `key` has the group's value in each dimension."""

    key: tuple[str | None, ...]
    count: int
    failed_count: int
    latency_ms: LatencyStats
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    first_at: datetime | None
    last_at: datetime | None

    @property
    def error_rate(self) -> float:
        """The share of failed events, 0 to 1."""
        return self.failed_count / self.count if self.count else 0.0


def failed_count() -> ColumnElement[int]:
    """Return the number of failed events of a group."""
    return func.count(case((AuditEvent.status == literal_column("'failed'"), 1)))


def cost() -> ColumnElement[Decimal]:
    """Return what the events of a group cost together, in US dollars."""
    return func.coalesce(func.sum(AuditEvent.cost_usd), _ZERO)


def latency_percentiles(*shares: float) -> ColumnElement[Any]:
    """Return percentiles of a group's latency, interpolated, as an array of milliseconds."""
    wanted: ColumnElement[Any] = literal_column("ARRAY[" + ", ".join(map(str, shares)) + "]::float8[]")
    return func.percentile_cont(wanted).within_group(AuditEvent.latency_ms)


async def event_stats(
    session: TenantSession,
    where: AuditEventFilter,
    limits: Limits,
    *,
    group_by: Sequence[Dimension] = (),
    limit: int = 50,
    with_percentiles: bool = True,
) -> list[EventStats]:
    """Return the largest groups, the largest first; without dimensions one group of all matching events.

    Percentiles need every group sorted, so they can be left out. Raises `InvalidInput` for an impossible filter,
    grouping or limit.
    """
    dimensions = check_dimensions("group_by", group_by, most=MOST_DIMENSIONS)
    check_group_limit(limit, limits.page_size)
    values = dict(where.checked(limits).operands())
    rows = await fetch_all(
        session,
        where.index_key(),
        lambda lane: _statement((tuple(values), dimensions, limit, with_percentiles, lane), where),
        values,
    )
    return [
        EventStats(
            key=tuple(dimension.shown(row[dimension.value]) for dimension in dimensions),
            count=row["count"],
            failed_count=row["failed_count"],
            latency_ms=_latency(row),
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            cost_usd=row["cost_usd"],
            first_at=row["first_at"],
            last_at=row["last_at"],
        )
        for row in rows
    ]


def _latency(row: Record) -> LatencyStats:
    p50, p90, p95, p99 = row["percentiles"] or [None] * 4
    return LatencyStats(
        avg=row["latency_avg"], min=row["latency_min"], p50=p50, p90=p90, p95=p95, p99=p99, max=row["latency_max"]
    )


@cached(_STATEMENTS, key=lambda shape, _where: shape)
def _statement(
    shape: tuple[tuple[str, ...], tuple[Dimension, ...], int, bool, Lane], where: AuditEventFilter
) -> Statement:
    _, dimensions, limit, with_percentiles, lane = shape
    keys = [dimension.column for dimension in dimensions]
    count = func.count()
    percentiles = latency_percentiles(0.5, 0.9, 0.95, 0.99) if with_percentiles else literal_column("NULL::float8[]")
    query = select(
        *keys,
        count.label("count"),
        failed_count().label("failed_count"),
        cast(func.avg(AuditEvent.latency_ms), Float()).label("latency_avg"),
        func.min(AuditEvent.latency_ms).label("latency_min"),
        func.max(AuditEvent.latency_ms).label("latency_max"),
        percentiles.label("percentiles"),
        func.coalesce(func.sum(AuditEvent.input_tokens), _ZERO).label("input_tokens"),
        func.coalesce(func.sum(AuditEvent.output_tokens), _ZERO).label("output_tokens"),
        cost().label("cost_usd"),
        func.min(AuditEvent.created_at).label("first_at"),
        func.max(AuditEvent.created_at).label("last_at"),
    ).where(where.condition())
    if keys:
        query = query.group_by(*keys).order_by(count.desc(), *(key.asc().nulls_last() for key in keys))
    return compile_statement(through(lane, query).limit(literal_column(str(limit))))
