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

    eq: str | None = strawberry.field(default=None, description="Exactly this text, such as `gpt-4o`.")
    in_: list[str] | None = strawberry.field(
        name="in", default=None, description="One of these texts, at most 1,000; an empty list matches nothing."
    )
    not_in: list[str] | None = strawberry.field(
        default=None, description="None of these texts, at most 1,000; rows without a value match too."
    )
    starts_with: str | None = strawberry.field(default=None, description="Text that begins so: `gpt-4` finds `gpt-4o`.")
    contains: str | None = strawberry.field(
        default=None, description="Text with this anywhere in it: `refund` finds `issue_refund`."
    )
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

    eq: UUID | None = strawberry.field(
        default=None, description="Exactly this UUID, such as `0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f`."
    )
    in_: list[UUID] | None = strawberry.field(
        name="in", default=None, description="One of these UUIDs, at most 1,000; an empty list matches nothing."
    )
    not_in: list[UUID] | None = strawberry.field(
        default=None, description="None of these UUIDs, at most 1,000; rows without a value match too."
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

    eq: strawberry.ID | None = strawberry.field(
        default=None, description="Exactly this id, such as `0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f`."
    )
    in_: list[strawberry.ID] | None = strawberry.field(
        name="in", default=None, description="One of these ids, at most 1,000; an empty list matches nothing."
    )

    def to_filter(self) -> SetFilter[UUID]:
        """Convert to the service's operators; text that is no UUID is the id of nothing."""
        wanted = None if self.in_ is None else uuids(self.in_)
        if self.eq is not None:
            eq = uuids([self.eq])
            wanted = eq if wanted is None else tuple(row_id for row_id in eq if row_id in wanted)
        return SetFilter(in_=wanted)


@strawberry.input(name="IntFilter", description="Conditions on a whole number of 32 bits, all of which must hold.")
class IntFilterInput:
    """Operators on 32-bit numbers."""

    eq: int | None = strawberry.field(default=None, description="Equal to this, such as `250`.")
    gt: int | None = strawberry.field(default=None, description="Greater than this, such as `250`.")
    gte: int | None = strawberry.field(default=None, description="Greater than or equal to this, such as `250`.")
    lt: int | None = strawberry.field(default=None, description="Less than this, such as `250`.")
    lte: int | None = strawberry.field(default=None, description="Less than or equal to this, such as `250`.")
    is_null: bool | None = strawberry.field(
        default=None, description="True: rows without a value; false: rows with one."
    )

    def to_filter(self) -> RangeFilter[int]:
        """Convert to the service's operators."""
        return RangeFilter(self.eq, self.gt, self.gte, self.lt, self.lte, self.is_null)


@strawberry.input(name="BigIntFilter", description="Conditions on a whole number of 64 bits, all of which must hold.")
class BigIntFilterInput:
    """Operators on 64-bit numbers."""

    eq: BigInt | None = strawberry.field(default=None, description='Equal to this, such as `"4294967296"`.')
    gt: BigInt | None = strawberry.field(default=None, description='Greater than this, such as `"4294967296"`.')
    gte: BigInt | None = strawberry.field(
        default=None, description='Greater than or equal to this, such as `"4294967296"`.'
    )
    lt: BigInt | None = strawberry.field(default=None, description='Less than this, such as `"4294967296"`.')
    lte: BigInt | None = strawberry.field(
        default=None, description='Less than or equal to this, such as `"4294967296"`.'
    )

    def to_filter(self) -> RangeFilter[int]:
        """Convert to the service's operators."""
        return RangeFilter(self.eq, self.gt, self.gte, self.lt, self.lte)


@strawberry.input(name="DecimalFilter", description="Conditions on an exact number, all of which must hold.")
class DecimalFilterInput:
    """Operators on amounts."""

    gt: Decimal | None = strawberry.field(default=None, description='Greater than this, such as `"0.0125"`.')
    gte: Decimal | None = strawberry.field(
        default=None, description='Greater than or equal to this, such as `"0.0125"`.'
    )
    lt: Decimal | None = strawberry.field(default=None, description='Less than this, such as `"0.0125"`.')
    lte: Decimal | None = strawberry.field(default=None, description='Less than or equal to this, such as `"0.0125"`.')

    def to_filter(self) -> RangeFilter[Decimal]:
        """Convert to the service's operators."""
        return RangeFilter(gt=self.gt, gte=self.gte, lt=self.lt, lte=self.lte)


@strawberry.input(
    name="DateTimeFilter",
    description="A half-open range of time: from `gte`, included, up to `lt`, not included.",
)
class DateTimeFilterInput:
    """A range of time."""

    gte: datetime | None = strawberry.field(
        default=None, description="At this time or later, such as `2026-01-31T00:00:00Z`."
    )
    lt: datetime | None = strawberry.field(
        default=None, description="Before this time, such as `2026-02-01T00:00:00Z`."
    )

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
        description='The keys that lead to the value, at most 16, such as `["model"]` or `["steps", "0", "name"]`.'
    )
    eq: Json | None = strawberry.field(
        default=None, description='Equal as JSON: 1 equals 1.0, but not "1". Integers of any size are compared exactly.'
    )
    in_: list[Json] | None = strawberry.field(
        name="in", default=None, description="Equal to one of these, at most 1,000; an empty list matches nothing."
    )
    exists: bool | None = strawberry.field(
        default=None, description="True: the path leads to a value, which may be null; false: it leads nowhere."
    )
    gt: float | None = strawberry.field(default=None, description="A number greater than this, such as `0.5`.")
    gte: float | None = strawberry.field(
        default=None, description="A number greater than or equal to this, such as `0.5`."
    )
    lt: float | None = strawberry.field(default=None, description="A number less than this, such as `0.5`.")
    lte: float | None = strawberry.field(
        default=None, description="A number less than or equal to this, such as `0.5`."
    )

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
