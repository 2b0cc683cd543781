"""The schema itself: committed as served, described throughout, and within the contract."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    DocumentNode,
    EnumTypeDefinitionNode,
    InputObjectTypeDefinitionNode,
    InterfaceTypeDefinitionNode,
    ObjectTypeDefinitionNode,
    ScalarTypeDefinitionNode,
    parse,
    print_ast,
)

from graphql_schema.schema import print_sdl

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "graphql_schema" / "schema.graphql"
CONTRACT = ROOT.parent / "shared" / "design" / "schema.graphql"

WITH_FIELDS = (ObjectTypeDefinitionNode, InterfaceTypeDefinitionNode, InputObjectTypeDefinitionNode)


def test_committed_sdl_is_the_served_one() -> None:
    """The SDL in the repository is what the server serves, byte for byte."""
    assert COMMITTED.read_text(encoding="utf-8") == print_sdl()


def undescribed(document: DocumentNode) -> Iterator[str]:
    """Name everything without a description."""
    for node in document.definitions:
        if not isinstance(node, (*WITH_FIELDS, EnumTypeDefinitionNode, ScalarTypeDefinitionNode)):
            continue
        parts: list[tuple[str, Any]] = [(node.name.value, node)]
        if isinstance(node, WITH_FIELDS):
            for field in node.fields or ():
                parts.append((f"{node.name.value}.{field.name.value}", field))
                parts.extend(
                    (f"{node.name.value}.{field.name.value}({argument.name.value}:)", argument)
                    for argument in getattr(field, "arguments", ()) or ()
                )
        elif isinstance(node, EnumTypeDefinitionNode):
            parts.extend((f"{node.name.value}.{value.name.value}", value) for value in node.values or ())
        for name, part in parts:
            if part.description is None or not part.description.value.strip():
                yield name


def test_everything_is_described() -> None:
    """Every type, field, argument, input field and enum value says what it is."""
    assert list(undescribed(parse(print_sdl()))) == []


def test_a_missing_description_would_be_noticed() -> None:
    """The check above sees each kind of thing that can lack a description."""
    sdl = "type A { b(c: Int): Int } input D { e: Int } enum F { G } interface H { i: Int } scalar J"
    assert list(undescribed(parse(sdl))) == ["A", "A.b", "A.b(c:)", "D", "D.e", "F", "F.G", "H", "H.i", "J"]


def definitions(document: DocumentNode) -> dict[str, str]:
    """Return everything a client can rely on, as name and type; defaults and descriptions left out."""
    found: dict[str, str] = {}
    for node in document.definitions:
        if isinstance(node, WITH_FIELDS):
            interfaces = " & ".join(sorted(item.name.value for item in getattr(node, "interfaces", ()) or ()))
            directives = " ".join(f"@{item.name.value}" for item in node.directives or ())
            found[node.name.value] = f"{node.kind} {interfaces} {directives}".strip()
            for field in node.fields or ():
                name = f"{node.name.value}.{field.name.value}"
                found[name] = print_ast(field.type)
                for argument in getattr(field, "arguments", ()) or ():
                    found[f"{name}({argument.name.value}:)"] = print_ast(argument.type)
        elif isinstance(node, EnumTypeDefinitionNode):
            found[node.name.value] = node.kind
            found |= {f"{node.name.value}.{value.name.value}": "value" for value in node.values or ()}
        elif isinstance(node, ScalarTypeDefinitionNode):
            found[node.name.value] = node.kind
    return found


@pytest.fixture(scope="module")
def contract() -> dict[str, str]:
    """The agreed contract, which lies beside the repository."""
    if not CONTRACT.exists():
        pytest.fail(f"the contract is not at {CONTRACT}")
    return definitions(parse(CONTRACT.read_text(encoding="utf-8")))


def test_schema_keeps_to_the_contract(contract: dict[str, str]) -> None:
    """Every name that is served is in the contract, with the same type."""
    served = definitions(parse(print_sdl()))
    differences = {name: (shape, contract.get(name)) for name, shape in served.items() if contract.get(name) != shape}
    assert differences == {}


def test_required_inputs_of_the_contract_are_served(contract: dict[str, str]) -> None:
    """No served input demands more, or has fewer required fields, than the contract says."""
    served = definitions(parse(print_sdl()))
    inputs = {name for name, shape in served.items() if shape.startswith("input_object")}
    required = {
        name: shape for name, shape in contract.items() if name.partition(".")[0] in inputs and shape.endswith("!")
    }
    assert {name: served.get(name) for name in required} == required


def test_trail_is_insert_only(contract: dict[str, str]) -> None:
    """No mutation changes or removes events."""
    served = definitions(parse(print_sdl()))
    assert sorted(name for name in served if name.startswith("Mutation.") and "(" not in name) == [
        "Mutation.deleteKbDocument",
        "Mutation.ingestKbDocument",
        "Mutation.ingestKbDocuments",
        "Mutation.logEscalation",
        "Mutation.logEvents",
        "Mutation.logLlmCall",
        "Mutation.logToolCall",
    ]
