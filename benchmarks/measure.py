"""Measuring servers in turns: A B C A B C, so that what else the machine does disturbs all of them alike."""

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

from benchmarks.processes import cpu_seconds, peak_mib, reset_peak, wait_until_idle
from benchmarks.servers import Server
from benchmarks.work import Work
from benchmarks.wrk import drive

_WARM_UP_SECONDS = 2
# Statistics take so long that 64 at once need several seconds for their first answer.
_STATS_TIMES = 4


@dataclass(frozen=True, slots=True)
class Load:
    """What one server did under one load. Times are in milliseconds, memory in MiB."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    database_cpu_ms: float
    memory_mib: float


Measured = dict[tuple[Work, int, str], Load]


def measure(
    servers: Sequence[Server],
    works: Sequence[Work],
    postmaster_pid: int,
    *,
    missing: Collection[tuple[str, Work]] = (),
    connections: Sequence[int] = (16, 64),
    rounds: int,
    seconds: int,
) -> Measured:
    """Return the medians of all rounds."""
    loads: dict[tuple[Work, int, str], list[Load]] = {}
    for work in works:
        for count in connections:
            for number in range(1, rounds + 1):
                for server in servers:
                    if (server.name, work) in missing:
                        continue
                    load = _load(server, work, postmaster_pid, count, seconds)
                    loads.setdefault((work, count, server.name), []).append(load)
                    print(
                        f"{work:8} {count:3} connections, round {number}/{rounds}: {server.name:20}"
                        f" {load.requests_per_second:7.0f} requests/s, {load.cpu_ms:6.2f} ms of CPU each",
                        flush=True,
                    )
    return {key: _medians(found) for key, found in loads.items()}


def _load(server: Server, work: Work, postmaster_pid: int, connections: int, seconds: int) -> Load:
    bodies = [server.tasks[work].body]
    if work is Work.STATS:
        seconds *= _STATS_TIMES
    drive(server.url, server.headers, bodies, connections=connections, seconds=_WARM_UP_SECONDS)
    wait_until_idle(server.pid)
    reset_peak(server.pid)
    before = cpu_seconds(server.pid), cpu_seconds(postmaster_pid)
    outcome = drive(server.url, server.headers, bodies, connections=connections, seconds=seconds)
    after = cpu_seconds(server.pid), cpu_seconds(postmaster_pid)
    if not outcome.requests:
        raise RuntimeError(f"{server.name}, {work}: no answer in {seconds} s; measure for longer")
    if outcome.errors:
        raise RuntimeError(f"{server.name}, {work}: {outcome.errors} bad answers, the first {outcome.first_error}")
    # Those under way when wrk stops are half done on average.
    done = outcome.requests + connections / 2
    cpu, database_cpu = ((end - start) * 1000 / done for start, end in zip(before, after, strict=True))
    return Load(
        requests_per_second=outcome.requests / outcome.seconds,
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
        cpu_ms=cpu,
        database_cpu_ms=database_cpu,
        memory_mib=peak_mib(server.pid),
    )


def _medians(loads: Sequence[Load]) -> Load:
    return Load(*(statistics.median(getattr(load, field.name) for load in loads) for field in fields(Load)))
