"""Compiled coercion of variables: the same values, and the same errors, as graphql-core's own."""

from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    OperationDefinitionNode,
    is_input_type,
    parse,
)
from graphql.execution.values import get_variable_values
from hypothesis import given, settings
from hypothesis import strategies as st

from graphql_schema.schema import create_schema
from graphql_schema.variables import VariableCoercer

SCHEMA = create_schema(introspection=True).graphql_schema
INPUT_TYPES = sorted(
    name for name, kind in SCHEMA.type_map.items() if is_input_type(kind) and not name.startswith("__")
)

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["eq", "in", "x"]), inner, max_size=2),
    max_leaves=4,
)
BY_SCALAR: dict[str, st.SearchStrategy[Any]] = {
    "UUID": st.uuids().map(str),
    "DateTime": st.just("2026-01-31T12:00:00Z"),
    "BigInt": st.integers(-(2**65), 2**65) | st.sampled_from(["7", "x", 1.0, 1.5, True]),
    "Decimal": st.sampled_from(["0.1", 3, "x"]),
    "Int": st.integers(-(2**33), 2**33),
    "Float": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5),
    "Boolean": st.booleans(),
    "String": st.text(max_size=5),
    "ID": st.text(max_size=5) | st.integers(0, 9),
    "JSON": ANYTHING,
}


def values_of(kind: GraphQLInputType, depth: int = 3) -> st.SearchStrategy[Any]:
    """Return values that mostly fit a type: now and then one has another type, or a key too many or too few."""
    if isinstance(kind, GraphQLNonNull):
        return values_of(kind.of_type, depth)
    if isinstance(kind, GraphQLList):
        inner = values_of(kind.of_type, depth)
        return st.none() | st.lists(inner, max_size=3) | inner
    if isinstance(kind, GraphQLEnumType):
        return st.none() | st.sampled_from([*kind.values, "NO_SUCH"])
    if isinstance(kind, GraphQLInputObjectType):
        if depth == 0:
            return st.none()
        some = st.lists(st.sampled_from([*kind.fields]), max_size=4, unique=True)
        required = [name for name, field in kind.fields.items() if isinstance(field.type, GraphQLNonNull)]
        return some.flatmap(
            lambda names: st.fixed_dictionaries(
                {name: values_of(kind.fields[name].type, depth - 1) for name in {*names, *required}}
            )
        ) | st.just({"noSuchField": 1})
    return BY_SCALAR[kind.name] | st.none() | ANYTHING


def operation(text: str) -> OperationDefinitionNode:
    """Parse one operation."""
    (node,) = parse(text).definitions
    assert isinstance(node, OperationDefinitionNode)
    return node


def outcome(result: Any) -> Any:
    """Return what can be compared of a result."""
    if isinstance(result, list):
        return [error.message for error in result]
    return result.coerced, {name: source.value for name, source in result.sources.items()}


@pytest.mark.parametrize("name", INPUT_TYPES)
@pytest.mark.parametrize("suffix", ["", "!"])
def test_every_input_type_is_coerced_as_by_graphql_core(name: str, suffix: str) -> None:
    """For values of every input type of the schema, right and wrong: the same values or the same messages."""
    node = operation(f"query ($v: {name}{suffix}) {{ __typename }}")
    coercer = VariableCoercer(SCHEMA, node)
    kind: Any = SCHEMA.type_map[name]

    @given(st.just({}) | st.fixed_dictionaries({"v": values_of(kind)}))
    @settings(max_examples=30, deadline=None)
    def compare(variables: dict[str, Any]) -> None:
        expected = get_variable_values(SCHEMA, node.variable_definitions or (), variables)
        assert outcome(coercer.coerce(variables)) == outcome(expected)

    compare()


@pytest.mark.parametrize("variables", [{}, {"first": 3}, {"first": None}, {"first": "x"}, {"other": 1}, None])
def test_default_values_of_variables_are_honoured(variables: dict[str, Any] | None) -> None:
    """A variable that is left out takes its default, one that is null does not."""
    node = operation("query ($first: Int = 7, $other: Int) { __typename }")
    expected = get_variable_values(SCHEMA, node.variable_definitions or (), variables or {})
    assert outcome(VariableCoercer(SCHEMA, node).coerce(variables)) == outcome(expected)


def test_variable_of_no_input_type_is_refused() -> None:
    """A document that validation would refuse raises its error here too."""
    with pytest.raises(GraphQLError):
        VariableCoercer(SCHEMA, operation("query ($v: AuditEvent) { __typename }"))
