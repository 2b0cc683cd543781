"""`make bench-memory`: whether the server's memory grows with the number of requests, into RESULTS.md.

The requests take turns: a list, an insert, a search, an invalid document, and valid and invalid documents that no
server has seen before, which is what fills a cache of parsed documents.
"""

import time

from benchmarks.client import encode
from benchmarks.database import bench_database
from benchmarks.options import add_size, make_parser, size_of
from benchmarks.processes import resident_mib
from benchmarks.report import RESULTS, conditions, ratio, table, write_section
from benchmarks.servers import Server, check_programs, product
from benchmarks.work import Work
from benchmarks.wrk import UNIQUE, drive

_INVALID = (
    encode("{ auditEvents(first: 1) { nodes { id "),
    encode(f"{{ auditEvents(first: 1) {{ nodes {{ a{UNIQUE} }} }} }}"),
)
_UNIQUE = encode(f"{{ auditEvents(first: 1) {{ nodes {{ a{UNIQUE}: createdAt }} }} }}")
_CONNECTIONS = 16


def main() -> None:
    """Measure the memory after the first and after all requests."""
    parser = make_parser(__doc__, seconds=2)
    add_size(parser, events=100_000, chunks=10_000)
    parser.add_argument("--requests", type=int, nargs=2, default=(20_000, 200_000), help="when to look")
    options = parser.parse_args()
    check_programs("wrk")
    size = size_of(options)
    with bench_database(options.data_dir.resolve(), size) as database, product(database) as server:
        versions = database.versions()
        done = 0
        found: list[tuple[int, float]] = []
        for target in options.requests:
            while done < target:
                done += _send(server, options.seconds)
                print(f"{done:,} requests: {resident_mib(server.pid):.1f} MiB", flush=True)
            time.sleep(2)
            found.append((done, resident_mib(server.pid)))
    rows: list[tuple[str, str]] = [(f"{requests:,}", f"{memory:.1f}") for requests, memory in found]
    rows.append(("**ratio**", f"**{ratio(found[-1][1], found[0][1])}**"))
    how = (
        f"Loaded: {size}. One server process, {_CONNECTIONS} connections; lists, inserts, searches, documents in turns."
    )
    write_section(RESULTS, "Memory", conditions(versions, how), table(("mixed requests", "resident MiB"), rows))


def _send(server: Server, seconds: int) -> int:
    valid = [server.tasks[work].body for work in (Work.LIST, Work.INSERT, Work.SEARCH)]
    bodies = [*valid, _UNIQUE, *_INVALID]
    outcome = drive(server.url, server.headers, bodies, connections=_CONNECTIONS, seconds=seconds)
    expected = outcome.requests * len(_INVALID) / len(bodies)
    # Requests are answered a little out of turn, as many as are under way.
    if abs(outcome.errors - expected) > 2 * _CONNECTIONS:
        raise RuntimeError(
            f"{outcome.errors} of {outcome.requests} answers are errors, the first {outcome.first_error}"
        )
    return outcome.requests


if __name__ == "__main__":
    main()
