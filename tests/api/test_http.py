"""GraphQL over HTTP: what is no request, what is too much, and who may ask from a browser."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from operator import itemgetter
from typing import Any

import httpx
import pytest

from app.settings import ServerSettings, Settings
from tests.support.database import TestTenant, new_tenant, stored_events
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import Answer, GraphQLClient, LiveServer, live_server, strict_json

VIEWER = "{ viewer { subject } }"
LOG = 'mutation { logLlmCall(input: {model: "m"}) { outcome } }'
JSON = "application/json"
GRAPHQL = "application/graphql-response+json"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
async def tenant_a(settings: Settings) -> TestTenant:
    """One tenant for this module: nothing here records anything, so it stays empty."""
    return await new_tenant(settings, "HTTP")


@pytest.fixture(scope="module")
async def client_a(server: LiveServer, tenant_a: TestTenant) -> AsyncIterator[GraphQLClient]:
    """Its client."""
    client = GraphQLClient(server.graphql_url, tenant_a.api_key)
    yield client
    await client.http.aclose()


def media_type(answer: Answer | httpx.Response) -> str:
    """Return the answer's media type without its parameters."""
    return answer.headers["content-type"].partition(";")[0]


def assert_client_error(answer: Answer, status: int) -> None:
    """The request was refused with a small JSON body, a code and nothing of our insides."""
    assert answer.status == status, answer.text
    assert media_type(answer) == JSON
    assert answer.codes == ["BAD_USER_INPUT"]
    assert "data" not in answer.body
    assert len(answer.text) < 1000
    assert "Traceback" not in answer.text


# ---------------------------------------------------------------- malformed requests


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"\xff\xfe{}",
        b'{"query": "\xff"}',
        b'\xef\xbb\xbf{"query": "{ viewer { subject } }"}',
        '{"query": "{ viewer { subject } }"}'.encode("utf-16"),
        b"5",
        b"null",
        b"true",
        b'"x"',
        b"[]",
        b"{}",
        b"{'query': 'x'}",
        b'{"query": 5}',
        b'{"query": null}',
        b'{"query": ""}',
        b'{"query": " "}',
        b'{"query": []}',
        b'{"query": "{ viewer { subject } }", "variables": []}',
        b'{"query": "{ viewer { subject } }", "variables": "x"}',
        b'{"query": "{ viewer { subject } }", "variables": 5}',
        b'{"query": "{ viewer { subject } }", "operationName": 5}',
        b'{"query": "{ viewer { subject } }", "extensions": "x"}',
        b'{"query": "{ viewer { subject } }"} x',
        b'{"query": "{ viewer { subject } }", "variables": {"a": NaN}}',
        b'{"query": "{ viewer { subject } }", "variables": {"a": ' + b"9" * 5000 + b"}}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"query": "{ viewer { subject } }", "variables": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    ],
)
async def test_body_that_is_no_request_is_refused(client_a: GraphQLClient, body: bytes) -> None:
    """Whatever bytes a body is made of, the answer is 400 and JSON."""
    assert_client_error(await client_a.post(body), 400)
    assert (await client_a.data(VIEWER)) == {"viewer": {"subject": "test-key"}}


@pytest.mark.parametrize("count", [1, 2, 100])
async def test_array_of_operations_is_refused(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant, count: int
) -> None:
    """Batches by array are refused, and none of their operations runs."""
    assert_client_error(await client_a.post(json.dumps([{"query": LOG}] * count)), 400)
    assert await stored_events(settings, tenant_a.id) == []


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/graphql",
        "application/json; charset=latin-1",
        "application/jsonx",
        "",
        "garbage",
    ],
)
async def test_body_of_another_media_type_is_refused(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant, content_type: str
) -> None:
    """What a foreign web page can send without asking is refused, with cookies or without; nothing is stored."""
    body = json.dumps({"query": LOG})
    assert_client_error(await client_a.post(body, **{"content-type": content_type}), 415)
    assert_client_error(await client_a.post(body, **{"content-type": content_type, "cookie": "session=1"}), 415)
    assert await stored_events(settings, tenant_a.id) == []


async def test_multipart_and_form_requests_are_refused(
    client_a: GraphQLClient, server: LiveServer, settings: Settings, tenant_a: TestTenant
) -> None:
    """Real form posts are refused too, uploads included, and so is a compressed body."""
    headers = {"authorization": f"Bearer {tenant_a.api_key}"}
    operations = {"operations": json.dumps({"query": LOG, "variables": {}}), "map": "{}"}
    form = await client_a.http.post(server.graphql_url, data={"query": LOG}, headers=headers)
    upload = await client_a.http.post(
        server.graphql_url, data=operations, files={"0": ("a.txt", b"x")}, headers=headers
    )
    compressed = await client_a.post(b"\x1f\x8b", **{"content-encoding": "gzip"})
    assert (form.status_code, upload.status_code, compressed.status) == (415, 415, 415)
    assert await stored_events(settings, tenant_a.id) == []


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON", 'application/json; charset="UTF-8"'])
async def test_json_is_accepted_however_it_is_written(client_a: GraphQLClient, content_type: str) -> None:
    """The media type's case and the charset's quotes do not matter."""
    answer = await client_a.execute(VIEWER, None, **{"content-type": content_type})
    assert answer.data == {"viewer": {"subject": "test-key"}}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def test_other_methods_are_refused(
    client_a: GraphQLClient, server: LiveServer, settings: Settings, tenant_a: TestTenant, method: str
) -> None:
    """Only GET and POST are methods of the endpoint; the answer names them."""
    answer = await client_a.http.request(
        method,
        server.graphql_url,
        content=json.dumps({"query": LOG}),
        headers={"authorization": f"Bearer {tenant_a.api_key}", "content-type": JSON},
    )
    assert answer.status_code == 405
    assert sorted(answer.headers["allow"].replace(" ", "").split(",")) == ["GET", "POST"]
    assert await stored_events(settings, tenant_a.id) == []


async def test_unknown_paths_are_not_found(client_a: GraphQLClient, server: LiveServer) -> None:
    """There are no other routes to data."""
    for path in ("/", "/graphql/", "/api", "/events", "/admin", "/openapi.json"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            assert (await client_a.http.request(method, server.base_url + path)).status_code in {404, 405, 307}


# ---------------------------------------------------------------- GET


async def get(client: GraphQLClient, **parameters: str) -> Answer:
    """Send one operation in the URL."""
    headers = {"authorization": f"Bearer {client.api_key}"}
    response = await client.http.get(client.url, params=parameters, headers=headers)
    return Answer(response.status_code, strict_json(response.text), response.text, response.headers)


async def test_query_by_get_is_answered(client_a: GraphQLClient) -> None:
    """A query, its variables and its operation's name may come in the URL."""
    query = "query A($n: Int) { auditEvents(first: $n) { nodes { id } } } query B { viewer { subject } }"
    listed = await get(client_a, query=query, operationName="A", variables='{"n": 1}')
    viewer = await get(client_a, query=query, operationName="B")
    assert (listed.status, listed.data) == (200, {"auditEvents": {"nodes": []}})
    assert viewer.data == {"viewer": {"subject": "test-key"}}


async def test_mutation_by_get_is_refused(client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant) -> None:
    """A link can't write, also when the document holds a query beside the mutation."""
    several = 'query Q { viewer { subject } } mutation M { logLlmCall(input: {model: "m"}) { outcome } }'
    for answer in (await get(client_a, query=LOG), await get(client_a, query=several, operationName="M")):
        assert_client_error(answer, 405)
        assert answer.headers["allow"] == "POST"
    assert (await get(client_a, query=several, operationName="Q")).data == {"viewer": {"subject": "test-key"}}
    assert await stored_events(settings, tenant_a.id) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"query": ""},
        {"query": VIEWER, "variables": "["},
        {"query": VIEWER, "variables": "[]"},
        {"query": VIEWER, "variables": "5"},
        {"query": VIEWER, "variables": '{"a": Infinity}'},
        {"query": VIEWER, "variables": "[" * 10_000},
        {"query": VIEWER, "extensions": "x"},
        {"query": VIEWER, "operationName": "Nope"},
    ],
)
async def test_malformed_get_is_refused(client_a: GraphQLClient, parameters: dict[str, str]) -> None:
    """A URL that holds no request is answered with 400."""
    assert_client_error(await get(client_a, **parameters), 400)


# ---------------------------------------------------------------- documents


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"query": "{"}, "Syntax"),
        ({"query": "{ viewer { tenantNam } }"}, "tenantNam"),
        ({"query": "{ auditEvents(firs: 1) { nodes { id } } }"}, "firs"),
        ({"query": "query($n: Int) { auditEvents(first: $n) { nodes { id } } }", "variables": {"n": "x"}}, "n"),
        ({"query": "query($id: ID!) { auditEvent(id: $id) { id } }"}, "id"),
        ({"query": "query A { viewer { subject } } query A { viewer { subject } }", "operationName": "A"}, "A"),
    ],
)
async def test_status_of_a_request_error(client_a: GraphQLClient, body: dict[str, Any], word: str) -> None:
    """A document or variables in error: 400 for the newer media type, 200 for the older, always with the reason."""
    newer = await client_a.post(json.dumps(body), accept=GRAPHQL)
    older = await client_a.post(json.dumps(body), accept=JSON)
    for answer in (newer, older):
        assert set(answer.codes) == {"BAD_USER_INPUT"}
        assert word in answer.body["errors"][0]["message"]
        assert answer.body.get("data") is None
    assert (newer.status, media_type(newer)) == (400, GRAPHQL)
    assert (older.status, media_type(older)) == (200, JSON)


@pytest.mark.parametrize(
    ("operation_name", "query"),
    [
        ("Nope", "query A { viewer { subject } }"),
        (None, "query A { viewer { subject } } query B { viewer { subject } }"),
        (None, "fragment F on Query { viewer { subject } }"),
    ],
)
async def test_document_without_the_operation_is_refused(
    client_a: GraphQLClient, operation_name: str | None, query: str
) -> None:
    """It must be clear which operation is meant."""
    answer = await client_a.post(json.dumps({"query": query, "operationName": operation_name}))
    assert answer.status in {200, 400}
    assert set(answer.codes) == {"BAD_USER_INPUT"}
    assert answer.body.get("data") is None


async def test_partial_data_is_no_request_error(client_a: GraphQLClient) -> None:
    """An error of one nullable field leaves the others their data, with 200 for both media types."""
    query = "{ viewer { subject } kbDocument { id } }"
    for accept in (GRAPHQL, JSON):
        answer = await client_a.execute(query, None, accept=accept)
        assert (answer.status, answer.codes) == (200, ["BAD_USER_INPUT"])
        assert answer.body["data"] == {"viewer": {"subject": "test-key"}, "kbDocument": None}
        assert answer.body["errors"][0]["path"] == ["kbDocument"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (GRAPHQL, GRAPHQL),
        (JSON, JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (f"{GRAPHQL}; charset=utf-8, {JSON}; q=0.9", GRAPHQL),
        (f"text/html, {JSON}", JSON),
        (f"text/html;q=0.9, {GRAPHQL.upper()}", GRAPHQL),
    ],
)
async def test_media_type_is_negotiated(client_a: GraphQLClient, accept: str, expected: str) -> None:
    """The answer has the media type that the client takes."""
    answer = await client_a.execute(VIEWER, None, accept=accept)
    assert (answer.status, media_type(answer)) == (200, expected)
    assert answer.data == {"viewer": {"subject": "test-key"}}


async def test_unknown_media_type_is_not_acceptable(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """A client that takes neither type hears so before anything runs."""
    assert_client_error(await client_a.execute(LOG, None, accept="text/csv"), 406)
    assert await stored_events(settings, tenant_a.id) == []


async def test_request_id_is_echoed_or_made(client_a: GraphQLClient) -> None:
    """A sane request id comes back in the header and in errors; another one is replaced."""
    given = await client_a.execute("{ nope }", None, **{"x-request-id": "abc-1.2_3"})
    strange = await client_a.execute("{ nope }", None, **{"x-request-id": 'a b"<script>'})
    assert given.headers["x-request-id"] == "abc-1.2_3"
    assert given.body["errors"][0]["extensions"]["requestId"] == "abc-1.2_3"
    assert strange.headers["x-request-id"] == strange.body["errors"][0]["extensions"]["requestId"]
    assert len(strange.headers["x-request-id"]) == 16


# ---------------------------------------------------------------- size


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    return head + await reader.readexactly(int(length.split(b":")[1]))


async def raw_exchange(server: LiveServer, head: str, parts: int = 0, part: bytes = b"") -> tuple[bytes, int]:
    """Send a request's head and parts until an answer arrives; return it and how many bytes went out."""
    host, _, port = server.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.replace("\n", "\r\n").encode())
    await writer.drain()
    answer = asyncio.create_task(read_answer(reader))
    sent = 0
    try:
        for _ in range(parts):
            await asyncio.wait({answer}, timeout=0)
            if answer.done():
                break
            writer.write(part)
            await writer.drain()
            sent += len(part)
        return await asyncio.wait_for(answer, PATIENCE_SECONDS), sent
    except ConnectionError:
        return await asyncio.wait_for(answer, PATIENCE_SECONDS), sent
    finally:
        answer.cancel()
        writer.close()


async def test_declared_large_body_is_refused_unread(server: LiveServer, tenant_a: TestTenant) -> None:
    """Fifty declared megabytes are refused by their announcement, before a byte of them is sent."""
    head = (
        f"POST /graphql HTTP/1.1\nHost: x\nAuthorization: Bearer {tenant_a.api_key}\n"
        f"Content-Type: application/json\nContent-Length: {50 * MIB}\n\n"
    )
    answer, sent = await raw_exchange(server, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"BAD_USER_INPUT" in answer
    assert sent == 0


async def test_chunked_large_body_is_refused_on_the_way(server: LiveServer, tenant_a: TestTenant) -> None:
    """Without a declared length the server stops reading at its limit."""
    head = (
        f"POST /graphql HTTP/1.1\nHost: x\nAuthorization: Bearer {tenant_a.api_key}\n"
        "Content-Type: application/json\nTransfer-Encoding: chunked\n\n"
    )
    part = b"%x\r\n" % MIB + b" " * MIB + b"\r\n"
    answer, sent = await raw_exchange(server, head, 50, part)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 40 * MIB


async def test_large_body_within_the_limit_is_read(client_a: GraphQLClient) -> None:
    """Fifteen megabytes are a request like any other."""
    answer = await client_a.post(json.dumps({"query": VIEWER, "variables": {"x": "a" * (15 * MIB)}}))
    assert answer.data == {"viewer": {"subject": "test-key"}}


async def test_deep_variables_beside_exact_numbers_are_no_internal_error(client_a: GraphQLClient) -> None:
    """Numbers whose digits count are read again, by a parser that does not go as deep as the first one."""
    log = 'logLlmCall(input: {model: "m", costUsd: $cost, metadata: $deep}) { outcome }'
    query = f"mutation($cost: Decimal, $deep: JSON) {{ {log} }}"
    deep = '{"a":' * 1010 + "1" + "}" * 1010
    answer = await client_a.post(f'{{"query": {json.dumps(query)}, "variables": {{"cost": 1.5, "deep": {deep}}}}}')
    assert answer.codes == ["BAD_USER_INPUT"], answer.text[:300]


@pytest.mark.parametrize("depth", [300, 900])
async def test_deep_variables_are_no_internal_error(client_a: GraphQLClient, depth: int) -> None:
    """Variables nested as deep as the JSON parser allows are refused as input."""
    where: dict[str, Any] = {}
    for _ in range(depth):
        where = {"not": where}
    query = "query($filter: AuditEventFilter) { auditEvents(filter: $filter) { nodes { id } } }"
    answer = await client_a.execute(query, {"filter": where})
    assert answer.status in {200, 400}
    assert answer.codes in (["BAD_USER_INPUT"], ["QUERY_TOO_COMPLEX"]), answer.text[:300]


# ---------------------------------------------------------------- work


async def timed(client: GraphQLClient, query: str) -> tuple[Answer, float]:
    """Send a query; return the answer and the seconds it took."""
    started = time.perf_counter()
    answer = await client.execute(query)
    return answer, time.perf_counter() - started


def exploding_fragments(levels: int) -> str:
    """Return fragments of which each spreads the next one twice."""
    spread = "".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(levels))
    return "{ ...F0 }" + spread + f"fragment F{levels} on Query {{ viewer {{ subject }} }}"


SEARCH = 'kbSearch(input: {query: {text: "x"}}) { hits { rank } }'
TOO_MUCH = {
    "200 aliases": "{" + " ".join(f"a{n}: {SEARCH}" for n in range(200)) + "}",
    "50 aliases, fragments spread twice": "{ ...F ...F } fragment F on Query {"
    + " ".join(f"a{n}: {SEARCH}" for n in range(25))
    + "}",
    "nested lists": "{ kbDocuments(first: 100) { nodes { chunks(first: 100) { nodes { document {"
    " chunks(first: 100) { nodes { id } } } } } } } }",
    "exploding fragments": exploding_fragments(20),
    "many levels": "{ auditEvents { nodes " + "{ parentEvent " * 25 + "{ id }" + "}" * 25 + " } }",
    "10,000 directives": "{ viewer " + "@include(if: true) " * 10_000 + "{ subject } }",
    "thousands of fields": "{ viewer { " + "subject " * 20_000 + "} }",
    "endless nesting": "{ a" * 9_000,
    "endless list": "{ a(b: " + "[" * 9_000,
    "nested literals": "{ auditEvents(filter: " + "{not: " * 2000 + "{}" + "}" * 2000 + ") { nodes { id } } }",
    "introspection": "{ __schema { types { fields { type "
    + "{ fields { type " * 12
    + "{ name }"
    + "} }" * 12
    + "} } } }",
}


@pytest.mark.parametrize("name", list(TOO_MUCH))
async def test_too_much_work_is_refused_at_once(client_a: GraphQLClient, name: str) -> None:
    """A document that asks for too much is refused within a second, and the server goes on."""
    # The best of some, since the machine may stall meanwhile.
    answer, seconds = min([await timed(client_a, TOO_MUCH[name]) for _ in range(3)], key=itemgetter(1))
    assert answer.status in {200, 400}
    assert set(answer.codes) <= {"QUERY_TOO_COMPLEX", "BAD_USER_INPUT"}
    assert answer.codes != []
    assert answer.body.get("data") is None
    assert seconds < 1
    assert await client_a.data(VIEWER) == {"viewer": {"subject": "test-key"}}


async def test_dashboard_of_twenty_lists_passes(client_a: GraphQLClient) -> None:
    """Twenty aliased lists with their counts are honest work."""
    fields = "nodes { id actionName status createdAt latencyMs } totalCount { value isExact }"
    names = [f"a{n}" for n in range(20)]
    query = "{" + " ".join(f"{name}: auditEvents(first: 50) {{ {fields} }}" for name in names) + "}"
    data = await client_a.data(query)
    assert data == {name: {"nodes": [], "totalCount": {"value": 0, "isExact": True}} for name in names}


@pytest.mark.parametrize("directive", ["@defer", "@stream", '@defer(label: "x")', "@stream(initialCount: 1)"])
async def test_incremental_delivery_is_refused(client_a: GraphQLClient, directive: str) -> None:
    """`@defer` and `@stream` are unknown directives, not answers that never end."""
    query = f"{{ auditEvents {{ nodes {directive} {{ id }} ... {directive} {{ nodes {{ id }} }} }} }}"
    answer = await client_a.execute(query)
    assert set(answer.codes) == {"BAD_USER_INPUT"}


async def test_subscription_over_http_is_refused(client_a: GraphQLClient) -> None:
    """There is nothing to subscribe to over HTTP."""
    answer = await client_a.execute("subscription { auditEventLogged { id } }")
    assert answer.status in {200, 400, 405}
    assert set(answer.codes) == {"BAD_USER_INPUT"}


# ---------------------------------------------------------------- browsers

UI = "https://ui.example"
EVIL = "https://evil.example"


@pytest.fixture(scope="module")
def production(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server as in production, with one allowed origin."""
    configured = settings.model_copy(update={"server": ServerSettings(graphiql=False)})
    folder = tmp_path_factory.mktemp("production")
    with live_server(configured, folder, KONSTRUCT_CORS_ORIGINS=UI) as running:
        yield running


@pytest.fixture(scope="module")
async def strict_client(production: LiveServer, tenant_a: TestTenant) -> AsyncIterator[GraphQLClient]:
    """A client of the server as in production."""
    client = GraphQLClient(production.graphql_url, tenant_a.api_key)
    yield client
    await client.http.aclose()


async def preflight(client: GraphQLClient, origin: str) -> httpx.Response:
    """Ask as a browser does before a cross-origin POST."""
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    return await client.http.options(client.url, headers=headers)


async def test_configured_origin_is_allowed(strict_client: GraphQLClient) -> None:
    """The allowed origin gets its exact name back, on preflights, on answers and on every kind of refusal."""
    asked = await preflight(strict_client, UI)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == UI
    assert "Origin" in asked.headers["vary"]
    assert "access-control-allow-credentials" not in asked.headers
    body = json.dumps({"query": VIEWER})
    answers = {
        200: await strict_client.post(body, origin=UI),
        400: await strict_client.post("{", origin=UI),
        401: await strict_client.post(body, origin=UI, authorization="Bearer x"),
        406: await strict_client.post(body, origin=UI, accept="text/csv"),
        413: await strict_client.post(b" " * (17 * MIB), origin=UI),
        415: await strict_client.post(body, origin=UI, **{"content-type": "text/plain"}),
    }
    assert {status: answer.status for status, answer in answers.items()} == {status: status for status in answers}
    for answer in answers.values():
        assert answer.headers["access-control-allow-origin"] == UI
        assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("origin", [EVIL, "null", UI + ".evil.example", "http://ui.example", UI + ":8443", "*"])
async def test_other_origins_are_not_allowed(strict_client: GraphQLClient, origin: str) -> None:
    """No other origin is told that it may read answers, with cookies or without."""
    asked = await preflight(strict_client, origin)
    answer = await strict_client.post(json.dumps({"query": VIEWER}), origin=origin, cookie="a=b")
    assert asked.status_code == 400
    assert "access-control-allow-origin" not in asked.headers
    assert "access-control-allow-origin" not in answer.headers


async def test_without_configured_origins_none_is_allowed(client_a: GraphQLClient) -> None:
    """By default there is no cross-origin access at all."""
    asked = await preflight(client_a, UI)
    answer = await client_a.post(json.dumps({"query": VIEWER}), origin=UI)
    assert asked.status_code == 405
    assert answer.status == 200
    for headers in (asked.headers, answer.headers):
        assert not [name for name in headers if name.startswith("access-control-")]


# ---------------------------------------------------------------- production


@pytest.mark.parametrize(
    "query",
    [
        "{ __schema { queryType { name } } }",
        '{ __type(name: "AuditEvent") { name } }',
        "{ viewer { subject } __schema { types { name } } }",
        "query A { ...F } fragment F on Query { __schema { types { name } } }",
    ],
)
async def test_production_refuses_introspection(strict_client: GraphQLClient, query: str) -> None:
    """The schema is not for strangers; `__typename` still works."""
    answer = await strict_client.execute(query)
    assert set(answer.codes) == {"BAD_USER_INPUT"}
    assert answer.body.get("data") is None
    assert (await strict_client.data("{ __typename viewer { __typename } }")) == {
        "__typename": "Query",
        "viewer": {"__typename": "Viewer"},
    }


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("{ auditEvent }", None),
        ("{ auditEvens { nodes { id } } }", None),
        ("{ viewer { tenantNam } }", None),
        ("{ auditEvents(firs: 1) { nodes { id } } }", None),
        ('{ auditEvents(filter: {userI: {eq: "x"}}) { nodes { id } } }', None),
        ("{ auditEvents(filter: {status: {eq: SUCCEDED}}) { nodes { id } } }", None),
        ("query($f: AuditEventFiltr) { auditEvents(filter: $f) { nodes { id } } }", None),
        ("query($f: AuditEventFilter) { auditEvents(filter: $f) { nodes { id } } }", {"f": {"userI": {"eq": "x"}}}),
        (
            "query($f: AuditEventFilter) { auditEvents(filter: $f) { nodes { id } } }",
            {"f": {"status": {"eq": "FAILD"}}},
        ),
        ('{ node(id: "x") { ... on AuditEven { id } } }', None),
        ("{ viewer @includ(if: true) { subject } }", None),
        ('mutation { logLlmCal(input: {model: "m"}) { outcome } }', None),
        ("{ ...Fragmen } fragment Fragment on Query { viewer { subject } }", None),
    ],
)
async def test_production_suggests_no_names(
    strict_client: GraphQLClient, query: str, variables: dict[str, Any] | None
) -> None:
    """A misspelt name is refused without the names that it resembles."""
    answer = await strict_client.execute(query, variables)
    assert set(answer.codes) == {"BAD_USER_INPUT"}
    assert "did you mean" not in answer.text.lower()


async def test_development_suggests_names(client_a: GraphQLClient) -> None:
    """In development the suggestion is there, so that its absence above means something."""
    answer = await client_a.execute("{ auditEvens { nodes { id } } }")
    assert "Did you mean" in answer.text


async def test_production_has_no_ide(production: LiveServer, strict_client: GraphQLClient) -> None:
    """There is no page to type queries into; a browser at the endpoint gets JSON or a refusal."""
    browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    pages = [
        await strict_client.http.get(production.base_url + path, headers=browser, follow_redirects=True)
        for path in ("/graphiql", "/graphiql/", "/graphiql/index.js")
    ]
    endpoint = await strict_client.http.get(production.graphql_url, headers={"accept": "text/html"})
    assert [page.status_code for page in pages] == [404] * 3
    assert endpoint.status_code in {401, 406}
    assert "<html" not in "".join(answer.text for answer in (*pages, endpoint)).lower()


async def test_production_wants_a_credential_for_everything(production: LiveServer) -> None:
    """Without a key not even a type's name is told."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        answer = await http.post(production.graphql_url, json={"query": "{ __typename }"})
    assert answer.status_code == 401
    assert "data" not in answer.json()


async def test_development_loads_the_schema_without_a_credential(anonymous: GraphQLClient) -> None:
    """An IDE can introspect before a key is entered, and gets no data without one."""
    schema = await anonymous.data("{ __schema { queryType { name } } }")
    refused = await anonymous.execute(VIEWER)
    assert schema == {"__schema": {"queryType": {"name": "Query"}}}
    assert (refused.status, refused.codes, refused.body["data"]) == (401, ["UNAUTHENTICATED"], None)


async def test_development_has_the_ide(server: LiveServer) -> None:
    """In development the IDE is there, or what says how to build it, under a policy that lets no other host in."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        page = await http.get(f"{server.base_url}/graphiql")
    assert page.status_code == 200
    assert media_type(page) == "text/html"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page.text) == []
