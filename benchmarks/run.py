"""`make bench`: load the data, start the product and PostGraphile, measure them in turns, write RESULTS.md.

Both servers are one process each, over one database, as the same weak role. The machine may be noisy: they are
measured A B A B, the table holds medians, and what counts is the ratio within one run.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from app.database.embedded import EmbeddedPostgres
from app.database.migrate import migrate_to_head
from app.settings import DatabaseSettings, Settings
from benchmarks.load import Load, drive

HERE = Path(__file__).parent
SETTINGS = "shared_buffers = 1GB\nmax_wal_size = 8GB\n"
VECTOR = [round(0.05 * ((n * 37) % 41 - 20), 3) for n in range(256)]
FIELDS = "agentId userId actionType inputSummary outputSummary latencyMs metadata createdAt"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and how to ask it for each piece of work."""

    name: str
    url: str
    pid: int
    headers: dict[str, str]
    work: dict[str, dict[str, object]]


def product_work() -> dict[str, dict[str, object]]:
    """Return the product's documents."""
    events = "auditEvents(first: 50, filter: {actionType: {eq: TOOL_INVOCATION}})"
    insert = {
        "model": "gpt-4o", "inputSummary": "Summarise ticket 12 for the customer", "outputSummary": "Propose a refund",
        "latencyMs": 812, "metadata": {"model": "gpt-4o"},
    }  # fmt: skip
    return {
        "list 50 events": {"query": f"{{ {events} {{ nodes {{ id {FIELDS} }} }} }}"},
        "insert one event": {
            "query": "mutation($i: LogLlmCallInput!) { logLlmCall(input: $i) { event { id createdAt } } }",
            "variables": {"i": insert},
        },
        "vector search top 10": {
            "query": "query($v: [Float!]!) { kbSearch(input: {query: {vector: $v}})"
            " { hits { score chunk { id content } } } }",
            "variables": {"v": VECTOR},
        },
    }


def postgraphile_work(tenant_id: str) -> dict[str, dict[str, object]]:
    """Return the same work in PostGraphile's words."""
    order = 'orderBy: [CREATED_AT_DESC, ROW_ID_DESC], condition: {actionType: "tool_invocation"}'
    events = f"allAuditEvents(first: 50, {order})"
    # It has no way to make an id on this table; a fixed one will do, since the key holds the time as well.
    event = {
        "rowId": "0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f", "tenantId": tenant_id,
        "actionType": "llm_call", "actionName": "gpt-4o", "status": "succeeded",
        "inputSummary": "Summarise ticket 12 for the customer", "outputSummary": "Propose a refund",
        "latencyMs": 812, "metadata": {"model": "gpt-4o"}, "submittedBy": "bench",
    }  # fmt: skip
    return {
        "list 50 events": {"query": f"{{ {events} {{ nodes {{ rowId {FIELDS} }} }} }}"},
        "insert one event": {
            "query": "mutation($i: AuditEventInput!) { createAuditEvent(input: {auditEvent: $i})"
            " { auditEvent { rowId createdAt } } }",
            "variables": {"i": event},
        },
        "vector search top 10": {
            "query": "query($v: [Float]) { benchSearchChunks(query: $v, k: 10) { nodes { rowId content } } }",
            "variables": {"v": VECTOR},
        },
    }


@contextmanager
def running(command: list[str], environment: dict[str, str], url: str, log: Path) -> Iterator[int]:
    """Run a server until the block ends; yield its process id once it answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command, env=os.environ | environment, stdout=output, stderr=output, cwd=HERE.parent
        )
    try:
        _wait_for(url, process, log)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{url}?query=%7B__typename%7D", timeout=1)  # noqa: S310 - on this machine
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"a server did not start:\n{log.read_text()}")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare(folder: Path, events: int, chunks: int, tenants: int) -> tuple[EmbeddedPostgres, str, str]:
    """Start the database and fill it once; return it with the largest tenant's id and key."""
    postgres = EmbeddedPostgres(folder, settings=SETTINGS)
    postgres.start()
    asyncio.run(_migrate(postgres))
    note = folder / f"bench-{events}-{chunks}-{tenants}.json"
    if not note.exists():
        command = [
            sys.executable, "-m", "app.cli", "bench-data", "--json",
            "--events", str(events), "--chunks", str(chunks), "--tenants", str(tenants),
        ]  # fmt: skip
        print(f"Loading {events} events and {chunks} chunks ...", flush=True)
        done = subprocess.run(  # noqa: S603 - our own command
            command, env=os.environ | environment(postgres), stdout=subprocess.PIPE, check=True
        )
        note.write_bytes(done.stdout)
    largest = json.loads(note.read_text())[0]
    asyncio.run(_add_search_function(postgres))
    return postgres, largest["tenant_id"], largest["api_key"]


async def _migrate(postgres: EmbeddedPostgres) -> None:
    await postgres.ensure_roles_and_database()
    settings = Settings(
        database=DatabaseSettings(database_url=postgres.runtime_url, owner_database_url=postgres.owner_url)
    )
    await migrate_to_head(settings)


async def _add_search_function(postgres: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(postgres.owner_url.get_secret_value())
    try:
        await connection.execute((HERE / "peers" / "search.sql").read_text())
    finally:
        await connection.close()


def environment(postgres: EmbeddedPostgres) -> dict[str, str]:
    """Return the product's environment for this database."""
    return {
        "KONSTRUCT_DATABASE_URL": postgres.runtime_url.get_secret_value(),
        "KONSTRUCT_OWNER_DATABASE_URL": postgres.owner_url.get_secret_value(),
    }


def measure(servers: list[Server], *, rounds: int, seconds: int) -> dict[tuple[str, int, str], list[Load]]:
    """Measure each piece of work at 16 and 64 connections, the servers in turns."""
    found: dict[tuple[str, int, str], list[Load]] = {}
    for work in servers[0].work:
        for connections in (16, 64):
            for _ in range(rounds):
                for server in servers:
                    load = drive(
                        server.url, server.work[work], server.headers, server.pid,
                        connections=connections, seconds=seconds,
                    )  # fmt: skip
                    found.setdefault((work, connections, server.name), []).append(load)
                    print(f"{work:22} {connections:3} {server.name:13} {load}", flush=True)
    return found


def report(found: dict[tuple[str, int, str], list[Load]], names: list[str], versions: str) -> str:
    """Return the table, medians of all rounds, and the ratios product / peer."""
    rows = ["| work | connections | server | requests/s | p50 ms | p99 ms | CPU ms a request | peak memory MiB |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    works = dict.fromkeys((work, connections) for work, connections, _ in found)
    for work, connections in works:
        figures = {name: _medians(found[work, connections, name]) for name in names}
        for name, load in figures.items():
            rows.append(
                f"| {work} | {connections} | {name} | {load.requests_per_second:.0f} | {load.p50_ms:.1f} |"
                f" {load.p99_ms:.1f} | {load.cpu_ms_per_request:.2f} | {load.memory_mib:.0f} |"
            )
        ours, theirs = (figures[name] for name in names)
        rows.append(
            f"| | | **ratio** | **{ours.requests_per_second / theirs.requests_per_second:.2f}** |"
            f" {ours.p50_ms / theirs.p50_ms:.2f} | {ours.p99_ms / theirs.p99_ms:.2f} |"
            f" **{ours.cpu_ms_per_request / theirs.cpu_ms_per_request:.2f}** | |"
        )
    return "\n".join(["# Benchmark results", "", versions, "", *rows, ""])


def _medians(loads: list[Load]) -> Load:
    names = Load.__dataclass_fields__
    return Load(**{name: statistics.median(getattr(load, name) for load in loads) for name in names})


def main() -> None:
    """Run the whole benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=HERE / ".data")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--node", default="node")
    options = parser.parse_args()
    folder = options.data_dir.resolve()
    postgres, tenant_id, api_key = prepare(folder, options.events, options.chunks, options.tenants)
    ports = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}/graphql" for port in ports]
    product = [sys.executable, "-m", "app.cli", "serve", "--port", str(ports[0])]
    peer = [options.node, str(HERE / "peers" / "postgraphile.mjs")]
    peer_environment = {
        "DATABASE_URL": postgres.runtime_url.get_secret_value(), "PORT": str(ports[1]), "NODE_ENV": "production",
        "GRAPHILE_ENV": "production",
    }  # fmt: skip
    ours = environment(postgres) | {"KONSTRUCT_LOG_LEVEL": "WARNING"}
    try:
        with (
            running(product, ours, urls[0], folder / "konstruct.log") as product_pid,
            running(peer, peer_environment, urls[1], folder / "postgraphile.log") as peer_pid,
        ):
            bearer = {"authorization": f"Bearer {api_key}"}
            servers = [
                Server("Konstruct", urls[0], product_pid, bearer, product_work()),
                Server("PostGraphile", urls[1], peer_pid, {"x-tenant": tenant_id}, postgraphile_work(tenant_id)),
            ]
            found = measure(servers, rounds=options.rounds, seconds=options.seconds)
    finally:
        postgres.stop()
    size = f"{options.events:,} events and {options.chunks:,} chunks over {options.tenants} tenants"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    versions = f"{datetime.now(UTC):%Y-%m-%d}; {size}; {machine}; medians of {options.rounds} rounds, in turns."
    table = report(found, [server.name for server in servers], versions)
    (HERE / "RESULTS.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
