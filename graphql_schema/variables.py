"""Variables of an operation, coerced by functions that are compiled once.

graphql-core walks through all fields of an input type for every value, given or not. A compiled coercer walks through
what was given. It knows valid values only: for any other it says nothing, and graphql-core coerces all of the variables
again to say what is wrong.
"""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from graphql import (
    GraphQLError,
    GraphQLFloat,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    OperationDefinitionNode,
    Undefined,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_required_input_field,
)
from graphql.execution.get_variable_signature import get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource, get_variable_values
from graphql.utilities.coerce_input_value import coerce_default_value

Coerce = Callable[[Any], Any]

NO_VARIABLES = VariableValues({}, {})


# Values of these types are values of the scalar as they are.
_OWN_TYPES = {"String": str, "Boolean": bool}


class _Invalid(Exception):
    """The value is not valid, or no coercer knows it."""


class VariableCoercer:
    """Coerces the variables of one operation."""

    def __init__(self, schema: GraphQLSchema, operation: OperationDefinitionNode) -> None:
        self._schema = schema
        self._definitions = operation.variable_definitions or ()
        known: dict[str, Coerce] = {}
        self._variables: list[tuple[str, bool, Any, Coerce]] = []
        # Whether the digits of numbers count, beyond what binary floating point keeps of them.
        self.needs_exact_numbers = False
        for definition in self._definitions:
            signature = get_variable_signature(schema, definition)
            if isinstance(signature, GraphQLError):
                raise signature
            may_be_left_out = not isinstance(signature.type, GraphQLNonNull) and definition.default_value is None
            coerce = _compile(signature.type, known)
            self._variables.append((signature.name, may_be_left_out, signature, coerce))
            self.needs_exact_numbers |= _holds(signature.type, "Decimal", set())

    def coerce(self, given: Mapping[str, Any] | None) -> VariableValues | list[GraphQLError]:
        """Return the values, or what is wrong with them."""
        if not self._variables:
            return NO_VARIABLES
        given = given or {}
        sources: dict[str, VariableValueSource] = {}
        values: dict[str, Any] = {}
        try:
            for name, may_be_left_out, signature, coerce in self._variables:
                if name in given:
                    value = given[name]
                    values[name] = coerce(value)
                    sources[name] = VariableValueSource(signature, value)
                elif may_be_left_out:
                    sources[name] = VariableValueSource(signature)
                else:
                    raise _Invalid
        except Exception:  # noqa: BLE001 - whatever it is, graphql-core says it
            return get_variable_values(self._schema, self._definitions, dict(given))
        return VariableValues(sources, values)


def _compile(input_type: GraphQLInputType, known: dict[str, Coerce]) -> Coerce:
    nullable = not isinstance(input_type, GraphQLNonNull)
    given_type = input_type.of_type if isinstance(input_type, GraphQLNonNull) else input_type
    if is_leaf_type(given_type):
        return _leaf(given_type, nullable=nullable)
    coerce = _compile_given(given_type, known)
    return _nullable(coerce) if nullable else _required(coerce)


def _compile_given(input_type: Any, known: dict[str, Coerce]) -> Coerce:
    if isinstance(input_type, GraphQLList):
        of_floats = get_nullable_type(input_type.of_type) is GraphQLFloat
        return _list(_compile(input_type.of_type, known), of_floats=of_floats)
    if isinstance(input_type, GraphQLInputObjectType):
        return _input_object(input_type, known)
    raise TypeError(f"{input_type} is no input type")


def _required(coerce: Coerce) -> Coerce:
    def required(value: Any) -> Any:
        if value is None:
            raise _Invalid
        return coerce(value)

    return required


def _nullable(coerce: Coerce) -> Coerce:
    return lambda value: None if value is None else coerce(value)


def _leaf(leaf: Any, *, nullable: bool) -> Coerce:
    """Return the coercer of a scalar or an enum; what JSON has as it is needs no call."""
    coerce: Coerce = leaf.coerce_input_value
    if leaf.name == "Float":
        coerce = _finite(coerce)
    own_type = _OWN_TYPES.get(leaf.name)

    def coerce_leaf(value: Any) -> Any:
        if type(value) is own_type:
            return value
        if value is None:
            if nullable:
                return None
            raise _Invalid
        return coerce(value)

    return coerce_leaf


def _finite(coerce: Coerce) -> Coerce:
    def finite(value: Any) -> Any:
        # A float of JSON is what it is, unless its exponent was too much for it.
        return value if type(value) is float and isfinite(value) else coerce(value)

    return finite


def _holds(input_type: GraphQLInputType, name: str, seen: set[str]) -> bool:
    named = get_named_type(input_type)
    if isinstance(named, GraphQLInputObjectType) and named.name not in seen:
        seen.add(named.name)
        return any(_holds(field.type, name, seen) for field in named.fields.values())
    return named.name == name


def _list(item: Coerce, *, of_floats: bool) -> Coerce:
    def coerce(value: Any) -> list[Any]:
        if type(value) is not list:
            raise _Invalid
        if of_floats and {*map(type, value)} == {float} and isfinite(sum(value)):
            return value.copy()
        return [*map(item, value)]

    return coerce


def _input_object(input_type: GraphQLInputObjectType, known: dict[str, Coerce]) -> Coerce:
    if input_type.name in known:
        return known[input_type.name]
    fields: dict[str, Coerce] = {}
    required = [name for name, field in input_type.fields.items() if is_required_input_field(field)]
    defaults = {
        name: default
        for name, field in input_type.fields.items()
        if name not in required and (default := coerce_default_value(field)) is not Undefined
    }
    if any(isinstance(default, list | dict) for default in defaults.values()):
        raise TypeError(f"{input_type.name}: a default that can be changed would be shared by all requests")

    def coerce(value: Any) -> Any:
        if type(value) is not dict or not all(map(value.__contains__, required)):
            raise _Invalid
        coerced = dict(defaults)
        for name, item in value.items():
            coerced[name] = fields[name](item)
        if input_type.is_one_of and (len(value) != 1 or None in coerced.values()):
            raise _Invalid
        return coerced

    # Known before its fields are: an input may hold others of its own type.
    known[input_type.name] = coerce
    fields |= {name: _compile(field.type, known) for name, field in input_type.fields.items()}
    return coerce
