"""Typed filter operators and what they mean in SQL.

Every condition is two-valued: a row satisfies it or it does not, whatever is NULL in it, so that `not` is the
complement. `None` stands for an operator that was left out; an empty `in_` list matches nothing.
Comparisons are by code point and case sensitive, and use operators that an index can serve under row level security.

A filter comes apart into its values, by name, and its shape, which is those names: filters of one shape become the same
SQL. `operands` yields the values and `conditions` builds the SQL that refers to them, both under the same scope.
"""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ARRAY, BindParameter, ColumnElement, Text, and_, any_, bindparam, false, func, or_, true
from sqlalchemy import all_ as every
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import TypeEngine

from app.errors import InvalidInput, Path, PayloadTooLarge
from app.settings import Limits
from app.validation import check_instant, check_text

Column = ColumnElement[Any] | InstrumentedAttribute[Any]
Condition = ColumnElement[bool]
Operands = Iterator[tuple[str, Any]]
V = TypeVar("V", UUID, int, Decimal)

# Decimal places before or after the point; far beyond any amount, far below where PostgreSQL gives up.
_MAX_MAGNITUDE = 100


def all_of(conditions: Sequence[Condition]) -> Condition:
    """Return the conjunction; of nothing, true."""
    return and_(true(), *conditions)


def any_of(conditions: Sequence[Condition]) -> Condition:
    """Return the disjunction; of nothing, false."""
    return or_(false(), *conditions)


def scoped(scope: str, name: str | int) -> str:
    """Return the name of a value within a scope."""
    return f"{scope}__{name}"


def operand(scope: str, name: str, column_type: TypeEngine[Any] | None = None) -> BindParameter[Any]:
    """Return the place of a value in SQL; `operands` yields the value under the same name."""
    return bindparam(scoped(scope, name), type_=column_type)


def given_operands(operators: object, names: Sequence[str], scope: str) -> Operands:
    """Yield the values of those operators that were given. A boolean is part of the shape, not a value."""
    for name in names:
        value = getattr(operators, name)
        if isinstance(value, bool):
            yield f"{scoped(scope, name)}={value}", None
        elif value is not None:
            yield scoped(scope, name), value


def negation(condition: Condition) -> Condition:
    """Return the complement of a condition."""
    return condition.isnot(true())


@dataclass(frozen=True, slots=True)
class StringFilter:
    """Operators on text."""

    eq: str | None = None
    in_: Sequence[str] | None = None
    not_in: Sequence[str] | None = None
    starts_with: str | None = None
    contains: str | None = None
    is_null: bool | None = None

    def checked(self, path: Path, limits: Limits) -> "StringFilter":
        """Return itself if every operand can be compared."""
        for name, text in (
            ("eq", self.eq),
            ("starts_with", self.starts_with),
            ("contains", self.contains),
        ):
            if text is not None:
                check_text((*path, name), text)
        for name, operands in (("in", self.in_), ("not_in", self.not_in)):
            check_count((*path, name), operands, limits)
            for position, text in enumerate(operands or ()):
                check_text((*path, name, position), text)
        return self

    def operands(self, scope: str) -> Operands:
        """Yield the values by name."""
        yield from given_operands(self, ("eq", "in_", "not_in", "starts_with", "contains", "is_null"), scope)
        if self.starts_with:
            following = _following_prefix(self.starts_with)
            yield (scoped(scope, "following"), following) if following else (scoped(scope, "endless"), None)
        elif self.starts_with is not None:
            yield scoped(scope, "any_text"), None

    def conditions(self, column: Column, scope: str) -> list[Condition]:
        """Translate for one column."""
        found = _set_conditions(self, column, scope)
        if self.starts_with is not None:
            found.append(_starts_with(column, self.starts_with, scope))
        if self.contains is not None:
            # No LIKE: per cent, underscore and backslash are characters like any other.
            found.append(func.strpos(column, operand(scope, "contains", Text())) > 0)
        return found


@dataclass(frozen=True, slots=True)
class SetFilter(Generic[V]):
    """Operators on values without an order, such as ids."""

    eq: V | None = None
    in_: Sequence[V] | None = None
    not_in: Sequence[V] | None = None
    is_null: bool | None = None

    def checked(self, path: Path, limits: Limits) -> "SetFilter[V]":
        """Return itself if its lists are not too long."""
        check_count((*path, "in"), self.in_, limits)
        check_count((*path, "not_in"), self.not_in, limits)
        return self

    def operands(self, scope: str) -> Operands:
        """Yield the values by name."""
        return given_operands(self, ("eq", "in_", "not_in", "is_null"), scope)

    def conditions(self, column: Column, scope: str) -> list[Condition]:
        """Translate for one column."""
        return _set_conditions(self, column, scope)


@dataclass(frozen=True, slots=True)
class RangeFilter(Generic[V]):
    """Operators on numbers."""

    eq: V | None = None
    gt: V | None = None
    gte: V | None = None
    lt: V | None = None
    lte: V | None = None
    is_null: bool | None = None

    def checked(self, path: Path, _limits: Limits) -> "RangeFilter[V]":
        """Return itself if its operands are finite numbers."""
        for name in ("eq", "gt", "gte", "lt", "lte"):
            number = getattr(self, name)
            if isinstance(number, Decimal) and not (number.is_finite() and abs(number.adjusted()) <= _MAX_MAGNITUDE):
                raise InvalidInput((*path, name), f"must be a finite number of at most {_MAX_MAGNITUDE} digits")
        return self

    def operands(self, scope: str) -> Operands:
        """Yield the values by name."""
        return given_operands(self, ("eq", "gt", "gte", "lt", "lte", "is_null"), scope)

    def conditions(self, column: Column, scope: str) -> list[Condition]:
        """Translate for one column."""
        return [*_set_conditions(self, column, scope), *range_conditions(self, column, scope)]


@dataclass(frozen=True, slots=True)
class TimeFilter:
    """A half-open range of time: `gte` is included, `lt` is not."""

    gte: datetime | None = None
    lt: datetime | None = None

    def checked(self, path: Path, _limits: Limits) -> "TimeFilter":
        """Return itself if both ends are instants."""
        for name, instant in (("gte", self.gte), ("lt", self.lt)):
            if instant is not None:
                check_instant((*path, name), instant)
        return self

    def operands(self, scope: str) -> Operands:
        """Yield the values by name."""
        return given_operands(self, ("gte", "lt"), scope)

    def conditions(self, column: Column, scope: str) -> list[Condition]:
        """Translate for one column."""
        return range_conditions(self, column, scope)


def check_count(path: Path, operands: Sequence[object] | None, limits: Limits) -> None:
    """Raise `PayloadTooLarge` when a list of operands is longer than the limit."""
    if operands is not None and len(operands) > limits.filter_values:
        raise PayloadTooLarge(path, f"must hold at most {limits.filter_values} values, got {len(operands)}")


_COMPARISONS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def range_conditions(operators: object, column: Column, scope: str) -> list[Condition]:
    """Translate those of the four comparisons that were given."""
    return [
        compare(column, operand(scope, name, column.type))
        for name, compare in _COMPARISONS.items()
        if getattr(operators, name, None) is not None
    ]


def _set_conditions(
    operators: "StringFilter | SetFilter[Any] | RangeFilter[Any]", column: Column, scope: str
) -> list[Condition]:
    found: list[Condition] = []
    in_, not_in = getattr(operators, "in_", None), getattr(operators, "not_in", None)
    if operators.eq is not None:
        found.append(column == operand(scope, "eq", column.type))
    if in_ is not None:
        found.append(column == any_(operand(scope, "in_", list_of(column))))
    if not_in is not None:
        found.append(or_(column.is_(None), column != every(operand(scope, "not_in", list_of(column)))))
    if operators.is_null is not None:
        found.append(column.is_(None) if operators.is_null else column.isnot(None))
    return found


def list_of(column: Column) -> TypeEngine[Any]:
    """Return the type of a list of a column's values."""
    return ARRAY(Text() if isinstance(column.type, Text) else column.type)


def _starts_with(column: Column, prefix: str, scope: str) -> Condition:
    # A range and not LIKE: it can use an index under row level security. The columns compare by code point ("C").
    if not prefix:
        return column.isnot(None)
    from_here = column >= operand(scope, "starts_with", column.type)
    if _following_prefix(prefix) is None:
        return from_here
    return and_(from_here, column < operand(scope, "following", column.type))


def _following_prefix(prefix: str) -> str | None:
    """Return the least text that is greater than every text with the prefix, if there is one."""
    for length in range(len(prefix), 0, -1):
        code = ord(prefix[length - 1]) + 1
        if code == 0xD800:
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[: length - 1] + chr(code)
    return None
