"""Tenant sessions: the only door to tenant rows.

A session is one explicit transaction that begins with `BEGIN; SELECT set_tenant('...')`, sent as one message: one
round trip. `set_tenant` sets `app.current_tenant` for that transaction only (SET LOCAL). PostgreSQL's row level
security then shows and accepts this tenant's rows and no others, and after commit, rollback or a lost connection the
setting is gone, so that a pooled connection carries nothing over to the next borrower.

Row level security is the lock, but the planner can't route or prune by it. So every SELECT, UPDATE and DELETE on a
`TenantOwned` class also carries the predicate `tenant_id = :tenant`; it is added by `of_tenant`, and nowhere else.

A session runs statements in two ways, on one connection and in one transaction: through the ORM (`execute`, `scalars`),
and as statements that were compiled beforehand (`fetch`, see `app.database.statements`) where the ORM's own work would
cost more than PostgreSQL's. The pool is in AUTOCOMMIT mode: SQLAlchemy begins and ends nothing by itself.

Sessions are short: open one after the slow work (embedding, parsing) and close it before building the answer. Sibling
fields of one GraphQL request run concurrently, so each root field opens its own.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Connection, Executable, PoolProxiedConnection, Result, ScalarResult, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.util import greenlet_spawn

from app.database.failures import ALL_BUSY, translated_failures
from app.database.statements import Statement, of_tenant
from app.database.tenant_owned import TenantId
from app.errors import CommitUnknown, Unavailable

_TENANT = "tenant_id"
_COMMIT_UNKNOWN = (
    "the database connection was lost during the commit: the change may or may not be stored;"
    " look before you try again, or send events with an idempotency key"
)


class _TenantBoundSession(Session):
    """The synchronous half of a session's ORM, which carries the predicate."""


@event.listens_for(_TenantBoundSession, "do_orm_execute")
def _add_tenant_predicate(state: ORMExecuteState) -> None:
    if state.is_column_load or state.is_relationship_load or state.is_insert:
        return
    tenant: UUID = state.session.info[_TENANT]
    state.statement = state.statement.options(of_tenant(tenant))


class TenantSession:
    """One transaction of one tenant. Made by `tenant_session`, which commits it or rolls it back."""

    __slots__ = ("_connection", "_driver", "_engine", "_orm", "tenant_id")

    def __init__(self, engine: AsyncEngine, connection: PoolProxiedConnection, tenant_id: TenantId) -> None:
        self.tenant_id = tenant_id
        self._engine = engine
        self._connection = connection
        self._driver: asyncpg.Connection[asyncpg.Record] = connection.driver_connection  # type: ignore[assignment]
        self._orm: AsyncSession | None = None

    @property
    def orm(self) -> AsyncSession:
        """The ORM on this transaction; made when it is first needed."""
        if self._orm is None:
            connection = AsyncConnection(
                self._engine, Connection(self._engine.sync_engine, connection=self._connection)
            )
            self._orm = AsyncSession(
                connection,
                sync_session_class=_TenantBoundSession,
                expire_on_commit=False,
                info={_TENANT: self.tenant_id},
            )
        return self._orm

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[asyncpg.Record]:
        """Run a compiled statement as this tenant; return its rows."""
        return await self._driver.fetch(statement.sql, *statement.arguments(self.tenant_id, values))

    async def execute(self, statement: Executable, *args: Any, **options: Any) -> Result[Any]:
        """Run a statement through the ORM."""
        return await self.orm.execute(statement, *args, **options)

    async def scalars(self, statement: Executable, *args: Any, **options: Any) -> ScalarResult[Any]:
        """Run a statement through the ORM; return the first column of its rows."""
        return await self.orm.scalars(statement, *args, **options)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what the block wrote when it fails, and leave the rest of the transaction as it is."""
        await self._flush()
        await self._driver.execute("SAVEPOINT nested")
        try:
            yield
            await self._flush()
        except BaseException:
            # A savepoint may hide an earlier one of its name, so that blocks nest.
            await self._driver.execute("ROLLBACK TO SAVEPOINT nested; RELEASE SAVEPOINT nested")
            raise
        await self._driver.execute("RELEASE SAVEPOINT nested")

    async def _flush(self) -> None:
        if self._orm is not None:
            await self._orm.flush()

    async def _commit(self) -> None:
        if self._orm is not None:
            await self._orm.commit()
        try:
            tag = await self._driver.execute("COMMIT")
        except Exception as error:
            if self._driver.is_closed():
                raise CommitUnknown(_COMMIT_UNKNOWN) from error
            raise
        if tag != "COMMIT":
            # A statement had failed and nobody let its error pass: PostgreSQL answers COMMIT with a ROLLBACK.
            raise RuntimeError("the transaction was rolled back, because a statement in it had failed")

    async def _end(self) -> None:
        """Give the connection back, outside of any transaction; a doubtful one is thrown away."""
        try:
            if self._orm is not None:
                await self._orm.close()
            if self._driver.is_in_transaction():
                await self._driver.execute("ROLLBACK")
        except BaseException:
            await _discard(self._connection)
            raise
        self._connection.close()


class Gate:
    """Lets in as many sessions as the pool has connections, the others in the order of their arrival.

    The pool by itself gives a free connection to whoever asks next, and those who wait for one may wait very long.
    """

    def __init__(self, size: int, timeout_seconds: float) -> None:
        self._free = size
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        """Wait for a place; raise `Unavailable` when there is none in time."""
        if self._free > 0:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(self._timeout_seconds, _give_up, turn)
        try:
            await turn
        except BaseException:
            # A place may have been given just as the caller went away.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()
            raise
        finally:
            timer.cancel()

    async def __aexit__(self, *_: object) -> None:
        """Give the place to the next."""
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def _give_up(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(Unavailable(ALL_BUSY))


@asynccontextmanager
async def tenant_session(engine: AsyncEngine, gate: Gate, tenant_id: TenantId) -> AsyncIterator[TenantSession]:
    """Open a transaction as one tenant; commit on exit, roll back on any error or cancellation.

    Raises `Unavailable` when no connection can be had or it is lost, `Timeout` when a statement takes too long.
    """
    with translated_failures():
        async with gate:
            session = await _open(engine, tenant_id)
            try:
                yield session
                await session._commit()  # noqa: SLF001 - the module's own class
            finally:
                await session._end()  # noqa: SLF001


async def _open(engine: AsyncEngine, tenant_id: TenantId) -> TenantSession:
    if not isinstance(tenant_id, UUID):
        raise TypeError("a tenant is named by its UUID")
    for attempt in (1, 2):
        connection = await engine.raw_connection()
        driver: Any = connection.driver_connection
        try:
            await driver.execute(f"BEGIN; SELECT set_tenant('{tenant_id}')")
        except BaseException as error:
            was_lost = driver.is_closed()
            await _discard(connection)
            # Nothing of the caller's has been sent yet, so one more try on a fresh connection is always safe.
            if attempt == 2 or not was_lost or not isinstance(error, Exception):
                raise
        else:
            return TenantSession(engine, connection, tenant_id)
    raise AssertionError("unreachable")


async def _discard(connection: PoolProxiedConnection) -> None:
    await greenlet_spawn(connection.invalidate)
    await greenlet_spawn(connection.close)
