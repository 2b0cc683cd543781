"""`make bench`: the product beside PostGraphile and the obvious Strawberry server, into RESULTS.md.

Each server is one process over the same database, as the same weak role. Machines are noisy: the servers are measured
in turns, the table holds medians, and what counts is the ratios within one run.
"""

from contextlib import ExitStack

from benchmarks.answers import check_answers
from benchmarks.database import bench_database
from benchmarks.measure import measure
from benchmarks.options import add_size, make_parser, size_of
from benchmarks.report import RESULTS, comparison, conditions, node_versions, write_section
from benchmarks.servers import check_programs, obvious_strawberry, postgraphile, product
from benchmarks.work import Work


def works(text: str) -> list[Work]:
    """Return the works of a list with commas, in the order of measurement."""
    chosen = {Work(name.strip()) for name in text.split(",")}
    return [work for work in Work if work in chosen]


def main() -> None:
    """Run the benchmark."""
    parser = make_parser(__doc__, rounds=3, seconds=5)
    add_size(parser, events=1_000_000, chunks=100_000)
    parser.add_argument("--only", type=works, default=list(Work), metavar="LIST", help="such as list,insert")
    parser.add_argument("--node", default="node", help="Node 22 or later")
    options = parser.parse_args()
    check_programs("wrk", options.node)
    size = size_of(options)
    with bench_database(options.data_dir.resolve(), size) as database, ExitStack() as stack:
        versions = database.versions() | node_versions(options.node)
        servers = [
            stack.enter_context(product(database)),
            stack.enter_context(postgraphile(database, options.node)),
            stack.enter_context(obvious_strawberry(database)),
        ]
        missing = check_answers(servers, options.only, database)
        measured = measure(
            servers, options.only, database.postmaster_pid,
            missing=missing, rounds=options.rounds, seconds=options.seconds,
        )  # fmt: skip
    how = f"Loaded: {size}. Medians of {options.rounds} rounds of {options.seconds} s, the servers in turns."
    write_section(RESULTS, "Beside its peers", conditions(versions, how), comparison(measured, servers, missing))


if __name__ == "__main__":
    main()
