"""The servers under measurement, each one process on a port of its own over the one database."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.client import Client
from benchmarks.database import BenchDatabase
from benchmarks.work import Task, Work, obvious_tasks, postgraphile_tasks, product_tasks

_ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"
PRODUCT = "Konstruct"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and how to ask it for each piece of work."""

    name: str
    url: str
    pid: int
    headers: Mapping[str, str]
    tasks: Mapping[Work, Task]

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Open a client that has the tenant's credential."""
        client = Client(self.url, self.headers)
        try:
            yield client
        finally:
            client.close()


@contextmanager
def product(
    database: BenchDatabase, *, workers: int = 1, name: str = PRODUCT, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run the product as in production, logging warnings only as the peers do; `settings` are variables of its own."""
    port = _free_port()
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port), "--workers", str(workers)]
    environment = {
        "KONSTRUCT_DATABASE_URL": database.url, "KONSTRUCT_LOG_LEVEL": "WARNING", "KONSTRUCT_EMBEDDINGS": "local",
        "KONSTRUCT_EMBEDDINGS_MODEL": database.model, **(settings or {}),
    }  # fmt: skip
    headers = {"authorization": f"Bearer {database.api_key}"}
    with _running(command, environment, port, headers, database.folder / f"product-{workers}.log") as pid:
        yield Server(name, _url(port), pid, headers, product_tasks(_a_month_ago()))


@contextmanager
def postgraphile(database: BenchDatabase, node: str) -> Iterator[Server]:
    """Run PostGraphile."""
    port = _free_port()
    environment = {
        "DATABASE_URL": database.url, "PORT": str(port), "NODE_ENV": "production", "GRAPHILE_ENV": "production",
    }  # fmt: skip
    headers = {"x-tenant": database.tenant_id}
    command = [node, str(PEERS / "postgraphile.mjs")]
    with _running(command, environment, port, headers, database.folder / "postgraphile.log") as pid:
        tasks = postgraphile_tasks(database.tenant_id, _a_month_ago())
        yield Server("PostGraphile", _url(port), pid, headers, tasks)


@contextmanager
def obvious_strawberry(database: BenchDatabase) -> Iterator[Server]:
    """Run the obvious Strawberry server."""
    port = _free_port()
    command = [
        sys.executable, "-m", "uvicorn", "benchmarks.peers.obvious_strawberry:app", "--port", str(port),
        "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    environment = {"DATABASE_URL": database.url.replace("postgresql://", "postgresql+asyncpg://")}
    headers = {"x-tenant": database.tenant_id}
    with _running(command, environment, port, headers, database.folder / "obvious-strawberry.log") as pid:
        yield Server("obvious Strawberry", _url(port), pid, headers, obvious_tasks(_a_month_ago()))


def check_programs(*programs: str) -> None:
    """End with a line that says what to install when a program is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found: install wrk, and Node 22 or later (or give --node PATH)")


def _a_month_ago() -> datetime:
    # By the day: servers that start one after the other ask for the same time.
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=30)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/graphql"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], port: int, headers: Mapping[str, str], log: Path
) -> Iterator[int]:
    """Run a server until the block ends; yield its process id once it answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command, env={**os.environ, **environment}, stdout=output, stderr=output, cwd=_ROOT
        )
    try:
        _wait_for(_url(port), headers, process, log)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, headers: Mapping[str, str], process: subprocess.Popen[bytes], log: Path) -> None:
    request = urllib.request.Request(  # noqa: S310 - on this machine
        url, b'{"query": "{ __typename }"}', {"content-type": "application/json", **headers}
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - on this machine
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{url} was answered with {error.code}: {error.read().decode()}") from None
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"a server did not start:\n{log.read_text()}")
