"""The connection pool under cold starts, crowds, schema changes, lost connections, and clients that go away."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import websockets
from sqlalchemy import text

from app.audit import AuditLogger, LlmCall, ToolCall
from app.audit.recording import LogOutcome
from app.database.database import Database
from app.database.direct import connect_directly
from app.database.embedded import EmbeddedPostgres
from app.database.migrate import migrate_to_head
from app.database.urls import parse_database_url
from app.kb.documents import ChunkInput, DocumentInput
from app.kb.ingest import DocumentIngester, IngestOutcome
from app.kb.profiles import Embeddings
from app.settings import Limits, Settings
from tests.support.database import (
    TestTenant,
    connect,
    fresh_database,
    new_tenant,
    stored_events,
    test_settings,
    wait_until,
)
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import Answer, GraphQLClient, LiveServer, live_server

SIBLINGS = """
{
  newest: auditEvents(first: 20) { nodes { id parentEvent { id } } totalCount { value } }
  oldest: auditEvents(first: 50, orderBy: {field: CREATED_AT, direction: ASC}) { nodes { id } }
  tools: auditEvents(filter: {actionType: {eq: TOOL_INVOCATION}}) { nodes { actionName } }
  search: kbSearch(input: {query: {text: "refund"}, limit: 3}) { hits { rank chunk { document { externalId } } } }
  documents: kbDocuments { nodes { externalId chunks { nodes { chunkIndex document { externalId } } } } }
  counted: kbDocuments(first: 0) { totalCount { value isExact } }
}
"""

TEN_ALIASES = "{" + " ".join(f"a{number}: auditEvents(first: 5) {{ nodes {{ id }} }}" for number in range(10)) + "}"

LIST = "{ auditEvents(first: 500) { nodes { id inputSummary } } }"
DOCUMENTS = "{ kbDocuments { nodes { id } } }"
LOG = """
mutation Log($input: LogLlmCallInput!) {
  logLlmCall(input: $input) { outcome event { id inputSummary } userErrors { code } }
}
"""

# What must not reach a client: SQL, drivers, tables, places.
INSIDES = (
    "select", "insert", "queuepool", "sqlalche", "asyncpg", "greenlet", "postgres", "traceback", "audit_events",
    "kb_documents", "permission denied", "konstruct_app", "127.0.0.1", "localhost", ".py", "/work", "connect call",
)  # fmt: skip


def assert_masked(answer: Answer, *codes: str) -> None:
    """Check that there are only errors of these codes, each with a request id and nothing of our insides."""
    assert answer.codes, answer.text
    assert set(answer.codes) <= set(codes), answer.text
    for error in answer.body["errors"]:
        assert error["extensions"]["requestId"] == answer.headers["x-request-id"]
        said = f"{error['message']} {json.dumps(error['extensions'])}".lower()
        assert [word for word in INSIDES if word in said] == []


@contextlib.asynccontextmanager
async def client_of(server: LiveServer, tenant: TestTenant) -> AsyncIterator[GraphQLClient]:
    """Open a client with enough connections for a crowd."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, limits=limits) as http:
        yield GraphQLClient(server.graphql_url, tenant.api_key, http)


async def connections_in_use(server: LiveServer) -> float:
    """Return how many database connections the server has checked out, by its own metric."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        text = (await http.get(f"{server.base_url}/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith("konstruct_database_connections_in_use ")]
    return float(line.split()[1])


async def backends(settings: Settings, superuser_url: str, condition: str = "true") -> list[asyncpg.Record]:
    """Return the runtime role's connections to this database."""
    assert settings.database.database_url is not None
    name = settings.database.database_url.get_secret_value().rsplit("/", 1)[1]
    connection = await asyncpg.connect(superuser_url)
    try:
        return await connection.fetch(
            f"SELECT * FROM pg_stat_activity WHERE datname = $1 AND usename = 'konstruct_app' AND {condition}", name
        )
    finally:
        await connection.close()


async def terminate(found: list[asyncpg.Record], superuser_url: str) -> None:
    """End connections from the server's side, as an administrator or a failover does, and wait until they are gone."""
    connection = await asyncpg.connect(superuser_url)
    try:
        for row in found:
            # It waits for so many milliseconds at most.
            assert await connection.fetchval("SELECT pg_terminate_backend($1, 60000)", row["pid"])
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def locked(settings: Settings, table: str) -> AsyncIterator[None]:
    """Hold a table, as a careless migration would, so that every query on it waits."""
    async with connect(settings.database.owner_database_url) as owner:
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        try:
            yield
        finally:
            await transaction.rollback()


@dataclass
class FilledTenant:
    """A tenant with 60 events and 12 documents, and what SIBLINGS must answer for it."""

    tenant: TestTenant
    expected: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
async def filled(settings: Settings) -> FilledTenant:
    """A tenant whose data are known exactly."""
    tenant = await new_tenant(settings, "Filled")
    database, limits = Database(settings.database), Limits()
    logger = AuditLogger(database, tenant.principal, limits)
    first = (await logger.log_llm_call(LlmCall(model="m"))).event
    assert first is not None
    rest: list[LlmCall | ToolCall] = [
        ToolCall(tool_name=f"tool-{number}", parent_event_id=first.id)
        if number % 2
        else LlmCall(model="m", parent_event_id=first.id)
        for number in range(59)
    ]
    results = await logger.log_events(rest)
    events = sorted(
        (result.event for result in results if result.event is not None), key=lambda event: event.id.bytes, reverse=True
    )
    ingester = DocumentIngester(database, Embeddings.from_settings(database, settings.embeddings), limits)
    for number in range(12):
        chunks = [ChunkInput(content=f"{text} {number}") for text in ("the weather in", "lamps and tables", "numbers")]
        if number == 7:
            chunks[1] = ChunkInput(content="refund")
        result = await ingester.ingest(
            tenant.id, DocumentInput(external_id=f"doc-{number}", title=f"Document {number}", chunks=chunks)
        )
        assert result.outcome is IngestOutcome.CREATED
    await database.close()
    keys = [f"doc-{number}" for number in reversed(range(12))]
    ids = [str(event.id) for event in events]
    return FilledTenant(
        tenant,
        {
            "newest": {
                "nodes": [{"id": event_id, "parentEvent": {"id": str(first.id)}} for event_id in ids[:20]],
                "totalCount": {"value": 60},
            },
            "oldest": {"nodes": [{"id": event_id} for event_id in [str(first.id), *reversed(ids)][:50]]},
            "tools": {
                "nodes": [{"actionName": event.action_name} for event in events if event.action_type != "llm_call"]
            },
            "documents": {
                "nodes": [
                    {
                        "externalId": key,
                        "chunks": {
                            "nodes": [{"chunkIndex": index, "document": {"externalId": key}} for index in range(3)]
                        },
                    }
                    for key in keys
                ]
            },
            "counted": {"totalCount": {"value": 12, "isExact": True}},
        },
    )


def assert_full(answer: Answer, filled: FilledTenant) -> None:
    """Check that SIBLINGS was answered in full."""
    data = answer.data
    hits = data.pop("search")["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["chunk"]["document"]["externalId"] == "doc-7"
    assert data == filled.expected


@pytest.mark.parametrize("restart", range(2))
async def test_first_request_of_a_fresh_server_may_have_siblings(
    settings: Settings, filled: FilledTenant, tmp_path: Path, restart: int
) -> None:
    """Six sibling fields with nested lists are answered in full by cold connections, the very first time (C51)."""
    # Where GraphiQL is on but not built, the server warns of it.
    with live_server(settings, tmp_path, KONSTRUCT_GRAPHIQL="false") as server:
        async with client_of(server, filled.tenant) as client:
            first = await client.execute(SIBLINGS)
            assert_full(first, filled)
        assert [line for line in server.log_lines() if line.get("level") in {"error", "warning"}] == []


async def test_siblings_are_full_every_time_on_warm_connections(server: LiveServer, filled: FilledTenant) -> None:
    """The same six siblings are answered in full fifty times, five requests at a time (C51)."""
    async with client_of(server, filled.tenant) as client:
        for _ in range(10):
            for answer in await asyncio.gather(*(client.execute(SIBLINGS) for _ in range(5))):
                assert_full(answer, filled)
    assert await connections_in_use(server) == 0


@pytest.fixture(scope="module")
def small_server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with two database connections, for which requests wait a second at most, and statements run for five."""
    small = settings.model_copy(update={"database": settings.database.model_copy(update={"database_pool_size": 2})})
    with live_server(
        small,
        tmp_path_factory.mktemp("small"),
        KONSTRUCT_DATABASE_POOL_TIMEOUT_SECONDS="1",
        KONSTRUCT_DATABASE_STATEMENT_TIMEOUT_SECONDS="5",
    ) as running:
        yield running


async def test_crowd_on_two_connections_is_served(small_server: LiveServer, filled: FilledTenant) -> None:
    """Thirty parallel requests of ten fields on two connections end in time, whole or with UNAVAILABLE (C53)."""
    async with client_of(small_server, filled.tenant) as client:
        answers = await asyncio.gather(*(client.execute(TEN_ALIASES) for _ in range(30)))
        whole = 0

        async def five_were_whole() -> bool:
            nonlocal whole
            answers.append(await client.execute(TEN_ALIASES))
            whole = sum("errors" not in answer.body for answer in answers)
            return whole >= 5

        # Where the machine stalls for the second that they wait, none may be; those that come by themselves are.
        assert await wait_until(five_were_whole, seconds=PATIENCE_SECONDS)
        for answer in answers:
            if "errors" in answer.body:
                assert_masked(answer, "UNAVAILABLE")
            else:
                assert {len(answer.data[f"a{number}"]["nodes"]) for number in range(10)} == {5}
    assert await connections_in_use(small_server) == 0


async def test_crowd_behind_a_lock_is_turned_away_and_served_afterwards(
    small_server: LiveServer, settings: Settings, filled: FilledTenant
) -> None:
    """While both connections wait for a lock, others get UNAVAILABLE in time; afterwards all is well (C53)."""
    async with client_of(small_server, filled.tenant) as client:
        await client.data("{ viewer { subject } }")
        async with locked(settings, "audit_events"):
            answers = await asyncio.gather(*(client.execute(LIST) for _ in range(10)))
        for answer in answers:
            assert_masked(answer, "UNAVAILABLE", "TIMEOUT")
        codes = [code for answer in answers for code in answer.codes]
        assert codes.count("UNAVAILABLE") == 8
        assert codes.count("TIMEOUT") == 2
        assert len((await client.data(LIST))["auditEvents"]["nodes"]) == 60
    assert await connections_in_use(small_server) == 0


async def test_slow_statement_is_a_timeout_and_writes_nothing(
    small_server: LiveServer, settings: Settings, tenant_a: TestTenant
) -> None:
    """A query or mutation that PostgreSQL cancels for its time has the code TIMEOUT, and nothing was stored (C95)."""
    async with client_of(small_server, tenant_a) as client:
        await client.data("{ viewer { subject } }")
        async with locked(settings, "audit_events, kb_documents"):
            read, written = await asyncio.gather(
                client.execute(DOCUMENTS), client.execute(LOG, {"input": {"model": "m", "idempotencyKey": "k"}})
            )
        assert_masked(read, "TIMEOUT")
        assert_masked(written, "TIMEOUT")
        assert await stored_events(settings, tenant_a.id) == []
        retried = await client.data(LOG, {"input": {"model": "m", "idempotencyKey": "k"}})
    assert retried["logLlmCall"]["outcome"] == "RECORDED"
    assert len(await stored_events(settings, tenant_a.id)) == 1


async def test_clients_that_go_away_leave_the_pool_usable(
    small_server: LiveServer, settings: Settings, postgres: EmbeddedPostgres, tenant_a: TestTenant
) -> None:
    """A hundred requests that their clients abandon leave no connection checked out or in a transaction."""
    chance = random.Random(7)
    acknowledged: list[str] = []

    async def send_and_leave(client: GraphQLClient, number: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0.001, 0.15)):
                answer = await client.execute(LOG, {"input": {"model": "m", "inputSummary": f"{number}"}})
                if "errors" not in answer.body:
                    acknowledged.append(answer.data["logLlmCall"]["event"]["id"])

    async with client_of(small_server, tenant_a) as client:
        for start in range(0, 100, 20):
            await asyncio.gather(*(send_and_leave(client, number) for number in range(start, start + 20)))

    async def is_idle() -> bool:
        return await connections_in_use(small_server) == 0

    assert await wait_until(is_idle, seconds=PATIENCE_SECONDS)
    superuser_url = postgres.superuser_url.get_secret_value()

    async def none_is_left() -> bool:
        return not await backends(settings, superuser_url, "state LIKE 'idle in transaction%'")

    # A backend whose connection was thrown away sees its end a moment later; one that is forgotten stays for a minute.
    assert await wait_until(none_is_left, seconds=30)
    async with client_of(small_server, tenant_a) as client:
        for _ in range(20):
            await client.data(DOCUMENTS)
    rows = await stored_events(settings, tenant_a.id)
    assert {UUID(event_id) for event_id in acknowledged} <= {row["id"] for row in rows}
    assert len({row["input_summary"] for row in rows}) == len(rows) <= 100


async def test_connections_end_when_the_other_side_is_silent(settings: Settings, database: Database) -> None:
    """A machine that is gone without a word is noticed in half a minute, on pooled connections and on those beside."""
    url = parse_database_url(settings.database.database_url, "KONSTRUCT_DATABASE_URL")
    direct = await connect_directly(url, "test")
    async with database.connection() as connection:
        pooled: Any = (await connection.get_raw_connection()).driver_connection
        drivers: tuple[Any, ...] = (pooled, direct)
        for driver in drivers:
            end = driver._transport.get_extra_info("socket")
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
    await direct.close()


async def test_connection_that_does_not_answer_is_given_up(
    settings: Settings, tenant_a: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that fails on a dead connection ends nevertheless, and the next one gets another connection."""
    monkeypatch.setattr("app.database.session._ROLLBACK_SECONDS", 0.1)
    database = Database(settings.database.model_copy(update={"database_pool_size": 1}))
    pids: list[int] = []

    async def fail_while_it_hangs() -> None:
        async with database.tenant_session(tenant_a.id) as session:
            pids.append((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
            os.kill(pids[0], signal.SIGSTOP)
            raise ValueError("a reader fails")

    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ValueError, match="a reader fails"):
                await fail_while_it_hangs()
            async with database.tenant_session(tenant_a.id) as session:
                pids.append((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
    finally:
        os.kill(pids[0], signal.SIGCONT)
        await database.close()
    assert pids[0] != pids[1]


async def test_cancelled_sessions_lose_no_acknowledged_write(settings: Settings, tenant_a: TestTenant) -> None:
    """Work cancelled at any moment gives its connection back clean; what was acknowledged is stored, and once."""
    database = Database(settings.database.model_copy(update={"database_pool_size": 3}))
    logger = AuditLogger(database, tenant_a.principal, Limits())
    chance = random.Random(11)
    acknowledged: list[UUID] = []

    async def log(number: int) -> None:
        result = await logger.log_llm_call(LlmCall(model="m", input_summary=str(number)))
        assert result.outcome is LogOutcome.RECORDED
        assert result.event is not None
        acknowledged.append(result.event.id)

    async def cancelled_soon(number: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0, 0.15)):
                await log(number)

    for start in range(0, 300, 6):
        await asyncio.gather(*(cancelled_soon(number) for number in range(start, start + 6)))
    await asyncio.gather(*(log(1000 + number) for number in range(20)))
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await database.close()
    rows = await stored_events(settings, tenant_a.id)
    assert set(acknowledged) <= {row["id"] for row in rows}
    assert len({row["input_summary"] for row in rows}) == len(rows)
    assert 20 < len(acknowledged) < 320


@pytest.fixture(scope="module")
async def own_settings(postgres: EmbeddedPostgres) -> Settings:
    """A database of this module's own, whose schema and grants may be changed."""
    return await fresh_database(postgres, pool_size=5)


@pytest.fixture(scope="module")
def own_server(own_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server on it."""
    with live_server(own_settings, tmp_path_factory.mktemp("own")) as running:
        yield running


async def warm_up(client: GraphQLClient, marker: str) -> None:
    """Make all five connections know the statements."""
    for again in range(3):
        await asyncio.gather(
            *(client.data(LOG, {"input": {"model": "m", "inputSummary": f"{marker} {again} {n}"}}) for n in range(8)),
            *(client.data(LIST) for _ in range(8)),
        )


async def test_long_questions_leave_connections_for_short_ones(settings: Settings, tenant_a: TestTenant) -> None:
    """However many statistics are asked for at once, half of the connections stay free for writing and reading."""
    database = Database(settings.database.model_copy(update={"database_pool_size": 4}))
    end = asyncio.Event()
    started: list[int] = []

    async def analyse(number: int) -> None:
        async with database.analysis_session(tenant_a.id):
            started.append(number)
            await end.wait()

    async def two_work() -> bool:
        return len(started) == 2

    long = [asyncio.create_task(analyse(number)) for number in range(6)]
    try:
        for _ in range(3):
            async with asyncio.timeout(PATIENCE_SECONDS), database.tenant_session(tenant_a.id) as session:
                assert (await session.execute(text("SELECT 1"))).scalar_one() == 1
        # The others wait for as long as these two are at work.
        assert await wait_until(two_work, seconds=PATIENCE_SECONDS)
    finally:
        end.set()
        await asyncio.gather(*long)
        await database.close()
    assert sorted(started) == list(range(6))


async def test_schema_change_under_load_is_not_noticed(own_server: LiveServer, own_settings: Settings) -> None:
    """A column added by a migration fails none of the next requests, and no write is made twice (C56)."""
    tenant = await new_tenant(own_settings)
    async with client_of(own_server, tenant) as client:
        await warm_up(client, "before")
        async with connect(own_settings.database.owner_database_url) as owner:
            await owner.execute("ALTER TABLE audit_events ADD COLUMN zz int")
        writes = [client.execute(LOG, {"input": {"model": "m", "inputSummary": f"after {n}"}}) for n in range(25)]
        answers = await asyncio.gather(*writes, *(client.execute(LIST) for _ in range(25)))
    assert [answer.body["errors"] for answer in answers if "errors" in answer.body] == []
    stored = [row["input_summary"] for row in await stored_events(own_settings, tenant.id)]
    assert sorted(text for text in stored if text.startswith("after")) == sorted(f"after {n}" for n in range(25))


async def test_terminated_connections_are_replaced_unnoticed(
    own_server: LiveServer, own_settings: Settings, postgres: EmbeddedPostgres
) -> None:
    """After an administrator ends every idle connection, the next twenty requests succeed (C58)."""
    tenant = await new_tenant(own_settings)
    superuser_url = postgres.superuser_url.get_secret_value()
    async with client_of(own_server, tenant) as client:
        await warm_up(client, "before")
        ended = await backends(own_settings, superuser_url, "application_name LIKE 'konstruct%'")
        # The pool's, and the one that listens for what is sealed.
        assert len(ended) == 6
        await terminate(ended, superuser_url)
        writes = [client.execute(LOG, {"input": {"model": "m", "inputSummary": f"after {n}"}}) for n in range(10)]
        answers = await asyncio.gather(*writes, *(client.execute(LIST) for _ in range(10)))
    assert [answer.body["errors"] for answer in answers if "errors" in answer.body] == []
    stored = [row["input_summary"] for row in await stored_events(own_settings, tenant.id)]
    assert sorted(text for text in stored if text.startswith("after")) == sorted(f"after {n}" for n in range(10))
    remaining = {row["pid"] for row in await backends(own_settings, superuser_url)}
    assert remaining & {row["pid"] for row in ended} == set()


async def test_connection_terminated_in_flight_is_one_masked_error(
    own_server: LiveServer, own_settings: Settings, postgres: EmbeddedPostgres
) -> None:
    """A request whose connection is ended under it gets UNAVAILABLE without insides; the next one succeeds (C58)."""
    tenant = await new_tenant(own_settings)
    superuser_url = postgres.superuser_url.get_secret_value()
    async with client_of(own_server, tenant) as client:
        await client.data(LIST)
        async with locked(own_settings, "kb_documents"):
            waiting = asyncio.create_task(client.execute(DOCUMENTS))

            async def is_waiting() -> bool:
                return bool(await backends(own_settings, superuser_url, "wait_event_type = 'Lock'"))

            assert await wait_until(is_waiting, seconds=PATIENCE_SECONDS)
            await terminate(await backends(own_settings, superuser_url, "wait_event_type = 'Lock'"), superuser_url)
            answer = await waiting
        assert_masked(answer, "UNAVAILABLE")
        assert (await client.data(DOCUMENTS))["kbDocuments"]["nodes"] == []


async def test_missing_privilege_is_masked_and_logged(own_server: LiveServer, own_settings: Settings) -> None:
    """An error of the installation is INTERNAL without a word of SQL, and in full in the log under its id (C95)."""
    tenant = await new_tenant(own_settings)
    async with client_of(own_server, tenant) as client, connect(own_settings.database.owner_database_url) as owner:
        await client.data(LIST)
        await owner.execute("REVOKE SELECT ON audit_events, kb_documents FROM konstruct_app")
        try:
            read = await client.execute(LIST)
            written = await client.execute(LOG, {"input": {"model": "m"}})
            searched = await client.execute('{ kbSearch(input: {query: {text: "x"}}) { hits { rank } } }')
            misspelt = await client.execute("{ auditEvents { nodes { idd } } }")
        finally:
            await owner.execute("GRANT SELECT ON audit_events, kb_documents TO konstruct_app")
        for answer in (read, written, searched):
            assert_masked(answer, "INTERNAL")
            (error,) = answer.body["errors"]
            assert error["message"] == "an internal error occurred; the operator finds it in the log by the request id"
        assert "Cannot query field 'idd' on type 'AuditEvent'" in misspelt.body["errors"][0]["message"]
        assert (await client.data(LIST))["auditEvents"]["nodes"] == []
    logged = {
        line["request_id"]: line["exception"] for line in own_server.log_lines() if line["event"] == "resolver_failed"
    }
    assert "permission denied for table audit_events" in logged[read.headers["x-request-id"]]


async def operation_over_websocket(socket: Any, operation_id: str) -> dict[str, Any]:
    """Run LIST on an open connection; return its answer."""
    await socket.send(json.dumps({"id": operation_id, "type": "subscribe", "payload": {"query": LIST}}))
    while True:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS))
        if message.get("id") == operation_id and message["type"] in {"next", "error"}:
            return message


async def test_errors_over_a_websocket_are_masked_too(own_server: LiveServer, own_settings: Settings) -> None:
    """The same failure on a WebSocket is as discreet as over HTTP, and the connection goes on (C95)."""
    tenant = await new_tenant(own_settings)
    url, protocol = own_server.websocket_url, websockets.Subprotocol("graphql-transport-ws")
    async with (
        websockets.connect(url, subprotocols=[protocol], open_timeout=PATIENCE_SECONDS) as socket,
        connect(own_settings.database.owner_database_url) as owner,
    ):
        payload = {"Authorization": f"Bearer {tenant.api_key}"}
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        assert json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS))["type"] == "connection_ack"
        await owner.execute("REVOKE SELECT ON audit_events FROM konstruct_app")
        try:
            failed = await operation_over_websocket(socket, "1")
        finally:
            await owner.execute("GRANT SELECT ON audit_events TO konstruct_app")
        good = await operation_over_websocket(socket, "2")
    (error,) = failed["payload"]["errors"]
    assert error["extensions"]["code"] == "INTERNAL"
    assert [word for word in INSIDES if word in json.dumps(error["extensions"]).lower()] == []
    assert error["message"] == "an internal error occurred; the operator finds it in the log by the request id"
    assert good["payload"]["data"] == {"auditEvents": {"nodes": []}}


@pytest.fixture
async def stoppable(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL server of the test's own, with roles and database."""
    server = EmbeddedPostgres(tmp_path / "data", settings="fsync = off\n")
    server.start()
    try:
        await server.ensure_roles_and_database()
        yield server
    finally:
        server.stop()


def start_on_the_same_port(postgres: EmbeddedPostgres) -> None:
    """Start a stopped server again where clients expect it."""
    postgres._run(
        "pg_ctl", "start", "-D", str(postgres._data), "-w", "-l", str(postgres._data / "server.log"),
        "-o", f"-p {postgres.port}",
    )  # fmt: skip


async def test_restart_of_the_database_needs_no_restart_of_the_server(
    stoppable: EmbeddedPostgres, tmp_path: Path
) -> None:
    """While PostgreSQL is down, requests get a masked UNAVAILABLE and /readyz 503; soon after, all is well (C58)."""
    settings = test_settings(stoppable.runtime_url, stoppable.owner_url)
    await migrate_to_head(settings)
    tenant = await new_tenant(settings)
    with live_server(settings, tmp_path) as server:
        async with client_of(server, tenant) as client:

            async def readiness() -> int:
                return (await client.http.get(f"{server.base_url}/readyz")).status_code

            async def is_ready() -> bool:
                return await readiness() == 200

            await warm_up(client, "before")
            assert await wait_until(is_ready, seconds=PATIENCE_SECONDS)
            stoppable.stop()
            down = await asyncio.gather(
                *(client.execute(LIST) for _ in range(10)),
                *(client.execute(LOG, {"input": {"model": "m", "inputSummary": "down"}}) for _ in range(10)),
            )
            for answer in down:
                assert_masked(answer, "UNAVAILABLE")
            assert await readiness() == 503
            assert (await client.http.get(f"{server.base_url}/healthz")).status_code == 200
            not_ready = await client.http.get(f"{server.base_url}/readyz")
            assert [word for word in ("127.0.0.1", str(stoppable.port), "asyncpg") if word in not_ready.text] == []
            await asyncio.sleep(3.5)
            # The key's cached look-up has ended: authentication itself meets the missing database.
            assert_masked(await client.execute(LIST), "UNAVAILABLE")
            start_on_the_same_port(stoppable)
            assert await wait_until(is_ready, seconds=PATIENCE_SECONDS)
            after = await asyncio.gather(
                *(client.execute(LOG, {"input": {"model": "m", "inputSummary": f"up {n}"}}) for n in range(20))
            )
        assert [answer.body["errors"] for answer in after if "errors" in answer.body] == []
        assert server.process.poll() is None
    stored = [row["input_summary"] for row in await stored_events(settings, tenant.id)]
    assert sorted(text for text in stored if not text.startswith("before")) == sorted(f"up {n}" for n in range(20))
