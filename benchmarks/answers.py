"""Whether all servers do the same work: each is asked once for each piece before anything is measured."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from benchmarks.client import Refused
from benchmarks.database import BenchDatabase
from benchmarks.servers import Server
from benchmarks.work import Row, Work
from benchmarks.wrk import UNIQUE

_ROWS = {Work.LIST: 50, Work.UNSEEN: 50, Work.SEARCH: 10, Work.STATS: 9, Work.INSERT: 1}
# A list must have its order too. Stats may come in any, and a search through an approximate index may miss one of ten.
_SHARED_HITS = 9


class WrongAnswer(Exception):
    """A server did not do the work that it was asked for."""


def check_answers(servers: Sequence[Server], works: Sequence[Work], database: BenchDatabase) -> set[tuple[str, Work]]:
    """Return the servers and works whose root field does not exist yet; raise `WrongAnswer` for a wrong answer."""
    missing = set()
    for work in works:
        found: dict[str, list[Row]] = {}
        for server in servers:
            rows = _ask(server, work)
            if rows is None:
                missing.add((server.name, work))
                print(f"{work:8} {server.name} has no `{server.tasks[work].field}` yet: left out", flush=True)
                continue
            found[server.name] = rows
            if len(rows) != _ROWS[work]:
                raise WrongAnswer(f"{server.name}, {work}: {len(rows)} rows instead of {_ROWS[work]}")
        if work is Work.INSERT:
            _check_committed(found, database)
        else:
            _compare(work, found)
    return missing


def _ask(server: Server, work: Work) -> list[Row] | None:
    task = server.tasks[work]
    variables = {name: _with_unique(value) for name, value in task.variables.items()}
    with server.client() as client:
        try:
            data = client.ask(task.document, variables)
        except Refused as refusal:
            if refusal.lacks(task.field):
                return None
            raise WrongAnswer(f"{server.name}, {work}: {refusal}") from refusal
    return task.read(data[task.field])


def _with_unique(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_unique(item) for key, item in value.items()}
    return value.replace(UNIQUE, "0" * 12) if isinstance(value, str) else value


def _check_committed(found: Mapping[str, list[Row]], database: BenchDatabase) -> None:
    for name, [(event_id,)] in found.items():
        if not database.has_event(str(event_id)):
            raise WrongAnswer(f"{name}, insert: the event {event_id} was acknowledged but is not committed")


def _compare(work: Work, found: Mapping[str, list[Row]]) -> None:
    for (first, expected), (name, rows) in pairwise(found.items()):
        is_same = rows == expected
        if work is Work.SEARCH:
            is_same = len(set(rows) & set(expected)) >= _SHARED_HITS
        if work is Work.STATS:
            is_same = set(rows) == set(expected)
        if not is_same:
            raise WrongAnswer(f"{work}: {first} and {name} do not find the same:\n{expected}\n{rows}")
