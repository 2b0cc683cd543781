"""What is compiled for one document, and kept beside it: completers, variables, what a field selects."""

from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
)
from graphql.execution.collect_fields import FragmentDetails

from graphql_schema.completers import Compiler, Completer, Details, NotPlain, Part, Root
from graphql_schema.context import Info
from graphql_schema.lookahead import Selection, selected_below
from graphql_schema.variables import VariableCoercer


class DocumentPlans:
    """All that is compiled for one document, each thing when it is first needed."""

    def __init__(self, document: DocumentNode) -> None:
        # The nodes live as long as the document does, so that the id of one stands for no other.
        self._document = document
        self.fragment_definitions = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self.fragments = {name: FragmentDetails(node) for name, node in self.fragment_definitions.items()}
        self._completers: dict[tuple[int, ...], Completer | None] = {}
        self._parts: dict[tuple[object, ...], list[Part] | None] = {}
        self._roots: dict[int, Root | None] = {}
        self._variables: dict[int, VariableCoercer] = {}
        self._selections: dict[tuple[int, ...], Selection] = {}

    def completer(self, schema: GraphQLSchema, value_type: GraphQLOutputType, details: Details) -> Completer | None:
        """Return the completer of a value, or `None` when its selection is not plain."""
        key = (id(value_type), *[id(detail.node) for detail in details])
        try:
            return self._completers[key]
        except KeyError:
            pass
        try:
            completer = Compiler(schema, self.fragments).compile(value_type, details)
        except NotPlain:
            completer = None
        self._completers[key] = completer
        return completer

    def variables(self, schema: GraphQLSchema, operation: OperationDefinitionNode) -> VariableCoercer:
        """Return what coerces the operation's variables."""
        key = id(operation)
        if key not in self._variables:
            self._variables[key] = VariableCoercer(schema, operation)
        return self._variables[key]

    def single_root(self, schema: GraphQLSchema, operation: OperationDefinitionNode) -> Root | None:
        """Return the root field of an operation that has one only, with its arguments if no variable is in them."""
        key = id(operation)
        if key not in self._roots:
            try:
                self._roots[key] = Compiler(schema, self.fragments).single_root(operation)
            except (NotPlain, GraphQLError):
                self._roots[key] = None
        return self._roots[key]

    def selection(self, nodes: list[FieldNode]) -> Selection:
        """Return what may be selected below a field."""
        key = (*map(id, nodes),)
        if key not in self._selections:
            self._selections[key] = selected_below(nodes, self.fragment_definitions)
        return self._selections[key]

    def parts(self, info: GraphQLResolveInfo[Any], field_name: str) -> list[Part] | None:
        """Return what is selected of the objects of a list below a field; see `plain_parts`."""
        key = (field_name, *map(id, info.field_nodes))
        if key not in self._parts:
            try:
                self._parts[key] = Compiler(info.schema, self.fragments).parts_below(info, field_name)
            except NotPlain:
                self._parts[key] = None
        return self._parts[key]


def selection(info: Info) -> Selection:
    """Return what may be selected below the field that is being resolved."""
    raw = info._raw_info  # noqa: SLF001 - Strawberry's own view of it copies the whole selection
    plans = raw.root_value
    if isinstance(plans, DocumentPlans):
        return plans.selection(raw.field_nodes)
    return selected_below(raw.field_nodes, raw.fragments)


def plain_parts(info: Info, field_name: str) -> list[Part] | None:
    """Return what is selected of the objects in a list below the field that is being resolved.

    `None` when that is not plain, or the list is selected more than once.
    """
    raw = info._raw_info  # noqa: SLF001 - Strawberry's own view of it copies the whole selection
    plans = raw.root_value
    return plans.parts(raw, field_name) if isinstance(plans, DocumentPlans) else None
