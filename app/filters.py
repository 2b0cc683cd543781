"""Typed filter operators and what they mean in SQL.

Every condition is two-valued: a row satisfies it or it does not, whatever is NULL in it, so that `not` is the
complement. `None` stands for an operator that was left out; an empty `in_` list matches nothing.
Comparisons are by code point and case sensitive, and use operators that an index can serve under row level security.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, and_, false, func, or_, true
from sqlalchemy.orm import InstrumentedAttribute

from app.errors import InvalidInput, Path, PayloadTooLarge
from app.settings import Limits
from app.validation import check_instant, check_text

Column = ColumnElement[Any] | InstrumentedAttribute[Any]
Condition = ColumnElement[bool]
V = TypeVar("V", UUID, int, Decimal)

# Decimal places before or after the point; far beyond any amount, far below where PostgreSQL gives up.
_MAX_MAGNITUDE = 100


def all_of(conditions: Sequence[Condition]) -> Condition:
    """Return the conjunction; of nothing, true."""
    return and_(true(), *conditions)


def any_of(conditions: Sequence[Condition]) -> Condition:
    """Return the disjunction; of nothing, false."""
    return or_(false(), *conditions)


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
        for name, operand in (
            ("eq", self.eq),
            ("starts_with", self.starts_with),
            ("contains", self.contains),
        ):
            if operand is not None:
                check_text((*path, name), operand)
        for name, operands in (("in", self.in_), ("not_in", self.not_in)):
            check_count((*path, name), operands, limits)
            for position, operand in enumerate(operands or ()):
                check_text((*path, name, position), operand)
        return self

    def conditions(self, column: Column) -> list[Condition]:
        """Translate for one column."""
        found = _set_conditions(column, self.eq, self.in_, self.not_in, self.is_null)
        if self.starts_with is not None:
            found.append(_starts_with(column, self.starts_with))
        if self.contains is not None:
            # No LIKE: per cent, underscore and backslash are characters like any other.
            found.append(func.strpos(column, self.contains) > 0)
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

    def conditions(self, column: Column) -> list[Condition]:
        """Translate for one column."""
        return _set_conditions(column, self.eq, self.in_, self.not_in, self.is_null)


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
            operand = getattr(self, name)
            if isinstance(operand, Decimal) and not (operand.is_finite() and abs(operand.adjusted()) <= _MAX_MAGNITUDE):
                raise InvalidInput((*path, name), f"must be a finite number of at most {_MAX_MAGNITUDE} digits")
        return self

    def conditions(self, column: Column) -> list[Condition]:
        """Translate for one column."""
        found = _set_conditions(column, self.eq, None, None, self.is_null)
        if self.gt is not None:
            found.append(column > self.gt)
        if self.gte is not None:
            found.append(column >= self.gte)
        if self.lt is not None:
            found.append(column < self.lt)
        if self.lte is not None:
            found.append(column <= self.lte)
        return found


@dataclass(frozen=True, slots=True)
class TimeFilter:
    """A half-open range of time: `gte` is included, `lt` is not."""

    gte: datetime | None = None
    lt: datetime | None = None

    def checked(self, path: Path, _limits: Limits) -> "TimeFilter":
        """Return itself if both ends are instants."""
        for name, operand in (("gte", self.gte), ("lt", self.lt)):
            if operand is not None:
                check_instant((*path, name), operand)
        return self

    def conditions(self, column: Column) -> list[Condition]:
        """Translate for one column."""
        found: list[Condition] = []
        if self.gte is not None:
            found.append(column >= self.gte)
        if self.lt is not None:
            found.append(column < self.lt)
        return found


def check_count(path: Path, operands: Sequence[object] | None, limits: Limits) -> None:
    """Raise `PayloadTooLarge` when a list of operands is longer than the limit."""
    if operands is not None and len(operands) > limits.filter_values:
        raise PayloadTooLarge(path, f"must hold at most {limits.filter_values} values, got {len(operands)}")


def _set_conditions(
    column: Column,
    eq: object | None,
    in_: Sequence[object] | None,
    not_in: Sequence[object] | None,
    is_null: bool | None,  # noqa: FBT001 - passed on from a filter's field
) -> list[Condition]:
    found: list[Condition] = []
    if eq is not None:
        found.append(column == eq)
    if in_ is not None:
        found.append(column.in_(in_) if in_ else false())
    if not_in:
        found.append(or_(column.is_(None), column.not_in(not_in)))
    if is_null is not None:
        found.append(column.is_(None) if is_null else column.isnot(None))
    return found


def _starts_with(column: Column, prefix: str) -> Condition:
    # A range and not LIKE: it can use an index under row level security. The columns compare by code point ("C").
    if not prefix:
        return column.isnot(None)
    following = _following_prefix(prefix)
    return column >= prefix if following is None else and_(column >= prefix, column < following)


def _following_prefix(prefix: str) -> str | None:
    """Return the least text that is greater than every text with the prefix, if there is one."""
    for length in range(len(prefix), 0, -1):
        code = ord(prefix[length - 1]) + 1
        if code == 0xD800:
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[: length - 1] + chr(code)
    return None
