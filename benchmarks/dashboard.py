r"""`make bench-dashboard`: the queries of a dashboard beside the same questions asked in psql, into RESULTS.md.

Both ask the same database one question at a time: the product over HTTP, under row level security; psql as the tables'
owner, with hand-written SQL and its own `\timing`.
"""

import re
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from benchmarks.client import encode
from benchmarks.database import BenchDatabase, bench_database
from benchmarks.options import add_size, make_parser, size_of
from benchmarks.report import RESULTS, conditions, table, write_section
from benchmarks.servers import Server, product

_WARM_UP = 5
_TIME = re.compile(r"^Time: ([0-9.]+) ms", re.MULTILINE)

# What is asked for: at most so many times what psql takes, and so many milliseconds.
_FACTOR = 1.5
_ADDED_MS = 3.0


@dataclass(frozen=True, slots=True)
class Question:
    """One question in both languages; `{tenant}`, `{where}` and `{sums}` are filled in."""

    title: str
    document: str
    sql: str


_WHERE = "tenant_id = '{tenant}' AND created_at >= '{since}'"
_SUMS = (
    "count(*), count(*) FILTER (WHERE status = 'failed'), avg(latency_ms), min(latency_ms), max(latency_ms),"
    " percentile_cont(ARRAY[0.5, 0.9, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_ms), sum(input_tokens),"
    " sum(output_tokens), sum(cost_usd), min(created_at), max(created_at)"
)
QUESTIONS = (
    Question(
        "newest 50 events, 12 fields",
        "{ auditEvents(first: 50) { nodes { id createdAt agentId userId actionType actionName status error inputSummary"
        " outputSummary latencyMs metadata } } }",
        "SELECT id, created_at, agent_id, user_id, action_type, action_name, status, error, input_summary,"
        " output_summary, latency_ms, metadata FROM audit_events WHERE tenant_id = '{tenant}'"
        " ORDER BY created_at DESC, id DESC LIMIT 50",
    ),
    Question(
        "facets of 3 dimensions, 30 days",
        "query($since: DateTime!) { auditFacets(dimensions: [ACTION_TYPE, ACTION_NAME, STATUS],"
        " filter: {createdAt: {gte: $since}}) { dimension values { value count } } }",
        "SELECT action_type, action_name, status, count(*) FROM audit_events WHERE {where}"
        " GROUP BY GROUPING SETS ((action_type), (action_name), (status)) ORDER BY 4 DESC",
    ),
    Question(
        "statistics by action name, 30 days",
        "query($since: DateTime!) { auditStats(groupBy: [ACTION_NAME], filter: {createdAt: {gte: $since}})"
        " { key { value } count failedCount errorRate latencyMs { avg min p50 p90 p95 p99 max } inputTokens"
        " outputTokens costUsd firstAt lastAt } }",
        "SELECT action_name, {sums} FROM audit_events WHERE {where} GROUP BY 1 ORDER BY 2 DESC LIMIT 50",
    ),
    Question(
        "series of about 50 buckets, 30 days",
        "query($since: DateTime!) { auditTimeSeries(filter: {createdAt: {gte: $since}}) { startAt endAt count"
        " failedCount latencyP50Ms latencyP95Ms costUsd } }",
        "SELECT date_bin('12 hours', created_at, '2020-01-01'), count(*), count(*) FILTER (WHERE status = 'failed'),"
        " percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY latency_ms), sum(cost_usd)"
        " FROM audit_events WHERE {where} GROUP BY 1 ORDER BY 1",
    ),
)


def main() -> None:
    """Measure each question in turns."""
    parser = make_parser(__doc__, rounds=5)
    add_size(parser, events=1_000_000, chunks=100_000)
    parser.add_argument("--requests", type=int, default=10, help="measured requests of a question in each round")
    options = parser.parse_args()
    size = size_of(options)
    with (
        bench_database(options.data_dir.resolve(), size) as database,
        product(database) as server,
        _psql(database) as psql,
    ):
        since = datetime.now(UTC) - timedelta(days=30)
        rows = [_row(question, server, psql, database, since, options) for question in QUESTIONS]
        versions = database.versions()
    how = (
        f"Loaded: {size}; the tenant asked has a fifth of the events. Medians of {options.rounds} rounds of"
        f" {options.requests} requests, one at a time, in turns. Allowed: {_FACTOR} x psql + {_ADDED_MS:.0f} ms."
    )
    header = ("question", "Konstruct ms", "psql ms", "allowed ms", "Konstruct / allowed")
    write_section(RESULTS, "A dashboard's queries beside psql", conditions(versions, how), table(header, rows))


def _row(
    question: Question, server: Server, psql: "Psql", database: BenchDatabase, since: datetime, options: object
) -> Sequence[str]:
    rounds, requests = getattr(options, "rounds", 1), getattr(options, "requests", 1)
    variables = {"since": since.isoformat()} if "$since" in question.document else {}
    body = encode(question.document, variables).encode()
    where = _WHERE.format(tenant=database.tenant_id, since=since.isoformat())
    sql = question.sql.format(tenant=database.tenant_id, where=where, sums=_SUMS)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        ours += _ask(server, body, requests)
        theirs += psql.ask(sql, _WARM_UP + requests)[_WARM_UP:]
    mine, its = statistics.median(ours), statistics.median(theirs)
    allowed = _FACTOR * its + _ADDED_MS
    print(f"{question.title}: {mine:.2f} ms, psql {its:.2f} ms", flush=True)
    return question.title, f"{mine:.2f}", f"{its:.2f}", f"{allowed:.2f}", f"**{mine / allowed:.2f}**"


def _ask(server: Server, body: bytes, requests: int) -> list[float]:
    durations = []
    with server.client() as client:
        for turn in range(_WARM_UP + requests):
            started = time.perf_counter()
            answer = client.send(body)
            elapsed = (time.perf_counter() - started) * 1000
            if b'"errors":' in answer:
                raise RuntimeError(answer[:500].decode())
            if turn >= _WARM_UP:
                durations.append(elapsed)
    return durations


class Psql:
    """A psql that is asked again and again over one connection."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, sql: str, times: int) -> list[float]:
        """Run the statement so often; return the milliseconds that psql says."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("psql has no pipes")
        stdin.write(f"{sql};\n" * times + "\\echo done\n")
        stdin.flush()
        said: list[str] = []
        while (line := stdout.readline()).strip() != "done":
            if not line:
                raise RuntimeError(f"psql ended: {' '.join(said)}")
            said.append(line)
        found = [float(text) for text in _TIME.findall("".join(said))]
        if len(found) != times:
            raise RuntimeError("".join(said)[:500])
        return found


@contextmanager
def _psql(database: BenchDatabase) -> Iterator[Psql]:
    command = [str(database.postgres.program("psql")), database.owner_url, "--no-psqlrc", "--quiet", "--tuples-only"]
    with subprocess.Popen(  # noqa: S603 - of the installed wheel
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        psql = Psql(process)
        if process.stdin is None:
            raise RuntimeError("psql has no pipes")
        # The product's own connections compile no queries either.
        process.stdin.write("\\pset pager off\n\\timing on\nSET jit = off;\n\\o /dev/null\n\\echo ready\n")
        process.stdin.flush()
        while process.stdout is not None and process.stdout.readline().strip() != "ready":
            pass
        yield psql
        process.stdin.close()


if __name__ == "__main__":
    main()
