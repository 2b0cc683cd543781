"""Reading sessions in a crowd: what one leaves to the next, and that no tenant sees another's rows through it."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import select

from app.audit import AuditLogger, LlmCall
from app.database import session as sessions
from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.database.session import TenantSession
from app.database.statements import Statement, compile_statement
from app.database.tenant_owned import TenantId
from app.errors import Unavailable
from app.models import AuditEvent
from app.settings import Limits, Settings
from tests.database.rows import TenantRows, add_rows
from tests.support.database import connect, hear_farewell, new_tenant, pool_of, stored_events
from tests.support.patience import PATIENCE_SECONDS

# Without the predicate, so that row level security alone decides.
EVENTS = Statement("SELECT id FROM audit_events", (), {})
TENANT = Statement("SELECT current_setting('app.current_tenant') AS tenant", (), {})
SLOW = Statement("SELECT pg_sleep(0.002)", (), {})
BROKEN = Statement("SELECT 1 / 0", (), {})


@pytest.fixture
async def two(settings: Settings) -> tuple[TenantRows, TenantRows]:
    """Two tenants with a row each."""
    tenants = [await new_tenant(settings) for _ in range(2)]
    first, second = [await add_rows(settings, tenant.id) for tenant in tenants]
    return first, second


@pytest.fixture
async def narrow(settings: Settings) -> AsyncIterator[Database]:
    """A pool of one connection, for which all others wait."""
    database = pool_of(settings, 1)
    yield database
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    async with database.engine.connect() as connection:
        row = await connection.exec_driver_sql("SELECT COALESCE(current_setting('app.current_tenant', true), '')")
        assert row.scalar_one() == ""
    await database.close()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was sent to begin a transaction, without the settings."""
    messages: list[str] = []
    begins = sessions._begins

    async def noting(connection: Any, begin: str) -> bool:
        messages.append(begin.partition(",")[0])
        return await begins(connection, begin)

    monkeypatch.setattr(sessions, "_begins", noting)
    return messages


async def seen(session: TenantSession) -> tuple[str, list[UUID]]:
    """Return the session's tenant as the database has it, and the events that it sees."""
    ((tenant,),) = await session.fetch(TENANT, {})
    return tenant, [row["id"] for row in await session.fetch(EVENTS, {})]


def expected(rows: TenantRows) -> tuple[str, list[UUID]]:
    """Return what a session of these rows' tenant sees."""
    return str(rows.tenant_id), [rows.event_id]


async def test_a_crowd_of_readers_and_writers_never_mixes_tenants(
    settings: Settings, two: tuple[TenantRows, TenantRows]
) -> None:
    """600 sessions over two connections: some write, some fail, some are cancelled, each sees its own tenant only."""
    database = pool_of(settings, 2)
    chance = random.Random(11)
    finished = 0

    async def use(rows: TenantRows, turn: int) -> None:
        nonlocal finished
        opened = database.tenant_session if turn % 7 == 0 else database.reading_session
        async with opened(TenantId(rows.tenant_id)) as session:
            assert await seen(session) == expected(rows)
            await session.fetch(SLOW, {})
            if turn % 5 == 0:
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await session.fetch(BROKEN, {})
                return
            if turn % 11 == 0:
                raise ValueError("a reader fails")
            assert await seen(session) == expected(rows)
        finished += 1

    async def use_for(rows: TenantRows, turn: int) -> BaseException | None:
        task = asyncio.create_task(use(rows, turn))
        if turn % 3 == 0:
            asyncio.get_running_loop().call_later(chance.uniform(0, 0.2), task.cancel)
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        return outcome

    outcomes = [
        outcome
        for _ in range(3)
        # The tenants in no order, so that some follow their own and some the other one.
        for outcome in await asyncio.gather(*(use_for(chance.choice(two), turn) for turn in range(200)))
    ]
    # A session that writes and has swallowed a failure is rolled back, and says so.
    kinds = {type(outcome) for outcome in outcomes}
    assert kinds == {type(None), ValueError, asyncio.CancelledError, RuntimeError}
    assert finished > 200
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await database.close()


async def test_readers_in_line_end_each_others_transactions(
    narrow: Database, begun: list[str], two: tuple[TenantRows, TenantRows]
) -> None:
    """Each that waits in line begins its own transaction in the message that ends the one before."""
    first, second = two

    async def read(rows: TenantRows) -> tuple[str, list[UUID]]:
        async with narrow.reading_session(TenantId(rows.tenant_id)) as session:
            return await seen(session)

    line = (first, first, second, first)
    assert await asyncio.gather(*map(read, line)) == [expected(rows) for rows in line]
    begins = [f"BEGIN READ ONLY; SELECT set_tenant('{rows.tenant_id}')" for rows in line]
    assert begun == [begins[0], *(f"COMMIT; {begin}" for begin in begins[1:])]


async def test_a_writer_after_a_reader_has_a_transaction_of_its_own(
    narrow: Database, settings: Settings, begun: list[str]
) -> None:
    """A writer ends the reader's transaction, and the reader after it begins anew and sees what was written."""
    tenant = await new_tenant(settings)
    logger = AuditLogger(narrow, tenant.principal, Limits())

    async def read() -> int:
        async with narrow.reading_session(tenant.id) as session:
            return len(await session.fetch(EVENTS, {}))

    counts = await asyncio.gather(read(), logger.log_llm_call(LlmCall(model="m")), read())
    assert [count for count in counts if isinstance(count, int)] == [0, 1]
    begin = f"SELECT set_tenant('{tenant.id}')"
    assert begun == [f"BEGIN READ ONLY; {begin}", f"COMMIT; BEGIN; {begin}", f"BEGIN READ ONLY; {begin}"]
    assert len([*await stored_events(settings, tenant.id)]) == 1


async def test_a_reader_can_not_write(narrow: Database, settings: Settings) -> None:
    """PostgreSQL refuses it, and nothing is stored."""
    tenant = await new_tenant(settings)
    logger = AuditLogger(narrow, tenant.principal, Limits())

    async def write_while_reading() -> None:
        async with narrow.reading_session(tenant.id) as session:
            await logger.within(session).log_llm_call(LlmCall(model="m"))

    with pytest.raises(Unavailable):
        await write_while_reading()
    assert [*await stored_events(settings, tenant.id)] == []


async def test_others_get_a_connection_among_readers(narrow: Database, two: tuple[TenantRows, TenantRows]) -> None:
    """Readers who leave the connection to each other let in who wants it for something else, in turn, and clean."""
    is_over = False

    async def read_on(rows: TenantRows) -> None:
        while not is_over:
            async with narrow.reading_session(TenantId(rows.tenant_id)) as session:
                assert await seen(session) == expected(rows)

    readers = [asyncio.create_task(read_on(rows)) for rows in two for _ in range(4)]
    await asyncio.sleep(0.05)
    tenant = "SELECT COALESCE(current_setting('app.current_tenant', true), '')"
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(10):
                async with narrow.connection() as connection:
                    driver: Any = (await connection.get_raw_connection()).driver_connection
                    assert not driver.is_in_transaction()
                    assert (await connection.exec_driver_sql(tenant)).scalar_one() == ""
    finally:
        is_over = True
        await asyncio.gather(*readers)


async def test_a_failed_transaction_is_left_like_any_other(
    narrow: Database, begun: list[str], two: tuple[TenantRows, TenantRows]
) -> None:
    """A statement failed and the reader let it pass: the next one is not troubled by it."""
    rows = two[0]

    async def fail() -> None:
        async with narrow.reading_session(TenantId(rows.tenant_id)) as session:
            with pytest.raises(asyncpg.DivisionByZeroError):
                await session.fetch(BROKEN, {})

    async def read() -> tuple[str, list[UUID]]:
        async with narrow.reading_session(TenantId(rows.tenant_id)) as session:
            return await seen(session)

    _, *answers = await asyncio.gather(fail(), read(), read())
    assert answers == [expected(rows)] * 2
    begin = f"BEGIN READ ONLY; SELECT set_tenant('{rows.tenant_id}')"
    assert begun == [begin, f"COMMIT; {begin}", f"COMMIT; {begin}"]


async def test_readers_who_use_the_orm_leave_nothing(
    narrow: Database, begun: list[str], two: tuple[TenantRows, TenantRows]
) -> None:
    """The ORM's objects end with their session, and its transaction with them."""
    rows = two[0]

    async def read() -> list[UUID]:
        async with narrow.reading_session(TenantId(rows.tenant_id)) as session:
            return [*await session.scalars(select(AuditEvent.id))]

    assert await asyncio.gather(*(read() for _ in range(3))) == [[rows.event_id]] * 3
    assert begun == [f"BEGIN READ ONLY; SELECT set_tenant('{rows.tenant_id}')"] * 3


async def test_a_lost_connection_is_not_left_to_others(
    narrow: Database, settings: Settings, two: tuple[TenantRows, TenantRows], postgres: EmbeddedPostgres
) -> None:
    """Who would have taken it over gets a new one; only whose statement was under way hears of it."""
    rows = two[0]
    find = compile_statement(select(AuditEvent.id))
    pid = Statement("SELECT pg_backend_pid() AS pid", (), {})

    async def lose() -> None:
        async with narrow.reading_session(TenantId(rows.tenant_id)) as session:
            ((own,),) = await session.fetch(pid, {})
            driver: Any = session._driver
            is_over = asyncio.Event()
            driver.add_termination_listener(lambda _driver: is_over.set())
            superuser = await asyncpg.connect(postgres.superuser_url.get_secret_value())
            await superuser.execute("SELECT pg_terminate_backend($1)", own)
            await superuser.close()
            await asyncio.wait_for(is_over.wait(), PATIENCE_SECONDS)

    async def read() -> list[UUID]:
        async with narrow.reading_session(TenantId(rows.tenant_id)) as session:
            return [row["id"] for row in await session.fetch(find, {})]

    _, *answers = await asyncio.gather(lose(), read(), read(), return_exceptions=True)
    assert answers == [[rows.event_id]] * 2
    async with connect(settings.database.database_url, rows.tenant_id) as app:
        assert await app.fetchval("SELECT count(*) FROM audit_events") == 1


async def test_connections_that_heard_the_farewell_are_replaced(
    settings: Settings, two: tuple[TenantRows, TenantRows]
) -> None:
    """As when the server restarts: who asks before their ends were read waits a moment and gets a new one."""
    rows = two[0]
    database = pool_of(settings, 4)
    connections = [await database.engine.connect() for _ in range(4)]
    for connection in connections:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await connection.close()
        hear_farewell(driver)
        asyncio.get_running_loop().call_later(0.01, driver._transport.abort)
    async with database.tenant_session(TenantId(rows.tenant_id)) as session:
        assert await seen(session) == expected(rows)
    await database.close()
