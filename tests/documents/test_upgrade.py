"""What docs/upgrading.md says of the time between the migration and the new servers."""

from pathlib import Path

import httpx

from app.database.embedded import EmbeddedPostgres
from tests.support.database import connect, fresh_database, new_tenant, wait_until
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import GraphQLClient, live_server


async def test_old_servers_go_on_after_the_migration(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """A server whose schema is newer than it still answers and wants traffic; /readyz says to upgrade it."""
    settings = await fresh_database(postgres)
    tenant = await new_tenant(settings)
    with live_server(settings, tmp_path) as server:
        client = GraphQLClient(server.graphql_url, tenant.api_key)
        async with connect(settings.database.owner_database_url) as owner:
            await owner.execute("UPDATE alembic_version SET version_num = '999'")
        ready: httpx.Response | None = None

        async def is_ready() -> bool:
            nonlocal ready
            ready = await client.http.get(f"{server.base_url}/readyz")
            return ready.status_code == 200

        assert await wait_until(is_ready, seconds=PATIENCE_SECONDS)
        answer = await client.execute('mutation { logToolCall(input: { toolName: "t" }) { outcome } }')
        await client.http.aclose()
    assert ready is not None
    assert ready.json()["problems"][0]["reason"].endswith("; upgrade this server")
    assert answer.data == {"logToolCall": {"outcome": "RECORDED"}}
