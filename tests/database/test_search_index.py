"""The search index: what it is asked for, what it may show, and that it is used."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from asyncpg import Record

from app.audit import AuditLogger, LlmCall
from app.audit.filter import AuditEventFilter
from app.audit.lanes import FEW_CANDIDATES, MOST_CANDIDATES, WINDOW_EVENTS, Lane
from app.audit.order import NEWEST_FIRST, EventOrder, OrderField
from app.audit.query import BoundedCount, count_events, list_events, list_events_as_json
from app.audit.representation import JsonMember
from app.database.database import Database
from app.database.session import TenantSession
from app.database.statements import Statement
from app.filters import StringFilter
from app.json_predicates import JsonPredicate
from app.kb.search import SearchMode, SearchRequest, search_chunks
from app.pagination import PageRequest
from app.settings import Limits, Settings
from tests.database.rows import add_rows
from tests.support.database import TestTenant, connect, new_tenant

CANDIDATES = "SELECT id FROM audit_event_candidates($1::jsonb[], $2, 100)"
LIMITS = Limits(events_per_batch=5000)


async def log(database: Database, tenant: TestTenant, calls: list[LlmCall]) -> list[UUID]:
    """Record events; return their ids."""
    results = await AuditLogger(database, tenant.principal, LIMITS).log_events(calls)
    return [result.event.id for result in results if result.event is not None]


async def candidates(connection: asyncpg.Connection, documents: Any, words: str | None) -> set[UUID]:
    """Ask the function itself."""
    sent = None if documents is None else [json.dumps(document) for document in documents]
    return {row["id"] for row in await connection.fetch(CANDIDATES, sent, words)}


async def test_function_shows_the_sessions_tenant_only(
    database: Database, settings: Settings, tenant_a: TestTenant, tenant_b: TestTenant
) -> None:
    """With the same metadata and words in two tenants, each session gets its own ids, and one without a tenant none."""
    call = LlmCall(model="m", metadata={"order": 7}, input_summary="late refund")
    own = {tenant.id: set(await log(database, tenant, [call])) for tenant in (tenant_a, tenant_b)}
    for documents, words in (([{"order": 7}], None), (None, "refund"), ([{"order": 7}], "refund")):
        for tenant in (tenant_a, tenant_b):
            async with connect(settings.database.database_url, tenant.id) as connection:
                assert await candidates(connection, documents, words) == own[tenant.id]
        async with connect(settings.database.database_url) as connection:
            assert await candidates(connection, documents, words) == set()
            await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(uuid4()))
            assert await candidates(connection, documents, words) == set()


async def test_function_is_for_the_runtime_role_and_looks_names_up_itself(
    settings: Settings, tenant_a: TestTenant, database: Database
) -> None:
    """PUBLIC may not call it; objects that a caller puts in front of the real ones are not used."""
    await log(database, tenant_a, [LlmCall(model="m", metadata={"order": 7})])
    async with connect(settings.database.owner_database_url) as owner:
        granted = await owner.fetchval(
            "SELECT array_agg(grantee::regrole::text ORDER BY 1) FROM pg_proc, aclexplode(proacl)"
            " WHERE proname = 'audit_event_candidates' AND grantee <> proowner"
        )
        security = await owner.fetchrow(
            "SELECT prosecdef, proconfig FROM pg_proc WHERE proname = 'audit_event_candidates'"
        )
    assert security is not None
    assert granted == ["konstruct_app"]
    assert security["prosecdef"]
    assert any(setting.startswith("search_path=pg_catalog") for setting in security["proconfig"])
    async with connect(settings.database.database_url, tenant_a.id) as connection:
        await connection.execute("CREATE TEMP TABLE audit_events (id uuid, tenant_id uuid, created_at timestamptz)")
        await connection.execute("SET search_path = pg_temp, public")
        assert len(await candidates(connection, [{"order": 7}], None)) == 1


SEARCHES = [
    "", " ", "((", '"', "-", "or", "a or", "\\", "'", "::", "!&|<>()*:", "-" * 500, "- (" * 40, "-!" * 40, "a -" * 40,
    '"a b', "\u0130\ufb01 é",
]  # fmt: skip


@pytest.mark.parametrize("words", SEARCHES)
async def test_any_text_is_a_search(database: Database, tenant_a: TestTenant, words: str) -> None:
    """Whatever is searched for, nothing is raised."""
    await log(database, tenant_a, [LlmCall(model="m", input_summary="a b c")])
    async with database.tenant_session(tenant_a.id) as session:
        page = await list_events(session, AuditEventFilter(search=words), PageRequest(), LIMITS)
        assert len(page.items) <= 1


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return an object with a value at the end of a path."""
    found = value
    for step in reversed(path.split(".")):
        found = {step: found}
    assert isinstance(found, dict)
    return found


VALUES = [
    1, 1.0, 1.5, 10**30, "1", "", "x", True, False, [], {}, [1], [1, 2], [2, 1], [[1]], [[]], {"x": 1}, {"x": {}},
    {"x": 1, "y": 2}, [{"x": 1}],
]  # fmt: skip


async def test_index_misses_no_event_that_the_exact_condition_matches(database: Database, tenant_a: TestTenant) -> None:
    """For values of every kind at paths of every kind, all lanes find the same events as the plain one."""
    stored = [nested(path, value) for path in ("a", "a.b", "0", "a.0") for value in VALUES]
    stored += [{"a": ["x", 1]}, {"a": [["x"]]}, {"a": None}, {}]
    await log(database, tenant_a, [LlmCall(model="m", metadata=metadata) for metadata in stored])
    operations: list[dict[str, Any]] = [{"eq": value} for value in VALUES]
    operations += [{"in_": [1, "x"]}, {"in_": [[], 1]}, {"in_": []}]
    predicates = [
        JsonPredicate(tuple(path.split(".")), **operators)
        for path in ("a", "a.b", "0", "a.0", "a.0.x")
        for operators in operations
    ]
    asked = 0
    async with database.tenant_session(tenant_a.id) as session:
        for predicate in predicates:
            where = AuditEventFilter(metadata=[predicate])
            plain = AuditEventFilter(or_=[where])
            asked += where.index_key() is not None
            assert plain.index_key() is None
            found = [await ids(session, each) for each in (where, plain)]
            assert found[0] == found[1], predicate
            counts = [await count_events(session, each, LIMITS) for each in (where, plain)]
            assert counts[0] == counts[1] == BoundedCount(len(found[0]), is_exact=True)
    assert asked > len(predicates) / 4


async def ids(session: TenantSession, where: AuditEventFilter, page: PageRequest | None = None) -> list[UUID]:
    """Return the ids of a page, having compared the page that PostgreSQL writes with it."""
    request = page or PageRequest(first=200)
    rows = await list_events(session, where, request, LIMITS)
    if not request.is_backward:
        written = await list_events_as_json(session, where, request, LIMITS, members=[JsonMember("id", "id")])
        assert [UUID(event["id"]) for event in json.loads(written.events)] == [row["id"] for row in rows.items]
        assert (written.has_next, written.has_previous) == (rows.has_next, rows.has_previous)
    return [row["id"] for row in rows.items]


@pytest.fixture
async def crowd(settings: Settings, database: Database) -> tuple[TestTenant, dict[str, list[UUID]]]:
    """More events than the window holds and than the index may give, of values frequent, in between, and rare."""
    tenant = await new_tenant(settings)
    total = MOST_CANDIDATES + WINDOW_EVENTS + 500
    by_kind: dict[str, list[UUID]] = {"frequent": [], "old": [], "some": [], "rare": []}
    for start in range(0, total, 250):
        numbers = range(start, min(start + 250, total))
        kinds = [
            "rare" if n % 3000 == 7 else "some" if n % 20 == 3 else "old" if n < MOST_CANDIDATES + 400 else "frequent"
            for n in numbers
        ]
        calls = [LlmCall(model="m", metadata={"kind": kind}, input_summary=f"word{kind} all") for kind in kinds]
        for kind, row_id in zip(kinds, await log(database, tenant, calls), strict=True):
            by_kind[kind].append(row_id)
    async with connect(settings.database.owner_database_url) as owner:
        await owner.execute("ANALYZE audit_events")
    return tenant, by_kind


async def test_all_lanes_give_the_same_pages(
    database: Database, crowd: tuple[TestTenant, dict[str, list[UUID]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frequent values come from the window, rare ones from the index, the others in order; pages fit together."""
    tenant, by_kind = crowd
    lanes: list[str] = []
    fetch = TenantSession.fetch

    async def noting(session: TenantSession, statement: Statement, values: Mapping[str, Any]) -> list[Record]:
        if "audit_events" in statement.sql:
            has_window = f"OFFSET {WINDOW_EVENTS - 1}" in statement.sql
            is_named, is_looked_up = "candidate_ids" in statement.names, "audit_event_candidates" in statement.sql
            index = Lane.FEW_CANDIDATES if is_named else Lane.CANDIDATES if is_looked_up else Lane.PLAIN
            lanes.append(Lane.WINDOW if has_window else index)
        return await fetch(session, statement, values)

    monkeypatch.setattr(TenantSession, "fetch", noting)
    expected = {
        "frequent": [Lane.WINDOW],
        "rare": [Lane.WINDOW, Lane.FEW_CANDIDATES],
        "some": [Lane.WINDOW, Lane.CANDIDATES],
        "old": [Lane.WINDOW, Lane.PLAIN],
    }
    async with database.tenant_session(tenant.id) as session:
        for kind, used in expected.items():
            newest_first = sorted(by_kind[kind], reverse=True)
            for where in (
                AuditEventFilter(metadata=[JsonPredicate(("kind",), eq=kind)]),
                AuditEventFilter(search=f"word{kind}"),
                AuditEventFilter(search="all", and_=[AuditEventFilter(metadata=[JsonPredicate(("kind",), eq=kind)])]),
            ):
                size = 2 if kind == "rare" else 50
                lanes.clear()
                rows = await list_events(session, where, PageRequest(first=size), LIMITS)
                assert lanes == used, (kind, where)
                assert {row["id"] for row in rows.items} <= set(newest_first)
                assert len(rows.items) == size
                second = await list_events(
                    session, where, PageRequest(first=size, after=rows.cursor_of(rows.items[-1])), LIMITS
                )
                last = await list_events(session, where, PageRequest(last=size), LIMITS)
                every = AuditEventFilter(or_=[where])
                for page, request in (
                    (rows, PageRequest(first=size)),
                    (last, PageRequest(last=size)),
                ):
                    plain = await list_events(session, every, request, LIMITS)
                    assert [row["id"] for row in page.items] == [row["id"] for row in plain.items]
                assert not {row["id"] for row in rows.items} & {row["id"] for row in second.items}
                count = await count_events(session, where, LIMITS)
                assert count.value == len(newest_first)


async def test_how_lanes_are_planned(settings: Settings, crowd: tuple[TestTenant, dict[str, list[UUID]]]) -> None:
    """The window of a simple first page once a connection; all else, whose best plan is the tenant's, each time."""
    tenant, _ = crowd
    plans = Statement("SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements", (), {})
    rare = [JsonPredicate(("kind",), eq="rare")]

    async def planned(where: AuditEventFilter, order: EventOrder = NEWEST_FIRST, *, second: bool = False) -> list[str]:
        database = Database(settings.database.model_copy(update={"database_pool_size": 1}))
        page = PageRequest(first=2)
        if second:
            async with database.reading_session(tenant.id) as session:
                rows = await list_events(session, where, PageRequest(first=1), LIMITS, order=order)
            page = PageRequest(first=2, after=rows.cursor_of(rows.items[0]))
            # Forgets how the first page was planned.
            await database.engine.dispose()
        for _ in range(8):
            async with database.reading_session(tenant.id) as session:
                await list_events(session, where, page, LIMITS, order=order)
        async with database.reading_session(tenant.id) as session:
            made = await session.fetch(plans, {})
        await database.close()
        kinds = []
        for text, generic, custom in made:
            lane = "window" if "OFFSET" in text else "look-up" if "audit_event_candidates" in text else "index"
            if lane != "index" or "unnest(" in text:
                kinds.append(f"{lane} {'once' if not custom else 'each time' if not generic else 'as it comes'}")
        return sorted(kinds)

    each_time = ["index each time", "look-up each time", "window each time"]
    assert await planned(AuditEventFilter(metadata=rare)) == [*each_time[:2], "window once"]
    assert await planned(AuditEventFilter(search="wordrare")) == [*each_time[:2], "window once"]
    assert await planned(AuditEventFilter(metadata=rare), second=True) == each_time
    assert "window each time" in await planned(AuditEventFilter(metadata=rare), EventOrder(OrderField.COST_USD))
    llm_calls = AuditEventFilter(metadata=rare, action_type=StringFilter(eq="llm_call"))
    assert await planned(llm_calls) == each_time
    assert await planned(AuditEventFilter(and_=[llm_calls])) == each_time


async def test_kept_plans_show_each_tenant_its_own(settings: Settings) -> None:
    """On one connection, with one plan a statement, tenants take turns: each finds its own events and passages."""
    database = Database(settings.database.model_copy(update={"database_pool_size": 1}))
    tenants = [await new_tenant(settings) for _ in range(3)]
    call = LlmCall(model="m", metadata={"order": 7}, input_summary="late refund")
    own_events = {tenant.id: await log(database, tenant, [call]) for tenant in tenants}
    own_passages = {tenant.id: [(await add_rows(settings, tenant.id)).chunk_id] for tenant in tenants}
    wheres = (
        AuditEventFilter(metadata=[JsonPredicate(("order",), eq=7)]),
        AuditEventFilter(search="refund"),
        AuditEventFilter(metadata=[JsonPredicate(("order",), eq=7)], search="refund"),
    )
    search = SearchRequest(limit=5, mode=SearchMode.KEYWORD, words="passage")
    for turn in range(24):
        tenant = tenants[turn % 3 if turn % 2 else turn // 8]
        async with database.reading_session(tenant.id) as session:
            for where in wheres:
                assert await ids(session, where) == own_events[tenant.id]
                assert await count_events(session, where, LIMITS) == BoundedCount(1, is_exact=True)
            hits = (await search_chunks(session, search, LIMITS)).hits
            assert [hit.passage.id for hit in hits] == own_passages[tenant.id]
    await database.close()


async def test_plans_under_row_level_security(
    database: Database,
    settings: Settings,
    crowd: tuple[TestTenant, dict[str, list[UUID]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the runtime role: pages and look-ups read index ranges of one tenant, and nothing sorts a tenant."""
    tenant, by_kind = crowd
    plans: list[str] = []
    fetch = TenantSession.fetch

    async def explaining(session: TenantSession, statement: Statement, values: Mapping[str, Any]) -> list[Record]:
        # What the window and the index give is sorted by design: some thousand events at most.
        if not ("OFFSET" in statement.sql or "candidates" in statement.sql or "candidate_ids" in statement.names):
            rows = await fetch(session, replace(statement, sql=f"EXPLAIN {statement.sql}"), values)
            plans.append("\n".join(row[0] for row in rows))
        return await fetch(session, statement, values)

    monkeypatch.setattr(TenantSession, "fetch", explaining)
    async with database.tenant_session(tenant.id) as session:
        for where in (
            AuditEventFilter(),
            AuditEventFilter(action_type=StringFilter(eq="llm_call")),
            AuditEventFilter(metadata=[JsonPredicate(("kind",), eq="frequent")]),
        ):
            await list_events(session, where, PageRequest(first=50), LIMITS)
            await list_events(session, where, PageRequest(last=50), LIMITS)
        for order in (EventOrder(OrderField.LATENCY_MS), EventOrder(OrderField.COST_USD, descending=False)):
            first = await list_events(session, AuditEventFilter(), PageRequest(first=50), LIMITS, order=order)
            assert f"{order.column_name}_id_idx" in plans[-1]
            after = PageRequest(first=50, after=first.cursor_of(first.items[-1]))
            await list_events(session, AuditEventFilter(), after, LIMITS, order=order)
            # Few rows are left here, which may be sorted; that they are found by the index is what counts.
            assert f"ROW({order.column_name}, id)" in plans.pop()
    for plan in plans:
        assert not re.search(r"Sort  \(", plan), plan
        assert "Seq Scan on audit_events" not in plan, plan
        assert "Index Cond: " in plan, plan
        assert "tenant_id = " in plan, plan
    assert len(plans) >= 6
    async with connect(settings.database.owner_database_url) as owner, owner.transaction():
        await owner.execute("SELECT set_tenant($1)", tenant.id)
        for setting in ("enable_seqscan", "enable_indexscan", "enable_indexonlyscan"):
            await owner.execute(f"SET LOCAL {setting} = off")
        inside = await owner.fetch(
            "EXPLAIN SELECT e.created_at, e.id FROM unnest($1::jsonb[]) AS d (document)"
            " JOIN audit_events e ON e.metadata @> d.document WHERE e.tenant_id = current_tenant() LIMIT 5001",
            [json.dumps({"kind": "rare"})],
        )
    text = "\n".join(row[0] for row in inside)
    assert "metadata @> d.document" in text
    assert "Bitmap Index Scan" in text
    assert by_kind["rare"]


async def test_partitions_made_later_have_the_index_too(settings: Settings) -> None:
    """Every partition has its part of the index, those that were made after the migration too."""
    async with connect(settings.database.owner_database_url) as owner:
        made = await owner.fetchval("SELECT create_audit_partition('2031-05-01')")
        indexes = await owner.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = $1", made)
        assert any("USING gin" in row["indexdef"] for row in indexes)
        await owner.execute(f"DROP TABLE {made}")


async def test_few_candidates_and_more_are_all_found(database: Database, tenant_a: TestTenant) -> None:
    """At the number of candidates that are still named, and one beyond it, none is left out or comes twice."""
    numbers = {"few": FEW_CANDIDATES, "more": FEW_CANDIDATES + 1}
    ids_of = {}
    for kind, number in numbers.items():
        calls = [LlmCall(model="m", metadata={"kind": [kind, "any"]}, input_summary=kind) for _ in range(number)]
        ids_of[kind] = sorted(await log(database, tenant_a, calls), reverse=True)
    async with database.tenant_session(tenant_a.id) as session:
        for kind, expected in ids_of.items():
            for where in (
                AuditEventFilter(search=kind),
                AuditEventFilter(metadata=[JsonPredicate(("kind",), eq=[kind, "any"])]),
                AuditEventFilter(metadata=[JsonPredicate(("kind",), in_=[[kind, "any"], [kind, "any"], "none"])]),
            ):
                assert await ids(session, where, PageRequest(first=500)) == expected
                assert await count_events(session, where, LIMITS) == BoundedCount(len(expected), is_exact=True)
