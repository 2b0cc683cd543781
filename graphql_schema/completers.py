"""Completers: functions that build the answer for plain values, compiled once a selection.

Plain is what needs nothing but attributes. A completer builds an object's answer straight from them, or straight from a
database row where the resolver returned rows. It knows the happy path only and has no side effects: whenever it fails
(a null where none may be, a value that a scalar refuses), graphql-core can complete the same value anew.
"""

from collections.abc import Callable, Mapping
from typing import Any

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    is_leaf_type,
)
from graphql.execution.collect_fields import FieldDetails, FragmentDetails, collect_fields, collect_subfields
from graphql.execution.values import VariableValues

from graphql_schema.argument_templates import argument_reader
from graphql_schema.rows import RowFormat, RowObject, Rows, WrittenList
from graphql_schema.variables import NO_VARIABLES

Completer = Callable[[Any], Any]
Details = list[FieldDetails]


class NotPlain(Exception):
    """The value needs more than its attributes, or something is wrong with it: graphql-core completes it."""


# What is selected of an object: response key, attribute, and a constant where there is no attribute.
Part = tuple[str, str | None, str]


# A root field: response key, type, definition, nodes, and what reads its arguments.
Root = tuple[str, GraphQLObjectType, GraphQLField, Details, Callable[[VariableValues], dict[str, Any]]]


class Compiler:
    """Compiles completers for the selections of one document; raises `NotPlain` where there is none."""

    def __init__(self, schema: GraphQLSchema, fragments: dict[str, FragmentDetails]) -> None:
        self._schema = schema
        self._fragments = fragments

    def compile(self, value_type: GraphQLOutputType, details: Details) -> Completer:
        """Return the completer of a value of the type under the selection."""
        if isinstance(value_type, GraphQLNonNull):
            return _required(self._inner(value_type.of_type, details))
        return _nullable(self._inner(value_type, details))

    def _inner(self, value_type: GraphQLOutputType, details: Details) -> Completer:
        if isinstance(value_type, GraphQLList):
            item = self.compile(value_type.of_type, details)
            named = get_named_type(value_type)
            rows = self._object(named, details) if isinstance(named, GraphQLObjectType) else None
            return _list_completer(item, rows)
        if is_leaf_type(value_type):
            return _leaf_completer(value_type)
        if isinstance(value_type, GraphQLObjectType):
            return self._object(value_type, details).complete
        # Of an abstract type: lists of user errors are empty as a rule, and then there is nothing to complete.
        return _refuse

    def single_root(self, operation: OperationDefinitionNode) -> Root:
        """Return the operation's only root field."""
        root_type = self._schema.get_root_type(operation.operation)
        if root_type is None:
            raise NotPlain
        self._refuse_directives(operation.selection_set, set(), with_subfields=False)
        selected = collect_fields(self._schema, self._fragments, NO_VARIABLES, root_type, operation)
        if len(selected.grouped_field_set) != 1:
            raise NotPlain
        ((key, details),) = selected.grouped_field_set.items()
        node = details[0].node
        field = self._schema.get_field(root_type, node.name.value)
        if field is None or field.resolve is None or node.name.value.startswith("__"):
            raise NotPlain
        return key, root_type, field, details, argument_reader(field, node)

    def parts_below(self, info: GraphQLResolveInfo[Any], field_name: str) -> list[Part]:
        """Return what is selected of the objects of a list that is itself selected once."""
        outer_type = get_named_type(info.return_type)
        if not isinstance(outer_type, GraphQLObjectType):
            raise NotPlain
        outer = self._selected(outer_type, [FieldDetails(node, None) for node in info.field_nodes])
        found = [details for details in outer.values() if details[0].node.name.value == field_name]
        field = self._schema.get_field(outer_type, field_name)
        if len(found) != 1 or field is None:
            raise NotPlain
        item_type = get_named_type(field.type)
        if not isinstance(item_type, GraphQLObjectType):
            raise NotPlain
        return self._object(item_type, found[0]).parts

    def _object(self, object_type: GraphQLObjectType, details: Details) -> "_ObjectCompleter":
        parts: list[Part] = []
        completers: list[Completer] = []
        for key, selected in self._selected(object_type, details).items():
            name = selected[0].node.name.value
            if name == "__typename":
                parts.append((key, None, object_type.name))
                continue
            field = self._schema.get_field(object_type, name)
            if field is None or field.args or not getattr(field.resolve, "_is_default", False):
                raise NotPlain
            parts.append((key, field.extensions["strawberry-definition"].python_name, ""))
            completers.append(self.compile(field.type, selected))
        origin: type = object_type.extensions["strawberry-definition"].origin
        return _ObjectCompleter(origin, parts, completers)

    def _selected(self, object_type: GraphQLObjectType, details: Details) -> Mapping[str, Details]:
        for detail in details:
            self._refuse_directives(detail.node.selection_set, set())
        # The operation stands in the context of the collection, but has no part in it.
        nothing: Any = None
        return collect_subfields(
            self._schema, self._fragments, NO_VARIABLES, nothing, object_type, details
        ).grouped_field_set

    def _refuse_directives(
        self, selection_set: SelectionSetNode | None, seen: set[str], *, with_subfields: bool = True
    ) -> None:
        """Raise `NotPlain` when a directive may change what is selected from one request to the next."""
        for node in () if selection_set is None else selection_set.selections:
            if node.directives:
                raise NotPlain
            inner: SelectionSetNode | None = None
            if isinstance(node, InlineFragmentNode) or (with_subfields and isinstance(node, FieldNode)):
                inner = node.selection_set
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
                seen.add(node.name.value)
                inner = self._fragments[node.name.value].definition.selection_set
            self._refuse_directives(inner, seen, with_subfields=with_subfields)


class _ObjectCompleter:
    """Builds the answer for one object from its attributes, or from a row of some format."""

    def __init__(self, origin: type, parts: list[Part], completers: list[Completer]) -> None:
        self._origin = origin
        self.parts = parts
        remaining = iter(completers)
        self._steps = [
            (key, attribute, constant, None if attribute is None else next(remaining))
            for key, attribute, constant in parts
        ]
        self._by_format: dict[RowFormat, Completer] = {}

    def complete(self, value: Any) -> dict[str, Any]:
        """Return the answer for an object."""
        if isinstance(value, RowObject):
            return self.of_rows(value.row_format)(value.row)  # type: ignore[no-any-return]
        if not isinstance(value, self._origin):
            raise NotPlain
        return {
            key: constant if complete is None or attribute is None else complete(getattr(value, attribute))
            for key, attribute, constant, complete in self._steps
        }

    def of_rows(self, row_format: RowFormat) -> Completer:
        """Return the completer of rows of a format."""
        if row_format not in self._by_format:
            self._by_format[row_format] = row_format.completer(self.parts)
        return self._by_format[row_format]


def _list_completer(item: Completer, object_completer: _ObjectCompleter | None) -> Completer:
    def complete(items: Any) -> Any:
        if isinstance(items, WrittenList):
            return items.answer
        if isinstance(items, Rows) and object_completer is not None:
            return [*map(object_completer.of_rows(items.row_class.row_format), items)]
        if not isinstance(items, list | tuple):
            raise NotPlain
        return [*map(item, items)]

    return complete


def _leaf_completer(leaf: Any) -> Completer:
    coerce: Completer = leaf.coerce_output_value
    if isinstance(leaf, GraphQLScalarType) and leaf.name in {"String", "ID"}:
        return lambda value: value if type(value) is str else coerce(value)
    return coerce


def _required(complete: Completer) -> Completer:
    def required(value: Any) -> Any:
        completed = None if value is None else complete(value)
        if completed is None:
            raise NotPlain
        return completed

    return required


def _nullable(complete: Completer) -> Completer:
    def nullable(value: Any) -> Any:
        if value is None:
            return None
        completed = complete(value)
        if completed is None:
            raise NotPlain
        return completed

    return nullable


def _refuse(_value: Any) -> Any:
    raise NotPlain
