"""What a request selects below a field, so that a resolver fetches no more than that."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from graphql import FieldNode, FragmentDefinitionNode, FragmentSpreadNode, InlineFragmentNode, SelectionSetNode

# The names of the selected fields, each with what is selected below it.
Selection = Mapping[str, "Selection"]


def selected_below(nodes: Iterable[FieldNode], fragments: Mapping[str, FragmentDefinitionNode]) -> Selection:
    """Return what may be selected below a field.

    Fragments are merged in whatever their type, and directives are not looked at: it is never too little.
    """
    found: dict[str, Any] = {}
    for node in nodes:
        _collect(node.selection_set, fragments, found, frozenset())
    return found


def names_below(selected: Selection, *path: str) -> Iterable[str]:
    """Return the names that are selected at the end of a path of fields."""
    for name in path:
        selected = selected.get(name, {})
    return selected


@lru_cache(1000)
def snake_case(name: str) -> str:
    """Return a field's name as Python spells it."""
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def _collect(
    selection_set: SelectionSetNode | None,
    fragments: Mapping[str, FragmentDefinitionNode],
    found: dict[str, Any],
    within: frozenset[str],
) -> None:
    for node in () if selection_set is None else selection_set.selections:
        if isinstance(node, FieldNode):
            _collect(node.selection_set, fragments, found.setdefault(node.name.value, {}), within)
        elif isinstance(node, InlineFragmentNode):
            _collect(node.selection_set, fragments, found, within)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in within:
            definition = fragments[node.name.value]
            _collect(definition.selection_set, fragments, found, within | {node.name.value})
