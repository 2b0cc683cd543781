"""Following the trail: each event once, in the order of the log, whenever one looks; and who is cut off."""

import asyncio
import json
import random
import socket as sockets
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets import ConnectionClosed

from app.auth.principal import Scope
from app.auth.tenants import revoke_api_key
from app.database.embedded import EmbeddedPostgres
from app.database.owner import owner_transaction
from app.settings import Settings
from tests.support.database import TestTenant, connect, fresh_database, new_tenant, wait_until
from tests.support.follower import Follower, following
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import GraphQLClient, LiveServer, live_server

LOG = "mutation($name: String!) { logToolCall(input: {toolName: $name}) { event { id } } }"
LOG_MANY = "mutation($input: LogEventsInput!) { logEvents(input: $input) { results { event { id } } } }"
SIZE = "SELECT COALESCE((SELECT size FROM audit_log_states), 0)"


async def log(client: GraphQLClient, name: str = "t") -> str:
    """Log an event; return its id."""
    return str((await client.data(LOG, {"name": name}))["logToolCall"]["event"]["id"])


async def sealed(settings: Settings, tenant: TestTenant, size: int) -> None:
    """Wait until the tenant's log holds so many events."""

    async def is_sealed() -> bool:
        async with connect(settings.database.database_url, tenant.id) as connection:
            return bool(await connection.fetchval(SIZE) == size)

    assert await wait_until(is_sealed, seconds=PATIENCE_SECONDS)


async def test_events_come_as_they_are_sealed(
    server: LiveServer, client_a: GraphQLClient, tenant_a: TestTenant
) -> None:
    """Without a place one gets what is new, within a second or so, with its place."""
    await log(client_a)
    async with following(server, tenant_a.api_key, after=-1) as follower:
        assert (await follower.event())["sequence"] == "0"
        async with following(server, tenant_a.api_key) as newcomer:
            assert await newcomer.is_quiet(0.5)
            events: list[dict[str, str]] = []
            came = asyncio.create_task(newcomer.event())
            # Another one, should the server not have begun to follow before the last.
            while not came.done():
                event = await log(client_a, "new")
                events.append({"id": event, "sequence": str(len(events) + 1), "actionName": "new"})
                await asyncio.wait([came], timeout=5)
            assert came.result() in events
            assert [await follower.event() for _ in events] == events


async def test_after_a_break_it_goes_on_where_it_was(
    server: LiveServer, client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """What came meanwhile comes first, and then what comes."""
    ids = [await log(client_a) for _ in range(3)]
    await sealed(settings, tenant_a, 3)
    async with following(server, tenant_a.api_key, after=0) as follower:
        assert [(await follower.event())["id"] for _ in range(2)] == ids[1:]
        ids.append(await log(client_a))
        assert (await follower.event())["id"] == ids[3]
    found = await client_a.data(
        "query($id: ID!) { auditEvent(id: $id) { sequence }"
        " auditEvents(filter: {sequence: {gte: 2}}) { nodes { id } } }",
        {"id": ids[3]},
    )
    assert found == {"auditEvent": {"sequence": "3"}, "auditEvents": {"nodes": [{"id": ids[3]}, {"id": ids[2]}]}}


async def test_transaction_that_commits_late_is_neither_lost_nor_repeated(
    server: LiveServer, client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """Its event comes when it is committed, behind those that overtook it."""
    async with (
        following(server, tenant_a.api_key, after=-1) as follower,
        connect(settings.database.database_url) as late,
    ):
        transaction = late.transaction()
        await transaction.start()
        await late.execute("SELECT set_tenant($1)", tenant_a.id)
        slow = uuid4()
        await late.execute(
            "INSERT INTO audit_events (tenant_id, id, action_type, status, submitted_by)"
            " VALUES ($1, $2, 'llm_call', 'succeeded', 'late')",
            tenant_a.id, slow,
        )  # fmt: skip
        quick = await log(client_a)
        assert (await follower.event())["id"] == quick
        assert await follower.is_quiet()
        await transaction.commit()
        assert (await follower.event())["id"] == str(slow)
        assert await follower.is_quiet(0.5)


async def test_only_matching_events_of_the_own_tenant_come(
    server: LiveServer, client_a: GraphQLClient, client_b: GraphQLClient, tenant_a: TestTenant
) -> None:
    """The filter is the one of the lists."""
    where = {
        "actionName": {"startsWith": "wanted"},
        "not": {"search": '"of no use"'},
        # JSON values of all kinds.
        "or": [{"metadata": [{"path": ["k"], "eq": {"a": [1]}}]}, {"metadata": [{"path": ["k"], "exists": False}]}],
    }
    async with following(server, tenant_a.api_key, after=-1, where=where) as follower:
        await log(client_b, "wanted by another tenant")
        await log(client_a, "other")
        await log(client_a, "wanted but of no use")
        expected = await log(client_a, "wanted")
        assert await follower.event() == {"id": expected, "sequence": "2", "actionName": "wanted"}
        assert await follower.is_quiet(0.5)


async def test_many_events_are_caught_up_with_in_order(
    server: LiveServer, client_a: GraphQLClient, tenant_a: TestTenant
) -> None:
    """More than one reading takes come in the order of the log, without a gap; large ones too."""
    big = {"toolName": "big", "metadata": {"text": "x" * 20_000}}
    for _ in range(3):
        sent: list[dict[str, Any]] = [{"toolCall": {"toolName": "t"}}] * 199 + [{"toolCall": big}]
        await client_a.data(LOG_MANY, {"input": {"events": sent}})
    document = "subscription($after: BigInt) { auditEventLogged(afterSequence: $after) { sequence metadata } }"
    async with following(server, tenant_a.api_key, after=-1, document=document) as follower:
        events = [await follower.event() for _ in range(600)]
        assert [int(event["sequence"]) for event in events] == list(range(600))
        assert sum(event["metadata"] == big["metadata"] for event in events) == 3
        await log(client_a)
        assert (await follower.event())["sequence"] == "600"


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (-2, "afterSequence: must be -1 or more; -1 begins with the first event"),
        (7, "afterSequence: lies beyond the log, which ends with -1"),
    ],
)
async def test_impossible_place_is_refused(server: LiveServer, tenant_a: TestTenant, after: int, message: str) -> None:
    """The error names the argument; nothing is delivered."""
    async with following(server, tenant_a.api_key, after=after) as follower:
        answer = await follower.message()
        assert answer["type"] == "error"
        assert answer["payload"][0]["message"] == message
        assert answer["payload"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_impossible_filter_is_refused(server: LiveServer, tenant_a: TestTenant) -> None:
    """A filter is checked before anything is followed."""
    where: dict[str, Any] = {"metadata": [{"path": []}]}
    async with following(server, tenant_a.api_key, where=where) as follower:
        answer = await follower.message()
        assert answer["payload"][0]["message"].startswith("filter.metadata.0.path: must name")


async def test_key_without_the_scope_is_refused(server: LiveServer, tenant_a: TestTenant) -> None:
    """Reading the trail live needs what reading it needs."""
    secret, _ = await tenant_a.new_key([scope for scope in Scope if scope is not Scope.AUDIT_READ])
    async with following(server, secret) as follower:
        answer = await follower.message()
        assert (answer["type"], answer["payload"][0]["extensions"]["code"]) == ("error", "FORBIDDEN")


async def test_revoked_key_is_cut_off(
    server: LiveServer, client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """Within some seconds the socket is closed with 4403, whether or not events come; none comes after that."""
    secret, key_id = await tenant_a.new_key([Scope.AUDIT_READ])
    async with following(server, secret, after=-1) as follower:
        await log(client_a)
        await follower.event()
        async with owner_transaction(settings.database) as connection:
            await revoke_api_key(connection, key_id)
        answers = []
        with suppress(ConnectionClosed):
            while True:
                answers.append(await follower.message())
        assert follower.socket.close_code == 4403
        assert [answer for answer in answers if answer["type"] == "next" and answer["payload"]["data"]] == []


# ---------------------------------------------------------------- server-sent events


async def read_stream(server: LiveServer, api_key: str, query: str, count: int) -> tuple[httpx.Response, list[Any]]:
    """Read the first events of a stream of server-sent events."""
    headers = {"authorization": f"Bearer {api_key}", "accept": "text/event-stream"}
    found: list[Any] = []
    async with (
        httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http,
        http.stream("POST", server.graphql_url, json={"query": query}, headers=headers) as response,
    ):
        event = ""
        async for line in response.aiter_lines():
            kind, _, text = line.partition(": ")
            if kind == "event":
                event = text
            elif kind.startswith("data") and event:
                found.append((event, json.loads(text) if text else None))
                if len(found) == count:
                    break
    return response, found


async def test_server_sent_events_carry_the_same(
    server: LiveServer, client_a: GraphQLClient, tenant_a: TestTenant
) -> None:
    """A client that can't open a WebSocket gets the same events as a stream of `next`."""
    ids = [await log(client_a) for _ in range(2)]
    query = "subscription { auditEventLogged(afterSequence: -1) { id sequence } }"
    response, found = await read_stream(server, tenant_a.api_key, query, 2)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert found == [
        ("next", {"data": {"auditEventLogged": {"id": event, "sequence": str(number)}}})
        for number, event in enumerate(ids)
    ]


async def test_server_sent_events_end_with_complete(server: LiveServer, tenant_a: TestTenant) -> None:
    """Queries and refused documents have one result."""
    _, found = await read_stream(server, tenant_a.api_key, "{ viewer { subject } }", 2)
    assert [kind for kind, _ in found] == ["next", "complete"]
    assert found[0][1]["data"]["viewer"]
    _, found = await read_stream(server, tenant_a.api_key, "subscription { auditEventLogged { nope } }", 2)
    assert [kind for kind, _ in found] == ["next", "complete"]
    assert found[0][1]["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_server_sent_events_need_a_credential(server: LiveServer, tenant_a: TestTenant) -> None:
    """A wrong key is refused with 401 and plain JSON, before any stream."""
    headers = {"authorization": "Bearer kst_wrong", "accept": "text/event-stream"}
    query = {"query": "subscription { auditEventLogged { id } }"}
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        refused = await http.post(server.graphql_url, json=query, headers=headers)
        plain = await http.post(server.graphql_url, json=query, headers={"authorization": f"Bearer {tenant_a.api_key}"})
    assert refused.status_code == 401
    assert refused.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert plain.status_code == 405
    assert "text/event-stream" in plain.json()["errors"][0]["message"]


# ---------------------------------------------------------------- servers of their own


async def test_without_a_sealer_one_is_told_so(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Nothing would ever come: that is said soon, with the remedy."""
    settings = await fresh_database(postgres)
    tenant = await new_tenant(settings)
    with live_server(settings, tmp_path) as server:
        async with following(server, tenant.api_key) as follower:
            answer = await follower.message()
            assert answer["payload"][0]["extensions"]["code"] == "UNAVAILABLE"
            assert "konstruct seal" in answer["payload"][0]["message"]


def active(server: LiveServer) -> float:
    """Return how many subscriptions the server counts."""
    text = httpx.get(f"{server.base_url}/metrics", timeout=PATIENCE_SECONDS).text
    [line] = [line for line in text.splitlines() if line.startswith("konstruct_subscriptions_active ")]
    return float(line.split()[1])


async def test_abandoned_subscriptions_leave_nothing_behind(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """After a TCP reset of all of them no follower is left, and the one listening connection is."""
    settings = await fresh_database(postgres, sealed=True)
    tenant = await new_tenant(settings)
    with live_server(settings, tmp_path) as server:
        client = GraphQLClient(server.graphql_url, tenant.api_key)
        await log(client)
        await sealed(settings, tenant, 1)
        for _ in range(3):
            followers: list[Follower] = []
            contexts = [following(server, tenant.api_key, after=-1) for _ in range(25)]
            followers = [await context.__aenter__() for context in contexts]
            await asyncio.gather(*(follower.event() for follower in followers))
            assert active(server) == 25
            for follower in followers:
                raw = follower.socket.transport.get_extra_info("socket")
                raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
                follower.socket.transport.abort()

            async def is_over() -> bool:
                return active(server) == 0

            assert await wait_until(is_over, seconds=PATIENCE_SECONDS)
        async with connect(settings.database.owner_database_url) as owner:
            listening = await owner.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'konstruct live trail'"
            )
        assert listening == 1
        async with following(server, tenant.api_key, after=-1) as follower:
            assert (await follower.event())["sequence"] == "0"
        await client.http.aclose()


async def follow_with_breaks(
    server: LiveServer, api_key: str, total: int, chance: random.Random
) -> list[tuple[int, str]]:
    """Follow until all is seen, dropping the connection now and then."""
    seen: list[tuple[int, str]] = []
    while len(seen) < total:
        patience = chance.randrange(1, max(2, total // 3))
        async with following(server, api_key, after=seen[-1][0] if seen else -1) as follower:
            for _ in range(min(patience, total - len(seen))):
                event = await follower.event(60)
                seen.append((int(event["sequence"]), event["id"]))
            if chance.random() < 0.5:
                follower.socket.transport.abort()
    return seen


async def run_storm(settings: Settings, server: LiveServer, *, followers: int, writers: int, events: int) -> None:
    """Write and follow at once; every follower must have seen exactly what was committed, each once, in order."""
    tenant = await new_tenant(settings)
    chance = random.Random(7)

    async def write(number: int) -> list[str]:
        client = GraphQLClient(server.graphql_url, tenant.api_key)
        ids: list[str] = []
        while len(ids) < events // writers:
            size = min(chance.choice([1, 1, 5, 40]), events // writers - len(ids))
            batch = [{"toolCall": {"toolName": f"w{number}"}}] * size
            data = await client.data(LOG_MANY, {"input": {"events": batch}})
            ids += [result["event"]["id"] for result in data["logEvents"]["results"]]
        await client.http.aclose()
        return ids

    following_all = [
        asyncio.create_task(follow_with_breaks(server, tenant.api_key, events, random.Random(number)))
        for number in range(followers)
    ]
    written = await asyncio.gather(*(write(number) for number in range(writers)))
    committed = {event for ids in written for event in ids}
    assert len(committed) == events
    for seen in await asyncio.gather(*following_all):
        assert [sequence for sequence, _ in seen] == list(range(events))
        assert {event for _, event in seen} == committed


async def test_followers_that_come_and_go_miss_nothing(settings: Settings, server: LiveServer) -> None:
    """Writers and followers at once, connections dropped at random (the same at full size is in CONTRIBUTING)."""
    await run_storm(settings, server, followers=8, writers=4, events=1200)
