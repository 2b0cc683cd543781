"""Pages: forwards and backwards, without a gap, a repeat or a wrong order, and never restarted by a bad cursor."""

import base64
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.database.embedded import EmbeddedPostgres
from app.settings import Settings
from tests.support.database import TestTenant, connect, new_tenant, stored_events
from tests.support.server import Answer, GraphQLClient, LiveServer, live_server
from tests.support.trail import matches, varied_trail

PAGE_INFO = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
EVENTS = (
    "query($filter: AuditEventFilter, $orderBy: AuditEventOrder, $first: Int, $after: String, $last: Int,"
    " $before: String) { page: auditEvents(filter: $filter, orderBy: $orderBy, first: $first, after: $after,"
    " last: $last, before: $before) { nodes { id createdAt } edges { cursor node { id } } " + PAGE_INFO + " } }"
)
DOCUMENTS = (
    "query($filter: KbDocumentFilter, $first: Int, $after: String, $last: Int, $before: String) {"
    " page: kbDocuments(filter: $filter, first: $first, after: $after, last: $last, before: $before) {"
    " nodes { id externalId } edges { cursor node { id } } " + PAGE_INFO + " } }"
)
CHUNKS = (
    "query($id: ID!, $first: Int, $after: String) { kbDocument(id: $id) { chunks(first: $first, after: $after) {"
    " nodes { id chunkIndex content } edges { cursor node { id } } " + PAGE_INFO + " } } }"
)
NEWEST = {"field": "CREATED_AT", "direction": "DESC"}
OLDEST = {"field": "CREATED_AT", "direction": "ASC"}


async def log_batch(client: GraphQLClient, count: int, name: str = "t") -> list[str]:
    """Log events in one transaction, so that they share their time; return their ids."""
    mutation = "mutation($input: LogEventsInput!) { logEvents(input: $input) { results { event { id } } } }"
    events = [{"toolCall": {"toolName": name}}] * count
    data = await client.data(mutation, {"input": {"events": events}})
    return [item["event"]["id"] for item in data["logEvents"]["results"]]


async def page(client: GraphQLClient, query: str = EVENTS, **arguments: Any) -> dict[str, Any]:
    """Return one page, whose edges and cursors agree with its nodes."""
    found = dict((await client.data(query, arguments))["page"])
    assert [edge["node"]["id"] for edge in found["edges"]] == ids(found)
    cursors = [edge["cursor"] for edge in found["edges"]] or [None]
    assert (found["pageInfo"]["startCursor"], found["pageInfo"]["endCursor"]) == (cursors[0], cursors[-1])
    return found


def ids(found: dict[str, Any]) -> list[str]:
    """Return the ids of a page."""
    return [node["id"] for node in found["nodes"]]


def ends(found: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether there is a page before, and one after."""
    return found["pageInfo"]["hasPreviousPage"], found["pageInfo"]["hasNextPage"]


async def forwards(client: GraphQLClient, size: int, query: str = EVENTS, **arguments: Any) -> list[list[str]]:
    """Page from the start to the end."""
    pages: list[list[str]] = []
    after: str | None = None
    while True:
        found = await page(client, query, first=size, after=after, **arguments)
        pages.append(ids(found))
        assert found["pageInfo"]["hasPreviousPage"] is (after is not None)
        if not found["pageInfo"]["hasNextPage"]:
            return pages
        after = found["pageInfo"]["endCursor"]


async def backwards(client: GraphQLClient, size: int, query: str = EVENTS, **arguments: Any) -> list[list[str]]:
    """Page from the end to the start; return the pages in the list's order."""
    pages: list[list[str]] = []
    before: str | None = None
    while True:
        found = await page(client, query, last=size, before=before, **arguments)
        pages.insert(0, ids(found))
        assert found["pageInfo"]["hasNextPage"] is (before is not None)
        if not found["pageInfo"]["hasPreviousPage"]:
            return pages
        before = found["pageInfo"]["startCursor"]


async def oldest_first(settings: Settings, tenant: TestTenant) -> list[str]:
    """Return the ids of all events in the order of the trail."""
    return [str(row["id"]) for row in await stored_events(settings, tenant.id)]


def assert_refused(answer: Answer, argument: str, code: str = "BAD_USER_INPUT") -> None:
    """The page was refused for one argument; nothing of the list was answered."""
    assert answer.status == 200
    assert answer.codes == [code], answer.text
    assert answer.body["data"] is None
    assert argument in answer.body["errors"][0]["message"]
    assert "select" not in answer.text.lower()


async def test_rows_of_one_transaction_are_paged_without_gap_or_repeat(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """Twenty-five rows of one time come as 10, 10 and 5, in both directions and both orders."""
    await log_batch(client_a, 25)
    assert len({row["created_at"] for row in await stored_events(settings, tenant_a.id)}) == 1
    oldest = await oldest_first(settings, tenant_a)
    newest = oldest[::-1]
    assert await forwards(client_a, 10) == [newest[:10], newest[10:20], newest[20:]]
    assert await backwards(client_a, 10) == [newest[:5], newest[5:15], newest[15:]]
    assert await forwards(client_a, 10, orderBy=OLDEST) == [oldest[:10], oldest[10:20], oldest[20:]]
    assert await backwards(client_a, 10, orderBy=OLDEST) == [oldest[:5], oldest[5:15], oldest[15:]]


async def test_exactly_full_last_page_is_the_last(client_a: GraphQLClient) -> None:
    """Twenty rows in pages of ten are two pages, and one page of twenty is the only one."""
    await log_batch(client_a, 20)
    assert [len(rows) for rows in await forwards(client_a, 10)] == [10, 10]
    assert [len(rows) for rows in await backwards(client_a, 10)] == [10, 10]
    assert ends(await page(client_a, first=20)) == (False, False)
    assert ends(await page(client_a, last=20)) == (False, False)


@pytest.fixture(scope="module")
async def busy(settings: Settings) -> TestTenant:
    """A tenant with 1,000 events of four different times."""
    return await new_tenant(settings, "Busy")


@pytest.fixture(scope="module")
async def thousand(
    server: LiveServer, settings: Settings, busy: TestTenant
) -> AsyncIterator[tuple[GraphQLClient, list[str]]]:
    """Its client, and the ids of its events, oldest first."""
    client = GraphQLClient(server.graphql_url, busy.api_key)
    for count in (400, 1, 99, 500):
        await log_batch(client, count, f"batch-{count}")
    assert len({row["created_at"] for row in await stored_events(settings, busy.id)}) == 4
    yield client, await oldest_first(settings, busy)
    await client.http.aclose()


def joined(pages: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of all pages."""
    return [row for rows in pages for row in rows]


@pytest.mark.parametrize(("size", "order"), [(7, NEWEST), (500, NEWEST), (500, OLDEST)])
async def test_thousand_events_are_paged_in_exact_order(
    thousand: tuple[GraphQLClient, list[str]], size: int, order: dict[str, str]
) -> None:
    """In small and large pages, each direction and order: every event once, in its place."""
    client, oldest = thousand
    expected = oldest if order is OLDEST else oldest[::-1]
    assert joined(await forwards(client, size, orderBy=order)) == expected
    assert joined(await backwards(client, size, orderBy=order)) == expected


async def test_filtered_list_is_paged_in_exact_order(thousand: tuple[GraphQLClient, list[str]]) -> None:
    """A filter leaves the order and the pages as exact."""
    client, oldest = thousand
    wanted = {"actionName": {"in": ["batch-99", "batch-1"]}}
    assert joined(await forwards(client, 30, filter=wanted)) == oldest[400:500][::-1]
    assert joined(await backwards(client, 30, filter=wanted)) == oldest[400:500][::-1]


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
@pytest.mark.parametrize("field", ["LATENCY_MS", "COST_USD"])
async def test_lists_by_a_number_are_paged_in_exact_order(
    server: LiveServer, settings: Settings, field: str, direction: str
) -> None:
    """Equal numbers are ordered by id, events without one count as the least, in both directions."""
    tenant = await new_tenant(settings, "Ordered")
    client = GraphQLClient(server.graphql_url, tenant.api_key)
    trail = await varied_trail(client)
    numbers = {"LATENCY_MS": "latencyMs", "COST_USD": "costUsd"}
    rows = sorted(
        trail.rows,
        key=lambda row: (Decimal(-1 if (number := row[numbers[field]]) is None else number), row["id"]),
        reverse=direction == "DESC",
    )
    expected = [row["id"] for row in rows]
    order = {"field": field, "direction": direction}
    for size in (7, 200):
        assert joined(await forwards(client, size, orderBy=order)) == expected
        assert joined(await backwards(client, size, orderBy=order)) == expected
    wanted = {"search": "refund", "latencyMs": {"isNull": False}}
    found = [row["id"] for row in rows if matches(wanted, row)]
    assert joined(await forwards(client, 7, orderBy=order, filter=wanted)) == found
    assert len(found) > 14
    plain = "query($orderBy: AuditEventOrder) { auditEvents(orderBy: $orderBy, first: 9) { nodes { id } %s } }"
    written = await client.data(plain % PAGE_INFO, {"orderBy": order})
    assert ids(written["auditEvents"]) == expected[:9]
    after = written["auditEvents"]["pageInfo"]["endCursor"]
    assert ids(await page(client, first=9, after=after, orderBy=order)) == expected[9:18]
    assert_refused(await client.execute(EVENTS, {"first": 1, "after": after}), "after", "CURSOR_MISMATCH")
    await client.http.aclose()


async def test_page_between_two_cursors(thousand: tuple[GraphQLClient, list[str]]) -> None:
    """After and before together cut out a range, counted from either end."""
    client, oldest = thousand
    newest = oldest[::-1]
    edges = (await page(client, first=20))["edges"]
    between = {"after": edges[4]["cursor"], "before": edges[15]["cursor"]}
    whole = await page(client, first=50, **between)
    start = await page(client, first=3, **between)
    end = await page(client, last=3, **between)
    assert ids(whole) == newest[5:15]
    assert (ids(start), start["pageInfo"]["hasNextPage"]) == (newest[5:8], True)
    assert (ids(end), end["pageInfo"]["hasPreviousPage"]) == (newest[12:15], True)


async def test_rows_that_arrive_meanwhile_shift_nothing(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """The second page goes on where the first one ended, whatever was logged in between."""
    await log_batch(client_a, 20)
    newest = (await oldest_first(settings, tenant_a))[::-1]
    first = await page(client_a, first=10)
    late = await log_batch(client_a, 5)
    second = await page(client_a, first=10, after=first["pageInfo"]["endCursor"])
    back = await page(client_a, last=10, before=first["pageInfo"]["startCursor"])
    assert ids(first) + ids(second) == newest
    assert sorted(ids(back)) == sorted(late)


async def test_microseconds_are_not_lost(client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant) -> None:
    """Three rows a microsecond apart come one a page and then the list ends; a filter finds each by its time."""
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=123_456) + timedelta(days=1)
    times = [tomorrow + timedelta(microseconds=more) for more in range(3)]
    async with connect(settings.database.owner_database_url) as owner:
        await insert_at(owner, tenant_a, times)
    pages = await forwards(client_a, 1, orderBy=OLDEST)
    nodes = (await page(client_a, orderBy=OLDEST))["nodes"]
    assert [len(rows) for rows in pages] == [1, 1, 1]
    assert joined(pages) == await oldest_first(settings, tenant_a)
    assert [node["createdAt"] for node in nodes] == [f"{time:%Y-%m-%dT%H:%M:%S.%f}Z" for time in times]
    for position, node in enumerate(nodes):
        since = await page(client_a, filter={"createdAt": {"gte": node["createdAt"]}}, orderBy=OLDEST)
        until = await page(client_a, filter={"createdAt": {"lt": node["createdAt"]}}, orderBy=OLDEST)
        assert ids(since) == joined(pages)[position:]
        assert ids(until) == joined(pages)[:position]


async def insert_at(owner: asyncpg.Connection, tenant: TestTenant, times: Sequence[datetime]) -> None:
    """Insert events of given times, which the API does not allow; the owner can, as one who restores a backup."""
    async with owner.transaction():
        await owner.execute("SELECT set_tenant($1)", tenant.id)
        for time in times:
            await owner.execute(
                "INSERT INTO audit_events (tenant_id, id, created_at, action_type, action_name, status, submitted_by)"
                " VALUES ($1, gen_random_uuid(), $2, 'llm_call', 'm', 'succeeded', 'restore')",
                tenant.id,
                time,
            )


async def test_bad_cursor_is_refused(client_a: GraphQLClient) -> None:
    """Text that is no cursor is refused; the list does not silently start again."""
    await log_batch(client_a, 3)
    good = (await page(client_a, first=1))["pageInfo"]["endCursor"]
    time = "2026-01-01T00:00:00.000000Z"
    bad = [
        "",
        "x",
        "not-a-cursor",
        good[:-1],
        good + "A",
        good.lower() if good != good.lower() else good.upper(),
        base64.b64encode(b"{}").decode(),
        base64.b64encode(b"2026-01-01").decode(),
        base64.b64encode(f"{time}|not-a-uuid".encode()).decode(),
        base64.b64encode(bytes(33)).decode(),
        base64.b64encode(bytes([255] * 33)).decode(),
        "A" * 1_000_000,
    ]
    for cursor in bad:
        for sent in ({"first": 1, "after": cursor}, {"last": 1, "before": cursor}):
            answer = await client_a.execute(EVENTS, sent)
            argument = "after" if "after" in sent else "before"
            code = answer.codes[0] if answer.codes else ""
            assert_refused(answer, argument, "CURSOR_MISMATCH" if code == "CURSOR_MISMATCH" else "BAD_USER_INPUT")


async def test_cursor_of_another_list_is_a_mismatch(client_a: GraphQLClient) -> None:
    """A cursor continues only the list that made it: the same field, filter, order and document."""
    await log_batch(client_a, 3)
    documents = [await ingest(client_a, f"d{n}", ["one", "two"]) for n in range(2)]
    event_cursor = (await page(client_a, first=1))["pageInfo"]["endCursor"]
    document_cursor = (await page(client_a, DOCUMENTS, first=1))["pageInfo"]["endCursor"]
    chunk_page = (await client_a.data(CHUNKS, {"id": documents[0], "first": 1}))["kbDocument"]["chunks"]
    chunk_cursor = chunk_page["pageInfo"]["endCursor"]
    wrong = [
        (EVENTS, {"after": event_cursor, "filter": {"actionName": {"eq": "t"}}}),
        (EVENTS, {"after": event_cursor, "filter": {"and": []}}),
        (EVENTS, {"before": event_cursor, "last": 1, "filter": {"latencyMs": {"isNull": True}}}),
        (EVENTS, {"after": event_cursor, "orderBy": OLDEST}),
        (EVENTS, {"after": document_cursor}),
        (EVENTS, {"after": chunk_cursor}),
        (DOCUMENTS, {"after": event_cursor}),
        (DOCUMENTS, {"after": document_cursor, "filter": {"title": {"eq": "t"}}}),
        (DOCUMENTS, {"before": chunk_cursor, "last": 1}),
    ]
    for query, variables in wrong:
        argument = "after" if "after" in variables else "before"
        assert_refused(await client_a.execute(query, variables), argument, "CURSOR_MISMATCH")
    for cursor in (chunk_cursor, event_cursor):
        answer = await client_a.execute(CHUNKS, {"id": documents[1], "after": cursor})
        assert answer.codes == ["CURSOR_MISMATCH"]
        assert answer.body["data"] == {"kbDocument": None}


async def test_cursor_may_continue_with_another_page_size_or_spelling(client_a: GraphQLClient) -> None:
    """The page's size is no part of the list, and null and `{}` are as if left out."""
    await log_batch(client_a, 5)
    first = await page(client_a, first=2)
    rest = await page(client_a, first=10, after=first["pageInfo"]["endCursor"], filter={"userId": None}, orderBy=NEWEST)
    assert len(set(ids(first) + ids(rest))) == 5


@pytest.mark.parametrize(
    ("sent", "argument"),
    [
        ({"first": -1}, "first"),
        ({"first": 501}, "first"),
        ({"first": 1_000_000}, "first"),
        ({"first": 2**31 - 1}, "first"),
        ({"last": -1}, "last"),
        ({"last": 501}, "last"),
        ({"first": 1, "last": 1}, "last"),
        ({"first": 0, "last": 0}, "last"),
        ({"first": 2**31}, "first"),
    ],
)
async def test_impossible_page_is_refused(
    thousand: tuple[GraphQLClient, list[str]], sent: dict[str, int], argument: str
) -> None:
    """A size out of range, or both ends at once, is a client error for events and documents."""
    client, _ = thousand
    for query in (EVENTS, DOCUMENTS):
        answer = await client.execute(query, sent)
        assert answer.codes == ["BAD_USER_INPUT"], answer.text
        assert argument in answer.body["errors"][0]["message"]
        assert answer.body.get("data") is None


async def test_impossible_search_size_is_refused(client_a: GraphQLClient) -> None:
    """A search returns 1 to 100 hits."""
    query = "query($input: KbSearchInput!) { kbSearch(input: $input) { hits { rank } } }"
    for limit in (-1, 0, 101, 2**31 - 1):
        answer = await client_a.execute(query, {"input": {"query": {"text": "x"}, "limit": limit}})
        assert_refused(answer, "limit")


async def test_default_and_smallest_pages(thousand: tuple[GraphQLClient, list[str]]) -> None:
    """Without a size there are 50 rows; with 0 there are none, and it is known whether there would be any."""
    client, oldest = thousand
    newest = oldest[::-1]
    default = await page(client)
    nothing = await page(client, first=0)
    back = await page(client, before=default["pageInfo"]["endCursor"])
    assert ids(default) == newest[:50]
    assert (ids(nothing), ends(nothing)) == ([], (False, True))
    assert (nothing["pageInfo"]["startCursor"], nothing["pageInfo"]["endCursor"]) == (None, None)
    assert ids(back) == newest[:49]


async def test_each_field_of_an_event_can_be_asked_for_alone(client_a: GraphQLClient) -> None:
    """A list of one field, which is written without the page's ends, is answered whatever the field is."""
    await log_batch(client_a, 1)
    introspection = '{ __type(name: "AuditEvent") { fields { name type { kind ofType { kind } } } } }'
    fields = (await client_a.data(introspection))["__type"]["fields"]
    kinds = {field["name"]: (field["type"]["ofType"] or field["type"])["kind"] for field in fields}
    leaves = [name for name, kind in kinds.items() if kind in {"SCALAR", "ENUM"}]
    assert "sequence" in leaves
    for name in leaves:
        found = await client_a.data(f"{{ auditEvents(first: 1) {{ nodes {{ {name} }} }} }}")
        assert [list(node) for node in found["auditEvents"]["nodes"]] == [[name]]


async def test_empty_list_has_one_empty_page(client_a: GraphQLClient) -> None:
    """A tenant without rows gets an empty page in every direction."""
    for sent in ({"first": 5}, {"last": 5}, {}):
        for query in (EVENTS, DOCUMENTS):
            found = await page(client_a, query, **sent)
            assert (ids(found), ends(found)) == ([], (False, False))


async def test_last_page_knows_its_neighbours(thousand: tuple[GraphQLClient, list[str]]) -> None:
    """The page after the first has one before it, and a page before the last has one after it."""
    client, _ = thousand
    first = await page(client, first=10)
    second = await page(client, first=10, after=first["pageInfo"]["endCursor"])
    last = await page(client, last=10)
    last_but_one = await page(client, last=10, before=last["pageInfo"]["startCursor"])
    assert [ends(found) for found in (first, second, last_but_one, last)] == [
        (False, True),
        (True, True),
        (True, True),
        (True, False),
    ]


COUNT = "query($filter: AuditEventFilter) { auditEvents(filter: $filter, first: 1) { totalCount { value isExact } } }"


async def test_total_count_is_of_all_pages_and_of_the_filter(thousand: tuple[GraphQLClient, list[str]]) -> None:
    """The count is of the filtered list, whatever the page."""
    client, _ = thousand
    everything = await client.data(COUNT)
    some = await client.data(COUNT, {"filter": {"actionName": {"eq": "batch-99"}}})
    nothing = await client.data(COUNT, {"filter": {"or": []}})
    documents = await client.data("{ kbDocuments { totalCount { value isExact } } }")
    assert everything["auditEvents"]["totalCount"] == {"value": 1000, "isExact": True}
    assert some["auditEvents"]["totalCount"] == {"value": 99, "isExact": True}
    assert nothing["auditEvents"]["totalCount"] == {"value": 0, "isExact": True}
    assert documents["kbDocuments"]["totalCount"] == {"value": 0, "isExact": True}


async def test_total_count_stops_at_ten_thousand(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """Ten thousand rows are counted exactly; with one more the count says that there are more."""
    insert = (
        "INSERT INTO audit_events (tenant_id, id, action_type, action_name, status, submitted_by)"
        " SELECT $1, gen_random_uuid(), 'llm_call', 'm', 'succeeded', 'test' FROM generate_series(1, $2::int)"
    )
    counts = []
    for more in (10_000, 1):
        async with connect(settings.database.database_url) as connection, connection.transaction():
            await connection.execute("SELECT set_tenant($1)", tenant_a.id)
            await connection.execute(insert, tenant_a.id, more)
        counts.append((await client_a.data(COUNT))["auditEvents"]["totalCount"])
    assert counts == [{"value": 10_000, "isExact": True}, {"value": 10_000, "isExact": False}]


async def test_total_count_is_counted_only_when_asked_for(
    postgres: EmbeddedPostgres, settings: Settings, tenant_a: TestTenant, tmp_path: Path
) -> None:
    """A page without the count sends no counting statement to the database."""
    url = settings.database.database_url
    assert url is not None
    role, database = url.get_secret_value().split("//")[1].split(":")[0], url.get_secret_value().rsplit("/", 1)[1]
    superuser = await asyncpg.connect(postgres.superuser_url.get_secret_value())
    postgres_log = postgres._data / "server.log"
    counting = []
    await superuser.execute(f"ALTER ROLE {role} IN DATABASE \"{database}\" SET log_statement = 'all'")
    try:
        with live_server(settings, tmp_path) as server:
            client = GraphQLClient(server.graphql_url, tenant_a.api_key)
            for query in (EVENTS, COUNT):
                start = len(postgres_log.read_text())
                await client.data(query)
                statements = postgres_log.read_text()[start:]
                assert "FROM audit_events" in statements
                counting.append("count(" in statements)
            await client.http.aclose()
    finally:
        await superuser.execute(f'ALTER ROLE {role} IN DATABASE "{database}" RESET log_statement')
        await superuser.close()
    assert counting == [False, True]


# ---------------------------------------------------------------- knowledge base


async def ingest(client: GraphQLClient, key: str, chunks: Sequence[str]) -> str:
    """Ingest a document of ready chunks; return its id."""
    mutation = "mutation($input: IngestKbDocumentInput!) { ingestKbDocument(input: $input) { document { id } } }"
    document = {"externalId": key, "title": key, "body": {"chunks": [{"content": content} for content in chunks]}}
    data = await client.data(mutation, {"input": document})
    return str(data["ingestKbDocument"]["document"]["id"])


async def test_documents_are_paged_in_both_directions(client_a: GraphQLClient) -> None:
    """The document created last comes first, and an update does not move it."""
    created = [await ingest(client_a, f"d{n}", ["one"]) for n in range(12)]
    updated = await ingest(client_a, "d3", ["another"])
    newest = created[::-1]
    assert updated == created[3]
    assert await forwards(client_a, 5, DOCUMENTS) == [newest[:5], newest[5:10], newest[10:]]
    assert await backwards(client_a, 5, DOCUMENTS) == [newest[:2], newest[2:7], newest[7:]]


async def test_chunks_are_paged_in_numeric_order(client_a: GraphQLClient) -> None:
    """The tenth chunk comes after the ninth, over any pages."""
    document = await ingest(client_a, "long", [f"passage {n}" for n in range(25)])
    contents: list[str] = []
    indexes: list[int] = []
    after: str | None = None
    sizes = []
    while True:
        data = await client_a.data(CHUNKS, {"id": document, "first": 10, "after": after})
        found = data["kbDocument"]["chunks"]
        contents += [node["content"] for node in found["nodes"]]
        indexes += [node["chunkIndex"] for node in found["nodes"]]
        sizes.append(len(found["nodes"]))
        if not found["pageInfo"]["hasNextPage"]:
            break
        after = found["pageInfo"]["endCursor"]
    assert contents == [f"passage {n}" for n in range(25)]
    assert indexes == list(range(25))
    assert sizes == [10, 10, 5]


async def test_impossible_page_of_chunks_is_refused(client_a: GraphQLClient) -> None:
    """Chunks are paged under the same limits."""
    document = await ingest(client_a, "d", ["one"])
    for first in (-1, 501):
        answer = await client_a.execute(CHUNKS, {"id": document, "first": first})
        assert answer.codes == ["BAD_USER_INPUT"]
        assert "first" in answer.body["errors"][0]["message"]
