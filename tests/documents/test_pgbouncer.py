"""The product through a real PgBouncer, set up as docs/pgbouncer-and-replicas.md says."""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr

from app.database.embedded import UNPRIVILEGED_USER
from app.settings import Settings
from tests.documents.blocks import blocks_of
from tests.support.database import new_tenant
from tests.support.follower import following
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import GraphQLClient, LiveServer, free_port, live_server

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "pgbouncer-and-replicas.md"

LOG = 'mutation { logToolCall(input: { toolName: "t", inputSummary: "through the pooler" }) { outcome } }'
COUNT = "{ auditEvents(first: 100) { nodes { inputSummary } } }"


@pytest.fixture(scope="module")
def pooled(settings: Settings) -> Iterator[LiveServer]:
    """A server whose connections all go through PgBouncer."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed (Debian's package pgbouncer)")
    # Not below pytest's folder, which is shut to PgBouncer's user.
    with tempfile.TemporaryDirectory(prefix="konstruct-test-") as name:
        folder = Path(name)
        port = free_port()
        configuration, through = set_up(settings, folder, port)
        user = UNPRIVILEGED_USER if os.geteuid() == 0 else None
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([program, configuration], user=user, stdout=log, stderr=log)
        try:
            wait_until_it_listens(port, folder / "log")
            with live_server(through, folder) as server:
                yield server
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def wait_until_it_listens(port: int, log: Path) -> None:
    """Wait for PgBouncer; fail with what it said when it does not come up."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"PgBouncer did not start:\n{log.read_text()}")


def set_up(settings: Settings, folder: Path, port: int) -> tuple[Path, Settings]:
    """Write PgBouncer's files, from the document; return its configuration and settings that lead through it."""
    database = settings.database
    assert database.database_url is not None
    assert database.sealer_database_url is not None
    urls = [urlsplit(url.get_secret_value()) for url in (database.database_url, database.sealer_database_url)]
    users = folder / "userlist.txt"
    users.write_text("".join(f'"{url.username}" "{url.password}"\n' for url in urls))
    (text,) = (block.text for block in blocks_of(DOCUMENT, ROOT) if block.language == "ini")
    name = urls[0].path.strip("/")
    text = text.replace(
        "konstruct = host=db port=5432 dbname=konstruct", f"{name} = host=127.0.0.1 port={urls[0].port} dbname={name}"
    )
    text = text.replace("/etc/pgbouncer/userlist.txt", str(users))
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(f"{text}listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n")
    # PgBouncer refuses to be root, and the server's user must get at its files.
    folder.chmod(0o755)
    pooled_urls = [SecretStr(url.geturl().replace(f":{url.port}/", f":{port}/")) for url in urls]
    through = database.model_copy(update={"database_url": pooled_urls[0], "sealer_database_url": pooled_urls[1]})
    return configuration, settings.model_copy(update={"database": through})


async def test_everything_works_through_pgbouncer_in_session_mode(pooled: LiveServer, settings: Settings) -> None:
    """Many requests of two tenants at once are answered, each with its own events only."""
    tenants = [await new_tenant(settings, name) for name in ("A", "B")]
    clients = [GraphQLClient(pooled.graphql_url, tenant.api_key) for tenant in tenants]
    await asyncio.gather(*(client.data(LOG) for client in clients for _ in range(20)))
    pages = await asyncio.gather(*(client.data(COUNT) for client in clients for _ in range(20)))
    for client in clients:
        await client.http.aclose()
    assert [len(page["auditEvents"]["nodes"]) for page in pages] == [20] * 40


async def test_live_trail_and_export_work_through_pgbouncer(pooled: LiveServer, settings: Settings) -> None:
    """The sealer and the live trail's LISTEN get through; an event arrives sooner than by looking each two seconds."""
    tenant = await new_tenant(settings, "Live")
    client = GraphQLClient(pooled.graphql_url, tenant.api_key)
    async with following(pooled, tenant.api_key, after=-1) as follower:
        await client.data(LOG)
        assert (await follower.event())["sequence"] == "0"
    await client.http.aclose()
    async with httpx.AsyncClient(
        timeout=PATIENCE_SECONDS, headers={"Authorization": f"Bearer {tenant.api_key}"}
    ) as http:
        exported = await http.get(f"{pooled.base_url}/export/audit-events")
    assert len(exported.text.splitlines()) == 1
    assert [line["event"] for line in pooled.log_lines() if "interrupted" in line["event"]] == []
