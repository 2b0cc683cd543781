"""Databases and tenants for tests, made as an operator makes them."""

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from app.auth.api_keys import make_api_key
from app.auth.principal import Principal, Scope
from app.auth.tenants import create_tenant, store_api_key
from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.database.migrate import migrate_to_head
from app.database.owner import owner_transaction
from app.database.tenant_owned import TenantId
from app.embeddings import EmbeddingProvider
from app.kb.profiles import Embeddings
from app.settings import (
    DatabaseSettings,
    EmbeddingsProvider,
    EmbeddingsSettings,
    LocalModel,
    LogFormat,
    ServerSettings,
    Settings,
)
from tests.support.patience import PATIENCE_SECONDS

ALL_SCOPES = tuple(Scope)

# What tests embed with that are not about the quality of a search: its model loads and embeds many times as fast.
EMBEDDINGS = EmbeddingsSettings(provider=EmbeddingsProvider.LOCAL, model=LocalModel.WORDLLAMA)
DIMENSIONS = EMBEDDINGS.index_dimensions


@dataclass(frozen=True, slots=True)
class TestTenant:
    """A tenant with one key for everything."""

    __test__ = False

    id: TenantId
    name: str
    api_key: str
    key_id: UUID
    settings: Settings

    @property
    def principal(self) -> Principal:
        """The principal behind the key."""
        return Principal(self.id, self.name, "test-key", frozenset(Scope))

    async def new_key(self, scopes: Collection[Scope] = ALL_SCOPES, **options: Any) -> tuple[str, UUID]:
        """Make another key; return its secret and its id."""
        key = make_api_key(options.pop("name", "another-key"), scopes)
        async with owner_transaction(self.settings.database) as connection:
            await store_api_key(connection, self.id, key, **options)
        return key.secret, key.id


def embeddings_by(database: Database, provider: EmbeddingProvider) -> Embeddings:
    """Return embeddings that a provider makes, whatever the active profile's is."""
    return Embeddings(database, lambda _profile: provider)


async def new_tenant(settings: Settings, name: str = "Tenant") -> TestTenant:
    """Make a tenant nobody else uses."""
    key = make_api_key("test-key", ALL_SCOPES)
    async with owner_transaction(settings.database) as connection:
        tenant_id = await create_tenant(connection, name)
        await store_api_key(connection, tenant_id, key)
    return TestTenant(tenant_id, name, key.secret, key.id, settings)


def test_settings(runtime_url: SecretStr, owner_url: SecretStr, **groups: Any) -> Settings:
    """Return settings for a test's database: nothing from the environment. With a `sealer_url` servers seal."""
    database = DatabaseSettings(
        database_url=runtime_url,
        owner_database_url=owner_url,
        sealer_database_url=groups.pop("sealer_url", None),
        database_pool_size=groups.pop("pool_size", 10),
        database_pool_timeout_seconds=PATIENCE_SECONDS,
    )
    given: dict[str, Any] = {
        "server": ServerSettings(graphiql=True, log_format=LogFormat.JSON),
        "embeddings": EMBEDDINGS,
        **groups,
    }
    return Settings(database=database, **given)


test_settings.__test__ = False  # type: ignore[attr-defined]


def server_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """Return the environment in which a server process finds these settings."""
    database, embeddings = settings.database, settings.embeddings
    assert database.database_url is not None
    assert database.owner_database_url is not None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KONSTRUCT_")}
    environment |= {
        "KONSTRUCT_DATABASE_URL": database.database_url.get_secret_value(),
        "KONSTRUCT_OWNER_DATABASE_URL": database.owner_database_url.get_secret_value(),
        "KONSTRUCT_DATABASE_POOL_SIZE": str(database.database_pool_size),
        "KONSTRUCT_DATABASE_POOL_TIMEOUT_SECONDS": str(database.database_pool_timeout_seconds),
        "KONSTRUCT_GRAPHIQL": str(settings.server.graphiql).lower(),
        "KONSTRUCT_EMBEDDINGS": embeddings.provider.value,
    }
    if database.sealer_database_url is not None:
        environment["KONSTRUCT_SEALER_DATABASE_URL"] = database.sealer_database_url.get_secret_value()
    if embeddings.model is not None:
        environment["KONSTRUCT_EMBEDDINGS_MODEL"] = embeddings.model
    if embeddings.dimensions is not None:
        environment["KONSTRUCT_EMBEDDINGS_DIMENSIONS"] = str(embeddings.dimensions)
    return environment | extra


async def fresh_database(
    postgres: EmbeddedPostgres, *, migrated: bool = True, sealed: bool = False, **groups: Any
) -> Settings:
    """Make a database of a test's own, with nothing in it but the schema; if `sealed`, servers on it seal the log."""
    name = f"test_{uuid7().hex}"
    await postgres.create_database(name)
    runtime_url, owner_url, sealer_url = (
        SecretStr(url.get_secret_value().rsplit("/", 1)[0] + f"/{name}")
        for url in (postgres.runtime_url, postgres.owner_url, postgres.sealer_url)
    )
    settings = test_settings(runtime_url, owner_url, sealer_url=sealer_url if sealed else None, **groups)
    if migrated:
        await migrate_to_head(settings)
    return settings


@asynccontextmanager
async def connect(url: SecretStr | None, tenant_id: UUID | None = None) -> AsyncIterator[asyncpg.Connection]:
    """Open a plain connection; with a tenant, inside a transaction that is rolled back."""
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value())
    try:
        if tenant_id is None:
            yield connection
        else:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SELECT set_config('app.current_tenant', $1, true)", str(tenant_id))
            try:
                yield connection
            finally:
                await transaction.rollback()
    finally:
        await connection.close()


def pool_of(settings: Settings, size: int) -> Database:
    """Open a pool of a given size."""
    return Database(settings.database.model_copy(update={"database_pool_size": size}))


def hear_farewell(driver: Any) -> None:
    """Let asyncpg's connection read what a backend says that is terminated, and not yet the end of the connection."""
    driver._protocol.data_received(_FAREWELL)
    assert not driver.is_closed()


# An ErrorResponse as PostgreSQL sends it.
_FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
_FAREWELL = b"E" + (4 + len(_FIELDS)).to_bytes(4, "big") + _FIELDS


async def stored_events(settings: Settings, tenant_id: UUID) -> Sequence[asyncpg.Record]:
    """Return all of a tenant's events as the runtime role reads them, oldest first."""
    async with connect(settings.database.database_url, tenant_id) as connection:
        return await connection.fetch("SELECT * FROM audit_events ORDER BY created_at, id")


async def wait_until(condition: Any, *, seconds: float, every: float = 0.1) -> bool:
    """Wait for an awaitable condition to hold; return whether it did in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        if await condition():
            return True
        await asyncio.sleep(every)
    return bool(await condition())
