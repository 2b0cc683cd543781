"""The arguments of a field, coerced once a document as far as they do not come from variables.

graphql-core walks through an argument and all fields of its type for every request. Here it does so once, with a
stand-in in the place of each variable; a request then has its own values put there, which were coerced as variables
already. Where that would not come to the same (a variable is left out or null, or lies inside a scalar's literal),
graphql-core reads the arguments of each request anew.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graphql import (
    FieldNode,
    GraphQLField,
    ListValueNode,
    ObjectValueNode,
    ValueNode,
    VariableNode,
)
from graphql.execution.values import VariableValues, VariableValueSource, get_argument_values

from graphql_schema.variables import NO_VARIABLES

# From the coerced values of variables by name.
_Fill = Callable[[Mapping[str, Any]], Any]


class _StandIn:
    """Stands for the value of a variable."""

    def __init__(self, name: str) -> None:
        self.name = name


def argument_reader(field: GraphQLField, node: FieldNode) -> Callable[[VariableValues], dict[str, Any]]:
    """Return what reads the field's arguments, given the values of variables; raise `GraphQLError`."""
    used = [name for argument in node.arguments or () for name in _variables_in(argument.value)]
    if not used:
        constants = get_argument_values(field, node, NO_VARIABLES)
        return lambda _values: constants

    def read_anew(values: VariableValues) -> dict[str, Any]:
        return get_argument_values(field, node, values)

    stand_ins = {name: _StandIn(name) for name in used}
    signature: Any = None
    sources = {name: VariableValueSource(signature, stand_in) for name, stand_in in stand_ins.items()}
    try:
        template = get_argument_values(field, node, VariableValues(sources, stand_ins))
    except Exception:  # noqa: BLE001 - a stand-in is not of the type that some scalar wants
        return read_anew
    if sorted(_names_in(template)) != sorted(used):
        return read_anew
    fill = _filler(template)

    def read(values: VariableValues) -> dict[str, Any]:
        coerced = values.coerced
        for name in stand_ins:
            if coerced.get(name) is None:
                return read_anew(values)
        filled: dict[str, Any] = fill(coerced)
        return filled

    return read


def _variables_in(value: ValueNode) -> Iterator[str]:
    if isinstance(value, VariableNode):
        yield value.name.value
    elif isinstance(value, ListValueNode):
        for item in value.values:
            yield from _variables_in(item)
    elif isinstance(value, ObjectValueNode):
        for field in value.fields:
            yield from _variables_in(field.value)


def _names_in(template: Any) -> Iterator[str]:
    if isinstance(template, _StandIn):
        yield template.name
    elif isinstance(template, dict | list):
        for item in template.values() if isinstance(template, dict) else template:
            yield from _names_in(item)


def _filler(template: Any) -> _Fill:
    """Return what makes a copy of the template with the values of variables in it."""
    if isinstance(template, _StandIn):
        name = template.name
        return lambda values: values[name]
    if not any(_names_in(template)):
        return lambda _values: template
    if isinstance(template, list):
        items = [_filler(item) for item in template]
        return lambda values: [fill(values) for fill in items]
    members = [(key, _filler(item)) for key, item in template.items()]
    return lambda values: {key: fill(values) for key, fill in members}
