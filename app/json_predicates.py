"""Conditions on what lies inside a JSON column, which never raise on a badly typed value."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Numeric, String, bindparam, case, cast, false, func, literal, or_
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import InstrumentedAttribute

from app.errors import InvalidInput, Path, PayloadTooLarge
from app.filters import Condition, check_count
from app.settings import Limits
from app.validation import JsonText, check_json_object, check_text


@dataclass(frozen=True, slots=True)
class JsonPredicate:
    """What must hold of the value at a path; keys lead into objects, positions ("0") into arrays.

    `eq` and `in_` compare whole JSON values: 1 equals 1.0, but not "1". A range holds for numbers only; any other
    value, and a path that leads nowhere, is simply not in it.
    """

    path: Sequence[str]
    eq: Any = None
    in_: Sequence[Any] | None = None
    exists: bool | None = None
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None

    def checked(self, path: Path, limits: Limits) -> "JsonPredicate":
        """Return itself if its path and its operands can be compared."""
        if not self.path:
            raise InvalidInput((*path, "path"), "must name at least one key")
        if len(self.path) > limits.metadata_depth:
            raise PayloadTooLarge((*path, "path"), f"must have at most {limits.metadata_depth} steps")
        for position, step in enumerate(self.path):
            check_text((*path, "path", position), step)
        check_count((*path, "in"), self.in_, limits)
        _json((*path, "eq"), self.eq, limits)
        for position, operand in enumerate(self.in_ or ()):
            _json((*path, "in", position), operand, limits)
        return self

    def conditions(self, column: InstrumentedAttribute[JsonText]) -> list[Condition]:
        """Translate for one column."""
        value = column.op("#>", return_type=JSONB())(cast(list(self.path), ARRAY(String())))
        found: list[Condition] = []
        if self.eq is not None:
            found.append(_equals(value, self.eq))
        if self.in_ is not None:
            found.append(or_(false(), *(_equals(value, operand) for operand in self.in_)))
        if self.exists is not None:
            found.append(value.isnot(None) if self.exists else value.is_(None))
        # CASE, since nothing else keeps PostgreSQL from casting a value that it need not have looked at.
        number = case((func.jsonb_typeof(value) == "number", cast(value, Numeric())), else_=None)
        for operand, condition in (
            (self.gt, number.__gt__), (self.gte, number.__ge__), (self.lt, number.__lt__), (self.lte, number.__le__),
        ):  # fmt: skip
            if operand is not None:
                found.append(condition(literal(Decimal(repr(float(operand))), Numeric())))
        return found


def _equals(value: ColumnElement[Any], operand: Any) -> Condition:
    text = JsonText(json.dumps(operand, ensure_ascii=False))
    return value == cast(bindparam(None, text, JSONB()), JSONB())


def _json(path: Path, operand: Any, limits: Limits) -> None:
    # Checked as a value of metadata is, since nothing else could be equal to one.
    try:
        check_json_object((), {"": operand}, max_bytes=limits.metadata_bytes, max_depth=limits.metadata_depth + 1)
    except InvalidInput as mistake:
        raise InvalidInput(path, mistake.reason) from None
    except PayloadTooLarge as mistake:
        raise PayloadTooLarge(path, mistake.reason) from None
