"""Arguments read from a template are those that graphql-core reads anew, or the same error."""

from typing import Any

import pytest
from graphql import FieldNode, GraphQLError, GraphQLField, OperationDefinitionNode, parse, validate
from graphql.execution.values import get_argument_values

from graphql_schema.argument_templates import argument_reader
from graphql_schema.schema import create_schema
from graphql_schema.variables import VariableCoercer

SCHEMA = create_schema(introspection=True).graphql_schema

SEARCH = """
query($v: [Float!]!, $n: Int, $m: Float) {
  kbSearch(input: {query: {vector: $v}, limit: $n, minSimilarity: $m}) { hits { rank } }
}
"""
EVENTS = "{ nodes { id } } }"
CASES: list[tuple[str, dict[str, Any]]] = [
    # Constants alone, and defaults.
    ("{ auditEvents(first: 5, filter: {actionType: {eq: LLM_CALL}}) { nodes { id } } }", {}),
    ("{ auditEvents { nodes { id } } }", {}),
    # A variable as the argument.
    ("query($n: Int) { auditEvents(first: $n) { nodes { id } } }", {"n": 7}),
    ("query($n: Int) { auditEvents(first: $n) { nodes { id } } }", {"n": None}),
    ("query($n: Int) { auditEvents(first: $n) { nodes { id } } }", {}),
    ("query($n: Int = 3) { auditEvents(first: $n) { nodes { id } } }", {}),
    # Inside an object, twice, beside constants.
    ("query($a: String) { auditEvents(filter: {userId: {eq: $a}, or: [{sessionId: {eq: $a}}, {}]}) " + EVENTS,
     {"a": "x"}),
    ("query($a: String) { auditEvents(filter: {userId: {eq: $a}}) { nodes { id } } }", {}),
    ("query($a: String) { auditEvents(filter: {userId: {eq: $a}}) { nodes { id } } }", {"a": None}),
    # In a list, and a single item in the place of a list.
    ('query($a: String!, $b: String!) { auditEvents(filter: {userId: {in: [$a, "c", $b]}}) { nodes { id } } }',
     {"a": "x", "b": "y"}),
    ("query($a: String!) { auditEvents(filter: {userId: {in: $a}}) { nodes { id } } }", {"a": "x"}),
    # An input of which exactly one field may be given.
    (SEARCH, {"v": [1.0, 0.5], "n": 4, "m": 0.5}),
    (SEARCH, {"v": [1.0, 0.5]}),
    # Inside a scalar's literal.
    ('mutation($x: Int, $y: JSON) { logToolCall(input: {toolName: "t", metadata: {a: $x, b: [$y]}}) { outcome } }',
     {"x": 1, "y": {"z": [1, 2]}}),
    ('mutation($x: JSON) { logToolCall(input: {toolName: "t", metadata: $x}) { outcome } }', {"x": {"a": 10**30}}),
    # Enums, and a whole input object.
    ("query($t: AuditActionType) { auditEvents(filter: {actionType: {eq: $t}}) " + EVENTS, {"t": "ESCALATION"}),
    ("mutation($e: LogLlmCallInput!) { logLlmCall(input: $e) { outcome } }",
     {"e": {"model": "m", "costUsd": "0.5", "metadata": {"a": [1]}}}),
]  # fmt: skip


def read_both_ways(text: str, variables: dict[str, Any]) -> tuple[Any, Any]:
    """Return the arguments, or the error, by the template and by graphql-core."""
    document = parse(text)
    assert validate(SCHEMA, document) == [] or "in: $a" in text
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    node = operation.selection_set.selections[0]
    assert isinstance(node, FieldNode)
    root = SCHEMA.get_root_type(operation.operation)
    assert root is not None
    field: GraphQLField = root.fields[node.name.value]
    values = VariableCoercer(SCHEMA, operation).coerce(variables)
    assert not isinstance(values, list)

    def outcome(read: Any) -> Any:
        try:
            return read()
        except GraphQLError as error:
            return str(error)

    reader = argument_reader(field, node)
    first = outcome(lambda: reader(values))
    assert outcome(lambda: reader(values)) == first
    return first, outcome(lambda: get_argument_values(field, node, values))


@pytest.mark.parametrize(("text", "variables"), CASES)
def test_template_and_core_read_the_same(text: str, variables: dict[str, Any]) -> None:
    """For variables in every place, given, null and left out."""
    by_template, by_core = read_both_ways(text, variables)
    assert by_template == by_core
    assert repr(by_template) == repr(by_core)


def test_requests_do_not_share_what_came_from_variables() -> None:
    """Each request has objects of its own around its values."""
    text, variables = "query($a: String!) { auditEvents(filter: {userId: {in: [$a]}}) { nodes { id } } }", {"a": "x"}
    first, _ = read_both_ways(text, variables)
    second, _ = read_both_ways(text, variables)
    assert first == second
    assert first["filter"]["userId"]["in"] is not second["filter"]["userId"]["in"]
