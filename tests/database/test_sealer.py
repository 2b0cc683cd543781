"""The sealer: every committed event gets one place, in dense numbers, whenever its transaction commits."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.database.direct import connect_directly
from app.database.embedded import EmbeddedPostgres
from app.database.urls import parse_database_url
from app.integrity import sealer
from app.integrity.leaf import leaf_hash
from app.integrity.sealer import Sealer, seal_step
from app.settings import Settings
from tests.database.rows import INSUFFICIENT_PRIVILEGE, insert_event, sqlstate_of, superuser_url
from tests.support.database import TestTenant, connect, fresh_database, new_tenant, wait_until
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture(scope="module")
async def own_settings(postgres: EmbeddedPostgres) -> Settings:
    """A database on which nobody seals but the tests."""
    return await fresh_database(postgres, sealed=True)


@pytest.fixture
async def tenant(own_settings: Settings) -> TestTenant:
    """A tenant without events."""
    return await new_tenant(own_settings)


@pytest.fixture
async def sealing(own_settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the sealer's role, with everything sealed so far."""
    url = parse_database_url(own_settings.database.sealer_database_url, "")
    connection = await connect_directly(url, "test")
    while await seal_step(connection):
        pass
    yield connection
    await connection.close()


@asynccontextmanager
async def writing(settings: Settings, tenant: TestTenant) -> AsyncIterator[asyncpg.Connection]:
    """A transaction of the runtime role, open until the block commits it (or rolled back at its end)."""
    assert settings.database.database_url is not None
    connection = await asyncpg.connect(settings.database.database_url.get_secret_value())
    await connection.execute(f"BEGIN; SELECT set_tenant('{tenant.id}')")
    try:
        yield connection
    finally:
        await connection.close()


async def leaves(settings: Settings, tenant: TestTenant) -> list[tuple[int, UUID]]:
    """Return the tenant's log as its own session reads it, its noted size checked in the same snapshot."""
    async with connect(settings.database.database_url, tenant.id) as connection:
        rows = await connection.fetch(
            "SELECT size, sequence, event_id FROM audit_log_states FULL JOIN audit_log_leaves USING (tenant_id)"
            " ORDER BY sequence"
        )
    assert [row["size"] for row in rows] == [len(rows)] * len(rows)
    return [(row["sequence"], row["event_id"]) for row in rows]


async def test_late_commit_is_sealed_behind_what_overtook_it(
    own_settings: Settings, tenant: TestTenant, sealing: asyncpg.Connection
) -> None:
    """A transaction that began first and commits last is neither waited for nor forgotten."""
    async with writing(own_settings, tenant) as slow, writing(own_settings, tenant) as quick:
        first = await insert_event(slow, tenant.id)
        second = await insert_event(quick, tenant.id)
        await quick.execute("COMMIT")
        assert await seal_step(sealing) == 1
        assert await leaves(own_settings, tenant) == [(0, second)]
        assert await seal_step(sealing) == 0
        third = await insert_event(slow, tenant.id)
        await slow.execute("COMMIT")
        assert await seal_step(sealing) == 2
        assert await leaves(own_settings, tenant) == [(0, second), (1, first), (2, third)]
        assert await seal_step(sealing) == 0


async def test_rolled_back_transaction_leaves_no_gap(
    own_settings: Settings, tenant: TestTenant, sealing: asyncpg.Connection
) -> None:
    """Numbers are dense, whatever was tried in between."""
    known = []
    for outcome in ("COMMIT", "ROLLBACK", "COMMIT"):
        async with writing(own_settings, tenant) as connection:
            event = await insert_event(connection, tenant.id)
            await seal_step(sealing)
            await connection.execute(outcome)
        known += [event] if outcome == "COMMIT" else []
    await seal_step(sealing)
    assert await leaves(own_settings, tenant) == list(enumerate(known))


async def test_leaf_is_the_hash_of_the_stored_event(
    own_settings: Settings, tenant: TestTenant, sealing: asyncpg.Connection
) -> None:
    """It can be reckoned again from the event's columns."""
    async with connect(own_settings.database.database_url) as app, app.transaction():
        await app.execute("SELECT set_tenant($1)", tenant.id)
        await app.execute(
            "INSERT INTO audit_events (tenant_id, id, action_type, status, submitted_by, metadata, cost_usd,"
            " content_salt, input_summary, occurred_at) VALUES ($1, $2, 'llm_call', 'failed', 'bot',"
            ' \'{"n": 12345678901234567890}\', 0.1250, $3, \'naïve\', now())',
            tenant.id, uuid4(), bytes(range(32)),
        )  # fmt: skip
    await seal_step(sealing)
    async with connect(own_settings.database.database_url, tenant.id) as app:
        event = await app.fetchrow("SELECT *, metadata::text AS metadata FROM audit_events")
        stored = await app.fetchval("SELECT leaf_hash FROM audit_log_leaves")
    assert event is not None
    assert stored == leaf_hash(dict(event))


@pytest.mark.parametrize("seed", range(4))
async def test_any_interleaving_is_sealed_once_and_whole(
    own_settings: Settings, sealing: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Writers of any speed beside a sealer with small steps: each committed event has exactly one place."""
    _with_steps_of(monkeypatch, 7)
    chance = random.Random(seed)
    tenants = [await new_tenant(own_settings) for _ in range(3)]
    committed: dict[UUID, set[UUID]] = {tenant.id: set() for tenant in tenants}

    async def write(delays: random.Random) -> None:
        for _ in range(12):
            tenant = delays.choice(tenants)
            async with writing(own_settings, tenant) as connection:
                events = set()
                for _ in range(delays.choice([1, 1, 2, 30])):
                    events.add(await insert_event(connection, tenant.id))
                    await asyncio.sleep(delays.choice([0, 0, 0.002]))
                await asyncio.sleep(delays.choice([0, 0, 0.01, 0.1]))
                if delays.random() < 0.8:
                    await connection.execute("COMMIT")
                    committed[tenant.id] |= events

    writers = [asyncio.create_task(write(random.Random(chance.random()))) for _ in range(6)]
    while not all(writer.done() for writer in writers):
        await seal_step(sealing)
        await asyncio.sleep(chance.choice([0, 0.001, 0.02]))
    await asyncio.gather(*writers)
    while await seal_step(sealing):
        pass
    for tenant in tenants:
        log = await leaves(own_settings, tenant)
        assert [sequence for sequence, _ in log] == list(range(len(log)))
        assert {event for _, event in log} == committed[tenant.id]
        assert len(log) == len(committed[tenant.id])


def _with_steps_of(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(sealer, "_BATCH", most)
    for name in ("_NEW", "_OF_PENDING"):
        monkeypatch.setattr(sealer, name, getattr(sealer, name).replace("LIMIT 5000", f"LIMIT {most}"))


async def test_large_transactions_are_sealed_in_steps(
    own_settings: Settings, tenant: TestTenant, sealing: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction with more events than a step takes goes on where the last step ended; a late one at once."""
    _with_steps_of(monkeypatch, 10)
    async with writing(own_settings, tenant) as late, writing(own_settings, tenant) as early:
        for _ in range(25):
            await insert_event(late, tenant.id)
            await insert_event(early, tenant.id)
        await early.execute("COMMIT")
        assert [await seal_step(sealing) for _ in range(4)] == [10, 10, 5, 0]
        await late.execute("COMMIT")
        assert [await seal_step(sealing) for _ in range(2)] == [25, 0]
    log = await leaves(own_settings, tenant)
    assert [sequence for sequence, _ in log] == list(range(50))


@pytest.mark.parametrize("change", ["next_xid = '9000000000000000000'", "system_identifier = 1"])
async def test_another_cluster_is_swept_from_the_beginning(
    own_settings: Settings, postgres: EmbeddedPostgres, tenant: TestTenant, sealing: asyncpg.Connection, change: str
) -> None:
    """After a restore the noted transactions mean nothing: all events are looked at, and none is sealed twice."""
    async with connect(own_settings.database.database_url) as app, app.transaction():
        await app.execute("SELECT set_tenant($1)", tenant.id)
        before = await insert_event(app, tenant.id)
    await seal_step(sealing)
    async with connect(superuser_url(postgres, own_settings)) as superuser:
        await superuser.execute(f"UPDATE audit_log_cursor SET {change}")
    async with connect(own_settings.database.database_url) as app, app.transaction():
        await app.execute("SELECT set_tenant($1)", tenant.id)
        after = await insert_event(app, tenant.id)
    assert await seal_step(sealing) == 1
    assert await leaves(own_settings, tenant) == [(0, before), (1, after)]
    assert await seal_step(sealing) == 0


async def test_an_hour_later_all_events_are_looked_at_again(
    own_settings: Settings, postgres: EmbeddedPostgres, tenant: TestTenant, sealing: asyncpg.Connection
) -> None:
    """An event that was overlooked, for whatever reason, is sealed by the sweep."""
    async with connect(own_settings.database.database_url) as app, app.transaction():
        await app.execute("SELECT set_tenant($1)", tenant.id)
        event = await insert_event(app, tenant.id)
    async with connect(superuser_url(postgres, own_settings)) as superuser:
        await superuser.execute("UPDATE audit_log_cursor SET next_xid = pg_snapshot_xmax(pg_current_snapshot())")
        assert await seal_step(sealing) == 0
        await superuser.execute("UPDATE audit_log_cursor SET swept_at = now() - interval '61 minutes'")
    assert await seal_step(sealing) == 1
    assert await leaves(own_settings, tenant) == [(0, event)]


async def test_a_step_reads_what_is_new_in_order_and_sorts_nothing(own_settings: Settings) -> None:
    """However large the trail is, a step costs what it seals: an index gives events in the order of sealing."""
    assert own_settings.database.sealer_database_url is not None
    connection = await Sealer(own_settings.database.sealer_database_url)._connect()
    # As on a large trail, where nothing else would pay.
    await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sealer._NEW}", 5, uuid4()))
    await connection.close()
    assert "Sort  (" not in plan
    assert "xid_id_idx" in plan
    assert "audit_log_leaves_event_key" in plan


async def test_only_one_sealer_works_at_a_time(
    own_settings: Settings, tenant: TestTenant, sealing: asyncpg.Connection
) -> None:
    """While a sealer is in the middle of a step another one leaves at once."""
    url = parse_database_url(own_settings.database.sealer_database_url, "")
    other = await connect_directly(url, "test")
    try:
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock($1)", sealer._LOCK)
            assert await seal_step(sealing) is None
        assert await seal_step(sealing) == 0
    finally:
        await other.close()


async def test_sealer_goes_on_after_a_lost_connection(
    own_settings: Settings, postgres: EmbeddedPostgres, tenant: TestTenant
) -> None:
    """It connects again by itself, and seals what came meanwhile."""
    assert own_settings.database.sealer_database_url is not None
    running = asyncio.create_task(Sealer(own_settings.database.sealer_database_url).run())

    async def is_sealed(number: int) -> bool:
        return len(await leaves(own_settings, tenant)) == number

    try:
        for number in (1, 2):
            async with connect(own_settings.database.database_url) as app, app.transaction():
                await app.execute("SELECT set_tenant($1)", tenant.id)
                await insert_event(app, tenant.id)
            assert await wait_until(lambda number=number: is_sealed(number), seconds=PATIENCE_SECONDS)
            async with connect(superuser_url(postgres, own_settings)) as superuser:
                await superuser.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'konstruct sealer' AND datname = current_database()"
                )
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# ---------------------------------------------------------------- who may do what


async def test_the_log_is_insert_only_and_written_by_the_sealer_alone(
    own_settings: Settings, postgres: EmbeddedPostgres, tenant: TestTenant, sealing: asyncpg.Connection
) -> None:
    """The server's role writes nothing of it; nobody changes a leaf, not even a superuser."""
    async with connect(own_settings.database.database_url) as app, app.transaction():
        await app.execute("SELECT set_tenant($1)", tenant.id)
        await insert_event(app, tenant.id)
    await seal_step(sealing)
    insert = (
        "INSERT INTO audit_log_leaves SELECT tenant_id, sequence + 1, gen_random_uuid(), event_created_at, leaf_hash"
        " FROM audit_log_leaves"
    )
    changes = [
        "UPDATE audit_log_leaves SET sequence = sequence + 1",
        "DELETE FROM audit_log_leaves",
        "TRUNCATE audit_log_leaves",
    ]
    async with connect(own_settings.database.database_url, tenant.id) as app:
        for statement in (
            insert, *changes, "UPDATE audit_log_states SET size = 0", "DELETE FROM audit_log_states",
            "UPDATE audit_log_cursor SET next_id = next_id", "SELECT next_xid FROM audit_log_cursor",
        ):  # fmt: skip
            assert await sqlstate_of(app, statement) == INSUFFICIENT_PRIVILEGE, statement
    for url in (own_settings.database.sealer_database_url, superuser_url(postgres, own_settings)):
        async with connect(url) as connection:
            for statement in changes:
                assert await sqlstate_of(connection, statement) == INSUFFICIENT_PRIVILEGE, statement


async def test_sealer_may_do_nothing_else(sealing: asyncpg.Connection) -> None:
    """It reads events and writes the log: no event, key, tenant or document."""
    insert = "INSERT INTO audit_events (tenant_id, id, action_type, status, submitted_by)"
    for statement in (
        f"{insert} VALUES (gen_random_uuid(), gen_random_uuid(), 'llm_call', 'failed', 'x')",
        "UPDATE audit_events SET error = ''",
        "DELETE FROM audit_events",
        "DELETE FROM audit_log_states",
        "DELETE FROM audit_log_cursor",
        *(f"SELECT 1 FROM {name}" for name in ("api_keys", "tenants", "kb_documents", "kb_chunks")),
        "SELECT 1 FROM audit_idempotency_keys",
    ):
        assert await sqlstate_of(sealing, statement) == INSUFFICIENT_PRIVILEGE, statement


async def test_each_tenant_reads_its_own_log(
    own_settings: Settings, sealing: asyncpg.Connection, tenant: TestTenant
) -> None:
    """Row level security holds on the log as it does on the trail."""
    other = await new_tenant(own_settings)
    found: dict[UUID, Any] = {}
    for owner in (tenant, other):
        async with connect(own_settings.database.database_url) as app, app.transaction():
            await app.execute("SELECT set_tenant($1)", owner.id)
            found[owner.id] = await insert_event(app, owner.id)
    await seal_step(sealing)
    for owner in (tenant, other):
        assert await leaves(own_settings, owner) == [(0, found[owner.id])]
    async with connect(own_settings.database.database_url) as app:
        assert await app.fetchval("SELECT count(*) FROM audit_log_leaves") == 0
        assert await app.fetchval("SELECT count(*) FROM audit_log_states") == 0
