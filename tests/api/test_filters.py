"""Filters against a brute-force filter in Python: exactly the events meant, whatever is null in them."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.settings import Settings
from tests.support.database import new_tenant
from tests.support.server import GraphQLClient, LiveServer
from tests.support.trail import AGENTS, LIST, LOG_EVENTS, Trail, filters, matches, simple_filters, varied_trail


@pytest.fixture(scope="module")
async def trail(server: LiveServer, settings: Settings) -> AsyncIterator[Trail]:
    """Two hundred varied events of five different times."""
    tenant = await new_tenant(settings, "Varied")
    client = GraphQLClient(server.graphql_url, tenant.api_key)
    yield await varied_trail(client)
    await client.http.aclose()


@pytest.fixture(scope="module")
def any_filter(trail: Trail) -> st.SearchStrategy[dict[str, Any]]:
    """Filters that may mean some of the trail's events."""
    return filters(simple_filters(trail.rows), 3)


NAMES = [f"f{number}" for number in range(20)]
TWENTY = (
    "query("
    + ", ".join(f"${name}: AuditEventFilter" for name in NAMES)
    + ") {"
    + " ".join(f"{name}: auditEvents(filter: ${name}, first: 500) {{ nodes {{ id }} }}" for name in NAMES)
    + "}"
)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_any_filter_finds_exactly_the_events_meant(
    trail: Trail, any_filter: st.SearchStrategy[dict[str, Any]], data: st.DataObject
) -> None:
    """Two thousand random filters find what a brute-force filter over the same rows finds, in the list's order."""
    wanted = {name: data.draw(any_filter) for name in NAMES}
    found = await trail.client.data(TWENTY, wanted)
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
