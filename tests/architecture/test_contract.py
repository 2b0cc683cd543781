"""The schema is a contract: it explains itself, and what was released is not broken unannounced."""

import re
from pathlib import Path

import pytest
from graphql import (
    GraphQLSchema,
    build_schema,
    find_breaking_changes,
    get_named_type,
    get_nullable_type,
    is_enum_type,
    is_input_object_type,
    is_leaf_type,
    is_list_type,
    is_scalar_type,
)

from graphql_schema.schema import create_schema, print_sdl

ROOT = Path(__file__).parents[2]
SCHEMA = create_schema(introspection=True).graphql_schema
BUILT_IN = {"String", "Int", "Float", "Boolean", "ID"}


def explained(schema: GraphQLSchema) -> dict[str, str | None]:
    """Return the description of every type, field, argument and enum value, by its coordinate."""
    found: dict[str, str | None] = {}
    for name, kind in schema.type_map.items():
        if name.startswith("__") or name in BUILT_IN:
            continue
        found[name] = kind.description
        for field_name, field in getattr(kind, "fields", {}).items():
            found[f"{name}.{field_name}"] = field.description
            for argument_name, argument in getattr(field, "args", {}).items():
                found[f"{name}.{field_name}({argument_name}:)"] = argument.description
        if is_enum_type(kind):
            found |= {f"{name}.{value_name}": value.description for value_name, value in kind.values.items()}
    return found


def needing_limits(schema: GraphQLSchema) -> dict[str, str | None]:
    """Return the description of every list, number and text that clients send, by its coordinate."""
    found: dict[str, str | None] = {}
    for name, kind in schema.type_map.items():
        if name.startswith("__"):
            continue
        for field_name, field in getattr(kind, "fields", {}).items():
            inputs = (
                {f"{name}.{field_name}": field}
                if is_input_object_type(kind)
                else {f"{name}.{field_name}({argument}:)": value for argument, value in field.args.items()}
            )
            for coordinate, value in inputs.items():
                leaf = get_named_type(value.type)
                is_list = is_list_type(get_nullable_type(value.type))
                if (is_scalar_type(leaf) and leaf.name != "Boolean") or (is_list and not is_leaf_type(leaf)):
                    found[coordinate] = value.description
    return found


def says_what_is_allowed(description: str | None) -> bool:
    """Whether a description holds a number, such as a limit, or an example or the field that the value comes from."""
    return description is not None and re.search(r"\d|`[^`]+`", description) is not None


def unannounced(old: GraphQLSchema, new: GraphQLSchema, changelog: str) -> list[str]:
    """Return the breaking changes that the changelog does not name, in backticks, under "Breaking" in "Unreleased"."""
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    unreleased = next((section for section in sections if section.startswith("Unreleased\n")), "")
    breaking = re.search(r"^### Breaking$(.*?)(?=^### |\Z)", unreleased, flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`([^`]+)`", breaking[1])) if breaking else set()
    missing = []
    for change in find_breaking_changes(old, new):
        # A member of a type, a directive, or else a type, which begins the sentence.
        text = change.description
        coordinate = re.search(r"\w+\.\w+(\(\w+:\))?|@\w+", text) or re.match(r"\w+", text)
        if coordinate is None or coordinate[0] not in named:
            missing.append(change.description)
    return missing


def test_everything_is_explained() -> None:
    """Each part of the schema has a description in sentences, which says more than its name."""
    for coordinate, text in explained(SCHEMA).items():
        assert text, f"{coordinate} has no description"
        assert text.rstrip().endswith("."), f"{coordinate}: {text}"
        assert len(text.split()) > 1, f"{coordinate}: {text}"


def test_what_clients_send_has_limits_or_an_example() -> None:
    """Nobody has to guess how much or what a number, a text, an id or a list may be."""
    described = needing_limits(SCHEMA)
    assert len(described) > 80
    assert {coordinate: text for coordinate, text in described.items() if not says_what_is_allowed(text)} == {}


def test_a_vague_description_is_found() -> None:
    """Lists, numbers and texts of inputs and arguments are looked at, on whatever level; flags and choices are not."""
    vague = build_schema(
        """type Query { a("Some text." t: String, "At most 5." n: Int, "A flag." b: Boolean, "Which." e: E, i: I): Int }
        enum E { A }
        input I { "Some numbers." l: [Float!] "Some more." m: [I!] "Such as `x`." x: ID! "Which." c: [E!] }"""
    )
    assert [coordinate for coordinate, text in needing_limits(vague).items() if not says_what_is_allowed(text)] == [
        "Query.a(t:)", "I.l", "I.m",
    ]  # fmt: skip


def test_released_schema_is_not_broken_unannounced() -> None:
    """Whatever breaks clients of the last release is named in the changelog."""
    released = build_schema((ROOT / "graphql_schema" / "released.graphql").read_text())
    assert unannounced(released, build_schema(print_sdl()), (ROOT / "CHANGELOG.md").read_text()) == []


OLD = build_schema("type Query { a: Int b(x: Int): String e: E } enum E { A B } input I { q: Int }")


@pytest.mark.parametrize(
    ("new", "broken"),
    [
        ("type Query { a: Int b(x: Int): String e: E c: Int } enum E { A B C } input I { q: Int r: Int }", []),
        ("type Query { b(x: Int): String e: E } enum E { A B } input I { q: Int }", ["Query.a"]),
        ("type Query { a: String b(x: Int): String e: E } enum E { A B } input I { q: Int }", ["Query.a"]),
        ("type Query { a: Int b: String e: E } enum E { A B } input I { q: Int }", ["Query.b(x:)"]),
        ("type Query { a: Int b(x: Int): String e: E } enum E { A } input I { q: Int }", ["E.B"]),
        ("type Query { a: Int b(x: Int): String e: E } enum E { A B } input I { q: Int r: Int! }", ["I.r"]),
        ("type Query { a: Int b(x: Int, y: Int!): String e: E } enum E { A B } input I { q: Int }", ["Query.b(y:)"]),
        ("type Query { a: Int b(x: Int): String } enum E { A B }", ["Query.e", "I"]),
    ],
)
def test_a_breaking_change_must_be_announced(new: str, broken: list[str]) -> None:
    """A change that breaks is found, and is let pass when its coordinate stands under Breaking, and nowhere else."""
    changed = build_schema(new)
    elsewhere = "### Added\n\n- `Query.a`, `E.B`\n\n## 1.0\n\n### Breaking\n\n- `Query.a`\n"
    nothing = f"# Changelog\n\n## Unreleased\n\n{elsewhere}"
    assert len(unannounced(OLD, changed, nothing)) == len(broken)
    assert len(unannounced(OLD, changed, f"# Changelog\n\n## 1.1\n\n{elsewhere}")) == len(broken)
    announced = "".join(f"- `{coordinate}` is gone.\n" for coordinate in broken)
    changelog = f"# Changelog\n\n## Unreleased\n\n### Breaking\n\n{announced}\n### Added\n\n- More.\n"
    assert unannounced(OLD, changed, changelog) == []
