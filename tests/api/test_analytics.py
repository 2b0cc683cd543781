"""Statistics, facets and time series against the same reckoned in Python."""

import statistics
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.settings import Settings
from tests.database.rows import tenant_transaction
from tests.support.database import TestTenant, new_tenant
from tests.support.server import GraphQLClient, LiveServer
from tests.support.trail import LOG_EVENTS, Trail, filters, matches, simple_filters, varied_trail

STATS = (
    "query($filter: AuditEventFilter, $groupBy: [AuditDimension!], $limit: Int) {"
    " auditStats(filter: $filter, groupBy: $groupBy, limit: $limit) {"
    " key { dimension value } count failedCount errorRate latencyMs { avg min p50 p90 p95 p99 max }"
    " inputTokens outputTokens costUsd firstAt lastAt } }"
)
FACETS = (
    "query($filter: AuditEventFilter, $dimensions: [AuditDimension!]!, $limit: Int) {"
    " auditFacets(filter: $filter, dimensions: $dimensions, limit: $limit) { dimension values { value count } } }"
)
SERIES = (
    "query($filter: AuditEventFilter, $interval: TimeInterval, $timezone: String, $groupBy: AuditDimension) {"
    " auditTimeSeries(filter: $filter, interval: $interval, timezone: $timezone, groupBy: $groupBy) {"
    " startAt endAt key count failedCount latencyP50Ms latencyP95Ms costUsd } }"
)
FIELDS = {
    "AGENT_ID": "agentId",
    "ACTION_TYPE": "actionType",
    "ACTION_NAME": "actionName",
    "STATUS": "status",
    "USER_ID": "userId",
}


@pytest.fixture(scope="module")
async def trail(server: LiveServer, settings: Settings) -> AsyncIterator[Trail]:
    """Two hundred varied events of five different times."""
    tenant = await new_tenant(settings, "Counted")
    client = GraphQLClient(server.graphql_url, tenant.api_key)
    yield await varied_trail(client)
    await client.http.aclose()


def _percentile(values: Sequence[float], share: float) -> float | None:
    """Return the interpolated percentile, as SQL's percentile_cont has it."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def _in_order(groups: dict[tuple[str | None, ...], Any], size: Callable[[Any], int]) -> list[Any]:
    """Return the keys as the API orders them: the largest first, then by value, without one last."""
    return sorted(groups, key=lambda key: (-size(groups[key]), [(part is None, _stored(part)) for part in key]))


def _stored(part: str | None) -> str:
    return part or ""


def _expected_stats(rows: list[dict[str, Any]], dimensions: Sequence[str]) -> list[dict[str, Any]]:
    groups: dict[tuple[str | None, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[FIELDS[dimension]] for dimension in dimensions)].append(row)
    if not dimensions:
        groups.setdefault((), [])
    found = []
    for key in _in_order(groups, len):
        members = groups[key]
        latencies = [row["latencyMs"] for row in members if row["latencyMs"] is not None]
        failed = sum(row["status"] == "FAILED" for row in members)
        times = [row["createdAt"] for row in members]
        found.append(
            {
                "key": [
                    {"dimension": dimension, "value": value} for dimension, value in zip(dimensions, key, strict=True)
                ],
                "count": str(len(members)),
                "failedCount": str(failed),
                "errorRate": failed / len(members) if members else 0.0,
                "latencyMs": {
                    "avg": pytest.approx(statistics.fmean(latencies)) if latencies else None,
                    "min": min(latencies, default=None),
                    "max": max(latencies, default=None),
                }
                | {
                    f"p{share}": None if not latencies else pytest.approx(_percentile(latencies, share / 100))
                    for share in (50, 90, 95, 99)
                },
                "inputTokens": "0",
                "outputTokens": "0",
                "firstAt": min(times, default=None),
                "lastAt": max(times, default=None),
            }
        )
        cost = sum((Decimal(row["costUsd"] or 0) for row in members), Decimal(0))
        found[-1]["costUsd"] = cost
    return found


def _with_decimals(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [group | {"costUsd": Decimal(group["costUsd"])} for group in groups]


@pytest.mark.parametrize(
    "dimensions",
    [[], ["ACTION_NAME"], ["STATUS"], ["AGENT_ID"], ["USER_ID"], ["ACTION_TYPE", "STATUS"], ["STATUS", "AGENT_ID"]],
)
async def test_stats_are_exact(trail: Trail, dimensions: list[str]) -> None:
    """Every figure of every group is what Python makes of the same events, in the same order."""
    found = await trail.client.data(STATS, {"groupBy": dimensions, "limit": 500})
    assert _with_decimals(found["auditStats"]) == _expected_stats(trail.rows, dimensions)


async def test_groups_are_cut_at_the_limit(trail: Trail) -> None:
    """The largest groups are left, in their order."""
    found = await trail.client.data(STATS, {"groupBy": ["ACTION_NAME"], "limit": 3})
    assert _with_decimals(found["auditStats"]) == _expected_stats(trail.rows, ["ACTION_NAME"])[:3]


@pytest.fixture(scope="module")
def any_filter(trail: Trail) -> st.SearchStrategy[dict[str, Any]]:
    """Filters that may mean some of the trail's events."""
    return filters(simple_filters(trail.rows), 2)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_any_filter_counts_the_events_that_it_lists(
    trail: Trail, any_filter: st.SearchStrategy[dict[str, Any]], data: st.DataObject
) -> None:
    """The one filter means the same to statistics, facets and series."""
    where = data.draw(any_filter)
    rows = [row for row in trail.rows if matches(where, row)]
    found = await trail.client.data(
        "query($filter: AuditEventFilter) { auditStats(filter: $filter) { count }"
        " auditFacets(filter: $filter, dimensions: [STATUS]) { values { value count } }"
        " auditTimeSeries(filter: $filter) { count startAt endAt } }",
        {"filter": where},
    )
    assert found["auditStats"] == [{"count": str(len(rows))}]
    expected = Counter(row["status"] for row in rows)
    assert {value["value"]: int(value["count"]) for value in found["auditFacets"][0]["values"]} == expected
    assert sum(int(bucket["count"]) for bucket in found["auditTimeSeries"]) == len(rows)


async def test_facets_count_every_dimension_in_its_own_order(trail: Trail) -> None:
    """Each dimension has its values, the most frequent first, and none where there is none."""
    found = await trail.client.data(FACETS, {"dimensions": list(FIELDS), "limit": 500})
    assert [facet["dimension"] for facet in found["auditFacets"]] == list(FIELDS)
    for facet in found["auditFacets"]:
        counted: Counter[tuple[str | None, ...]] = Counter((row[FIELDS[facet["dimension"]]],) for row in trail.rows)
        groups: dict[tuple[str | None, ...], Any] = dict(counted)
        expected = [{"value": key[0], "count": str(counted[key])} for key in _in_order(groups, int)]
        assert facet["values"] == expected
    cut = await trail.client.data(FACETS, {"dimensions": ["USER_ID", "STATUS"], "limit": 2})
    whole = {facet["dimension"]: facet["values"] for facet in found["auditFacets"]}
    assert cut["auditFacets"] == [{"dimension": name, "values": whole[name][:2]} for name in ("USER_ID", "STATUS")]


async def test_facets_of_a_filter_that_matches_nothing_are_empty(trail: Trail) -> None:
    """Each dimension is there, without a value."""
    nothing: dict[str, Any] = {"actionName": {"in": []}}
    found = await trail.client.data(FACETS, {"dimensions": ["STATUS"], "filter": nothing})
    assert found["auditFacets"] == [{"dimension": "STATUS", "values": []}]
    assert (await trail.client.data(FACETS, {"dimensions": []}))["auditFacets"] == []


async def test_sums_pass_32_bits(client_a: GraphQLClient) -> None:
    """Tokens and cost are summed exactly, however large."""
    call = {"model": "m", "inputTokens": 2**31 - 1, "outputTokens": 2**31 - 1, "costUsd": "123456789.123456789012"}
    await client_a.data(LOG_EVENTS, {"input": {"events": [{"llmCall": call}] * 3}})
    (group,) = (await client_a.data(STATS, {}))["auditStats"]
    assert (group["inputTokens"], group["outputTokens"]) == (str(3 * (2**31 - 1)),) * 2
    assert group["costUsd"] == "370370367.370370367036"


async def test_empty_trail_has_statistics_of_nothing(client_a: GraphQLClient) -> None:
    """Without groups there is one answer, with groups and over time there is none."""
    found = await client_a.data("{ auditStats { count errorRate latencyMs { p50 } costUsd firstAt } }")
    assert found["auditStats"] == [
        {"count": "0", "errorRate": 0.0, "latencyMs": {"p50": None}, "costUsd": "0", "firstAt": None}
    ]
    found = await client_a.data("{ auditStats(groupBy: [STATUS]) { count } auditTimeSeries { count } }")
    assert found == {"auditStats": [], "auditTimeSeries": []}


async def test_other_tenants_are_not_counted(trail: Trail, client_b: GraphQLClient) -> None:
    """What one tenant counts is its own."""
    assert len(trail.rows) > 0
    found = await client_b.data("{ auditStats { count } auditFacets(dimensions: [STATUS]) { values { count } } }")
    assert found == {"auditStats": [{"count": "0"}], "auditFacets": [{"values": []}]}


@pytest.mark.parametrize(
    ("query", "mistake"),
    [
        ("{ auditStats(groupBy: [STATUS, AGENT_ID, USER_ID]) { count } }", "groupBy: must hold at most 2"),
        ("{ auditStats(groupBy: [STATUS, STATUS]) { count } }", "groupBy: must not hold a dimension twice"),
        ("{ auditStats(limit: 0) { count } }", "limit: must be between 1 and 500"),
        ("{ auditFacets(dimensions: [STATUS], limit: 501) { dimension } }", "limit: must be between 1 and 500"),
        ("{ auditFacets(dimensions: [STATUS, STATUS]) { dimension } }", "dimensions: must not hold a dimension twice"),
        ('{ auditTimeSeries(timezone: "Mars/Base") { count } }', "timezone: must be a time zone"),
        ('{ auditTimeSeries(timezone: "../etc/passwd") { count } }', "timezone: must be a time zone"),
        (
            '{ auditTimeSeries(interval: MINUTE, filter: {createdAt: {gte: "2026-01-01T00:00:00Z"}}) { count } }',
            "interval: would make about",
        ),
    ],
)
async def test_impossible_questions_are_refused_by_name(client_a: GraphQLClient, query: str, mistake: str) -> None:
    """The answer names the argument and the remedy."""
    answer = await client_a.execute(query)
    assert answer.codes == ["BAD_USER_INPUT"], answer.text
    assert answer.body["errors"][0]["message"].startswith(mistake)


# ---------------------------------------------------------------- over time


async def _insert_at(settings: Settings, tenant: TestTenant, instants: Sequence[datetime]) -> None:
    """Store events at times of one's own, which only the database's owner can."""
    async with tenant_transaction(settings.database.owner_database_url, tenant.id) as owner:
        for number, instant in enumerate(instants):
            await owner.execute(
                "INSERT INTO audit_events (tenant_id, id, created_at, action_type, action_name, status, submitted_by,"
                " latency_ms, cost_usd) VALUES ($1, $2, $3, 'llm_call', $4, 'succeeded', 'test', 5, 0.5)",
                tenant.id, uuid4(), instant, f"m{number % 2}",
            )  # fmt: skip


def _range(start: str, end: str) -> dict[str, Any]:
    return {"createdAt": {"gte": start, "lt": end}}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
async def test_days_are_the_days_of_the_zone(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant, zone: str
) -> None:
    """Over both clock changes each day goes from midnight to midnight, and each event is in its own day."""
    place = ZoneInfo(zone)
    start = datetime(2026, 3, 1, tzinfo=place)
    instants = [start.astimezone(UTC) + timedelta(hours=5 * number, microseconds=1) for number in range(1300)]
    await _insert_at(settings, tenant_a, instants[::7])
    expected = Counter(instant.astimezone(place).date() for instant in instants[::7])
    end = datetime(2026, 12, 1, tzinfo=place)
    found = await client_a.data(
        SERIES, {"filter": _range(start.isoformat(), end.isoformat()), "interval": "DAY", "timezone": zone}
    )
    days = found["auditTimeSeries"]
    assert len(days) == (end.date() - start.date()).days
    for number, bucket in enumerate(days):
        begins = datetime.fromisoformat(bucket["startAt"]).astimezone(place)
        assert begins.date() == start.date() + timedelta(days=number)
        assert (begins.hour, begins.minute) == (0, 0)
        assert int(bucket["count"]) == expected[begins.date()]
    assert [bucket["endAt"] for bucket in days[:-1]] == [bucket["startAt"] for bucket in days[1:]]
    lengths = {datetime.fromisoformat(bucket["endAt"]) - datetime.fromisoformat(bucket["startAt"]) for bucket in days}
    change = {"Europe/Berlin": 1, "America/New_York": 1, "Australia/Lord_Howe": 0.5}.get(zone, 0)
    assert lengths == {timedelta(hours=24 + sign * change) for sign in (-1, 0, 1)}


async def test_hours_of_a_clock_change_are_told_apart(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """The hour that comes twice is two buckets; the one that is skipped is none."""
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    await _insert_at(settings, tenant_a, [first, first + timedelta(hours=1), first + timedelta(hours=1, minutes=1)])
    day = _range("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00")
    found = await client_a.data(SERIES, {"filter": day, "interval": "HOUR", "timezone": "Europe/Berlin"})
    assert [int(bucket["count"]) for bucket in found["auditTimeSeries"]] == [0, 0, 1, 2, *[0] * 21]


async def test_series_by_a_dimension_has_every_bucket_for_every_value(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """One series after the other, the most frequent value first, empty buckets included."""
    start = datetime(2026, 9, 7, tzinfo=UTC)
    await _insert_at(settings, tenant_a, [start, start + timedelta(days=15), start + timedelta(days=15, hours=1)])
    found = await client_a.data(
        SERIES,
        {
            "filter": _range("2026-09-07T00:00:00Z", "2026-09-28T00:00:00Z"),
            "interval": "WEEK",
            "groupBy": "ACTION_NAME",
        },
    )
    series = [(bucket["key"], int(bucket["count"]), bucket["costUsd"]) for bucket in found["auditTimeSeries"]]
    assert series == [
        ("m0", 1, "0.5"), ("m0", 0, "0"), ("m0", 1, "0.5"), ("m1", 0, "0"), ("m1", 0, "0"), ("m1", 1, "0.5"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "length",
    [
        timedelta(minutes=1),
        timedelta(hours=1),
        timedelta(hours=24),
        timedelta(days=7),
        timedelta(days=30),
        timedelta(days=365),
    ],
)
async def test_automatic_buckets_are_about_fifty(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant, length: timedelta
) -> None:
    """AUTO picks a length by the range, and all that lies in it is counted."""
    end = datetime(2026, 11, 3, 7, 12, 13, tzinfo=UTC)
    start = end - length
    await _insert_at(settings, tenant_a, [start, start + length / 2, end - timedelta(microseconds=1), end])
    found = await client_a.data(SERIES, {"filter": _range(start.isoformat(), end.isoformat())})
    buckets = found["auditTimeSeries"]
    assert 24 <= len(buckets) <= 62
    assert sum(int(bucket["count"]) for bucket in buckets) == 3
    assert datetime.fromisoformat(buckets[0]["startAt"]) <= start < datetime.fromisoformat(buckets[0]["endAt"])
    assert datetime.fromisoformat(buckets[-1]["startAt"]) < end <= datetime.fromisoformat(buckets[-1]["endAt"])


async def test_absurd_ranges_are_no_error(client_a: GraphQLClient) -> None:
    """The ends of the calendar are buckets of a hundred years, a reversed range is none."""
    await client_a.data(LOG_EVENTS, {"input": {"events": [{"toolCall": {"toolName": "t"}}]}})
    for zone in ("UTC", "Pacific/Kiritimati", "America/Los_Angeles"):
        found = await client_a.data(
            SERIES, {"filter": _range("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"), "timezone": zone}
        )
        assert sum(int(bucket["count"]) for bucket in found["auditTimeSeries"]) == 1
    found = await client_a.data(SERIES, {"filter": _range("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z")})
    assert found["auditTimeSeries"] == []


async def test_open_range_ends_with_what_was_just_written(client_a: GraphQLClient) -> None:
    """Without a range the first bucket holds the first event and the last one the newest."""
    await client_a.data(LOG_EVENTS, {"input": {"events": [{"toolCall": {"toolName": "t"}}] * 2}})
    found = await client_a.data(SERIES, {"interval": "MONTH", "timezone": "Europe/Berlin"})
    assert sum(int(bucket["count"]) for bucket in found["auditTimeSeries"]) == 2
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    found = await client_a.data(SERIES, {"filter": {"createdAt": {"gte": since}}, "interval": "MINUTE"})
    assert sum(int(bucket["count"]) for bucket in found["auditTimeSeries"]) == 2
