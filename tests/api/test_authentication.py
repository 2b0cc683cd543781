"""Who may do what: credentials on every transport, scopes on every field, and tenants that can't see each other."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from graphql import build_schema
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from app.auth.api_keys import make_api_key
from app.auth.principal import Scope
from app.auth.tenants import revoke_api_key
from app.database.owner import owner_transaction
from app.settings import Settings
from graphql_schema.schema import print_sdl
from tests.support.database import TestTenant, connect, new_tenant, stored_events, wait_until
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import GraphQLClient, LiveServer, strict_json

VIEWER = "{ viewer { tenantId subject scopes agentId } }"
LOG = 'mutation { logLlmCall(input: {model: "m"}) { outcome event { id } } }'
INGEST = """
mutation($key: String!) {
  ingestKbDocument(input: {externalId: $key, title: "t", body: {text: "Refunds take a week."}}) {
    outcome document { id chunks { nodes { id } } }
  }
}
"""


async def stored(settings: Settings, tenant: TestTenant) -> tuple[int, int, int]:
    """Return how many events, documents and chunks a tenant has."""
    async with connect(settings.database.database_url, tenant.id) as connection:
        counts = [
            await connection.fetchval(f"SELECT count(*) FROM {table}")
            for table in ("audit_events", "kb_documents", "kb_chunks")
        ]
    return counts[0], counts[1], counts[2]


# ---------------------------------------------------------------- credentials


@pytest.fixture(scope="module")
async def bad_credentials(settings: Settings) -> dict[str, str | None]:
    """Authorization headers that prove nobody, of a tenant that has data to lose."""
    tenant = await new_tenant(settings, "Guarded")
    revoked, revoked_id = await tenant.new_key()
    async with owner_transaction(settings.database) as connection:
        await revoke_api_key(connection, revoked_id)
    expired, _ = await tenant.new_key(lifetime=timedelta(seconds=-1))
    unknown = make_api_key("unknown", list(Scope)).secret
    return {
        "missing": None,
        "empty": "",
        "unknown": f"Bearer {unknown}",
        "revoked": f"Bearer {revoked}",
        "expired": f"Bearer {expired}",
        "truncated": f"Bearer {tenant.api_key[:-1]}",
        "longer": f"Bearer {tenant.api_key}x",
        "other case": f"Bearer {tenant.api_key.swapcase()}",
        "no scheme": tenant.api_key,
        "basic": f"Basic {tenant.api_key}",
        "scheme only": "Bearer",
        "two": f"Bearer {tenant.api_key}, Bearer {tenant.api_key}",
        "garbage": "Bearer \\x00'; DROP TABLE api_keys; --",
        "key id": f"Bearer {revoked_id}",
        "long": "Bearer " + "k" * 4000,
    }


BAD = [
    "missing",
    "empty",
    "unknown",
    "revoked",
    "expired",
    "truncated",
    "longer",
    "other case",
    "no scheme",
    "basic",
    "scheme only",
    "two",
    "garbage",
    "key id",
    "long",
]


@pytest.mark.parametrize("name", BAD)
async def test_http_request_that_proves_nobody_is_refused(
    server: LiveServer, anonymous: GraphQLClient, bad_credentials: dict[str, str | None], name: str
) -> None:
    """Over POST and GET alike: 401, UNAUTHENTICATED, no data, and the way to authenticate."""
    given = bad_credentials[name]
    headers = {} if given is None else {"authorization": given}
    answers = [
        await anonymous.http.post(server.graphql_url, json={"query": VIEWER}, headers=headers),
        await anonymous.http.post(server.graphql_url, json={"query": LOG}, headers=headers),
        await anonymous.http.get(server.graphql_url, params={"query": VIEWER}, headers=headers),
    ]
    for answer in answers:
        body = strict_json(answer.text)
        assert answer.status_code == 401, answer.text
        assert [error["extensions"]["code"] for error in body["errors"]] == ["UNAUTHENTICATED"]
        assert body.get("data") is None
        assert answer.headers["www-authenticate"] == "Bearer"
        if given and " " in given:
            assert given.split(" ")[-1] not in answer.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
async def test_scheme_is_case_insensitive(server: LiveServer, tenant_a: TestTenant, scheme: str) -> None:
    """The scheme's case and further spaces do not matter."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        answer = await http.post(
            server.graphql_url, json={"query": VIEWER}, headers={"authorization": f"{scheme} {tenant_a.api_key}"}
        )
    assert answer.json()["data"]["viewer"]["tenantId"] == str(tenant_a.id)


async def converse(url: str, protocol: str, messages: list[object]) -> tuple[int | None, list[dict[str, Any]]]:
    """Send messages over a WebSocket; return the code it was closed with and what was answered before."""
    answers: list[dict[str, Any]] = []
    async with open_websocket(
        url, subprotocols=[Subprotocol(protocol)], open_timeout=PATIENCE_SECONDS, close_timeout=1
    ) as socket:
        try:
            for message in messages:
                await socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
            while True:
                answers.append(strict_json(str(await socket.recv())))
        except ConnectionClosed:
            pass
        return socket.close_code, answers


def operation(kind: str, text: str) -> dict[str, Any]:
    """Return the message that starts an operation."""
    return {"id": "1", "type": kind, "payload": {"query": text}}


@pytest.mark.parametrize(("protocol", "start"), [("graphql-transport-ws", "subscribe"), ("graphql-ws", "start")])
@pytest.mark.parametrize("name", BAD)
async def test_websocket_that_proves_nobody_is_closed(
    server: LiveServer, bad_credentials: dict[str, str | None], protocol: str, start: str, name: str
) -> None:
    """Under either subprotocol name the connection is closed and answers no data."""
    given = bad_credentials[name]
    payload = {} if given is None else {"Authorization": given}
    messages: list[object] = [{"type": "connection_init", "payload": payload}, operation(start, VIEWER)]
    code, answers = await asyncio.wait_for(converse(server.websocket_url, protocol, messages), PATIENCE_SECONDS)
    assert code in {4401, 4403, 4406}
    assert [answer for answer in answers if answer["type"] != "connection_error"] == []


@pytest.mark.parametrize(("protocol", "start"), [("graphql-transport-ws", "subscribe"), ("graphql-ws", "start")])
@pytest.mark.parametrize(
    "first",
    [
        None,
        {"type": "connection_init", "payload": "text"},
        {"type": "connection_init", "payload": None},
        {"type": "connection_init", "payload": {"Authorization": 5}},
        {"type": "connection_init", "payload": {"Authorization": {"a": 1}}},
        {"type": "connection_init", "payload": {"Authorization": "Bearer \ud800"}},
        {"type": "connection_init"},
        [1],
        "null",
        "{",
        "[" * 50_000,
        b"\x00\xff",
    ],
)
async def test_websocket_without_a_proper_greeting_is_closed(
    server: LiveServer, protocol: str, start: str, first: object
) -> None:
    """An operation without a valid connection_init gets no data, whatever was sent instead of it."""
    messages: list[object] = [operation(start, VIEWER)]
    if first is not None:
        messages.insert(0, first)
    code, answers = await asyncio.wait_for(converse(server.websocket_url, protocol, messages), PATIENCE_SECONDS)
    assert code is not None
    assert 4400 <= code < 4500 or code in {1002, 1003, 1007, 1011}, code
    assert [answer for answer in answers if answer["type"] in {"connection_ack", "next", "data"}] == []


async def test_websocket_with_a_key_is_served(server: LiveServer, tenant_a: TestTenant) -> None:
    """With a valid key the current subprotocol answers operations as that tenant."""
    async with open_websocket(
        server.websocket_url, subprotocols=[Subprotocol("graphql-transport-ws")], open_timeout=PATIENCE_SECONDS
    ) as socket:
        await socket.send(
            json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {tenant_a.api_key}"}})
        )
        greeting = strict_json(str(await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS)))
        await socket.send(json.dumps(operation("subscribe", VIEWER)))
        answer = strict_json(str(await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS)))
    assert greeting["type"] == "connection_ack"
    assert answer["type"] == "next", answer
    assert answer["payload"]["data"]["viewer"]["tenantId"] == str(tenant_a.id)


async def test_log_knows_no_secret(server: LiveServer, client_a: GraphQLClient, tenant_a: TestTenant) -> None:
    """The key is in no log line, whether it is accepted or refused."""
    await client_a.data(VIEWER)
    await client_a.execute(VIEWER, None, authorization=f"Basic {tenant_a.api_key}")
    assert tenant_a.api_key not in server.log_file.read_text()


async def test_revoked_key_stops_working_within_five_seconds(
    server: LiveServer, settings: Settings, tenant_a: TestTenant
) -> None:
    """A key in use is refused soon after its revocation; the tenant's other keys go on."""
    secret, key_id = await tenant_a.new_key()
    client, other = (GraphQLClient(server.graphql_url, key) for key in (secret, tenant_a.api_key))
    assert (await client.execute(VIEWER)).status == 200
    async with owner_transaction(settings.database) as connection:
        await revoke_api_key(connection, key_id)

    async def refused() -> bool:
        return (await client.execute(VIEWER)).status == 401

    in_time = await wait_until(refused, seconds=5)
    after = await client.execute(LOG)
    assert in_time
    assert (after.status, after.codes) == (401, ["UNAUTHENTICATED"])
    assert (await other.execute(VIEWER)).status == 200
    assert await stored_events(settings, tenant_a.id) == []
    for used in (client, other):
        await used.http.aclose()


async def test_key_expires_by_itself(server: LiveServer, tenant_a: TestTenant) -> None:
    """A key works until its time and not after it, although the server has just looked it up."""
    # A longer life, should the machine stall for all of a short one.
    for lifetime in (2, 10, 40):
        secret, _ = await tenant_a.new_key(lifetime=timedelta(seconds=lifetime))
        client = GraphQLClient(server.graphql_url, secret)
        if (await client.execute(VIEWER)).status == 200:
            break
    else:
        pytest.fail("no key was ever valid")

    async def refused() -> bool:
        return (await client.execute(VIEWER)).status == 401

    assert await wait_until(refused, seconds=lifetime + 2)
    await client.http.aclose()


# ---------------------------------------------------------------- scopes

ANY = str(uuid4())
# A call of every root field, with the scope that it needs.
CALLS: dict[str, tuple[Scope | None, str]] = {
    "Query.viewer": (None, "{ viewer { subject } }"),
    "Query.node": (None, f'{{ node(id: "{ANY}") {{ id }} }}'),
    "Query.auditEvents": (Scope.AUDIT_READ, "{ auditEvents { nodes { id } totalCount { value } } }"),
    "Query.auditStats": (Scope.AUDIT_READ, "{ auditStats { count } }"),
    "Query.auditTimeSeries": (Scope.AUDIT_READ, "{ auditTimeSeries { count } }"),
    "Query.auditFacets": (Scope.AUDIT_READ, "{ auditFacets(dimensions: [STATUS]) { values { count } } }"),
    "Query.auditEvent": (Scope.AUDIT_READ, f'{{ auditEvent(id: "{ANY}") {{ id }} }}'),
    "Query.kbDocument": (Scope.KB_READ, f'{{ kbDocument(id: "{ANY}") {{ id }} }}'),
    "Query.kbDocuments": (Scope.KB_READ, "{ kbDocuments { nodes { id } totalCount { value } } }"),
    "Query.kbSearch": (Scope.KB_READ, '{ kbSearch(input: {query: {text: "refund"}}) { hits { rank } } }'),
    "Mutation.logLlmCall": (Scope.AUDIT_WRITE, 'mutation { logLlmCall(input: {model: "m"}) { outcome } }'),
    "Mutation.logToolCall": (Scope.AUDIT_WRITE, 'mutation { logToolCall(input: {toolName: "t"}) { outcome } }'),
    "Mutation.logEscalation": (
        Scope.AUDIT_WRITE,
        'mutation { logEscalation(input: {target: HUMAN, reason: "r"}) { outcome } }',
    ),
    "Mutation.logEvents": (
        Scope.AUDIT_WRITE,
        'mutation { logEvents(input: {events: [{llmCall: {model: "m"}}]}) { recordedCount } }',
    ),
    "Mutation.ingestKbDocument": (
        Scope.KB_WRITE,
        'mutation { ingestKbDocument(input: {externalId: "new", title: "t", body: {text: "words"}}) { outcome } }',
    ),
    "Mutation.ingestKbDocuments": (
        Scope.KB_WRITE,
        (
            "mutation { ingestKbDocuments(input: {documents:"
            ' [{externalId: "new2", title: "t", body: {text: "words"}}]}) { results { outcome } } }'
        ),
    ),
    "Mutation.deleteKbDocument": (
        Scope.KB_WRITE,
        'mutation { deleteKbDocument(input: {externalId: "kept"}) { deletedId } }',
    ),
}


# These have no answer but a stream: see test_live_trail.
STREAMS = ["Subscription.auditEventLogged"]


def test_every_root_field_has_its_scope_tested() -> None:
    """A new root field must say here which scope it needs."""
    schema = build_schema(print_sdl())
    roots = [root for root in (schema.query_type, schema.mutation_type, schema.subscription_type) if root is not None]
    assert sorted([*CALLS, *STREAMS]) == sorted(f"{root.name}.{name}" for root in roots for name in root.fields)


@pytest.fixture(scope="module")
async def scoped(server: LiveServer, settings: Settings) -> AsyncIterator[tuple[TestTenant, dict[str, GraphQLClient]]]:
    """A tenant with an event and a document, and a client for each scope that lacks only this one."""
    tenant = await new_tenant(settings, "Scoped")
    full = GraphQLClient(server.graphql_url, tenant.api_key)
    await full.data(LOG)
    await full.data(INGEST, {"key": "kept"})
    clients = {"": full}
    for scope in Scope:
        secret, _ = await tenant.new_key([other for other in Scope if other is not scope])
        clients[scope.value] = GraphQLClient(server.graphql_url, secret)
    yield tenant, clients
    for client in clients.values():
        await client.http.aclose()


@pytest.mark.parametrize("name", [name for name, (scope, _) in CALLS.items() if scope is not None])
async def test_key_without_the_scope_is_refused(
    scoped: tuple[TestTenant, dict[str, GraphQLClient]], settings: Settings, name: str
) -> None:
    """All other scopes together don't replace the one that a field needs; nothing is read or changed."""
    tenant, clients = scoped
    scope, text = CALLS[name]
    assert scope is not None
    before = await stored(settings, tenant)
    answer = await clients[scope.value].execute(text)
    field = name.partition(".")[2]
    assert answer.codes == ["FORBIDDEN"], answer.text
    assert scope.value in answer.body["errors"][0]["message"]
    assert answer.body["data"] in (None, {field: None})
    assert await stored(settings, tenant) == before


@pytest.mark.parametrize("name", [name for name, (scope, _) in CALLS.items() if name.startswith("Query.")])
async def test_key_with_the_scope_is_served(server: LiveServer, settings: Settings, name: str) -> None:
    """The one scope that a query needs is enough."""
    scope, text = CALLS[name]
    tenant = await new_tenant(settings)
    secret, _ = await tenant.new_key([scope] if scope else [Scope.AUDIT_WRITE])
    client = GraphQLClient(server.graphql_url, secret)
    assert "errors" not in (await client.execute(text)).body
    await client.http.aclose()


async def test_viewer_shows_the_credential(server: LiveServer, tenant_a: TestTenant) -> None:
    """Whoever asks learns the tenant, the key's name, its scopes and its agent."""
    agent = uuid4()
    secret, _ = await tenant_a.new_key([Scope.KB_READ, Scope.AUDIT_WRITE], name="bot", agent_id=agent)
    client = GraphQLClient(server.graphql_url, secret)
    viewer = (await client.data(VIEWER))["viewer"]
    await client.http.aclose()
    assert viewer == {
        "tenantId": str(tenant_a.id),
        "subject": "bot",
        "scopes": ["AUDIT_WRITE", "KB_READ"],
        "agentId": str(agent),
    }


async def test_node_finds_only_kinds_that_the_key_may_read(
    scoped: tuple[TestTenant, dict[str, GraphQLClient]], settings: Settings
) -> None:
    """A key without a kind's read scope gets null for its id, as for an id of nothing."""
    tenant, clients = scoped
    node = "query($id: ID!) { node(id: $id) { __typename } }"
    event = str((await stored_events(settings, tenant.id))[0]["id"])
    listed = await clients[""].data("{ kbDocuments { nodes { id chunks { nodes { id } } } } }")
    document = listed["kbDocuments"]["nodes"][0]
    expected = {event: "AuditEvent", document["id"]: "KbDocument", document["chunks"]["nodes"][0]["id"]: "KbChunk"}
    for node_id, kind in expected.items():
        lacking = clients["AUDIT_READ" if kind == "AuditEvent" else "KB_READ"]
        assert await clients[""].data(node, {"id": node_id}) == {"node": {"__typename": kind}}
        assert await lacking.data(node, {"id": node_id}) == {"node": None}


async def test_key_that_may_only_write_reads_no_other_event(
    scoped: tuple[TestTenant, dict[str, GraphQLClient]], settings: Settings
) -> None:
    """Naming another event as the parent does not show it to a key without AUDIT_READ."""
    tenant, clients = scoped
    event = str((await stored_events(settings, tenant.id))[0]["id"])
    answer = await clients["AUDIT_READ"].execute(
        'mutation($id: UUID!) { logToolCall(input: {toolName: "t", parentEventId: $id}) {'
        " outcome event { id parentEvent { id actionName submittedBy } } } }",
        {"id": event},
    )
    assert '"submittedBy"' not in answer.text
    assert answer.body["data"]["logToolCall"]["outcome"] == "RECORDED"


async def test_one_forbidden_field_leaves_the_others_their_data(
    scoped: tuple[TestTenant, dict[str, GraphQLClient]],
) -> None:
    """`viewer` is answered beside a field that is refused when the refused one may be null."""
    _, clients = scoped
    answer = await clients["AUDIT_READ"].execute(f'{{ viewer {{ subject }} auditEvent(id: "{ANY}") {{ id }} }}')
    assert answer.codes == ["FORBIDDEN"]
    assert answer.body["data"] == {"viewer": {"subject": "another-key"}, "auditEvent": None}


# ---------------------------------------------------------------- agents


async def test_key_bound_to_an_agent_speaks_for_it_alone(
    server: LiveServer, settings: Settings, tenant_a: TestTenant
) -> None:
    """The agent is filled in; naming it is fine; naming another one is refused, singly and in a batch."""
    agent, other = str(uuid4()), str(uuid4())
    secret, _ = await tenant_a.new_key(agent_id=UUID(agent))
    client = GraphQLClient(server.graphql_url, secret)
    log = (
        'mutation($agent: UUID) { logToolCall(input: {toolName: "t", agentId: $agent}) {'
        " outcome event { agentId } userErrors { code path } } }"
    )
    batch = (
        "mutation($events: [AuditEventInput!]!) { logEvents(input: {events: $events}) {"
        " results { outcome event { agentId } } userErrors { code path index } } }"
    )
    filled = (await client.data(log, {"agent": None}))["logToolCall"]
    named = (await client.data(log, {"agent": agent.upper()}))["logToolCall"]
    foreign = (await client.data(log, {"agent": other}))["logToolCall"]
    items = [{"llmCall": {"model": "m", "agentId": who}} for who in (None, other, agent)]
    several = (await client.data(batch, {"events": items}))["logEvents"]
    await client.http.aclose()
    recorded = {"outcome": "RECORDED", "event": {"agentId": agent}}
    assert filled == named == recorded | {"userErrors": []}
    assert foreign == {
        "outcome": "REJECTED",
        "event": None,
        "userErrors": [{"code": "AGENT_NOT_ALLOWED", "path": ["agentId"]}],
    }
    assert several["results"] == [recorded, {"outcome": "REJECTED", "event": None}, recorded]
    assert several["userErrors"] == [{"code": "AGENT_NOT_ALLOWED", "path": ["agentId"], "index": 1}]
    assert {str(row["agent_id"]) for row in await stored_events(settings, tenant_a.id)} == {agent}
    assert len(await stored_events(settings, tenant_a.id)) == 4


async def test_author_is_the_credential(server: LiveServer, tenant_a: TestTenant) -> None:
    """Each event carries the name of the key that wrote it."""
    secret, _ = await tenant_a.new_key(name="billing-bot")
    client = GraphQLClient(server.graphql_url, secret)
    data = await client.data('mutation { logLlmCall(input: {model: "m"}) { event { submittedBy } } }')
    await client.http.aclose()
    assert data["logLlmCall"]["event"] == {"submittedBy": "billing-bot"}


# ---------------------------------------------------------------- tenants


async def test_tenant_comes_from_the_credential_alone(
    client_a: GraphQLClient,
    client_b: GraphQLClient,
    settings: Settings,
    tenant_a: TestTenant,
    tenant_b: TestTenant,
) -> None:
    """Another tenant's id in metadata, variables, headers and the URL changes nothing; metadata comes back as sent."""
    foreign = str(tenant_b.id)
    metadata = {"tenant_id": foreign, "tenantId": foreign, "app.current_tenant": foreign}
    mutation = (
        'mutation($metadata: JSON) { logLlmCall(input: {model: "m", metadata: $metadata}) { event { metadata } } }'
    )
    client_a.url += f"?tenantId={foreign}&tenant_id={foreign}"
    headers = {"x-tenant-id": foreign, "tenant": foreign, "x-hasura-tenant": foreign}
    answer = await client_a.execute(mutation, {"metadata": metadata, "tenantId": foreign}, **headers)
    [row] = await stored_events(settings, tenant_a.id)
    listed = await client_b.data("{ auditEvents { nodes { id } } }")
    assert answer.data["logLlmCall"]["event"]["metadata"] == metadata
    assert row["tenant_id"] == tenant_a.id
    assert listed["auditEvents"]["nodes"] == []
    assert await stored(settings, tenant_b) == (0, 0, 0)


def without_request_id(text: str) -> str:
    """Return an answer without what differs from request to request."""
    return re.sub(r'"requestId":"[^"]*"', "", text)


async def test_foreign_id_answers_as_a_random_one(
    client_a: GraphQLClient,
    client_b: GraphQLClient,
    settings: Settings,
    tenant_a: TestTenant,
    tenant_b: TestTenant,
) -> None:
    """Wherever an id goes in, another tenant's id and an id of nothing get the same answer, byte for byte."""
    event = (await client_a.data(LOG))["logLlmCall"]["event"]["id"]
    document = (await client_a.data(INGEST, {"key": "secret"}))["ingestKbDocument"]["document"]
    chunk = document["chunks"]["nodes"][0]["id"]
    before = await stored(settings, tenant_a)
    calls = [
        "query($id: ID!) { node(id: $id) { id } }",
        "query($id: ID!) { auditEvent(id: $id) { id } }",
        "query($id: ID!) { kbDocument(id: $id) { id chunks { nodes { id } } } }",
        "query($id: ID!) { auditEvents(filter: {id: {eq: $id}}) { nodes { id } totalCount { value } } }",
        "query($id: ID!) { auditEvents(filter: {not: {id: {in: [$id]}}}) { nodes { id } totalCount { value } } }",
        "query($id: ID!) { kbDocuments(filter: {id: {eq: $id}}) { nodes { id } totalCount { value } } }",
        "query($id: ID!) { kbDocuments(filter: {id: {in: [$id]}}) { nodes { id } totalCount { value } } }",
        (
            'query($id: ID!) { kbSearch(input: {query: {text: "refunds"}, filter: {documentIds: [$id]}}) {'
            " hits { rank } diagnostics { strategy isComplete shortfallReason candidateCount } } }"
        ),
        "mutation($id: ID!) { deleteKbDocument(input: {id: $id}) { deletedId userErrors { code message path } } }",
        (
            'mutation($id: UUID!) { logToolCall(input: {toolName: "t", parentEventId: $id}) {'
            " outcome event { actionName parentEvent { id } } userErrors { code } } }"
        ),
    ]
    for text in calls:
        for foreign in (event, document["id"], chunk):
            found = await client_b.execute(text, {"id": foreign})
            nothing = await client_b.execute(text, {"id": str(uuid4())})
            assert (found.status, without_request_id(found.text)) == (nothing.status, without_request_id(nothing.text))
    by_key = [
        "query($key: String) { kbDocument(externalId: $key) { id } }",
        "mutation($key: String) { deleteKbDocument(input: {externalId: $key}) { deletedId userErrors { message } } }",
        (
            'query($key: String!) { kbSearch(input: {query: {text: "refunds"}, filter: {externalIds: [$key]}}) {'
            " hits { rank } diagnostics { candidateCount } } }"
        ),
    ]
    for text in by_key:
        found = await client_b.execute(text, {"key": "secret"})
        nothing = await client_b.execute(text, {"key": "nothing"})
        assert without_request_id(found.text) == without_request_id(nothing.text)
    assert await stored(settings, tenant_a) == before
    assert (await client_a.data("query($id: ID!) { kbDocument(id: $id) { id } }", {"id": document["id"]})) == {
        "kbDocument": {"id": document["id"]}
    }


async def test_search_finds_only_the_own_tenant(client_a: GraphQLClient, client_b: GraphQLClient) -> None:
    """The exact text of another tenant's passage finds nothing of it, and an empty list of documents finds nothing."""
    document = (await client_a.data(INGEST, {"key": "secret"}))["ingestKbDocument"]["document"]["id"]
    search = (
        'query($filter: KbSearchFilter) { kbSearch(input: {query: {text: "Refunds take a week."}, filter: $filter}) {'
        " hits { rank chunk { content document { id } } } diagnostics { candidateCount } } }"
    )
    own = (await client_a.data(search))["kbSearch"]
    foreign = (await client_b.data(search))["kbSearch"]
    empty = (await client_a.data(search, {"filter": {"documentIds": []}}))["kbSearch"]
    no_keys = (await client_a.data(search, {"filter": {"externalIds": []}}))["kbSearch"]
    named = (await client_b.data(search, {"filter": {"documentIds": [document]}}))["kbSearch"]
    assert own["hits"] == [{"rank": 1, "chunk": {"content": "Refunds take a week.", "document": {"id": document}}}]
    nothing = {"hits": [], "diagnostics": {"candidateCount": 0}}
    assert [foreign, empty, no_keys, named] == [nothing] * 4
