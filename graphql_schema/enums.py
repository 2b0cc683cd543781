"""The product's closed sets as GraphQL enums, each value with its description."""

from collections.abc import Mapping
from enum import StrEnum

import strawberry
from strawberry.types.enum import EnumValue, StrawberryEnumDefinition


def graphql_enum(enum: type[StrEnum], *, name: str, description: str, values: Mapping[str, str]) -> None:
    """Expose an enum of the product in the API; every member must be described."""
    missing = set(enum.__members__) ^ values.keys()
    if missing:
        raise ValueError(f"{name}: the descriptions and the members differ: {sorted(missing)}")
    exposed = strawberry.enum(enum, name=name, description=description)
    definition: StrawberryEnumDefinition = exposed.__strawberry_definition__  # type: ignore[attr-defined]
    definition.values = [EnumValue(item.name, item.value, description=values[item.name]) for item in definition.values]
