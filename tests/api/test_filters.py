"""Filters against a brute-force filter in Python: exactly the events meant, whatever is null in them.

Logic is two-valued: a row satisfies a condition or it does not, and `not` is the complement.
"""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.settings import Settings
from tests.support.database import new_tenant
from tests.support.server import GraphQLClient, LiveServer

FIELDS = "id agentId userId actionType actionName status sessionId traceId createdAt latencyMs costUsd"
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
    }
    kind = chance.randrange(3)
    if kind == 0:
        return {"llmCall": {"model": chance.choice(NAMES), "costUsd": chance.choice(COSTS)} | common}
    if kind == 1:
        return {"toolCall": {"toolName": chance.choice(NAMES)} | common}
    return {"escalation": {"target": chance.choice(["HUMAN", "AGENT", "QUEUE"]), "reason": "r"} | common}


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


@pytest.fixture(scope="module")
async def trail(server: LiveServer, settings: Settings) -> AsyncIterator[Trail]:
    """Two hundred varied events of five different times."""
    tenant = await new_tenant(settings, "Varied")
    client = GraphQLClient(server.graphql_url, tenant.api_key)
    chance = random.Random(1)
    for _ in range(5):
        events = [make_item(chance) for _ in range(40)]
        data = await client.data(LOG_EVENTS, {"input": {"events": events}})
        assert data["logEvents"]["rejectedCount"] == 0
    nodes = (await client.data("{ auditEvents(first: 500) { nodes { " + FIELDS + " } } }"))["auditEvents"]["nodes"]
    assert len(nodes) == 200
    yield Trail(client, nodes)
    await client.http.aclose()


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


@pytest.fixture(scope="module")
def any_filter(trail: Trail) -> st.SearchStrategy[dict[str, Any]]:
    """Filters that may mean some of the trail's events."""
    return filters(simple_filters(trail.rows), 3)


THREE = (
    "query($a: AuditEventFilter, $b: AuditEventFilter, $c: AuditEventFilter) {"
    + " ".join(f"{name}: auditEvents(filter: ${name}, first: 500) {{ nodes {{ id }} }}" for name in "abc")
    + "}"
)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_any_filter_finds_exactly_the_events_meant(
    trail: Trail, any_filter: st.SearchStrategy[dict[str, Any]], data: st.DataObject
) -> None:
    """Three hundred random filters find what a brute-force filter over the same rows finds, in the list's order."""
    wanted = {name: data.draw(any_filter) for name in "abc"}
    found = await trail.client.data(THREE, wanted)
    for name, where in wanted.items():
        expected = [row["id"] for row in trail.rows if matches(where, row)]
        assert [node["id"] for node in found[name]["nodes"]] == expected


# ---------------------------------------------------------------- each operator by itself


@pytest.mark.parametrize(
    ("field", "operands"),
    [
        (
            field,
            {"eq": "a_b", "in": ["a_b", "100%"], "notIn": ["a_b"], "startsWith": "a", "contains": "_", "isNull": True},
        )
        for field in ("userId", "sessionId", "traceId", "actionName")
    ]
    + [
        ("agentId", {"eq": AGENTS[0], "in": AGENTS[:2], "notIn": AGENTS[:1], "isNull": True}),
        ("actionType", {"eq": "LLM_CALL", "in": ["LLM_CALL", "ESCALATION"]}),
        ("status", {"eq": "FAILED", "in": ["FAILED", "DENIED"]}),
        ("latencyMs", {"eq": 1, "gt": 1, "gte": 1, "lt": 100, "lte": 100, "isNull": True}),
        ("costUsd", {"gt": "0.1", "gte": "0.1", "lt": "0.3", "lte": "0.3"}),
    ],
)
async def test_each_operator_finds_some_and_not_all(trail: Trail, field: str, operands: dict[str, Any]) -> None:
    """Every operator of every field selects, and its complement is the rest."""
    for name, operand in operands.items():
        found = await trail.assert_exact({field: {name: operand}})
        rest = await trail.assert_exact({"not": {field: {name: operand}}})
        if (field, name) == ("actionName", "isNull"):
            assert found == []
        else:
            assert 0 < len(found) < len(trail.rows), (field, name)
        assert len(found) + len(rest) == len(trail.rows)


async def test_id_operators(trail: Trail) -> None:
    """Events are found by their ids; what is no id is the id of nothing."""
    first, second = trail.rows[0]["id"], trail.rows[7]["id"]
    assert await trail.assert_exact({"id": {"eq": first.upper()}}) == [trail.rows[0]]
    assert await trail.assert_exact({"id": {"in": [second, first, "nope"]}}) == [trail.rows[0], trail.rows[7]]
    assert await trail.assert_exact({"id": {"eq": first, "in": [second]}}) == []
    assert await trail.assert_exact({"id": {"eq": "nope"}}) == []
    assert len(await trail.assert_exact({"not": {"id": {"eq": "nope"}}})) == 200


async def test_boundaries_of_time_are_exact(trail: Trail) -> None:
    """`gte` includes the row of exactly this microsecond and `lt` does not."""
    instants = sorted({row["createdAt"] for row in trail.rows})
    for position, text in enumerate(instants):
        assert len(await trail.assert_exact({"createdAt": {"gte": text}})) == 40 * (5 - position)
        assert len(await trail.assert_exact({"createdAt": {"lt": text}})) == 40 * position
        after = (datetime.fromisoformat(text) + timedelta(microseconds=1)).isoformat()
        assert len(await trail.assert_exact({"createdAt": {"gte": text, "lt": after}})) == 40
        assert await trail.assert_exact({"createdAt": {"gte": text, "lt": text}}) == []


async def test_absurd_times_are_no_error(trail: Trail) -> None:
    """A reversed range is empty, and the ends of the calendar include everything."""
    ends = {"gte": "0001-01-01T00:00:00Z", "lt": "9999-12-31T23:59:59Z"}
    assert len(await trail.assert_exact({"createdAt": ends})) == 200
    assert await trail.assert_exact({"createdAt": {"gte": ends["lt"], "lt": ends["gte"]}}) == []
    for epoch in (0, 1767268800, "1767268800"):
        answer = await trail.client.execute(LIST, {"filter": {"createdAt": {"gte": epoch}}})
        assert answer.codes == ["BAD_USER_INPUT"]


# ---------------------------------------------------------------- empty and null


@pytest.mark.parametrize(
    "where",
    [
        {"userId": {"in": []}},
        {"agentId": {"in": []}},
        {"id": {"in": []}},
        {"actionType": {"in": []}},
        {"status": {"in": []}},
        {"or": []},
        {"actionName": {"in": [], "contains": ""}},
        {"not": {}},
        {"not": {"and": []}},
    ],
)
async def test_empty_list_matches_nothing(trail: Trail, where: dict[str, Any]) -> None:
    """An empty list of allowed values allows nothing."""
    assert await trail.assert_exact(where) == []


@pytest.mark.parametrize(
    "where",
    [
        None,
        {},
        {"userId": None},
        {"userId": {}},
        {"userId": {"eq": None, "in": None, "notIn": None, "startsWith": None, "contains": None, "isNull": None}},
        {"agentId": {"notIn": []}},
        {"actionType": {"eq": None, "in": None}},
        {"createdAt": {"gte": None, "lt": None}},
        {"latencyMs": None, "costUsd": {"gt": None}},
        {"and": []},
        {"and": [{}, {"userId": None}]},
        {"and": None, "or": None, "not": None},
        {"or": [{}]},
        {"not": {"or": []}},
    ],
)
async def test_null_is_as_if_left_out(trail: Trail, where: dict[str, Any] | None) -> None:
    """What says nothing restricts nothing."""
    assert len(await trail.assert_exact(where)) == 200


# ---------------------------------------------------------------- text


@pytest.fixture(scope="module")
async def patterns(server: LiveServer, settings: Settings) -> AsyncIterator[GraphQLClient]:
    """A tenant whose events are named with the characters of patterns."""
    tenant = await new_tenant(settings, "Patterns")
    client = GraphQLClient(server.graphql_url, tenant.api_key)
    names = ["a_b", "axb", "100%", "100x", "back\\slash", "A_B"]
    events = [{"toolCall": {"toolName": name}} for name in names]
    await client.data(LOG_EVENTS, {"input": {"events": events}})
    yield client
    await client.http.aclose()


@pytest.mark.parametrize(
    ("operator", "text", "names"),
    [
        ("contains", "a_b", ["a_b"]),
        ("contains", "100%", ["100%"]),
        ("contains", "%", ["100%"]),
        ("contains", "_", ["A_B", "a_b"]),
        ("contains", "\\", ["back\\slash"]),
        ("contains", "k\\s", ["back\\slash"]),
        ("contains", "", ["100%", "100x", "A_B", "a_b", "axb", "back\\slash"]),
        ("startsWith", "a_", ["a_b"]),
        ("startsWith", "100", ["100%", "100x"]),
        ("startsWith", "%", []),
        ("startsWith", "back\\", ["back\\slash"]),
        ("startsWith", "", ["100%", "100x", "A_B", "a_b", "axb", "back\\slash"]),
        ("eq", "a_b", ["a_b"]),
        ("eq", "", []),
    ],
)
async def test_no_character_is_a_wildcard(patterns: GraphQLClient, operator: str, text: str, names: list[str]) -> None:
    """Per cent, underscore and backslash stand for themselves, and case matters."""
    found = await patterns.data(LIST, {"filter": {"actionName": {operator: text}}})
    assert sorted(node["actionName"] for node in found["auditEvents"]["nodes"]) == names


# ---------------------------------------------------------------- limits


def nested(depth: int, kind: str) -> dict[str, Any]:
    """Return a filter with so many levels of one connective."""
    where: dict[str, Any] = {"status": {"eq": "FAILED"}}
    for _ in range(depth):
        where = {kind: where if kind == "not" else [where]}
    return where


@pytest.mark.parametrize("kind", ["and", "or", "not"])
async def test_connectives_may_be_nested_three_deep(trail: Trail, kind: str) -> None:
    """Three levels work; a fourth is refused, and so are hundreds, without an internal error."""
    assert len(await trail.assert_exact(nested(3, kind))) > 0
    for depth in (4, 20, 100, 300):
        answer = await trail.client.execute(LIST, {"filter": nested(depth, kind)})
        assert answer.codes in (["BAD_USER_INPUT"], ["QUERY_TOO_COMPLEX"]), (depth, answer.text[:500])
        assert not answer.body.get("data")
    four = await trail.client.execute(LIST, {"filter": nested(4, kind)})
    assert four.codes == ["BAD_USER_INPUT"]
    assert "at most 3 deep" in four.body["errors"][0]["message"]


async def test_lists_of_operands_are_bounded(trail: Trail) -> None:
    """A thousand values are compared; one more is a client error that names the list."""
    many = [str(uuid4()) for _ in range(999)]
    where = {"id": {"in": [*many, trail.rows[3]["id"]]}}
    assert await trail.matching(where) == [trail.rows[3]]
    refused: list[dict[str, Any]] = [
        {"userId": {"in": [*many, "a", "b"]}},
        {"agentId": {"notIn": [*many, many[0], many[1]]}},
        {"or": [{}] * 1001},
    ]
    for too_many in refused:
        answer = await trail.client.execute(LIST, {"filter": too_many})
        assert answer.codes == ["BAD_USER_INPUT"]
        assert "at most 1000" in answer.body["errors"][0]["message"]


@pytest.mark.parametrize("field", ["metadata", "search", "sequence", "tenantId"])
async def test_filter_that_is_not_offered_is_refused(trail: Trail, field: str) -> None:
    """A field that the filter does not have is a client error and never ignored."""
    answer = await trail.client.execute(LIST, {"filter": {field: {"eq": "x"}}})
    assert answer.codes == ["BAD_USER_INPUT"]
    assert field in answer.body["errors"][0]["message"]


# ---------------------------------------------------------------- documents

DOCUMENTS = "query($filter: KbDocumentFilter) { kbDocuments(filter: $filter) { nodes { externalId } } }"
INGEST = "mutation($input: IngestKbDocumentInput!) { ingestKbDocument(input: $input) { document { id updatedAt } } }"


async def test_document_filters(client_a: GraphQLClient) -> None:
    """Every operator on documents finds exactly the documents meant."""
    stored = {}
    for key, title in (("a_b", "100%"), ("axb", "100x"), ("z", "back\\slash")):
        document = {"externalId": key, "title": title, "body": {"chunks": [{"content": key}]}}
        data = await client_a.data(INGEST, {"input": document})
        stored[key] = data["ingestKbDocument"]["document"]
    cases: list[tuple[dict[str, Any] | None, list[str]]] = [
        (None, ["a_b", "axb", "z"]),
        ({}, ["a_b", "axb", "z"]),
        ({"id": {"eq": stored["z"]["id"]}}, ["z"]),
        ({"id": {"in": [stored["z"]["id"], stored["axb"]["id"], "nope"]}}, ["axb", "z"]),
        ({"id": {"in": []}}, []),
        ({"externalId": {"eq": "a_b"}}, ["a_b"]),
        ({"externalId": {"in": ["z", "axb"]}}, ["axb", "z"]),
        ({"externalId": {"in": []}}, []),
        ({"externalId": {"notIn": ["z"]}}, ["a_b", "axb"]),
        ({"externalId": {"startsWith": "a_"}}, ["a_b"]),
        ({"externalId": {"isNull": True}}, []),
        ({"title": {"contains": "%"}}, ["a_b"]),
        ({"title": {"contains": "\\"}}, ["z"]),
        ({"title": {"startsWith": "100"}}, ["a_b", "axb"]),
        ({"updatedAt": {"gte": stored["axb"]["updatedAt"]}}, ["axb", "z"]),
        ({"updatedAt": {"lt": stored["axb"]["updatedAt"]}}, ["a_b"]),
        ({"title": {"startsWith": "100"}, "externalId": {"eq": "axb"}}, ["axb"]),
    ]
    for where, keys in cases:
        found = await client_a.data(DOCUMENTS, {"filter": where})
        assert sorted(node["externalId"] for node in found["kbDocuments"]["nodes"]) == keys, where
