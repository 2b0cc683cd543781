"""The tables of RESULTS.md and GROWTH.md, and what a reader must know to judge them."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Load, Measured
from benchmarks.servers import PEERS, Server
from benchmarks.work import Work

RESULTS = Path(__file__).parent / "RESULTS.md"
GROWTH = Path(__file__).parent / "GROWTH.md"

_COLUMNS = (
    "work", "connections", "server", "requests/s", "p50 ms", "p99 ms", "server CPU ms a request",
    "PostgreSQL CPU ms a request", "peak memory MiB",
)  # fmt: skip


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def comparison(measured: Measured, servers: Sequence[Server], missing: Collection[tuple[str, Work]] = ()) -> str:
    """Return the table of all servers, with the ratios of the first one to each of the others."""
    names = [server.name for server in servers]
    rows: list[Sequence[object]] = []
    for work, connections in dict.fromkeys((work, connections) for work, connections, _ in measured):
        loads = {name: measured[key] for name in names if (key := (work, connections, name)) in measured}
        rows += [(work.description, connections, name, *_figures(load)) for name, load in loads.items()]
        if names[0] in loads:
            rows += [
                ("", "", f"**{names[0]} / {name}**", *_ratios(loads[names[0]], load))
                for name, load in loads.items()
                if name != names[0]
            ]
    rows += [
        (work.description, "", server.name, f"left out: its schema has no `{server.tasks[work].field}` yet", *[""] * 5)
        for server in servers
        for work in Work
        if (server.name, work) in missing
    ]
    return table(_COLUMNS, rows)


def _figures(load: Load) -> list[str]:
    return [
        f"{load.requests_per_second:.0f}", f"{load.p50_ms:.1f}", f"{load.p99_ms:.1f}", f"{load.cpu_ms:.2f}",
        f"{load.database_cpu_ms:.2f}", f"{load.memory_mib:.0f}",
    ]  # fmt: skip


def _ratios(ours: Load, theirs: Load) -> list[str]:
    return [
        f"**{ratio(ours.requests_per_second, theirs.requests_per_second)}**", ratio(ours.p50_ms, theirs.p50_ms),
        ratio(ours.p99_ms, theirs.p99_ms), f"**{ratio(ours.cpu_ms, theirs.cpu_ms)}**",
        ratio(ours.database_cpu_ms, theirs.database_cpu_ms), ratio(ours.memory_mib, theirs.memory_mib),
    ]  # fmt: skip


def ratio(ours: float, theirs: float) -> str:
    """Return ours / theirs for a table."""
    return f"{ours / theirs:.2f}" if theirs else ""


def conditions(versions: Mapping[str, str], measured: str) -> str:
    """Return when, where and on what was measured, as a paragraph."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    every = {**versions, "Python": platform.python_version(), "Strawberry": version("strawberry-graphql")}
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, on {os.cpu_count()} cores ({platform.machine()}) with {memory:.0f} GiB of"
        f" memory that the client and PostgreSQL share. {', '.join(f'{name} {text}' for name, text in every.items())}."
        f" {measured}"
    )


def node_versions(node: str) -> dict[str, str]:
    """Return the versions of Node and PostGraphile."""
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 - the user's Node
    package = json.loads((PEERS / "node_modules" / "postgraphile" / "package.json").read_text())
    return {"Node": done.stdout.strip().removeprefix("v"), "PostGraphile": package["version"]}


def write_section(path: Path, title: str, *paragraphs: str) -> None:
    """Put a section into the report in place of its predecessor, and print it."""
    section = "\n\n".join([f"## {title}", *paragraphs])
    text = path.read_text() if path.exists() else "# Benchmark results\n"
    head, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    kept = {old.partition("\n")[0]: old.strip() for old in sections}
    kept[f"## {title}"] = section
    path.write_text("\n\n".join([head.strip(), *kept.values()]) + "\n")
    print(f"\n{section}\n\nWritten to {path}")
