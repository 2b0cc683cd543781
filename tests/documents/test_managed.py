"""What docs/managed-postgresql.md says of an owner that may create roles: `konstruct migrate` makes the weak ones."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from app.database.embedded import EmbeddedPostgres
from app.database.migrate import migrate_to_head
from tests.documents.machine import managed_server
from tests.support.database import connect, new_tenant, test_settings
from tests.support.follower import following
from tests.support.server import GraphQLClient, live_server

ROLES = """
SELECT rolname::text, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname LIKE 'konstruct%' ORDER BY 1
"""


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """An empty server whose administrator is no superuser."""
    with managed_server(tmp_path / "managed") as server:
        yield server


async def test_an_owner_that_may_create_roles_needs_no_preparation(managed: EmbeddedPostgres, tmp_path: Path) -> None:
    """With CREATEROLE and CREATEDB alone the administrator sets everything up, and the server works on that."""
    administrator = managed.url("administrator", "of-the-administrator", "postgres")
    owner = managed.url("administrator", "of-the-administrator")
    runtime = managed.url("konstruct_app", "of-the-server")
    sealer = managed.url("konstruct_sealer", "of-the-sealer")
    async with connect(administrator) as connection:
        assert await connection.fetch(ROLES) == []
        await connection.execute("CREATE DATABASE konstruct")
    settings = test_settings(runtime, owner, sealer_url=sealer)
    await migrate_to_head(settings)
    async with connect(owner) as connection:
        made: list[asyncpg.Record] = await connection.fetch(ROLES)
    assert [tuple(role) for role in made] == [
        ("konstruct_app", False, False, False),
        ("konstruct_sealer", False, False, False),
    ]
    tenant = await new_tenant(settings)
    with live_server(settings, tmp_path) as server:
        client = GraphQLClient(server.graphql_url, tenant.api_key)
        async with following(server, tenant.api_key, after=-1) as follower:
            answer = await client.execute('mutation { logToolCall(input: { toolName: "t" }) { outcome } }')
            assert (await follower.event())["sequence"] == "0"
        await client.http.aclose()
    assert answer.data == {"logToolCall": {"outcome": "RECORDED"}}
