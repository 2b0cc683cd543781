"""`make bench-batch`: durable events a second through `logEvents`, 500 a request, into RESULTS.md."""

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

from benchmarks.client import encode
from benchmarks.database import BenchDatabase, bench_database
from benchmarks.options import add_size, make_parser, size_of
from benchmarks.processes import cpu_seconds
from benchmarks.report import RESULTS, conditions, table, write_section
from benchmarks.servers import Server, product

_EVENTS = 500
_DOCUMENT = "mutation($events: [AuditEventInput!]!) { logEvents(input: {events: $events}) { recordedCount } }"
_RECORDED = b'{"data":{"logEvents":{"recordedCount":%d}}}' % _EVENTS


@dataclass(frozen=True, slots=True)
class Batches:
    """What came of some clients' batches. CPU times are seconds a million events."""

    events_per_second: float
    request_ms: float
    server_cpu: float
    database_cpu: float


def main() -> None:
    """Measure one to four clients."""
    parser = make_parser(__doc__, rounds=3, seconds=5)
    add_size(parser, events=100_000, chunks=10_000)
    options = parser.parse_args()
    size = size_of(options)
    found: dict[int, list[Batches]] = {}
    with bench_database(options.data_dir.resolve(), size) as database, product(database) as server:
        versions = database.versions()
        _measure(server, database, clients=1, seconds=1)
        for number in range(1, options.rounds + 1):
            for clients in range(1, 5):
                batches = _measure(server, database, clients=clients, seconds=options.seconds)
                found.setdefault(clients, []).append(batches)
                print(f"round {number}, {clients} clients: {batches.events_per_second:.0f} events/s", flush=True)
    medians = {clients: _medians(batches) for clients, batches in found.items()}
    header = (
        "clients", "durable events/s", "median ms a request", "server CPU s a million events",
        "PostgreSQL CPU s a million events",
    )  # fmt: skip
    rows = [
        (clients, f"{b.events_per_second:.0f}", f"{b.request_ms:.1f}", f"{b.server_cpu:.1f}", f"{b.database_cpu:.1f}")
        for clients, b in medians.items()
    ]
    how = (
        f"Loaded: {size}. {_EVENTS} events a request, one server process, each client one request at a time."
        f" Medians of {options.rounds} rounds of {options.seconds} s; every acknowledged event was found in the table."
    )
    write_section(RESULTS, "Batches", conditions(versions, how), table(header, rows))


def _measure(server: Server, database: BenchDatabase, *, clients: int, seconds: int) -> Batches:
    body = encode(_DOCUMENT, {"events": [_event(number) for number in range(_EVENTS)]}).encode()
    pids = server.pid, database.postmaster_pid
    there = database.count_events()
    before = [cpu_seconds(pid) for pid in pids]
    started = time.perf_counter()
    enough = threading.Event()
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(_send, server, body, enough) for _ in range(clients)]
        enough.wait(seconds)
        enough.set()
        durations = [duration for client in running for duration in client.result()]
    elapsed = time.perf_counter() - started
    spent = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    events = len(durations) * _EVENTS
    if (stored := database.count_events() - there) != events:
        raise RuntimeError(f"{events} events were acknowledged, but {stored} are stored")
    server_cpu, database_cpu = (seconds * 1e6 / events for seconds in spent)
    return Batches(events / elapsed, statistics.median(durations) * 1000, server_cpu, database_cpu)


def _send(server: Server, body: bytes, enough: threading.Event) -> list[float]:
    durations = []
    with server.client() as client:
        while not enough.is_set():
            started = time.perf_counter()
            answer = client.send(body)
            durations.append(time.perf_counter() - started)
            if answer != _RECORDED:
                enough.set()
                raise RuntimeError(f"a batch was not recorded: {answer[:500].decode()}")
    return durations


def _event(number: int) -> dict[str, object]:
    call = {
        "model": "gpt-4o", "userId": f"user-{number}", "sessionId": f"conv-{number // 10}",
        "inputSummary": f"Summarise ticket T-{number} for the customer and propose a next step in plain words",
        "outputSummary": "The customer asks about an invoice; propose a refund and close the ticket",
        "inputTokens": 812, "outputTokens": 120, "costUsd": "0.00323", "latencyMs": 900 + number,
        "metadata": {"attempt": number % 3},
    }  # fmt: skip
    return {"llmCall": call}


def _medians(batches: list[Batches]) -> Batches:
    return Batches(*(statistics.median(getattr(item, field.name) for item in batches) for field in fields(Batches)))


if __name__ == "__main__":
    main()
