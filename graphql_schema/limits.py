"""How much work one GraphQL document may ask for, decided before it is validated or run.

Validation and execution of a small document can take for ever (fragments that spread each other twice, twenty levels
deep, are a million fields in one kilobyte). So the document's size is first counted on its syntax tree, each fragment
once, its result reused wherever it is spread: linear in the document, whatever it expands to.

Cost: a field counts one, times the sizes of the lists it lies in (`first`, `last`, `limit`, or their default); a root
field counts ten more, since each opens a session of its own. Depth and the number of root fields are bounded as well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
)

from app.errors import QueryTooComplex
from app.pagination import DEFAULT_PAGE_SIZE
from app.settings import Limits

_ROOT_FIELD_COST = 10
_DEFAULT_SIZES = {
    "auditEvents": DEFAULT_PAGE_SIZE,
    "auditStats": 50,
    "auditTimeSeries": 60,
    "values": 20,
    "kbDocuments": DEFAULT_PAGE_SIZE,
    "chunks": DEFAULT_PAGE_SIZE,
    "kbSearch": 10,
}


@dataclass(frozen=True, slots=True)
class _Size:
    """What a selection comes to. `fields` counts its top level only."""

    cost: int = 0
    depth: int = 0
    fields: int = 0


@dataclass(slots=True)
class _Measure:
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, Any]
    defaults: Mapping[str, ValueNode]
    max_size: int
    measured: dict[str, _Size] = field(default_factory=dict)
    uses_variables: bool = False

    def selection(self, selection_set: SelectionSetNode | None) -> _Size:
        if selection_set is None:
            return _Size()
        cost = depth = fields = 0
        for node in selection_set.selections:
            if isinstance(node, FieldNode):
                inner = self.selection(node.selection_set)
                size = _Size(1 + self.multiplier(node) * inner.cost, 1 + inner.depth, 1)
            elif isinstance(node, InlineFragmentNode):
                size = self.selection(node.selection_set)
            elif isinstance(node, FragmentSpreadNode):
                size = self.fragment(node.name.value)
            else:
                continue
            cost += size.cost
            depth = max(depth, size.depth)
            fields += size.fields
        return _Size(cost, depth, fields)

    def fragment(self, name: str) -> _Size:
        if name not in self.measured:
            # A fragment that spreads itself counts nothing in itself; validation refuses the cycle.
            self.measured[name] = _Size()
            definition = self.fragments.get(name)
            if definition is not None:
                self.measured[name] = self.selection(definition.selection_set)
        return self.measured[name]

    def multiplier(self, node: FieldNode) -> int:
        """Return how many items the field may yield, as far as its list would give them at all."""
        sizes = [size for value in _size_values(node) if (size := self.number(value)) is not None]
        if sizes:
            return min(max(1, *sizes), self.max_size)
        return _DEFAULT_SIZES.get(node.name.value, 1)

    def number(self, value: ValueNode | None) -> int | None:
        if isinstance(value, IntValueNode):
            # More digits than any limit has: as good as endless, and int() would refuse a few thousand.
            return int(value.value) if len(value.value) < 12 else self.max_size
        if isinstance(value, VariableNode):
            self.uses_variables = True
            name = value.name.value
            if name not in self.variables:
                return self.number(self.defaults.get(name))
            given = self.variables[name]
            if isinstance(given, Mapping):
                given = given.get("limit")
            return given if isinstance(given, int) and not isinstance(given, bool) else None
        return None


def _size_values(node: FieldNode) -> Iterator[ValueNode]:
    for argument in node.arguments or ():
        if argument.name.value in {"first", "last", "limit"}:
            yield argument.value
        elif isinstance(argument.value, ObjectValueNode):
            yield from (item.value for item in argument.value.fields if item.name.value == "limit")
        elif argument.name.value == "input" and node.name.value in _DEFAULT_SIZES:
            yield argument.value


def check_document(document: DocumentNode, variables: Mapping[str, Any] | None, limits: Limits) -> bool:
    """Raise `QueryTooComplex` when any operation of the document asks for more than the limits allow.

    Returns whether the variables had a part in it, so that other ones may come to another result.
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    defaults = {
        definition.variable.name.value: definition.default_value
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
        for definition in node.variable_definitions or ()
        if definition.default_value is not None
    }
    # A list never yields more than this: a field that asks for more is refused by name when it is resolved.
    max_size = max(limits.page_size, limits.search_results)
    measure = _Measure(fragments, variables or {}, defaults, max_size)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            _check_size(measure.selection(node.selection_set), limits)
    # Fragments that no operation spreads are validated too.
    for name in fragments:
        _check_size(measure.fragment(name), limits)
    return measure.uses_variables


def _check_size(size: _Size, limits: Limits) -> None:
    cost = size.cost + _ROOT_FIELD_COST * size.fields
    for name, found, allowed in (
        ("root fields", size.fields, limits.query_root_fields),
        ("levels of nesting", size.depth, limits.query_depth),
        ("fields in its answer", cost, limits.query_cost),
    ):
        if found > allowed:
            shown = str(found) if found < 10**9 else "far more"
            raise QueryTooComplex(
                f"the query asks for {shown} {name}, the limit is {allowed}; split it or ask for less"
            )
