"""A trail of varied events, random filters, and the same filters in Python.

Logic is two-valued: a row satisfies a condition or it does not, and `not` is the complement.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from tests.support.server import GraphQLClient

FIELDS = (
    "id agentId userId actionType actionName status sessionId traceId createdAt latencyMs costUsd"
    " inputSummary outputSummary error metadata"
)
LIST = (
    "query($filter: AuditEventFilter) { auditEvents(filter: $filter, first: 500) { nodes { "
    + FIELDS
    + " } totalCount { value isExact } } }"
)
LOG_EVENTS = "mutation($input: LogEventsInput!) { logEvents(input: $input) { rejectedCount results { event { id } } } }"

AGENTS = [str(UUID(int=number)) for number in (1, 2, 2**128 - 1)]
TEXTS = [
    "a",
    "ab",
    "a_b",
    "axb",
    "A_B",
    "100%",
    "100x",
    "%",
    "_",
    "back\\slash",
    "back\\",
    "\\",
    "it's",
    'say "hi"',
    "foo:bar::baz",
    "naïve",
    "nai\u0308ve",
    "z\uffff",
    "z\U00010000",
    "z\U0010ffff",
    "z\U0010ffffa",
    "z\U0010ffff\U0010ffff",
    "\U0010ffff",
    "\U0010ffffx",
    "\ud7ff",
    "\ue000",
    " a ",
    "\n",
    "a\tb",
    "ß",
    "SS",
]
# A name can't be blank, and an action's name can't be missing.
NAMES = [text for text in TEXTS if text.strip()]
LATENCIES = [None, 0, 1, 2, 100, 2**31 - 1]
COSTS = [None, "0", "0.000000000001", "0.1", "0.3", "1", "123456789.123456789012"]
STATUSES = ["SUCCEEDED", "FAILED", "DENIED", "PENDING"]
WORDS = ["refund", "late", "parcel", "naïve", "42"]
SCALARS = [None, True, False, 0, 1, 1.5, -7, 2**63, "", "1", "a_b", "100%", 'say "hi"', "back\\slash", "naïve"]
KEYS = ["k", "a_b", "100%", 'q"', "back\\", "ключ", "0"]


def make_item(chance: random.Random) -> dict[str, Any]:
    """Return one event of a batch."""

    def maybe(values: list[Any]) -> Any:
        return chance.choice([None, *values])

    common = {
        "agentId": maybe(AGENTS),
        "userId": maybe(NAMES),
        "sessionId": maybe(NAMES),
        "traceId": maybe(NAMES[:6]),
        "latencyMs": chance.choice(LATENCIES),
        "status": chance.choice(STATUSES),
        "inputSummary": maybe([_sentence(chance) for _ in range(2)]),
        "outputSummary": maybe([_sentence(chance)]),
        "metadata": maybe([_object(chance, 2) for _ in range(3)]),
    }
    kind = chance.randrange(3)
    if kind == 0:
        return {"llmCall": {"model": chance.choice(NAMES), "costUsd": chance.choice(COSTS)} | common}
    if kind == 1:
        return {"toolCall": {"toolName": chance.choice(NAMES)} | common}
    return {"escalation": {"target": chance.choice(["HUMAN", "AGENT", "QUEUE"]), "reason": "r"} | common}


def _sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randrange(1, 5)))


def _object(chance: random.Random, depth: int) -> dict[str, Any]:
    return {chance.choice(KEYS): _value(chance, depth) for _ in range(chance.randrange(3))}


def _value(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(4 if depth else 2)
    if kind == 3:
        return _object(chance, depth - 1)
    if kind == 2:
        return [_value(chance, depth - 1) for _ in range(chance.randrange(3))]
    return chance.choice(SCALARS)


@dataclass
class Trail:
    """A tenant's trail, and what is in it."""

    client: GraphQLClient
    rows: list[dict[str, Any]]

    async def matching(self, where: Any) -> list[dict[str, Any]]:
        """Return the events that the API finds, and check the count beside them."""
        found = (await self.client.data(LIST, {"filter": where}))["auditEvents"]
        assert found["totalCount"] == {"value": len(found["nodes"]), "isExact": True}
        return list(found["nodes"])

    async def assert_exact(self, where: Any) -> list[dict[str, Any]]:
        """Check that the API finds exactly the events meant, in the order of the list; return them."""
        expected = [row for row in self.rows if matches(where, row)]
        assert await self.matching(where) == expected
        return expected


async def varied_trail(client: GraphQLClient) -> Trail:
    """Log two hundred varied events of five different times."""
    chance = random.Random(1)
    for _ in range(5):
        events = [make_item(chance) for _ in range(40)]
        data = await client.data(LOG_EVENTS, {"input": {"events": events}})
        assert data["logEvents"]["rejectedCount"] == 0
    nodes = (await client.data("{ auditEvents(first: 500) { nodes { " + FIELDS + " } } }"))["auditEvents"]["nodes"]
    assert len(nodes) == 200
    return Trail(client, nodes)


# ---------------------------------------------------------------- the same in Python

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, operand: value is not None and value == operand,
    "in": lambda value, operand: value is not None and value in operand,
    "notIn": lambda value, operand: value is None or value not in operand,
    "startsWith": lambda value, operand: value is not None and value.startswith(operand),
    "contains": lambda value, operand: value is not None and operand in value,
    "isNull": lambda value, operand: (value is None) is operand,
    "gt": lambda value, operand: value is not None and value > operand,
    "gte": lambda value, operand: value is not None and value >= operand,
    "lt": lambda value, operand: value is not None and value < operand,
    "lte": lambda value, operand: value is not None and value <= operand,
}


def comparable(field: str, value: Any) -> Any:
    """Turn a value of the API into one that compares as it should."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [comparable(field, item) for item in value]
    if field == "costUsd":
        return Decimal(value)
    if field == "createdAt":
        return datetime.fromisoformat(value)
    return value.lower() if field in {"id", "agentId"} else value


def matches(where: dict[str, Any] | None, row: dict[str, Any]) -> bool:
    """Whether an event satisfies a filter."""
    for field, condition in (where or {}).items():
        if condition is None:
            continue
        if field == "and":
            holds = all(matches(branch, row) for branch in condition)
        elif field == "or":
            holds = any(matches(branch, row) for branch in condition)
        elif field == "not":
            holds = not matches(condition, row)
        elif field == "metadata":
            holds = all(_holds(predicate, row["metadata"]) for predicate in condition)
        elif field == "search":
            holds = _is_found(condition, row)
        else:
            value = comparable(field, row[field])
            holds = all(
                OPERATORS[name](value, comparable(field, operand))
                for name, operand in condition.items()
                if operand is not None
            )
        if not holds:
            return False
    return True


_MISSING = object()


def _holds(predicate: dict[str, Any], metadata: Any) -> bool:
    value = metadata
    for step in predicate["path"]:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            value = _MISSING
            break
    number = value if type(value) in {int, float} else None
    checks: dict[str, Callable[[Any], bool]] = {
        "eq": lambda operand: _is_same(value, operand),
        "in": lambda operand: any(_is_same(value, item) for item in operand),
        "exists": lambda operand: (value is not _MISSING) is operand,
        "gt": lambda operand: number is not None and number > operand,
        "gte": lambda operand: number is not None and number >= operand,
        "lt": lambda operand: number is not None and number < operand,
        "lte": lambda operand: number is not None and number <= operand,
    }
    return all(checks[name](operand) for name, operand in predicate.items() if name != "path" and operand is not None)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: numbers by value, and true is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other)


def _is_found(search: str, row: dict[str, Any]) -> bool:
    """Whether a search, of the kinds that `searches` makes, finds an event."""
    texts = (row[name] for name in ("actionName", "inputSummary", "outputSummary", "error"))
    words = re.findall(r"\w+", " ".join(text or "" for text in texts).lower())

    def has(term: str) -> bool:
        wanted = term.strip('"').lower().split()
        return any(words[start : start + len(wanted)] == wanted for start in range(len(words)))

    return any(
        all(not has(term[1:]) if term.startswith("-") else has(term) for term in re.findall(r'-?"[^"]*"|\S+', branch))
        for branch in search.split(" or ")
    )


# ---------------------------------------------------------------- random filters


def operators(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the operators, each with an operand or null."""
    return st.fixed_dictionaries({}, optional={name: st.none() | value for name, value in values.items()})


def listed(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A list of operands, which may be empty."""
    return st.lists(value, max_size=4)


texts = st.sampled_from(TEXTS) | st.text("aAbx_%\\'z1\U0010ffff\uffff", max_size=3)
agents = st.sampled_from([*AGENTS, AGENTS[2].upper(), str(UUID(int=9))])
integers = st.sampled_from([-(2**31), -1, 0, 1, 2, 3, 100, 2**31 - 1])
decimals = st.sampled_from(["-1", "0", "0.00", "0.1", "0.10", "0.2", "1e-12", "1", "123456789.123456789012", "1e9"])
json_values = (
    st.sampled_from(SCALARS[1:]) | st.lists(st.sampled_from(SCALARS), max_size=2) | st.sampled_from([{}, {"k": 1}])
)
bounds = st.sampled_from([-8.0, 0.0, 1.0, 1.5, 9.3e18])
predicates = st.builds(
    lambda path, conditions: {"path": path} | conditions,
    st.lists(st.sampled_from([*KEYS, "1"]), min_size=1, max_size=2),
    operators(
        eq=json_values,
        exists=st.booleans(),
        gt=bounds,
        gte=bounds,
        lt=bounds,
        lte=bounds,
        **{"in": listed(json_values)},
    ),
)
terms = st.sampled_from(WORDS) | st.builds(
    lambda one, other: f'"{one} {other}"', st.sampled_from(WORDS), st.sampled_from(WORDS)
)
searches = st.lists(
    st.builds(lambda sign, term: sign + term, st.sampled_from(["", "", "-"]), terms).map(str), min_size=1, max_size=2
).map(" ".join)
text_filter = operators(
    eq=texts,
    **{"in": listed(texts), "notIn": listed(texts), "startsWith": texts, "contains": texts, "isNull": st.booleans()},
)


def simple_filters(rows: list[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Filters without and, or and not."""
    ids = st.sampled_from([*(row["id"] for row in rows[:5]), rows[0]["id"].upper(), str(UUID(int=9)), "nope"])
    instants = sorted({row["createdAt"] for row in rows})
    times = st.sampled_from([*instants, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
    kinds = st.sampled_from(["LLM_CALL", "TOOL_INVOCATION", "ESCALATION"])
    statuses = st.sampled_from(STATUSES)
    conditions: dict[str, st.SearchStrategy[Any]] = {
        "id": operators(eq=ids, **{"in": listed(ids)}),
        "agentId": operators(eq=agents, **{"in": listed(agents), "notIn": listed(agents), "isNull": st.booleans()}),
        "userId": text_filter,
        "actionName": text_filter,
        "sessionId": text_filter,
        "traceId": text_filter,
        "actionType": operators(eq=kinds, **{"in": listed(kinds)}),
        "status": operators(eq=statuses, **{"in": listed(statuses)}),
        "createdAt": operators(gte=times, lt=times),
        "latencyMs": operators(eq=integers, gt=integers, gte=integers, lt=integers, lte=integers, isNull=st.booleans()),
        "metadata": st.lists(predicates, max_size=2),
        "search": searches | st.builds(lambda one, other: f"{one} or {other}", searches, searches),
        "costUsd": operators(gt=decimals, gte=decimals, lt=decimals, lte=decimals),
    }

    def some(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({name: st.none() | conditions[name] for name in names})

    return st.lists(st.sampled_from(sorted(conditions)), max_size=2, unique=True).flatmap(some)


def filters(simple: st.SearchStrategy[dict[str, Any]], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Filters with and, or and not, nested at most so deep."""
    if depth == 0:
        return simple
    inner = filters(simple, depth - 1)
    nested = st.fixed_dictionaries(
        {},
        optional={
            "and": st.none() | st.lists(inner, max_size=2),
            "or": st.none() | st.lists(inner, max_size=3),
            "not": st.none() | inner,
        },
    )
    return st.one_of(simple, st.builds(lambda one, other: one | other, simple, nested))
