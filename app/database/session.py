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

Reading sessions can't write, which PostgreSQL sees to (BEGIN READ ONLY). When all connections are taken and somebody
waits for one, a reading session does not end its transaction: who takes the connection next ends it in the message that
opens its own (`COMMIT; BEGIN; SELECT set_tenant('...')`), which spares a crowd of readers a round trip each. As ever no
connection gets into the pool with a transaction, and no session begins before set_tenant is known to have succeeded.

Sessions are short: open one after the slow work (embedding, parsing) and close it before building the answer. Sibling
fields of one GraphQL request run concurrently, so each root field opens its own.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Connection, Executable, PoolProxiedConnection, Result, ScalarResult, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.util import greenlet_spawn

from app.database.failures import CONNECTION_LOST, may_have_committed, translated_failures, was_sent
from app.database.gate import Gate
from app.database.statements import Statement, of_tenant
from app.database.tenant_owned import TenantId
from app.errors import MAY_BE_STORED, CommitUnknown, TransactionLost

_TENANT = "tenant_id"

# Before another try to begin. Where a connection is lost the pool's others often are too: in a moment the driver knows.
_WAITS = (0.05, 0.2)

# How indexes of vectors are read (see app.kb.lanes): set here, since it would cost each search a round trip.
EF_SEARCH = 400
_SETTINGS = (
    "set_config('hnsw.iterative_scan', 'relaxed_order', true),"
    f" set_config('hnsw.ef_search', '{EF_SEARCH}', true), set_config('hnsw.max_scan_tuples', '200000', true)"
)
# A connection that does not answer by then is dead.
_ROLLBACK_SECONDS = 5
_COMMIT_UNKNOWN = f"the database did not say how the commit ended: {MAY_BE_STORED}"


class Plans(Enum):
    """How statements are planned.

    Left to itself PostgreSQL goes by its estimates after some executions: among many events it may plan 17 partitions
    each time for the sake of a few rows, and beside many small tenants it may keep a plan for an average tenant, by
    which all of a large one is read.
    """

    ONCE = "force_generic_plan"
    EACH_TIME = "force_custom_plan"


class _TenantBoundSession(Session):
    """The synchronous half of a session's ORM, which carries the predicate."""


@event.listens_for(_TenantBoundSession, "do_orm_execute")
def _add_tenant_predicate(state: ORMExecuteState) -> None:
    if state.is_column_load or state.is_relationship_load or state.is_insert:
        return
    tenant: UUID = state.session.info[_TENANT]
    state.statement = state.statement.options(of_tenant(tenant))


class Transaction:
    """An open transaction of one tenant, on a connection of the pool's."""

    __slots__ = ("connection", "driver", "tenant_id")

    def __init__(self, connection: PoolProxiedConnection, tenant_id: TenantId) -> None:
        self.connection = connection
        self.driver: asyncpg.Connection[asyncpg.Record] = connection.driver_connection  # type: ignore[assignment]
        self.tenant_id = tenant_id

    async def end(self) -> None:
        """Give the connection back, outside of any transaction; a doubtful one is thrown away.

        Its failure hides no other, by which callers tell whether to write again.
        """
        try:
            if self.driver.is_in_transaction():
                await self.driver.execute("ROLLBACK", timeout=_ROLLBACK_SECONDS)
        except BaseException as error:
            await _discard(self.connection)
            if not isinstance(error, Exception):
                raise
        else:
            self.connection.close()


class TenantSession:
    """One transaction of one tenant. Made by `tenant_session`, which commits it or rolls it back."""

    __slots__ = ("_driver", "_engine", "_orm", "_plans", "_transaction", "tenant_id")

    def __init__(self, engine: AsyncEngine, transaction: Transaction) -> None:
        self.tenant_id = transaction.tenant_id
        self._engine = engine
        self._transaction = transaction
        self._driver = transaction.driver
        self._orm: AsyncSession | None = None
        self._plans: Plans | None = None

    @property
    def orm(self) -> AsyncSession:
        """The ORM on this transaction; made when it is first needed."""
        if self._orm is None:
            connection = AsyncConnection(
                self._engine, Connection(self._engine.sync_engine, connection=self._transaction.connection)
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

    async def plan(self, plans: Plans) -> None:
        """Say how the statements from here on are planned, those within functions of the database too."""
        if plans is not self._plans:
            await self._driver.execute(f"SET LOCAL plan_cache_mode = {plans.value}")
            self._plans = plans

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
            self._plans = None
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
            if may_have_committed(error):
                raise CommitUnknown(_COMMIT_UNKNOWN) from error
            raise
        if tag != "COMMIT":
            # A statement had failed and nobody let its error pass: PostgreSQL answers COMMIT with a ROLLBACK.
            raise RuntimeError("the transaction was rolled back, because a statement in it had failed")

    async def commit_and_go_on(self) -> None:
        """Commit what was done with `fetch`, and begin the tenant's next transaction, in one message.

        Raises `CommitUnknown` whatever goes wrong once it is sent: the commit itself may have succeeded. Another error
        means that nothing was stored.
        """
        try:
            # The first SELECT fails where a statement has failed before, which COMMIT alone would not.
            await self._driver.execute(f"SELECT; COMMIT; {_begin(self.tenant_id)}")
        except Exception as error:
            if was_sent(error):
                raise CommitUnknown(_COMMIT_UNKNOWN) from error
            raise
        self._plans = None

    async def _end(self) -> None:
        try:
            if self._orm is not None:
                await self._orm.close()
        except BaseException as error:
            await _discard(self._transaction.connection)
            if not isinstance(error, Exception):
                raise
        else:
            await self._transaction.end()


@asynccontextmanager
async def tenant_session(
    engine: AsyncEngine, gate: Gate[Transaction], tenant_id: TenantId, *, reading: bool = False
) -> AsyncIterator[TenantSession]:
    """Open a transaction as one tenant; commit on exit, roll back on any error or cancellation.

    One for `reading` can't write, and leaves its connection as it is to the session that waits for one, if one does.

    Raises `Unavailable` when no connection can be had or it is lost, `Timeout` when a statement takes too long.
    """
    if not isinstance(tenant_id, UUID):
        raise TypeError("a tenant is named by its UUID")
    with translated_failures():
        inherited = await gate.enter()
        left: Transaction | None = None
        try:
            transaction = await _open(engine, inherited, tenant_id, reading=reading)
            session = TenantSession(engine, transaction)
            try:
                yield session
                if reading and session._orm is None and gate.is_waited_for():  # noqa: SLF001 - the module's own class
                    left = transaction
                else:
                    await session._commit()  # noqa: SLF001
            finally:
                if left is None:
                    await session._end()  # noqa: SLF001
        finally:
            gate.leave(left)


async def _open(
    engine: AsyncEngine, inherited: Transaction | None, tenant_id: TenantId, *, reading: bool
) -> Transaction:
    """Begin a transaction, on the connection that another session has left in the middle of its own if there is one."""
    begin = _begin(tenant_id, reading=reading)
    if inherited is not None and await _begins(inherited.connection, f"COMMIT; {begin}"):
        return Transaction(inherited.connection, tenant_id)
    for wait in (*_WAITS, None):
        connection = await engine.raw_connection()
        if await _begins(connection, begin):
            return Transaction(connection, tenant_id)
        if wait is not None:
            await asyncio.sleep(wait)
    raise TransactionLost(CONNECTION_LOST)


def _begin(tenant_id: TenantId, *, reading: bool = False) -> str:
    return f"BEGIN{' READ ONLY' if reading else ''}; SELECT set_tenant('{tenant_id}'), {_SETTINGS}"


async def _begins(connection: PoolProxiedConnection, begin: str) -> bool:
    """Begin a transaction; return False, and throw the connection away, when it turns out to be lost.

    Nothing of the caller's has been sent then, so that another try on another connection is always safe.
    """
    driver: Any = connection.driver_connection
    try:
        await driver.execute(begin)
    except BaseException as error:
        was_lost = driver.is_closed()
        await _discard(connection)
        if not was_lost or not isinstance(error, Exception):
            raise
        return False
    return True


async def _discard(connection: PoolProxiedConnection) -> None:
    await greenlet_spawn(_throw_away, connection)


def _throw_away(connection: PoolProxiedConnection) -> None:
    try:
        connection.invalidate()
    finally:
        # Whatever interrupts it, the pool gets its place back.
        connection.close()
