"""Random documents that are valid for a schema, for comparing ways to execute them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLObjectType, GraphQLSchema, get_named_type, is_interface_type, is_leaf_type
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass
class DocumentMaker:
    """Draws selections with aliases, repetitions, fragments, directives, type names and nested objects."""

    schema: GraphQLSchema
    draw: Draw
    # Fields that are left out, as "Type.field", and the arguments that others are called with.
    skipped: frozenset[str] = frozenset()
    arguments: dict[str, str] = field(default_factory=dict)
    fragments: list[str] = field(default_factory=list)
    aliases: int = 0

    def selection(self, type_name: str, depth: int) -> str:
        """Return a selection of an object type, never empty."""
        kind = self.schema.type_map[type_name]
        fields = [name for name in kind.fields if f"{type_name}.{name}" not in self.skipped]  # type: ignore[attr-defined]
        if depth == 0:
            fields = [name for name in fields if is_leaf_type(get_named_type(kind.fields[name].type))]  # type: ignore[attr-defined]
        count = self.draw(st.integers(1, 5))
        parts = [
            self._part(type_name, self.draw(st.sampled_from(fields)), depth) for _ in range(count if fields else 0)
        ]
        parts += self.draw(st.sampled_from([[], [], ["__typename"], [self._alias("__typename")]]))
        return "{ " + (" ".join(parts) or "__typename") + " }"

    def _part(self, type_name: str, field_name: str, depth: int) -> str:
        text = self._field(type_name, field_name, depth)
        form = self.draw(st.sampled_from(["plain"] * 6 + ["inline", "spread", "include", "skip", "variable"]))
        if form == "inline":
            return f"... on {type_name} {{ {text} }}"
        if form == "spread":
            name = f"F{len(self.fragments)}"
            self.fragments.append(f"fragment {name} on {type_name} {{ {text} }}")
            return f"...{name}"
        directives = {"include": "@include(if: true)", "skip": "@skip(if: true)", "variable": "@include(if: $yes)"}
        return f"... {directives[form]} {{ {text} }}" if form in directives else text

    def _field(self, type_name: str, field_name: str, depth: int) -> str:
        kind: Any = self.schema.type_map[type_name]
        arguments = self.arguments.get(f"{type_name}.{field_name}", "")
        named = get_named_type(kind.fields[field_name].type)
        below = ""
        if isinstance(named, GraphQLObjectType) or is_interface_type(named):
            below = self.selection(named.name, max(depth - 1, 0))
        # Under its own name a field of objects could clash with another selection of it in nothing but its order.
        text = f"{field_name}{arguments} {below}".strip()
        return self._alias(text) if self.draw(st.booleans()) else text

    def _alias(self, text: str) -> str:
        self.aliases += 1
        return f"a{self.aliases}: {text}"

    def document(self, root: str) -> str:
        """Return the whole document around the selection of the root."""
        return " ".join([f"query Random($yes: Boolean = true) {root}", *self.fragments])
