"""Real PostgreSQL for every test: one server a run, one migrated database, tenants of its own for each test.

Tests that change the database itself (DDL, roles, restarts) make a database or a server of their own.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.settings import Settings
from tests.support.database import TestTenant, fresh_database, new_tenant
from tests.support.server import GraphQLClient, LiveServer, live_server

# The machine may stall in the middle of an example.
hypothesis_settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("tests")

_used_postgres: list[str] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand on which PostgreSQL the tests of this process ran on, when it is one of several."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["postgres"] = _used_postgres


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note what one of several processes handed on; one that died has nothing."""
    _used_postgres.extend(getattr(node, "workeroutput", {}).get("postgres", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which PostgreSQL the tests ran on."""
    for version in _used_postgres:
        terminalreporter.write_line(f"PostgreSQL used: {version}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One embedded server for the run."""
    # No fsync: these tests are about behaviour; those about durability start a server of their own.
    with tempfile.TemporaryDirectory(prefix="konstruct-test-") as folder:
        server = EmbeddedPostgres(Path(folder), settings="fsync = off\nmax_connections = 300\n")
        server.start()
        try:
            asyncio.run(_prepare(server))
            yield server
        finally:
            server.stop()


async def _prepare(server: EmbeddedPostgres) -> None:
    await server.ensure_roles_and_database()
    connection = await asyncpg.connect(server.superuser_url.get_secret_value())
    vector = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    version = await connection.fetchval("SHOW server_version")
    _used_postgres.append(f"embedded {version}, pgvector {vector}, on 127.0.0.1:{server.port}")
    await connection.close()


@pytest.fixture(scope="session")
async def settings(postgres: EmbeddedPostgres) -> Settings:
    """Settings for the run's migrated database."""
    return await fresh_database(postgres, sealed=True)


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """The runtime role's pool."""
    opened = Database(settings.database)
    yield opened
    await opened.close()


@pytest.fixture
async def tenant_a(settings: Settings) -> TestTenant:
    """A tenant of this test's own."""
    return await new_tenant(settings, "Tenant A")


@pytest.fixture
async def tenant_b(settings: Settings) -> TestTenant:
    """Another tenant, which must see nothing of the first."""
    return await new_tenant(settings, "Tenant B")


@pytest.fixture(scope="session")
def server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The running server, with development's introspection, in a process of its own."""
    with live_server(settings, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
async def client_a(server: LiveServer, tenant_a: TestTenant) -> AsyncIterator[GraphQLClient]:
    """A client with tenant A's key."""
    client = GraphQLClient(server.graphql_url, tenant_a.api_key)
    yield client
    await client.http.aclose()


@pytest.fixture
async def client_b(server: LiveServer, tenant_b: TestTenant) -> AsyncIterator[GraphQLClient]:
    """A client with tenant B's key."""
    client = GraphQLClient(server.graphql_url, tenant_b.api_key)
    yield client
    await client.http.aclose()


@pytest.fixture
async def anonymous(server: LiveServer) -> AsyncIterator[GraphQLClient]:
    """A client without a credential."""
    client = GraphQLClient(server.graphql_url, None)
    yield client
    await client.http.aclose()
