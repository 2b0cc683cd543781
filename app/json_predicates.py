"""Conditions on what lies inside a JSON column, which never raise on a badly typed value."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Numeric, Text, any_, case, cast, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import InstrumentedAttribute

from app.errors import InvalidInput, Path, PayloadTooLarge
from app.filters import Condition, Operands, check_count, given_operands, operand, range_conditions, scoped
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
        for position, value in enumerate(self.in_ or ()):
            _json((*path, "in", position), value, limits)
        return self

    def operands(self, scope: str) -> Operands:
        """Yield the values by name."""
        yield scoped(scope, "path"), list(self.path)
        if self.eq is not None:
            yield scoped(scope, "eq"), _json_text(self.eq)
        if self.in_ is not None:
            yield scoped(scope, "in_"), [_json_text(value) for value in self.in_]
        yield from given_operands(self, ("exists",), scope)
        for name in ("gt", "gte", "lt", "lte"):
            bound = getattr(self, name)
            if bound is not None:
                yield scoped(scope, name), Decimal(repr(float(bound)))

    def documents(self) -> list[str] | None:
        """Return JSON documents of which a matching column holds one, for an index on containment; `None` for none.

        A position in an array looks like a key, and a document without a scalar in it is held by almost anything.
        """
        values = [self.eq] if self.eq is not None else self.in_
        if values is None or any(_POSITION.fullmatch(step) for step in self.path) or not all(map(_has_scalar, values)):
            return None
        documents: list[str] = []
        for value in values:
            document = value
            for step in reversed(self.path):
                document = {step: document}
            documents.append(_json_text(document))
        return documents

    def conditions(self, column: InstrumentedAttribute[JsonText], scope: str) -> list[Condition]:
        """Translate for one column."""
        value = column.op("#>", return_type=JSONB())(cast(operand(scope, "path", ARRAY(Text())), ARRAY(Text())))
        found: list[Condition] = []
        if self.eq is not None:
            found.append(value == cast(operand(scope, "eq", Text()), JSONB()))
        if self.in_ is not None:
            found.append(value == any_(cast(cast(operand(scope, "in_", ARRAY(Text())), ARRAY(Text())), ARRAY(JSONB()))))
        if self.exists is not None:
            found.append(value.isnot(None) if self.exists else value.is_(None))
        # CASE, since nothing else keeps PostgreSQL from casting a value that it need not have looked at.
        number = case((func.jsonb_typeof(value) == "number", cast(value, Numeric())), else_=None)
        return [*found, *range_conditions(self, number, scope)]


def check_predicates(path: Path, predicates: Sequence[JsonPredicate] | None, limits: Limits) -> None:
    """Check all predicates on one column, each under its position."""
    check_count(path, predicates, limits)
    for position, predicate in enumerate(predicates or ()):
        predicate.checked((*path, position), limits)


def predicate_operands(predicates: Sequence[JsonPredicate] | None, scope: str) -> Operands:
    """Yield the values of all predicates by name."""
    for position, predicate in enumerate(predicates or ()):
        yield from predicate.operands(f"{scope}{position}")


def predicate_conditions(
    predicates: Sequence[JsonPredicate] | None, column: InstrumentedAttribute[JsonText], scope: str
) -> list[Condition]:
    """Translate all predicates for one column."""
    return [
        condition
        for position, predicate in enumerate(predicates or ())
        for condition in predicate.conditions(column, f"{scope}{position}")
    ]


_POSITION = re.compile(r"\s*[-+]?\d+\s*")


def _has_scalar(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_scalar, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_scalar, value))
    return True


def _json_text(value: Any) -> JsonText:
    return JsonText(json.dumps(value, ensure_ascii=False))


def _json(path: Path, value: Any, limits: Limits) -> None:
    # Checked as a value of metadata is, since nothing else could be equal to one.
    try:
        check_json_object((), {"": value}, max_bytes=limits.metadata_bytes, max_depth=limits.metadata_depth + 1)
    except InvalidInput as mistake:
        raise InvalidInput(path, mistake.reason) from None
    except PayloadTooLarge as mistake:
        raise PayloadTooLarge(path, mistake.reason) from None
