"""Filters on what lies inside metadata: exact, and never an error because of a value of another kind."""

import json
from typing import Any

import pytest

from tests.support.server import GraphQLClient

LIST = "query($f: AuditEventFilter) { auditEvents(filter: $f, first: 500) { nodes { metadata } } }"
LOG = "mutation($e: [AuditEventInput!]!) { logEvents(input: {events: $e}) { recordedCount } }"

SHAPES: list[dict[str, Any]] = [
    {"a": "x"},
    {"a": ["x"]},
    {"a": 1},
    {"a": 1.0, "n": 2},
    {"a": "1"},
    {"a": None},
    {"b": 1},
    {"a": {"b": [{"c": 7}]}},
    {"a": True},
    {},
]


async def log(client: GraphQLClient, *metadata: dict[str, Any]) -> None:
    """Record one event for each metadata."""
    events = [{"toolCall": {"toolName": "t", "metadata": item}} for item in metadata]
    assert (await client.data(LOG, {"e": events}))["logEvents"]["recordedCount"] == len(metadata)


async def found(client: GraphQLClient, *predicates: dict[str, Any]) -> list[Any]:
    """Return the metadata of the matching events, oldest first."""
    nodes = (await client.data(LIST, {"f": {"metadata": list(predicates)}}))["auditEvents"]["nodes"]
    return [node["metadata"] for node in reversed(nodes)]


@pytest.mark.parametrize(
    ("predicate", "matching"),
    [
        ({"path": ["a"], "eq": "x"}, [0]),
        ({"path": ["a"], "eq": ["x"]}, [1]),
        ({"path": ["a", "0"], "eq": "x"}, [1]),
        ({"path": ["a"], "eq": 1}, [2, 3]),
        ({"path": ["a"], "eq": "1"}, [4]),
        ({"path": ["a"], "eq": True}, [8]),
        ({"path": ["a"], "in": ["x", 1]}, [0, 2, 3]),
        ({"path": ["a"], "in": [["x"], {"b": [{"c": 7}]}]}, [1, 7]),
        ({"path": ["a"], "in": []}, []),
        ({"path": ["a"], "exists": True}, [0, 1, 2, 3, 4, 5, 7, 8]),
        ({"path": ["a"], "exists": False}, [6, 9]),
        ({"path": ["a", "b", "0", "c"], "gte": 7}, [7]),
        ({"path": ["a"], "gt": 0}, [2, 3]),
        ({"path": ["a"], "gt": 0, "lt": 1}, []),
        ({"path": ["a"], "lte": 1}, [2, 3]),
        ({"path": ["a"]}, list(range(10))),
    ],
)
async def test_predicate_matches_by_json_value(
    client_a: GraphQLClient, predicate: dict[str, Any], matching: list[int]
) -> None:
    """Each operator finds exactly the events whose value it is about (C32)."""
    for shape in SHAPES:
        await log(client_a, shape)
    assert await found(client_a, predicate) == [SHAPES[number] for number in matching]


async def test_not_is_the_complement_and_all_predicates_must_hold(client_a: GraphQLClient) -> None:
    """`not` includes events without the key; several predicates narrow."""
    for shape in SHAPES:
        await log(client_a, shape)
    one = {"path": ["a"], "eq": 1}
    nodes = (await client_a.data(LIST, {"f": {"not": {"metadata": [one]}}}))["auditEvents"]["nodes"]
    assert [node["metadata"] for node in reversed(nodes)] == [SHAPES[n] for n in (0, 1, 4, 5, 6, 7, 8, 9)]
    assert await found(client_a, one, {"path": ["n"], "exists": True}) == [SHAPES[3]]


async def test_badly_typed_values_raise_nothing(client_a: GraphQLClient, client_b: GraphQLClient) -> None:
    """A range passes over values that are no numbers, the caller's own and another tenant's (C19)."""
    await log(client_b, {"k": "abc"})
    await log(client_a, {"k": 7})
    assert await found(client_a, {"path": ["k"], "gt": 5}) == [{"k": 7}]
    await log(client_a, {"k": "abc"}, {"k": [9]}, {"k": {"x": 9}}, {"k": None}, {"k": "9"})
    assert await found(client_a, {"path": ["k"], "gt": 5}) == [{"k": 7}]


@pytest.mark.parametrize("number", ["750727362669608961", "18446744073709551616", "12345678901234567890123"])
async def test_big_integer_is_found_by_every_digit(client_a: GraphQLClient, number: str) -> None:
    """Integers beyond 53 and 64 bits are found, and their neighbours are not (C40)."""
    await log(client_a, {"n": int(number)})
    assert await found(client_a, {"path": ["n"], "eq": int(number)}) == [{"n": int(number)}]
    assert await found(client_a, {"path": ["n"], "eq": int(number) + 1}) == []


async def test_colons_quotes_and_braces_in_keys_are_keys(client_a: GraphQLClient) -> None:
    """Keys are taken as they are (C43)."""
    for key in ("a::b", ":c", 'say "hi"', "{x,y}", "back\\slash", "ключ", "%"):
        await log(client_a, {key: ":v"})
        assert await found(client_a, {"path": [key], "eq": ":v"}) == [{key: ":v"}]


@pytest.mark.parametrize(
    ("predicate", "field"),
    [
        ({"path": []}, "path"),
        ({"path": ["a\x00b"]}, "path"),
        ({"path": ["a\ud800"]}, "path"),
        ({"path": ["a"] * 17}, "path"),
        ({"path": ["a"], "eq": "x\x00"}, "eq"),
        ({"path": ["a"], "in": [{"\x00": 1}]}, "in"),
        ({"path": ["a"], "eq": "x" * 70_000}, "eq"),
        ({"path": ["a"], "in": [1] * 1001}, "in"),
    ],
)
async def test_impossible_predicate_is_a_client_error(
    client_a: GraphQLClient, predicate: dict[str, Any], field: str
) -> None:
    """What could never be stored can't be asked for; the field is named."""
    answer = await client_a.post(json.dumps({"query": LIST, "variables": {"f": {"metadata": [predicate]}}}))
    assert answer.codes == ["BAD_USER_INPUT"]
    assert field in answer.body["errors"][0]["extensions"]["field"]
