"""Group commit: events of concurrent callers share transactions, and nothing else."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from asyncpg import PostgresError
from sqlalchemy import text

from app.audit import AuditLogger, LlmCall
from app.audit.append import append_events
from app.audit.recording import LogOutcome, LogResult, PreparedEvent
from app.audit.writer import EventWriter
from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.database.session import TenantSession
from app.database.statements import Statement
from app.errors import CommitUnknown, IdempotencyConflict, Timeout, Unavailable
from app.settings import Limits, Settings
from app.validation import JsonText
from tests.support.database import TestTenant, connect, hear_farewell, new_tenant, stored_events
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no transaction count as slow, where a test does not say so, because the machine stalls."""
    monkeypatch.setattr("app.audit.writer._PATIENCE_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[EventWriter]:
    """A writer of its own."""
    made = EventWriter(database, queued_events=1000, events_per_transaction=1000)
    yield made
    await made.close()


def logger_of(database: Database, tenant: TestTenant, writer: EventWriter) -> AuditLogger:
    """Return a logger that writes in groups."""
    return AuditLogger(database, tenant.principal, Limits(), writer)


def prepared(name: str, key: str | None = None, latency_ms: int | None = None) -> PreparedEvent:
    """Return an event ready to be written; a latency below zero is refused by PostgreSQL itself."""
    call = LlmCall(model=name, idempotency_key=key)
    object.__setattr__(call, "latency_ms", latency_ms)
    return PreparedEvent.from_value(call, None, JsonText("{}"), "test")


async def names_stored(tenant: TestTenant) -> list[str]:
    """Return the models of all stored events, sorted."""
    return sorted(row["action_name"] for row in await stored_events(tenant.settings, tenant.id))


async def test_concurrent_events_share_transactions(
    database: Database, tenant_a: TestTenant, writer: EventWriter
) -> None:
    """A hundred callers at once are written in a few transactions, and each gets the result of its own event."""
    logger = logger_of(database, tenant_a, writer)
    results = await asyncio.gather(*(logger.log_llm_call(LlmCall(model=f"m{n:03}")) for n in range(100)))
    assert [result.outcome for result in results] == [LogOutcome.RECORDED] * 100
    assert [result.event and result.event.action_name for result in results] == [f"m{n:03}" for n in range(100)]
    rows = await stored_events(tenant_a.settings, tenant_a.id)
    assert {row["id"] for row in rows} == {result.event.id for result in results if result.event}
    by_id = {row["id"]: row for row in rows}
    assert all(result.event and result.event.created_at == by_id[result.event.id]["created_at"] for result in results)
    assert len({row["xid"] for row in rows}) <= 10
    assert len({row["content_salt"] for row in rows}) == 100
    assert writer.queued == 0


async def test_a_lone_event_waits_for_nobody(database: Database, tenant_a: TestTenant, writer: EventWriter) -> None:
    """One event after the other: each has a transaction of its own."""
    logger = logger_of(database, tenant_a, writer)
    for name in ("a", "b"):
        assert (await logger.log_llm_call(LlmCall(model=name))).outcome is LogOutcome.RECORDED
    assert len({row["xid"] for row in await stored_events(tenant_a.settings, tenant_a.id)}) == 2


async def test_tenants_never_share_a_transaction(
    database: Database, tenant_a: TestTenant, tenant_b: TestTenant, writer: EventWriter
) -> None:
    """Events of two tenants, sent in turn, go to their own trails in transactions of their own."""
    loggers = [logger_of(database, tenant, writer) for tenant in (tenant_a, tenant_b)]
    await asyncio.gather(*(loggers[n % 2].log_llm_call(LlmCall(model="ab"[n % 2])) for n in range(40)))
    rows = [await stored_events(tenant.settings, tenant.id) for tenant in (tenant_a, tenant_b)]
    assert [{row["action_name"] for row in own} for own in rows] == [{"a"}, {"b"}]
    assert [len(own) for own in rows] == [20, 20]
    assert not {row["xid"] for row in rows[0]} & {row["xid"] for row in rows[1]}


async def test_bad_event_fails_alone(database: Database, tenant_a: TestTenant, writer: EventWriter) -> None:
    """An event that PostgreSQL refuses raises for its caller only; the others of its group are stored once."""
    events = [[prepared(f"good{n}")] for n in range(8)]
    events.insert(4, [prepared("bad", latency_ms=-1)])
    results = await asyncio.gather(*(writer.write(tenant_a.id, own) for own in events), return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [n == 4 for n in range(9)]
    assert await names_stored(tenant_a) == sorted(f"good{n}" for n in range(8))


async def test_one_key_in_one_group(database: Database, tenant_a: TestTenant, writer: EventWriter) -> None:
    """Of simultaneous events with one key one is recorded; the same body is its duplicate, another is a conflict."""
    logger = logger_of(database, tenant_a, writer)
    calls = [LlmCall(model=name, idempotency_key="k") for name in ("same", "same", "same", "other")]
    results = await asyncio.gather(*(logger.log_llm_call(call) for call in calls))
    outcomes = sorted(result.outcome for result in results)
    assert outcomes == [LogOutcome.DUPLICATE, LogOutcome.DUPLICATE, LogOutcome.RECORDED, LogOutcome.REJECTED]
    assert isinstance(results[3].mistake, IdempotencyConflict)
    assert len({result.event.id for result in results if result.event}) == 1
    assert await names_stored(tenant_a) == ["same"]


async def test_full_queue_refuses_and_loses_nothing(database: Database, tenant_a: TestTenant) -> None:
    """Beyond the bound an event is refused as UNAVAILABLE; those that were let in are all stored, and only those."""
    writer = EventWriter(database, queued_events=10, events_per_transaction=1000)
    results = await asyncio.gather(
        *(writer.write(tenant_a.id, [prepared(f"m{n:02}")]) for n in range(15)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert len(refused) == 5
    assert "too many events are waiting" in refused[0].message
    assert await names_stored(tenant_a) == [f"m{n:02}" for n in range(10)]
    assert (await writer.write(tenant_a.id, [prepared("later")]))[0].outcome is LogOutcome.RECORDED
    await writer.close()


async def test_closing_waits_for_what_is_queued(database: Database, tenant_a: TestTenant) -> None:
    """Events taken before the end are stored and answered; later ones are refused."""
    writer = EventWriter(database, queued_events=1000, events_per_transaction=2)
    waiting = [asyncio.create_task(writer.write(tenant_a.id, [prepared(f"m{n}")])) for n in range(9)]
    await asyncio.sleep(0)
    await writer.close(10)
    assert [(await task)[0].outcome for task in waiting] == [LogOutcome.RECORDED] * 9
    with pytest.raises(Unavailable, match="stopping"):
        await writer.write(tenant_a.id, [prepared("late")])
    assert await names_stored(tenant_a) == [f"m{n}" for n in range(9)]


async def test_caller_that_goes_away_takes_nothing_back(
    database: Database, tenant_a: TestTenant, writer: EventWriter
) -> None:
    """A cancelled caller neither undoes its own event nor disturbs the others of the group."""
    tasks = [asyncio.create_task(writer.write(tenant_a.id, [prepared(f"m{n}")])) for n in range(6)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [list, list, list, asyncio.CancelledError, list, list]
    await writer.close(10)
    assert await names_stored(tenant_a) == [f"m{n}" for n in range(6)]


async def test_connection_lost_before_the_commit_is_made_good(
    database: Database, tenant_a: TestTenant, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend dies after the rows were sent: nothing was stored, and all is written again, once."""
    killed: list[int] = []

    async def append_and_die(session: TenantSession, events: Any) -> list[LogResult]:
        results = await append_events(session, events)
        if not killed:
            killed.append((await session.execute(_PID)).scalar_one())
            gone = asyncio.Event()
            session._driver.add_termination_listener(lambda _: gone.set())
            await _kill(tenant_a, killed[0])
            await gone.wait()
        return results

    monkeypatch.setattr("app.audit.writer.append_events", append_and_die)
    results = await asyncio.gather(*(writer.write(tenant_a.id, [prepared(f"m{n}")]) for n in range(5)))
    assert [own[0].outcome for own in results] == [LogOutcome.RECORDED] * 5
    assert killed
    assert await names_stored(tenant_a) == [f"m{n}" for n in range(5)]


@pytest.mark.parametrize("others", [0, 1])
async def test_farewell_read_before_the_commit_is_made_good(
    database: Database, tenant_a: TestTenant, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """The server's last words are read, the end of the connection is not: nothing was sent, all is written again."""
    writer = EventWriter(database, queued_events=1000, events_per_transaction=1)
    told: list[bool] = []

    async def append_and_hear(session: TenantSession, events: Any) -> list[LogResult]:
        results = await append_events(session, events)
        if not told:
            told.append(True)
            hear_farewell(session._driver)
        return results

    monkeypatch.setattr("app.audit.writer.append_events", append_and_hear)
    # With others waiting the commit is part of a longer message.
    results = await asyncio.gather(*(writer.write(tenant_a.id, [prepared(f"m{n}")]) for n in range(1 + others)))
    assert [own[0].outcome for own in results] == [LogOutcome.RECORDED] * (1 + others)
    assert await names_stored(tenant_a) == [f"m{n}" for n in range(1 + others)]
    await writer.close()


async def test_only_keyed_events_are_repeated_after_a_doubtful_commit(
    database: Database, tenant_a: TestTenant, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit went through but its answer was lost: keyed events turn out to be stored, the others are in doubt."""
    commit = TenantSession._commit
    lost: list[bool] = []

    async def commit_and_lose(session: TenantSession) -> None:
        await commit(session)
        if not lost:
            lost.append(True)
            raise CommitUnknown("lost")

    monkeypatch.setattr(TenantSession, "_commit", commit_and_lose)
    first = asyncio.create_task(writer.write(tenant_a.id, [prepared("keyed", key="k")]))
    assert (await first)[0].outcome is LogOutcome.DUPLICATE
    lost.clear()
    with pytest.raises(CommitUnknown):
        await writer.write(tenant_a.id, [prepared("bare")])
    assert await names_stored(tenant_a) == ["bare", "keyed"]


async def test_what_waits_is_written_by_the_next_transaction_of_the_session(
    database: Database, tenant_a: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each group has a transaction of its own, and is told of it when others can see what it wrote."""
    writer = EventWriter(database, queued_events=1000, events_per_transaction=1)
    begun = _count(monkeypatch, "commit_and_go_on")
    ended = _count(monkeypatch, "_commit")

    async def write(name: str) -> None:
        await writer.write(tenant_a.id, [prepared(name)])
        assert name in await names_stored(tenant_a)

    await asyncio.gather(*(write(f"m{n}") for n in range(8)))
    assert len({row["xid"] for row in await stored_events(tenant_a.settings, tenant_a.id)}) == 8
    assert begun
    assert len(ended) <= 2
    # One that goes on may find that the other has taken what waited.
    assert 8 <= len(begun) + len(ended) <= 9
    assert writer.queued == 0


async def test_tenants_take_turns(
    database: Database, tenant_a: TestTenant, tenant_b: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of one tenant does not go on while another tenant's events wait for its place."""
    monkeypatch.setattr("app.audit.writer._TRANSACTIONS", 1)
    writer = EventWriter(database, queued_events=1000, events_per_transaction=1)
    told: list[str] = []

    async def write(tenant: TestTenant, name: str) -> None:
        await writer.write(tenant.id, [prepared(name)])
        told.append(name)

    await asyncio.gather(
        *(write(tenant_a, f"a{n}") for n in range(4)),
        *(write(tenant_b, f"b{n}") for n in range(4)),
    )
    # The first began before there was anybody else.
    assert told == ["a0", "a1", "b0", "a2", "b1", "a3", "b2", "b3"]


async def test_a_bad_event_in_a_later_group_fails_alone(database: Database, tenant_a: TestTenant) -> None:
    """What was committed before it in the same session stays, and what comes after it is written."""
    writer = EventWriter(database, queued_events=1000, events_per_transaction=2)
    events = [prepared(f"m{n}", latency_ms=-1 if n == 5 else 1) for n in range(10)]
    results = await asyncio.gather(*(writer.write(tenant_a.id, [event]) for event in events), return_exceptions=True)
    assert [isinstance(result, list) for result in results] == [n != 5 for n in range(10)]
    assert await names_stored(tenant_a) == [f"m{n}" for n in range(10) if n != 5]
    assert writer.queued == 0


async def test_doubtful_commit_between_two_groups(
    database: Database, tenant_a: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit went through and the rest was lost: only keyed events are repeated, and the next group is written."""
    writer = EventWriter(database, queued_events=1000, events_per_transaction=2)
    go_on = TenantSession.commit_and_go_on
    lost: list[bool] = []

    async def go_on_and_lose(session: TenantSession) -> None:
        await go_on(session)
        if not lost:
            lost.append(True)
            raise CommitUnknown("lost")

    monkeypatch.setattr(TenantSession, "commit_and_go_on", go_on_and_lose)
    monkeypatch.setattr("app.audit.writer._TRANSACTIONS", 1)
    results = await asyncio.gather(
        writer.write(tenant_a.id, [prepared("lone")]),
        writer.write(tenant_a.id, [prepared("keyed", key="k")]),
        writer.write(tenant_a.id, [prepared("bare")]),
        return_exceptions=True,
    )
    assert lost
    # The first group is the first event alone: nobody else was there yet.
    assert isinstance(results[0], CommitUnknown)
    assert [isinstance(result, list) and result[0].outcome for result in results[1:]] == [LogOutcome.RECORDED] * 2
    assert await names_stored(tenant_a) == ["bare", "keyed", "lone"]


@pytest.mark.parametrize("message", ["COMMIT", "SELECT; COMMIT"])
async def test_connection_lost_while_a_commit_is_answered(
    database: Database,
    tenant_a: TestTenant,
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
) -> None:
    """The server has committed and is gone before its answer: the events are in doubt, and none is stored twice."""
    execute = asyncpg.Connection.execute
    lost: list[str] = []

    async def execute_and_lose(connection: Any, query: str, *arguments: Any, **options: Any) -> str:
        result = await execute(connection, query, *arguments, **options)
        if query.startswith(message) and not lost:
            lost.append(query)
            gone = asyncio.Event()
            connection.add_termination_listener(lambda _: gone.set())
            superuser = await asyncpg.connect(postgres.superuser_url.get_secret_value())
            await superuser.fetch("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            await superuser.close()
            await gone.wait()
            # Without the answer the driver believes that it still is in the transaction.
            monkeypatch.setattr(asyncpg.Connection, "is_in_transaction", lambda self: self is connection)
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return result

    monkeypatch.setattr(asyncpg.Connection, "execute", execute_and_lose)
    writer = EventWriter(database, queued_events=1000, events_per_transaction=1)
    results = await asyncio.gather(
        *(writer.write(tenant_a.id, [prepared(f"m{n}")]) for n in range(3)), return_exceptions=True
    )
    assert lost
    assert sorted(type(result).__name__ for result in results) == ["CommitUnknown", "list", "list"]
    assert await names_stored(tenant_a) == ["m0", "m1", "m2"]


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.exceptions.AdminShutdownError("terminating connection due to administrator command"),
        TimeoutError(),
        asyncpg.InternalClientError("unknown error in protocol implementation"),
    ],
)
async def test_a_commit_that_fails_without_a_refusal_is_in_doubt(
    database: Database, tenant_a: TestTenant, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It is stored, whatever the driver says, and though the connection lives on: nothing is written again."""
    execute = asyncpg.Connection.execute

    async def execute_and_fail(connection: Any, query: str, *arguments: Any, **options: Any) -> str:
        result = await execute(connection, query, *arguments, **options)
        if query == "COMMIT":
            raise error
        return result

    monkeypatch.setattr(asyncpg.Connection, "execute", execute_and_fail)
    writer = EventWriter(database, queued_events=1000, events_per_transaction=2)
    writing = (writer.write(tenant_a.id, [prepared(f"m{n}")]) for n in range(2))
    results = await asyncio.gather(*writing, return_exceptions=True)
    # The first began alone, and the other one's commit is the last.
    assert [type(result) for result in results] == [list, CommitUnknown]
    assert await names_stored(tenant_a) == ["m0", "m1"]


async def test_doubt_outlives_the_second_try(
    database: Database, tenant_a: TestTenant, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keyed event whose commit is unknown, and whose repetition fails, is in doubt: not said to be refused."""
    commit = TenantSession._commit

    async def commit_and_lose(session: TenantSession) -> None:
        await commit(session)
        raise CommitUnknown("lost")

    async def append_once(session: TenantSession, events: Any) -> list[LogResult]:
        monkeypatch.setattr("app.audit.writer.append_events", refuse)
        return await append_events(session, events)

    async def refuse(_session: TenantSession, _events: Any) -> list[LogResult]:
        raise Timeout("too slow")

    monkeypatch.setattr(TenantSession, "_commit", commit_and_lose)
    monkeypatch.setattr("app.audit.writer.append_events", append_once)
    with pytest.raises(CommitUnknown):
        await writer.write(tenant_a.id, [prepared("m", key="k")])
    assert await names_stored(tenant_a) == ["m"]


async def test_going_on_after_a_failed_statement_is_refused(database: Database, tenant_a: TestTenant) -> None:
    """COMMIT would answer with a ROLLBACK, unnoticed in a message of several statements."""

    async def fail_and_go_on() -> None:
        async with database.tenant_session(tenant_a.id) as session:
            await append_events(session, [prepared("m")])
            with suppress(PostgresError):
                await session.fetch(Statement("SELECT 1 / 0", (), {}), {})
            await session.commit_and_go_on()

    with pytest.raises(CommitUnknown):
        await fail_and_go_on()
    assert await names_stored(tenant_a) == []


def _count(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Count the calls of a session's method."""
    calls: list[str] = []
    method = getattr(TenantSession, name)

    async def counted(session: TenantSession) -> None:
        calls.append(name)
        await method(session)

    monkeypatch.setattr(TenantSession, name, counted)
    return calls


async def test_refusals_that_concern_all_are_told_to_all(
    database: Database, tenant_a: TestTenant, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time-out of the group is every caller's, and nothing is tried again."""
    tries: list[int] = []

    async def too_slow(_session: TenantSession, events: Any) -> list[LogResult]:
        tries.append(len(events))
        raise Timeout("too slow")

    monkeypatch.setattr("app.audit.writer.append_events", too_slow)
    results = await asyncio.gather(
        *(writer.write(tenant_a.id, [prepared("m")]) for _ in range(6)), return_exceptions=True
    )
    assert [type(result) for result in results] == [Timeout] * 6
    assert sum(tries) == 6


async def test_a_slow_transaction_does_not_hold_up_the_tenant(
    database: Database, tenant_a: TestTenant, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes while one takes long, as behind a lock, is written by a second one after a moment."""
    monkeypatch.setattr("app.audit.writer._PATIENCE_SECONDS", 0.05)
    free = asyncio.Event()

    async def slow_at_first(session: TenantSession, events: Any) -> list[LogResult]:
        results = await append_events(session, events)
        if results[0].event is not None and results[0].event.action_name == "slow":
            await free.wait()
        return results

    monkeypatch.setattr("app.audit.writer.append_events", slow_at_first)
    slow = asyncio.create_task(writer.write(tenant_a.id, [prepared("slow")]))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(writer.write(tenant_a.id, [prepared(f"m{n}")]) for n in range(3)))
        await writer.write(tenant_a.id, [prepared("m3")])
    assert not slow.done()
    assert await names_stored(tenant_a) == ["m0", "m1", "m2", "m3"]
    free.set()
    await slow
    assert writer.queued == 0


async def test_slow_tenants_leave_a_place_for_others(
    settings: Settings,
    database: Database,
    tenant_a: TestTenant,
    tenant_b: TestTenant,
    writer: EventWriter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two tenants whose transactions hang, all that they may have, do not keep a third from writing."""
    monkeypatch.setattr("app.audit.writer._PATIENCE_SECONDS", 0.02)
    third = await new_tenant(settings)
    free = asyncio.Event()

    async def slow_but_for_one(session: TenantSession, events: Any) -> list[LogResult]:
        if session.tenant_id != third.id:
            await free.wait()
        return await append_events(session, events)

    monkeypatch.setattr("app.audit.writer.append_events", slow_but_for_one)
    slow = []
    for tenant in (tenant_a, tenant_b):
        for _ in range(4):
            slow.append(asyncio.create_task(writer.write(tenant.id, [prepared("slow")])))
            await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await writer.write(third.id, [prepared("m")])
    assert not any(task.done() for task in slow)
    free.set()
    await asyncio.gather(*slow)
    assert writer.queued == 0
    assert await names_stored(third) == ["m"]


async def test_what_is_not_written_in_time_is_told_at_the_end(
    database: Database, tenant_a: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing gives up: who waited still may send again, whose transaction was running can't know; nobody waits on."""
    mistakes: list[dict[str, Any]] = []
    gc.collect()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: mistakes.append(context))

    async def never(_session: TenantSession, _events: Any) -> list[LogResult]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("app.audit.writer.append_events", never)
    writer = EventWriter(database, queued_events=1000, events_per_transaction=50)
    callers = [asyncio.create_task(writer.write(tenant_a.id, [prepared("m")])) for _ in range(400)]
    await asyncio.sleep(0)
    await writer.close(0.05)
    async with asyncio.timeout(PATIENCE_SECONDS):
        results = await asyncio.gather(*callers, return_exceptions=True)
    kinds = [type(result) for result in results]
    assert (kinds.count(CommitUnknown), kinds.count(Unavailable)) == (51, 349)
    loop.set_exception_handler(None)
    assert writer.queued == 0
    assert mistakes == []


async def test_readers_get_their_turn_on_the_only_connection(settings: Settings, tenant_a: TestTenant) -> None:
    """A tenant whose events never end does not keep the connection for itself."""
    database = Database(settings.database.model_copy(update={"database_pool_size": 1}))
    writer = EventWriter(database, queued_events=1000, events_per_transaction=1000)
    is_over = False

    async def write() -> None:
        while not is_over:
            await writer.write(tenant_a.id, [prepared("m")])

    writers = [asyncio.create_task(write()) for _ in range(8)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(5):
            async with database.reading_session(tenant_a.id) as session:
                assert len(await session.fetch(Statement("SELECT 1", (), {}), {})) == 1
    is_over = True
    await asyncio.gather(*writers)
    await writer.close()
    await database.close()


_PID = text("SELECT pg_backend_pid()")


async def _kill(tenant: TestTenant, pid: int) -> None:
    async with connect(tenant.settings.database.database_url) as connection:
        await connection.execute("SELECT pg_terminate_backend($1)", pid)


def test_ids_are_of_version_7() -> None:
    """Ids sort by their time."""
    made = [prepared("m").id for _ in range(5)]
    assert made == sorted(made)
    assert {row_id.version for row_id in made} == {7}
    assert isinstance(made[0], UUID)
