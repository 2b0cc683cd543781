"""What docs/backup.md and docs/pgbouncer-and-replicas.md promise: of a restored server and of a streaming replica."""

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from asyncpg import InsufficientPrivilegeError

from app.database.embedded import DATABASE, UNPRIVILEGED_USER, EmbeddedPostgres
from app.database.migrate import migrate_to_head
from app.settings import Settings
from tests.database.test_migrations import catalogue
from tests.support.database import TestTenant, connect, new_tenant, stored_events, test_settings, wait_until
from tests.support.follower import following
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import GraphQLClient, LiveServer, live_server

LOG = 'mutation { logToolCall(input: { toolName: "t", idempotencyKey: "%s" }) { outcome event { id } } }'
LIST = "{ auditEvents { nodes { id sequence } } auditStats { count } }"
INGEST = """
mutation { ingestKbDocument(input: { externalId: "d", title: "D", body: { text: "The workshop opens at eight." } }) {
  outcome } }
"""
SEARCH = '{ kbSearch(input: { query: { text: "opening hours" } }) { hits { chunk { content } } } }'


@dataclass
class Original:
    """A server with two tenants, whose first one has events and a document."""

    postgres: EmbeddedPostgres
    settings: Settings
    tenant: TestTenant
    other: TestTenant
    event_ids: list[str]


def settings_of(postgres: EmbeddedPostgres, *, sealed: bool) -> Settings:
    """Return settings for a server's database."""
    sealer_url = postgres.sealer_url if sealed else None
    return test_settings(postgres.runtime_url, postgres.owner_url, sealer_url=sealer_url)


@pytest.fixture(scope="module")
async def original(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Original]:
    """The server that copies are made of."""
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("original"))
    postgres.start()
    try:
        await postgres.ensure_roles_and_database()
        settings = settings_of(postgres, sealed=True)
        await migrate_to_head(settings)
        tenant, other = [await new_tenant(settings, name) for name in ("A", "B")]
        with live_server(settings, tmp_path_factory.mktemp("server")) as server:
            client = GraphQLClient(server.graphql_url, tenant.api_key)
            logged = [(await client.data(LOG % number))["logToolCall"]["event"]["id"] for number in range(3)]
            await client.data(INGEST)

            await wait_until_sealed(client, 3)
            await client.http.aclose()
        yield Original(postgres, settings, tenant, other, logged)
    finally:
        postgres.stop()


@asynccontextmanager
async def client_of(server: LiveServer, tenant: TestTenant) -> AsyncIterator[GraphQLClient]:
    """A client with the tenant's key."""
    client = GraphQLClient(server.graphql_url, tenant.api_key)
    try:
        yield client
    finally:
        await client.http.aclose()


async def wait_until_sealed(client: GraphQLClient, count: int) -> None:
    """Wait until the client's server sees so many events, each with its place in the log."""

    async def is_sealed() -> bool:
        nodes = (await client.data(LIST))["auditEvents"]["nodes"]
        return len(nodes) == count and all(node["sequence"] is not None for node in nodes)

    assert await wait_until(is_sealed, seconds=PATIENCE_SECONDS)


def run(program: Path, *arguments: str) -> None:
    """Run one of PostgreSQL's programs, which must succeed."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def schema(postgres: EmbeddedPostgres) -> list[str]:
    """Return all that makes the schema what it is."""
    # The partitions' copies of a foreign key have the name that it was made under, and after a restore the table's.
    lines = await catalogue(postgres.superuser_url)
    return sorted(
        re.sub(r" kb_profile_\d+_chunks_kb_documents_fkey ", " kb_chunks_kb_documents_fkey ", x) for x in lines
    )


@pytest.fixture
async def restored(original: Original, tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """Another server, with nothing but the roles, into which a dump of the first one is restored."""
    dump = tmp_path / "konstruct.dump"
    run(original.postgres.program("pg_dump"), "-Fc", f"-f{dump}", original.postgres.superuser_url.get_secret_value())
    postgres = EmbeddedPostgres(tmp_path / "restored")
    postgres.start()
    try:
        await postgres.ensure_roles_and_database()
        target = postgres.superuser_url.get_secret_value()
        run(postgres.program("pg_restore"), "--exit-on-error", f"--dbname={target}", str(dump))
        yield postgres
    finally:
        postgres.stop()


async def test_a_restored_server_is_as_the_first_one(
    original: Original, restored: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Schema, grants, policies, triggers and rows are the same; events are final; the log goes on without a gap."""
    settings = settings_of(restored, sealed=True)
    assert await schema(restored) == await schema(original.postgres)
    events = await stored_events(settings, original.tenant.id)
    assert events == await stored_events(original.settings, original.tenant.id)
    assert len(events) == 3
    for url in (restored.owner_url, restored.superuser_url):
        async with connect(url) as connection:
            with pytest.raises(InsufficientPrivilegeError, match="insert-only: UPDATE"):
                await connection.execute("UPDATE audit_events SET status = 'failed'")
    with live_server(settings, tmp_path) as server:
        async with client_of(server, original.tenant) as client, client_of(server, original.other) as stranger:
            repeated = (await client.data(LOG % 0))["logToolCall"]
            assert repeated == {"outcome": "DUPLICATE", "event": {"id": original.event_ids[0]}}
            new = (await client.data(LOG % "new"))["logToolCall"]["event"]["id"]
            async with following(server, original.tenant.api_key, after=2) as follower:
                event = await follower.event()
            assert (event["id"], event["sequence"]) == (new, "3")
            assert len((await client.data(SEARCH))["kbSearch"]["hits"]) == 1
            assert (await stranger.data(LIST))["auditEvents"]["nodes"] == []


@pytest.fixture
def replica(original: Original, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A streaming replica of the first server."""
    folder = tmp_path / "replica"
    folder.mkdir()
    url = original.postgres.superuser_url.get_secret_value().removesuffix(f"/{DATABASE}")
    run(original.postgres.program("pg_basebackup"), "-d", url, "-D", str(folder / "postgres"), "-R", "-cfast")
    shutil.copy(original.postgres._folder / "postgres-secrets.json", folder)
    if os.geteuid() == 0:
        for path in (folder / "postgres", *(folder / "postgres").rglob("*")):
            shutil.chown(path, UNPRIVILEGED_USER)
        for path in (folder, *folder.parents[:4]):
            path.chmod(path.stat().st_mode | 0o011)
    postgres = EmbeddedPostgres(folder)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


async def test_a_server_on_a_replica_reads_and_refuses_to_write(
    original: Original, replica: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Lists, statistics, searches, export and the live trail work; what would write is UNAVAILABLE."""
    before = await stored_events(original.settings, original.tenant.id)
    key = original.tenant.api_key
    with live_server(settings_of(replica, sealed=False), tmp_path) as server:
        async with client_of(server, original.tenant) as client:
            listed = await client.data(LIST)
            assert sorted(node["id"] for node in listed["auditEvents"]["nodes"]) == sorted(original.event_ids)
            assert listed["auditStats"] == [{"count": str(len(before))}]
            assert len((await client.data(SEARCH))["kbSearch"]["hits"]) == 1
            for refused in (LOG % "on the replica", INGEST.replace('"d"', '"e"')):
                assert (await client.execute(refused)).codes == ["UNAVAILABLE"]
            url = f"{server.base_url}/export/audit-events"
            exported = await client.http.get(url, headers={"Authorization": f"Bearer {key}"})
            assert len(exported.text.splitlines()) == len(before)

            async def is_ready() -> bool:
                return bool((await client.http.get(f"{server.base_url}/readyz")).status_code == 200)

            assert await wait_until(is_ready, seconds=PATIENCE_SECONDS)
        with live_server(original.settings, tmp_path) as primary:
            async with client_of(primary, original.tenant) as writer, client_of(server, original.tenant) as reader:
                # The replica hears that a sealer is at work.
                await writer.data(LOG % "at first")
                await wait_until_sealed(reader, len(before) + 1)
                async with following(server, key, after=len(before)) as follower:
                    logged = (await writer.data(LOG % "then"))["logToolCall"]["event"]["id"]
                    assert (await follower.event())["id"] == logged
    assert len(await stored_events(original.settings, original.tenant.id)) == len(before) + 2


async def test_a_recorded_search_needs_a_database_that_takes_writes(
    original: Original, replica: EmbeddedPostgres, tmp_path: Path
) -> None:
    """On a replica a search that is to be recorded is refused, and one that is not is answered."""
    key, _ = await original.tenant.new_key(agent_id="0193a5c0-7e11-7c3a-9d52-5b1f0e6a2c01")
    bound = replace(original.tenant, api_key=key)
    settings = settings_of(replica, sealed=False)
    with live_server(settings, tmp_path, KONSTRUCT_AUDIT_RETRIEVALS="true") as server:
        async with client_of(server, bound) as agent, client_of(server, original.tenant) as person:

            async def is_known() -> bool:
                return (await agent.execute("{ viewer { subject } }")).codes == []

            assert await wait_until(is_known, seconds=PATIENCE_SECONDS)
            assert (await agent.execute(SEARCH)).codes == ["UNAVAILABLE"]
            assert (await person.execute(SEARCH)).codes == []
