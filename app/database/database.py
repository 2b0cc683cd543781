"""The database as the rest of the product sees it: tenant sessions over one pool."""

from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.engine import create_runtime_engine
from app.database.session import Gate, TenantSession, tenant_session
from app.database.tenant_owned import TenantId
from app.database.urls import parse_database_url
from app.settings import DatabaseSettings


class Database:
    """The runtime role's connection pool. Open tenant sessions on it; close it when the process ends."""

    def __init__(self, settings: DatabaseSettings) -> None:
        url = parse_database_url(settings.database_url, "KONSTRUCT_DATABASE_URL")
        self.engine: AsyncEngine = create_runtime_engine(url, settings)
        self._gate = Gate(settings.database_pool_size, settings.database_pool_timeout_seconds)

    def tenant_session(self, tenant_id: TenantId) -> AbstractAsyncContextManager[TenantSession]:
        """Open a transaction that sees and writes one tenant's rows only; see `app.database.session`."""
        return tenant_session(self.engine, self._gate, tenant_id)

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
