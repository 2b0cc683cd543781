"""`make bench-workers`: what a second worker process brings, into RESULTS.md.

On two cores that depends on what PostgreSQL and the client leave: the more of the work is the server's own, the more.
"""

from contextlib import ExitStack

from benchmarks.answers import check_answers
from benchmarks.database import bench_database
from benchmarks.measure import measure
from benchmarks.options import add_size, make_parser, size_of
from benchmarks.report import RESULTS, comparison, conditions, write_section
from benchmarks.servers import check_programs, product
from benchmarks.work import Work

_WORKS = (Work.UNSEEN, Work.LIST, Work.INSERT)


def main() -> None:
    """Measure with two workers and with one."""
    parser = make_parser(__doc__, rounds=3, seconds=5)
    add_size(parser, events=100_000, chunks=10_000)
    options = parser.parse_args()
    check_programs("wrk")
    size = size_of(options)
    with bench_database(options.data_dir.resolve(), size) as database, ExitStack() as stack:
        versions = database.versions()
        servers = [
            stack.enter_context(product(database, workers=count, name=f"{count} worker{'s' * (count > 1)}"))
            for count in (2, 1)
        ]
        check_answers(servers, _WORKS, database)
        measured = measure(
            servers, _WORKS, database.postmaster_pid,
            connections=(64,), rounds=options.rounds, seconds=options.seconds,
        )  # fmt: skip
    how = f"Loaded: {size}. Medians of {options.rounds} rounds of {options.seconds} s, in turns."
    write_section(RESULTS, "Two workers", conditions(versions, how), comparison(measured, servers))


if __name__ == "__main__":
    main()
