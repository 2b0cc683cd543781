"""Resolvers, called directly.

Between graphql-core and a resolver Strawberry looks up field extensions, exception handlers and the name and type of
every argument, anew with each call. This schema uses neither extensions nor handlers, and the types never change: so
the conversion of each field's arguments into Strawberry's input objects is compiled once, when the schema is built, and
the resolver is called with the result. `test_resolvers` compares it with Strawberry's own conversion.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from graphql import GraphQLObjectType, GraphQLSchema
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.base import StrawberryList, StrawberryMaybe, StrawberryOptional, get_object_definition
from strawberry.types.field import StrawberryField
from strawberry.types.lazy_type import LazyType
from strawberry.types.maybe import Some

from graphql_schema.context import Info

_DEFINITION = "strawberry-definition"
_MISSING = object()
_NO_DEFAULT = dataclasses.MISSING

Convert = Callable[[Any], Any]


def call_resolvers_directly(schema: GraphQLSchema) -> None:
    """Replace Strawberry's wrapper of every resolver of the schema by a direct call."""
    inputs = _Inputs(schema)
    for graphql_type in schema.type_map.values():
        if not isinstance(graphql_type, GraphQLObjectType):
            continue
        for field in graphql_type.fields.values():
            definition = field.extensions.get(_DEFINITION)
            if isinstance(definition, StrawberryField) and definition.base_resolver and not definition.extensions:
                resolve = _direct(definition, inputs)
                if definition.is_subscription:
                    # Yields the field's values one by one; each is then resolved as it is.
                    field.subscribe = resolve
                else:
                    field.resolve = resolve


def _direct(field: StrawberryField, inputs: "_Inputs") -> Callable[..., Any]:
    resolver: Any = field.base_resolver
    function = resolver.wrapped_func
    info_name = resolver.info_parameter.name if resolver.info_parameter else None
    if resolver.root_parameter or resolver.parent_parameter:
        raise TypeError(f"{field.python_name}: take the parent as self")
    takes_self = resolver.self_parameter is not None
    arguments = [(argument.python_name, *inputs.of_argument(argument)) for argument in field.arguments]

    def resolve(source: Any, raw_info: Any, **given: Any) -> Any:
        converted: dict[str, Any] = {}
        for python_name, name, convert in arguments:
            value = given.get(name, _MISSING)
            if value is not _MISSING:
                converted[python_name] = convert(value)
        if info_name is not None:
            converted[info_name] = Info(_raw_info=raw_info, _field=field)
        return function(source, **converted) if takes_self else function(**converted)

    return resolve


def input_converter(schema: GraphQLSchema, input_type: type) -> Callable[[Any], Any]:
    """Return the conversion of coerced values into an input object of Strawberry's."""
    return _Inputs(schema).of_input(input_type)


class _Inputs:
    """Conversions from what graphql-core has coerced to what resolvers take."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._names = schema.extensions[_DEFINITION].config.name_converter
        self._known: dict[type, Convert] = {}

    def of_argument(self, argument: StrawberryArgument) -> tuple[str, Convert]:
        """Return an argument's name in GraphQL and its conversion."""
        return self._names.from_argument(argument), self._of_type(argument.type)

    def _of_type(self, strawberry_type: Any) -> Convert:
        if isinstance(strawberry_type, StrawberryMaybe):
            return _maybe(self._of_type(strawberry_type.of_type))
        if isinstance(strawberry_type, StrawberryOptional):
            return self._of_type(strawberry_type.of_type)
        if isinstance(strawberry_type, StrawberryList):
            return _list(self._of_type(strawberry_type.of_type))
        if isinstance(strawberry_type, LazyType):
            return self._of_type(strawberry_type.resolve_type())
        if get_object_definition(strawberry_type) is not None:
            return self.of_input(strawberry_type)
        # Scalars and enums are converted by graphql-core already.
        return _as_it_is

    def of_input(self, input_type: type) -> Convert:
        """Return the conversion into an input object."""
        if input_type in self._known:
            return self._known[input_type]
        fields: dict[str, tuple[str, Convert]] = {}
        absent: dict[str, None] = {}

        def convert(given: Mapping[str, Any] | None) -> Any:
            if given is None:
                return None
            values = dict(absent)
            for name, value in given.items():
                python_name, convert_value = fields[name]
                values[python_name] = convert_value(value)
            return input_type(**values)

        # Known before its fields are: an input may hold others of its own type.
        self._known[input_type] = convert
        for field in get_object_definition(input_type, strict=True).fields:
            fields[self._names.from_field(field)] = (field.python_name, self._of_type(field.resolve_type()))
            if field.default is _NO_DEFAULT and field.default_factory is _NO_DEFAULT:
                absent[field.python_name] = None
        return convert


def _as_it_is(value: Any) -> Any:
    return value


def _list(item: Convert) -> Convert:
    # A copy in any case: a default value is one object for all requests.
    if item is _as_it_is:
        return lambda values: None if values is None else [*values]
    return lambda values: None if values is None else [*map(item, values)]


def _maybe(convert: Convert) -> Convert:
    return lambda value: Some(convert(value))
