"""The filter operators as inputs. Null means as if left out; an empty `in` matches nothing."""

from datetime import datetime
from decimal import Decimal
from typing import Protocol, TypeVar
from uuid import UUID

import strawberry

from app.filters import RangeFilter, SetFilter, StringFilter, TimeFilter
from app.json_predicates import JsonPredicate
from graphql_schema.pagination import find_uuid
from graphql_schema.scalars import BigInt, Json

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class FilterInput(Protocol[T_co]):
    """An input that stands for a service's filter."""

    def to_filter(self) -> T_co:
        """Convert to the service's filter."""


def converted(given: FilterInput[T] | None) -> T | None:
    """Convert an input that may have been left out."""
    return None if given is None else given.to_filter()


@strawberry.input(
    name="StringFilter",
    description=(
        "Conditions on text, case sensitive, all of which must hold. No character is a wildcard; null is as left out."
    ),
)
class StringFilterInput:
    """Operators on text."""

    eq: str | None = strawberry.field(default=None, description="Exactly this text.")
    in_: list[str] | None = strawberry.field(
        name="in", default=None, description="One of these texts; an empty list matches nothing."
    )
    not_in: list[str] | None = strawberry.field(
        default=None, description="None of these texts; rows without a value match too."
    )
    starts_with: str | None = strawberry.field(default=None, description="Text that begins so.")
    contains: str | None = strawberry.field(default=None, description="Text with this anywhere in it.")
    is_null: bool | None = strawberry.field(
        default=None, description="True: rows without a value; false: rows with one."
    )

    def to_filter(self) -> StringFilter:
        """Convert to the service's operators."""
        return StringFilter(
            self.eq, _tuple(self.in_), _tuple(self.not_in), self.starts_with, self.contains, self.is_null
        )


@strawberry.input(name="UuidFilter", description="Conditions on a UUID, all of which must hold.")
class UuidFilterInput:
    """Operators on ids of the client's world."""

    eq: UUID | None = strawberry.field(default=None, description="Exactly this UUID.")
    in_: list[UUID] | None = strawberry.field(
        name="in", default=None, description="One of these UUIDs; an empty list matches nothing."
    )
    not_in: list[UUID] | None = strawberry.field(
        default=None, description="None of these UUIDs; rows without a value match too."
    )
    is_null: bool | None = strawberry.field(
        default=None, description="True: rows without a value; false: rows with one."
    )

    def to_filter(self) -> SetFilter[UUID]:
        """Convert to the service's operators."""
        return SetFilter(self.eq, _tuple(self.in_), _tuple(self.not_in), self.is_null)


@strawberry.input(name="IdFilter", description="Conditions on an object's own id.")
class IdFilterInput:
    """Operators on ids of this API."""

    eq: strawberry.ID | None = strawberry.field(default=None, description="Exactly this id.")
    in_: list[strawberry.ID] | None = strawberry.field(
        name="in", default=None, description="One of these ids; an empty list matches nothing."
    )

    def to_filter(self) -> SetFilter[UUID]:
        """Convert to the service's operators; text that is no UUID is the id of nothing."""
        wanted = None if self.in_ is None else uuids(self.in_)
        if self.eq is not None:
            eq = uuids([self.eq])
            wanted = eq if wanted is None else tuple(row_id for row_id in eq if row_id in wanted)
        return SetFilter(in_=wanted)


@strawberry.input(name="IntFilter", description="Conditions on a whole number, all of which must hold.")
class IntFilterInput:
    """Operators on 32-bit numbers."""

    eq: int | None = strawberry.field(default=None, description="Equal to.")
    gt: int | None = strawberry.field(default=None, description="Greater than.")
    gte: int | None = strawberry.field(default=None, description="Greater than or equal to.")
    lt: int | None = strawberry.field(default=None, description="Less than.")
    lte: int | None = strawberry.field(default=None, description="Less than or equal to.")
    is_null: bool | None = strawberry.field(
        default=None, description="True: rows without a value; false: rows with one."
    )

    def to_filter(self) -> RangeFilter[int]:
        """Convert to the service's operators."""
        return RangeFilter(self.eq, self.gt, self.gte, self.lt, self.lte, self.is_null)


@strawberry.input(name="BigIntFilter", description="Conditions on a whole number of 64 bits, all of which must hold.")
class BigIntFilterInput:
    """Operators on 64-bit numbers."""

    eq: BigInt | None = strawberry.field(default=None, description="Equal to.")
    gt: BigInt | None = strawberry.field(default=None, description="Greater than.")
    gte: BigInt | None = strawberry.field(default=None, description="Greater than or equal to.")
    lt: BigInt | None = strawberry.field(default=None, description="Less than.")
    lte: BigInt | None = strawberry.field(default=None, description="Less than or equal to.")

    def to_filter(self) -> RangeFilter[int]:
        """Convert to the service's operators."""
        return RangeFilter(self.eq, self.gt, self.gte, self.lt, self.lte)


@strawberry.input(name="DecimalFilter", description="Conditions on an exact number, all of which must hold.")
class DecimalFilterInput:
    """Operators on amounts."""

    gt: Decimal | None = strawberry.field(default=None, description="Greater than.")
    gte: Decimal | None = strawberry.field(default=None, description="Greater than or equal to.")
    lt: Decimal | None = strawberry.field(default=None, description="Less than.")
    lte: Decimal | None = strawberry.field(default=None, description="Less than or equal to.")

    def to_filter(self) -> RangeFilter[Decimal]:
        """Convert to the service's operators."""
        return RangeFilter(gt=self.gt, gte=self.gte, lt=self.lt, lte=self.lte)


@strawberry.input(
    name="DateTimeFilter",
    description="A half-open range of time: from `gte`, included, up to `lt`, not included.",
)
class DateTimeFilterInput:
    """A range of time."""

    gte: datetime | None = strawberry.field(default=None, description="At this time or later.")
    lt: datetime | None = strawberry.field(default=None, description="Before this time.")

    def to_filter(self) -> TimeFilter:
        """Convert to the service's operators."""
        return TimeFilter(self.gte, self.lt)


@strawberry.input(
    name="JsonPredicate",
    description=(
        "Conditions on the value at a path inside a JSON object, all of which must hold. They never fail on a value of"
        " another kind: it just does not match."
    ),
)
class JsonPredicateInput:
    """Operators on what lies inside metadata."""

    path: list[str] = strawberry.field(
        description='The keys that lead to the value, such as `["model"]` or `["steps", "0", "name"]`.'
    )
    eq: Json | None = strawberry.field(
        default=None, description='Equal as JSON: 1 equals 1.0, but not "1". Integers of any size are compared exactly.'
    )
    in_: list[Json] | None = strawberry.field(
        name="in", default=None, description="Equal to one of these; an empty list matches nothing."
    )
    exists: bool | None = strawberry.field(
        default=None, description="True: the path leads to a value, which may be null; false: it leads nowhere."
    )
    gt: float | None = strawberry.field(default=None, description="A number greater than this.")
    gte: float | None = strawberry.field(default=None, description="A number greater than or equal to this.")
    lt: float | None = strawberry.field(default=None, description="A number less than this.")
    lte: float | None = strawberry.field(default=None, description="A number less than or equal to this.")

    def to_filter(self) -> JsonPredicate:
        """Convert to the service's operators."""
        return JsonPredicate(
            tuple(self.path), self.eq, _tuple(self.in_), self.exists, self.gt, self.gte, self.lt, self.lte
        )


def uuids(ids: list[strawberry.ID]) -> tuple[UUID, ...]:
    """Read ids to look up; text that is no UUID is the id of nothing and is left out."""
    return tuple(found for item in ids if (found := find_uuid(item)) is not None)


def _tuple(values: list[T] | None) -> tuple[T, ...] | None:
    return None if values is None else tuple(values)
