"""The trail over time: one row a bucket, the empty ones too."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from asyncpg import Record
from cachetools import cached
from sqlalchemy import ARRAY, DateTime, bindparam, func, literal_column, select

from app.audit.dimensions import Dimension
from app.audit.filter import AuditEventFilter
from app.audit.lanes import Lane, fetch_all, through
from app.audit.stats import cost, failed_count, latency_percentiles
from app.audit.time_buckets import TimeInterval, TimeRange, cut, find_zone
from app.database.session import TenantSession
from app.database.statements import Statement, compile_statement, statement_cache
from app.models import AuditEvent
from app.settings import Limits

# Lines on one chart.
MOST_KEYS = 20

_STATEMENTS = statement_cache()


@dataclass(frozen=True, slots=True)
class TimeBucket:
    """The events of one span of time; `latency_p50_ms` and `latency_p95_ms` are `None` when no event says."""

    span: TimeRange
    key: str | None
    count: int = 0
    failed_count: int = 0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    cost_usd: Decimal = Decimal(0)


async def event_series(
    session: TenantSession,
    where: AuditEventFilter,
    limits: Limits,
    *,
    interval: TimeInterval = TimeInterval.AUTO,
    zone: str = "UTC",
    group_by: Dimension | None = None,
    with_percentiles: bool = True,
) -> list[TimeBucket]:
    """Return the matching events by time, the oldest first, in buckets that lie side by side.

    The range is the filter's `created_at`; an open beginning is the first matching event's time, an open end is now.
    With a dimension, each of its 20 most frequent values has all the buckets, the most frequent value first. Raises
    `InvalidInput` for an impossible filter, an unknown time zone and more than 1,000 buckets.
    """
    values = dict(where.checked(limits).operands())
    found_zone = find_zone(zone)
    whole = await _range(session, where, values)
    spans = [] if whole is None else cut(whole, interval, found_zone)
    if not spans:
        return []
    values |= {"starts": [span.start for span in spans], "start": spans[0].start}
    rows = await fetch_all(
        session,
        where.index_key(),
        lambda lane: _statement((tuple(values), group_by, with_percentiles, lane), where),
        values,
    )
    by_key: dict[str | None, dict[int, Record]] = defaultdict(dict)
    for row in rows:
        by_key[None if group_by is None else group_by.shown(row["key"])][row["bucket"]] = row
    if group_by is None and not by_key:
        by_key[None] = {}
    return [
        _bucket(span, key, buckets.get(number))
        for key, buckets in by_key.items()
        for number, span in enumerate(spans, start=1)
    ]


async def _range(session: TenantSession, where: AuditEventFilter, values: Mapping[str, Any]) -> TimeRange | None:
    """Return the range that the filter names; what it leaves open is filled in."""
    times = [part.created_at for part in where.conjuncts() if part.created_at is not None]
    starts = [time.gte for time in times if time.gte is not None]
    ends = [time.lt for time in times if time.lt is not None]
    end = min(ends) if ends else datetime.now(UTC)
    if starts:
        return TimeRange(max(starts), end)
    key = where.index_key()
    ((first,),) = await fetch_all(session, key, lambda lane: _first_statement((tuple(values), lane), where), values)
    # An event may be a little ahead of this machine's clock.
    return None if first is None else TimeRange(first, max(end, first) if ends else max(end, _after(first)))


def _after(instant: datetime) -> datetime:
    return instant + datetime.resolution


def _bucket(span: TimeRange, key: str | None, row: Record | None) -> TimeBucket:
    if row is None:
        return TimeBucket(span, key)
    p50, p95 = row["percentiles"] or (None, None)
    return TimeBucket(span, key, row["count"], row["failed_count"], p50, p95, row["cost_usd"])


@cached(_STATEMENTS, key=lambda shape, _where: ("first", shape))
def _first_statement(shape: tuple[tuple[str, ...], Lane], where: AuditEventFilter) -> Statement:
    return compile_statement(through(shape[1], select(func.min(AuditEvent.created_at)).where(where.condition())))


@cached(_STATEMENTS, key=lambda shape, _where: ("series", shape))
def _statement(shape: tuple[tuple[str, ...], Dimension | None, bool, Lane], where: AuditEventFilter) -> Statement:
    _, dimension, with_percentiles, lane = shape
    times = DateTime(timezone=True)
    # What comes after the last beginning is in the last bucket: an open end takes in what was just written.
    bucket = func.width_bucket(AuditEvent.created_at, bindparam("starts", type_=ARRAY(times))).label("bucket")
    key = None if dimension is None else dimension.column.label("key")
    groups = [bucket] if key is None else [bucket, key]
    percentiles = latency_percentiles(0.5, 0.95) if with_percentiles else literal_column("NULL::float8[]")
    query = (
        select(
            *groups,
            func.count().label("count"),
            failed_count().label("failed_count"),
            percentiles.label("percentiles"),
            cost().label("cost_usd"),
        )
        .where(where.condition(), AuditEvent.created_at >= bindparam("start", type_=times))
        .group_by(*groups)
    )
    if key is None:
        return compile_statement(through(lane, query))
    grouped = through(lane, query).cte("grouped")
    total = func.sum(grouped.c.count)
    top = (
        select(grouped.c.key, total.label("total"))
        .group_by(grouped.c.key)
        .order_by(total.desc(), grouped.c.key.asc().nulls_last())
        .limit(literal_column(str(MOST_KEYS)))
        .cte("top")
    )
    same = grouped.c.key.is_not_distinct_from(top.c.key)
    order = (top.c.total.desc(), top.c.key.asc().nulls_last(), grouped.c.bucket)
    return compile_statement(select(grouped).join(top, same).order_by(*order))
