"""`make bench-growth`: how latency grows with the number of events, into GROWTH.md.

A database and a server for each size, all running, so that sizes are measured in turns too. Requests go one at a time
over one connection; the tenant is the largest, with a fifth of the events.
"""

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.client import Refused, encode
from benchmarks.database import BenchDatabase, Size, bench_database
from benchmarks.options import make_parser
from benchmarks.report import GROWTH, conditions, ratio, table, write_section
from benchmarks.servers import Server, product

_WARM_UP = 20
_FIELDS = "id agentId userId actionType inputSummary outputSummary latencyMs metadata createdAt"
_LIST = f"query($filter: AuditEventFilter) {{ auditEvents(first: 50, filter: $filter) {{ nodes {{ {_FIELDS} }} }} }}"
_EVENT = f"query($id: ID!) {{ auditEvent(id: $id) {{ {_FIELDS} }} }}"


@dataclass(frozen=True, slots=True)
class Query:
    """Requests of one kind, sent in turns. Each finds this many events; `needs` names what the schema may lack."""

    title: str
    document: str
    variables: Sequence[dict[str, object]]
    events: int
    needs: str = ""


def main() -> None:
    """Measure all sizes."""
    parser = make_parser(__doc__, rounds=4)
    parser.add_argument("--sizes", default="100000,1000000", help="numbers of events, smallest first")
    parser.add_argument("--requests", type=int, default=200, help="measured requests of each kind, over all rounds")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with ExitStack() as stack:
        databases = [
            stack.enter_context(bench_database(options.data_dir.resolve(), Size(size, 0), writing=False))
            for size in sizes
        ]
        targets = [(stack.enter_context(product(database)), _queries(database)) for database in databases]
        versions = databases[0].versions()
        rows = [
            _row([(server, queries[number]) for server, queries in targets], options.rounds, options.requests)
            for number in range(len(targets[0][1]))
        ]
    header = ["query"]
    for size in sizes:
        header += [f"{size:,} events: median ms", "p95 ms"]
    header += ["ratio of medians", "ratio of p95"]
    how = (
        f"Events over 50 tenants; the one measured has a fifth of them. {options.requests} requests of each kind,"
        " one at a time, after a warm-up; ratios are the largest size's to the smallest's."
    )
    write_section(GROWTH, "Latency by number of events", conditions(versions, how), table(header, rows))


def _queries(database: BenchDatabase) -> list[Query]:
    events = database.sample_events(100)
    tickets = [ticket for _, ticket in events]
    return [
        Query("newest 50 tool invocations, 9 fields", _LIST, [_where(actionType={"eq": "TOOL_INVOCATION"})], 50),
        Query("one event by id", _EVENT, [{"id": event_id} for event_id, _ in events], 1),
        Query(
            "metadata filter, a rare value", _LIST,
            [_where(metadata=[{"path": ["ticket"], "eq": ticket}]) for ticket in tickets], 1,
        ),
        Query("metadata filter, a frequent value", _LIST, [_where(metadata=[{"path": ["attempt"], "eq": 1}])], 50),
        Query("text search, a rare word", _LIST, [_where(search=ticket) for ticket in tickets], 1, "search"),
        Query("text search, a frequent word", _LIST, [_where(search="refund")], 50, "search"),
    ]  # fmt: skip


def _where(**conditions_: object) -> dict[str, object]:
    return {"filter": conditions_}


def _row(targets: Sequence[tuple[Server, Query]], rounds: int, requests: int) -> list[str]:
    title = targets[0][1].title
    try:
        for server, query in targets:
            _check(server, query)
    except Refused as refusal:
        needs = targets[0][1].needs
        if not needs or not refusal.lacks(needs):
            raise
        print(f"{title}: the schema has no `{needs}` yet: left out", flush=True)
        return [title, f"left out: the schema has no `{needs}` yet", *[""] * (2 * len(targets) + 1)]
    durations: list[list[float]] = [[] for _ in targets]
    for number in range(rounds):
        for found, (server, query) in zip(durations, targets, strict=True):
            found.extend(_measure(server, query, number, -(-requests // rounds)))
    medians = [statistics.median(found) for found in durations]
    p95s = [statistics.quantiles(found, n=20)[-1] for found in durations]
    figures = [f"{figure:.2f}" for pair in zip(medians, p95s, strict=True) for figure in pair]
    print(f"{title}: {', '.join(figures)}", flush=True)
    return [title, *figures, f"**{ratio(medians[-1], medians[0])}**", ratio(p95s[-1], p95s[0])]


def _check(server: Server, query: Query) -> None:
    with server.client() as client:
        for variables in query.variables:
            data = client.ask(query.document, variables)
            [(_, answer)] = data.items()
            nodes = answer["nodes"] if answer and "nodes" in answer else [answer]
            if len(nodes) != query.events or None in nodes:
                raise RuntimeError(f"{query.title}, {variables}: {len(nodes)} events instead of {query.events}")


def _measure(server: Server, query: Query, number: int, requests: int) -> list[float]:
    bodies = [encode(query.document, variables).encode() for variables in query.variables]
    durations = []
    with server.client() as client:
        for turn in range(_WARM_UP + requests):
            body = bodies[(number * requests + turn) % len(bodies)]
            started = time.perf_counter()
            answer = client.send(body)
            elapsed = (time.perf_counter() - started) * 1000
            if b'"errors":' in answer:
                raise RuntimeError(f"{query.title}: {answer[:500].decode()}")
            if turn >= _WARM_UP:
                durations.append(elapsed)
    return durations


if __name__ == "__main__":
    main()
