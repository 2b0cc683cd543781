"""Compiled conversion of arguments: the same objects as Strawberry's own conversion makes."""

from typing import Any

import pytest
from graphql import GraphQLObjectType, Undefined, coerce_input_value
from hypothesis import given, settings
from hypothesis import strategies as st
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

from graphql_schema.resolvers import _Inputs
from graphql_schema.schema import create_schema
from tests.unit.test_variables import values_of

SCHEMA = create_schema(introspection=True)
CORE = SCHEMA.graphql_schema
FIELDS = [
    (f"{kind.name}.{name}", field)
    for kind in CORE.type_map.values()
    if isinstance(kind, GraphQLObjectType)
    for name, field in kind.fields.items()
    if field.args and isinstance(field.extensions.get("strawberry-definition"), StrawberryField)
]


@pytest.mark.parametrize(("field"), [field for _, field in FIELDS], ids=[name for name, _ in FIELDS])
def test_arguments_of_every_field_are_converted_as_by_strawberry(field: Any) -> None:
    """For valid values of the arguments of every field with a resolver: equal inputs, of the same classes."""
    definition: StrawberryField = field.extensions["strawberry-definition"]
    inputs = _Inputs(CORE)
    conversions = {argument.python_name: inputs.of_argument(argument) for argument in definition.arguments}
    given_arguments = st.fixed_dictionaries(
        {}, optional={name: values_of(argument.type) for name, argument in field.args.items()}
    )

    @given(given_arguments)
    @settings(max_examples=30, deadline=None)
    def compare(values: dict[str, Any]) -> None:
        coerced = {}
        for name, value in values.items():
            valid = coerce_input_value(value, field.args[name].type)
            if valid is not Undefined:
                coerced[name] = valid
        expected = convert_arguments(
            coerced, definition.arguments, SCHEMA.schema_converter.scalar_registry, SCHEMA.config
        )
        converted = {
            python_name: convert(coerced[name])
            for python_name, (name, convert) in conversions.items()
            if name in coerced
        }
        assert converted == expected
        assert repr(converted) == repr(expected)

    compare()
