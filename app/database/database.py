"""The database as the rest of the product sees it: tenant sessions over one pool."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database.engine import create_runtime_engine
from app.database.gate import Gate
from app.database.session import TenantSession, Transaction, tenant_session
from app.database.tenant_owned import TenantId
from app.database.urls import parse_database_url
from app.settings import DatabaseSettings


class Database:
    """The runtime role's connection pool. Open tenant sessions on it; close it when the process ends."""

    def __init__(self, settings: DatabaseSettings) -> None:
        url = parse_database_url(settings.database_url, "KONSTRUCT_DATABASE_URL")
        self.engine: AsyncEngine = create_runtime_engine(url, settings)
        size, timeout = settings.database_pool_size, settings.database_pool_timeout_seconds
        self._gate = Gate(size, timeout, Transaction.end)
        self._analysis_gate = Gate(max(1, size // 2), timeout, Transaction.end)

    def tenant_session(self, tenant_id: TenantId) -> AbstractAsyncContextManager[TenantSession]:
        """Open a transaction that sees and writes one tenant's rows only; see `app.database.session`."""
        return tenant_session(self.engine, self._gate, tenant_id)

    def reading_session(self, tenant_id: TenantId) -> AbstractAsyncContextManager[TenantSession]:
        """Open a tenant session that only reads, which costs less where many wait for a connection."""
        return tenant_session(self.engine, self._gate, tenant_id, reading=True)

    @asynccontextmanager
    async def analysis_session(self, tenant_id: TenantId) -> AsyncIterator[TenantSession]:
        """Open a reading session for a question that may take long: half of the pool's connections are for others."""
        await self._analysis_gate.enter()
        try:
            async with self.reading_session(tenant_id) as session:
                yield session
        finally:
            self._analysis_gate.leave()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """Take a connection, in turn with the sessions, for what belongs to no tenant.

        Raises `Unavailable` when none becomes free in time.
        """
        left = await self._gate.enter()
        try:
            if left is not None:
                await left.end()
            async with self.engine.connect() as connection:
                yield connection
        finally:
            self._gate.leave()

    def is_waited_for(self) -> bool:
        """Whether somebody waits for a connection."""
        return self._gate.is_waited_for()

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
