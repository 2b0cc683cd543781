"""`make bench-export`: the whole trail of one tenant as a file, into RESULTS.md.

How fast it is sealed and exported, how much memory the server takes for it, and that a download that is cut off and
gone on with, again and again, is exactly the whole.
"""

import asyncio
import http.client
import json
import random
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.integrity.sealer import Sealer
from benchmarks.database import BenchDatabase, Size, bench_database
from benchmarks.options import make_parser
from benchmarks.processes import peak_mib, reset_peak, resident_mib
from benchmarks.report import RESULTS, conditions, table, write_section
from benchmarks.servers import Server, product

_MIB = 1024 * 1024
_ALLOWED_MIB = 60


def main() -> None:
    """Seal, export whole, export in pieces."""
    parser = make_parser(__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="events of the one tenant")
    parser.add_argument("--cuts", type=int, default=9, help="how often the second download is cut off")
    options = parser.parse_args()
    with bench_database(options.data_dir.resolve(), Size(options.events, 0, 1)) as database:
        sealed_seconds = _seal(database, options.events)
        with product(database) as server:
            rows = [("sealing", f"{sealed_seconds:.1f}", f"{options.events / sealed_seconds:,.0f}", "", "")]
            for name, path in (("JSON lines", "?format=ndjson"), ("CSV", "?format=csv")):
                rows.append(_whole(server, name, path, options.events))
            _in_pieces(server, options.events, options.cuts)
        versions = database.versions()
    how = (
        f"Loaded: {options.events:,} events of one tenant. One server process; the peak is over its memory before."
        f" Then the JSON lines once more, cut off {options.cuts} times at random and gone on with after the last whole"
        " line: every event once, in order."
    )
    header = ("work", "seconds", "events/s", "MiB sent", "server's memory grew by MiB")
    write_section(RESULTS, "Export", conditions(versions, how), table(header, rows))


def _seal(database: BenchDatabase, events: int) -> float:
    started = time.perf_counter()
    sealed = asyncio.run(Sealer(SecretStr(database.sealer_url)).catch_up())
    if sealed != events:
        raise RuntimeError(f"{sealed:,} events were sealed instead of {events:,}")
    seconds = time.perf_counter() - started
    print(f"Sealed {sealed:,} events in {seconds:.1f} s", flush=True)
    return seconds


def _whole(server: Server, name: str, query: str, events: int) -> tuple[str, str, str, str, str]:
    # The first download warms up what every later one finds warm.
    for _ in _download(server, f"{query}&after={events - 5000}"):
        pass
    before = resident_mib(server.pid)
    reset_peak(server.pid)
    started = time.perf_counter()
    size = lines = 0
    for block in _download(server, query):
        size += len(block)
        lines += block.count(b"\n")
    seconds = time.perf_counter() - started
    grown = peak_mib(server.pid) - before
    print(f"{name}: {lines:,} lines in {seconds:.1f} s, memory + {grown:.1f} MiB", flush=True)
    if lines < events or grown > _ALLOWED_MIB:
        raise RuntimeError(f"{lines:,} lines, {grown:.1f} MiB more memory")
    return name, f"{seconds:.1f}", f"{events / seconds:,.0f}", f"{size / _MIB:,.0f}", f"{grown:.1f}"


def _in_pieces(server: Server, events: int, cuts: int) -> None:
    chance = random.Random(3)  # noqa: S311 - where to cut is no secret
    next_sequence, seen = 0, set[str]()
    for turn in range(cuts + 1):
        patience = chance.randrange(1, 2 * events // (cuts + 1)) if turn < cuts else events
        rest = b""
        for block in _download(server, f"?after={next_sequence - 1}"):
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                event = json.loads(line)
                if int(event["sequence"]) != next_sequence:
                    raise RuntimeError(f"{event['sequence']} came instead of {next_sequence}")
                next_sequence += 1
                seen.add(event["id"])
                patience -= 1
            if patience <= 0:
                break
    if (next_sequence, len(seen)) != (events, events):
        raise RuntimeError(f"{next_sequence:,} events, {len(seen):,} of them different")
    print(f"In {cuts + 1} pieces: {events:,} events, each once", flush=True)


def _download(server: Server, query: str) -> Iterator[bytes]:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=120)
    try:
        connection.request("GET", f"/export/audit-events{query}", headers=dict(server.headers))
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(response.read().decode())
        while block := response.read1(1 << 20):
            yield block
    finally:
        connection.close()


if __name__ == "__main__":
    main()
