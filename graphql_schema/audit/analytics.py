"""Statistics, time series and facets of the audit trail."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self

import strawberry

from app.audit.facets import Facet, event_facets
from app.audit.filter import AuditEventFilter
from app.audit.stats import EventStats, event_stats
from app.audit.time_series import TimeBucket, event_series
from app.auth.principal import Scope
from graphql_schema.audit.enums import Dimension, TimeInterval
from graphql_schema.audit.queries import Filter
from graphql_schema.context import Info
from graphql_schema.lookahead import names_below
from graphql_schema.plans import selection
from graphql_schema.scalars import BigInt

_UNGROUPED: list[Dimension] = []
_PERCENTILES = {"p50", "p90", "p95", "p99"}


@strawberry.type(name="AuditDimensionValue", description="The value that the events of a group share.")
class DimensionValue:
    """One part of a group's key."""

    dimension: Dimension = strawberry.field(description="What the events are grouped by.")
    value: str | None = strawberry.field(
        description="The value they share, such as `gpt-4o`; null for events that have none."
    )


@strawberry.type(description="How long actions took, in milliseconds. Null where no event of the group says.")
class LatencyStats:
    """Distribution of the latency."""

    avg: float | None = strawberry.field(description="The mean, in milliseconds.")
    min: int | None = strawberry.field(description="The shortest, in milliseconds.")
    p50: float | None = strawberry.field(description="The median: half of the actions were as fast or faster.")
    p90: float | None = strawberry.field(description="Nine of ten actions were as fast or faster.")
    p95: float | None = strawberry.field(description="Nineteen of twenty actions were as fast or faster.")
    p99: float | None = strawberry.field(description="99 of 100 actions were as fast or faster.")
    max: int | None = strawberry.field(description="The longest, in milliseconds.")


@strawberry.type(description="What a group of events comes to.")
class AuditStats:
    """Statistics of one group."""

    key: list[DimensionValue] = strawberry.field(
        description="The group's value in each dimension of `groupBy`; empty when events are not grouped."
    )
    count: BigInt = strawberry.field(description="How many events there are, exactly.")
    failed_count: BigInt = strawberry.field(description="How many of them have the status FAILED.")
    error_rate: float = strawberry.field(
        description="The share of FAILED events, from 0 to 1 (DENIED is no error); 0 when there are none."
    )
    latency_ms: LatencyStats = strawberry.field(description="How long the actions took.")
    input_tokens: BigInt = strawberry.field(description="Tokens that models read, in all.")
    output_tokens: BigInt = strawberry.field(description="Tokens that models wrote, in all.")
    cost_usd: Decimal = strawberry.field(description="What the actions cost together, in US dollars, exactly.")
    first_at: datetime | None = strawberry.field(description="When the oldest event was recorded.")
    last_at: datetime | None = strawberry.field(description="When the newest event was recorded.")

    @classmethod
    def from_stats(cls, stats: EventStats, dimensions: list[Dimension]) -> Self:
        """Show the statistics of a group."""
        latency = stats.latency_ms
        return cls(
            key=[
                DimensionValue(dimension=dimension, value=value)
                for dimension, value in zip(dimensions, stats.key, strict=True)
            ],
            count=BigInt(stats.count),
            failed_count=BigInt(stats.failed_count),
            error_rate=stats.error_rate,
            latency_ms=LatencyStats(
                avg=latency.avg,
                min=latency.min,
                p50=latency.p50,
                p90=latency.p90,
                p95=latency.p95,
                p99=latency.p99,
                max=latency.max,
            ),
            input_tokens=BigInt(stats.input_tokens),
            output_tokens=BigInt(stats.output_tokens),
            cost_usd=stats.cost_usd,
            first_at=stats.first_at,
            last_at=stats.last_at,
        )


@strawberry.type(description="The events of one span of time.")
class AuditTimeBucket:
    """One point of a time series."""

    start_at: datetime = strawberry.field(description="Where the bucket begins, included.")
    end_at: datetime = strawberry.field(description="Where it ends, not included: the next one's beginning.")
    key: str | None = strawberry.field(
        description="The value of the dimension in `groupBy`; null without one, and for events that have no value."
    )
    count: BigInt = strawberry.field(description="How many events there are.")
    failed_count: BigInt = strawberry.field(description="How many of them have the status FAILED.")
    latency_p50_ms: float | None = strawberry.field(
        description="The median latency in milliseconds; null when no event says."
    )
    latency_p95_ms: float | None = strawberry.field(
        description="The 95th percentile of the latency in milliseconds; null when no event says."
    )
    cost_usd: Decimal = strawberry.field(description="What the actions cost together, in US dollars, exactly.")

    @classmethod
    def from_bucket(cls, bucket: TimeBucket) -> Self:
        """Show a bucket."""
        return cls(
            start_at=bucket.span.start,
            end_at=bucket.span.end,
            key=bucket.key,
            count=BigInt(bucket.count),
            failed_count=BigInt(bucket.failed_count),
            latency_p50_ms=bucket.latency_p50_ms,
            latency_p95_ms=bucket.latency_p95_ms,
            cost_usd=bucket.cost_usd,
        )


@strawberry.type(description="One of the values that events have, and how often.")
class AuditFacetValue:
    """One choice of a facet."""

    value: str | None = strawberry.field(description="The value; null stands for the events that have none.")
    count: BigInt = strawberry.field(description="How many of the matching events have it.")


@strawberry.type(description="The most frequent values of one dimension.")
class AuditFacet:
    """One facet."""

    dimension: Dimension = strawberry.field(description="The dimension.")
    values: list[AuditFacetValue] = strawberry.field(description="Its values, the most frequent first.")

    @classmethod
    def from_facet(cls, facet: Facet) -> Self:
        """Show a facet."""
        values = [AuditFacetValue(value=found.value, count=BigInt(found.count)) for found in facet.values]
        return cls(dimension=facet.dimension, values=values)


@strawberry.type
class AuditAnalytics:
    """Root query fields that sum up the trail."""

    @strawberry.field(
        description=(
            "Counts, errors, latency, tokens and cost of the matching events: as a whole, which is exactly one item, or"
            " for each value of one or two dimensions, the largest groups first. Needs the scope AUDIT_READ."
        )
    )
    async def audit_stats(
        self,
        info: Info,
        filter: Filter = None,
        group_by: Annotated[
            list[Dimension] | None,
            strawberry.argument(description="None, one or two dimensions, such as `[ACTION_NAME]`."),
        ] = _UNGROUPED,
        limit: Annotated[int | None, strawberry.argument(description="How many groups at most, 1 to 500.")] = 50,
    ) -> list[AuditStats]:
        """Return the statistics."""
        context = info.context
        context.require(Scope.AUDIT_READ)
        dimensions = list(group_by or [])
        wants_percentiles = not _PERCENTILES.isdisjoint(names_below(selection(info), "latencyMs"))
        async with context.analysis_session() as session:
            groups = await event_stats(
                session,
                _where(filter),
                context.limits,
                group_by=dimensions,
                limit=50 if limit is None else limit,
                with_percentiles=wants_percentiles,
            )
        return [AuditStats.from_stats(group, dimensions) for group in groups]

    @strawberry.field(
        description=(
            "The matching events over time, in buckets side by side, the oldest first; empty ones are there too. The"
            " range is the filter's `createdAt`: an open beginning is the first matching event, an open end is now. At"
            " most 1,000 buckets. Needs the scope AUDIT_READ."
        )
    )
    async def audit_time_series(
        self,
        info: Info,
        filter: Filter = None,
        interval: Annotated[
            TimeInterval | None, strawberry.argument(description="How long a bucket is.")
        ] = TimeInterval.AUTO,
        timezone: Annotated[
            str | None,
            strawberry.argument(
                description="In whose days, weeks and months time is cut: a name such as `Europe/Berlin`."
            ),
        ] = "UTC",
        group_by: Annotated[
            Dimension | None,
            strawberry.argument(
                description=(
                    "One series for each of the dimension's 20 most frequent values, one after the other, the most"
                    " frequent first."
                )
            ),
        ] = None,
    ) -> list[AuditTimeBucket]:
        """Return the buckets."""
        context = info.context
        context.require(Scope.AUDIT_READ)
        async with context.analysis_session() as session:
            buckets = await event_series(
                session,
                _where(filter),
                context.limits,
                interval=interval or TimeInterval.AUTO,
                zone="UTC" if timezone is None else timezone,
                group_by=group_by,
                with_percentiles=not {"latencyP50Ms", "latencyP95Ms"}.isdisjoint(selection(info)),
            )
        return [AuditTimeBucket.from_bucket(bucket) for bucket in buckets]

    @strawberry.field(
        description=(
            "Which values the matching events have, and how often: the choices to offer beside a filter. All"
            " dimensions are counted in one pass, under the whole filter: to offer other values of a dimension that is"
            " chosen already, ask for it once more with that condition left out. Needs the scope AUDIT_READ."
        )
    )
    async def audit_facets(
        self,
        info: Info,
        dimensions: Annotated[
            list[Dimension],
            strawberry.argument(description="The dimensions, each at most once, such as `[ACTION_NAME, STATUS]`."),
        ],
        filter: Filter = None,
        limit: Annotated[
            int | None, strawberry.argument(description="How many values of each dimension at most, 1 to 500.")
        ] = 20,
    ) -> list[AuditFacet]:
        """Return the facets."""
        context = info.context
        context.require(Scope.AUDIT_READ)
        async with context.analysis_session() as session:
            facets = await event_facets(
                session,
                _where(filter),
                context.limits,
                dimensions=dimensions,
                limit=20 if limit is None else limit,
            )
        return [AuditFacet.from_facet(facet) for facet in facets]


def _where(sent: Filter) -> AuditEventFilter:
    return AuditEventFilter() if sent is None else sent.to_filter()
