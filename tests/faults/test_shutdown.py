"""SIGTERM: what is under way is finished or rolled back, idle connections hold nothing up, the process goes."""

import asyncio
import contextlib
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import websockets

from app.settings import Settings
from tests.support.database import TestTenant, connect, stored_events, wait_until
from tests.support.follower import following
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import GraphQLClient, LiveServer, live_server

LOG = """
mutation { logLlmCall(input: {model: "m", idempotencyKey: "held"}) { outcome event { id } userErrors { code } } }
"""


@contextlib.asynccontextmanager
async def key_held(settings: Settings, tenant: TestTenant) -> AsyncIterator[None]:
    """Hold the mutation's idempotency key in an open transaction, so that the mutation waits; free it at the end."""
    async with connect(settings.database.database_url, tenant.id) as connection:
        await connection.execute(
            "INSERT INTO audit_idempotency_keys (tenant_id, key, event_id, body_hash)"
            " VALUES ($1, 'held', $2, decode(repeat('00', 32), 'hex'))",
            tenant.id,
            uuid4(),
        )
        yield


async def start_mutation(server: LiveServer, settings: Settings, tenant: TestTenant) -> asyncio.Task[httpx.Response]:
    """Send the mutation; return when PostgreSQL has it waiting."""

    async def send() -> httpx.Response:
        headers = {"authorization": f"Bearer {tenant.api_key}"}
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
            return await http.post(server.graphql_url, json={"query": LOG}, headers=headers)

    task = asyncio.create_task(send())

    async def is_waiting() -> bool:
        async with connect(settings.database.owner_database_url) as owner:
            query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            return bool(await owner.fetchval(query))

    assert await wait_until(is_waiting, seconds=PATIENCE_SECONDS)
    return task


async def exit_code(server: LiveServer) -> int | None:
    """Wait for the process to end; return its exit code, or `None` when it goes on."""
    try:
        return await asyncio.to_thread(server.process.wait, PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        return None


async def refuses(server: LiveServer) -> bool:
    """Whether nobody listens on the server's port."""
    address = urlsplit(server.base_url)
    try:
        _, writer = await asyncio.open_connection(address.hostname, address.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@contextlib.asynccontextmanager
async def idle_socket(server: LiveServer, tenant: TestTenant) -> AsyncIterator[websockets.ClientConnection]:
    """Open an authenticated WebSocket connection on which nothing happens."""
    protocol = websockets.Subprotocol("graphql-transport-ws")
    async with websockets.connect(
        server.websocket_url, subprotocols=[protocol], open_timeout=PATIENCE_SECONDS
    ) as socket:
        payload = {"Authorization": f"Bearer {tenant.api_key}"}
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        assert json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS))["type"] == "connection_ack"
        yield socket


async def test_mutation_in_flight_is_answered_before_the_process_ends(
    settings: Settings, tenant_a: TestTenant, tmp_path: Path
) -> None:
    """A mutation that waits when SIGTERM comes is committed and answered; new connections are refused (C68)."""
    with live_server(settings, tmp_path, KONSTRUCT_SHUTDOWN_SECONDS="120") as server:
        async with key_held(settings, tenant_a):
            mutation = await start_mutation(server, settings, tenant_a)
            server.process.send_signal(signal.SIGTERM)
            assert await wait_until(lambda: refuses(server), seconds=PATIENCE_SECONDS)
            assert server.process.poll() is None
            assert not mutation.done()
        answer = await mutation
        code = await exit_code(server)
    logged = answer.json()["data"]["logLlmCall"]
    (row,) = await stored_events(settings, tenant_a.id)
    assert logged == {"outcome": "RECORDED", "event": {"id": str(row["id"])}, "userErrors": []}
    assert code == 0


async def test_mutation_that_never_ends_is_rolled_back(
    settings: Settings, tenant_a: TestTenant, tmp_path: Path
) -> None:
    """A mutation still waiting after the grace period is rolled back whole, and the process ends all the same (C68)."""
    with live_server(settings, tmp_path, KONSTRUCT_SHUTDOWN_SECONDS="2") as server:
        async with key_held(settings, tenant_a):
            mutation = await start_mutation(server, settings, tenant_a)
            started = time.perf_counter()
            server.process.send_signal(signal.SIGTERM)
            code = await exit_code(server)
            took = time.perf_counter() - started
            answer = await mutation
    assert answer.status_code == 503
    assert "may or may not be stored" in answer.json()["errors"][0]["message"]
    assert 2 <= took < 60
    assert await stored_events(settings, tenant_a.id) == []
    async with connect(settings.database.database_url, tenant_a.id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM audit_idempotency_keys") == 0
    assert code == 0


async def test_idle_connections_do_not_keep_the_process_alive(
    settings: Settings, tenant_a: TestTenant, tmp_path: Path
) -> None:
    """Idle WebSockets are closed as going away, idle HTTP connections too, and the process ends at once (C68)."""
    with live_server(settings, tmp_path, KONSTRUCT_SHUTDOWN_SECONDS="120") as server:
        async with contextlib.AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=PATIENCE_SECONDS))
            client = GraphQLClient(server.graphql_url, tenant_a.api_key, http)
            await asyncio.gather(*(client.data("{ auditEvents { nodes { id } } }") for _ in range(5)))
            sockets = [await stack.enter_async_context(idle_socket(server, tenant_a)) for _ in range(3)]
            started = time.perf_counter()
            server.process.send_signal(signal.SIGTERM)
            closed = []
            for socket in sockets:
                with pytest.raises(websockets.ConnectionClosed):
                    await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS)
                closed.append(socket.close_code)
            code = await exit_code(server)
            took = time.perf_counter() - started
    assert set(closed) <= {1001, 1012}
    # The time that requests under way would be given was not waited for.
    assert took < 60
    assert code == 0


async def test_idle_subscriptions_do_not_keep_the_process_alive(
    settings: Settings, tenant_a: TestTenant, tmp_path: Path
) -> None:
    """Followers to whom nothing comes are closed as going away, on either transport (C68)."""
    query = {"query": "subscription { auditEventLogged { id } }"}
    headers = {"authorization": f"Bearer {tenant_a.api_key}", "accept": "text/event-stream"}
    with live_server(settings, tmp_path, KONSTRUCT_SHUTDOWN_SECONDS="120") as server:
        async with contextlib.AsyncExitStack() as stack:
            followers = [await stack.enter_async_context(following(server, tenant_a.api_key)) for _ in range(3)]
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=PATIENCE_SECONDS))
            stream = await stack.enter_async_context(
                http.stream("POST", server.graphql_url, json=query, headers=headers)
            )
            assert all([await follower.is_quiet(0.5) for follower in followers])
            started = time.perf_counter()
            server.process.send_signal(signal.SIGTERM)
            for follower in followers:
                with pytest.raises(websockets.ConnectionClosed):
                    await follower.message()
                assert follower.socket.close_code in {1001, 1012}
            with contextlib.suppress(httpx.RemoteProtocolError):
                async for _ in stream.aiter_bytes():
                    pass
            code = await exit_code(server)
            took = time.perf_counter() - started
    assert took < 60
    assert code == 0


async def test_signal_ends_several_workers(settings: Settings, tenant_a: TestTenant, tmp_path: Path) -> None:
    """With two worker processes, SIGTERM to the parent ends them all; nobody listens afterwards."""
    with live_server(settings, tmp_path, "--workers", "2") as server:
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
            client = GraphQLClient(server.graphql_url, tenant_a.api_key, http)
            assert (await client.data("{ viewer { subject } }"))["viewer"]["subject"] == "test-key"
        server.process.send_signal(signal.SIGTERM)
        code = await exit_code(server)
        assert await refuses(server)
    assert code == 0
