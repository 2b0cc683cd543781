"""Checks that every stored or compared value passes, whichever door it came through.

PostgreSQL can't store U+0000 in text or jsonb, UTF-8 can't carry lone surrogates, and JSON has no NaN. Each check
raises `InvalidInput` or `PayloadTooLarge` with the path of the field, and changes nothing.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.errors import InvalidInput, Path, PayloadTooLarge

MAX_INT32 = 2**31 - 1

# Far above any real price and any real precision of one; bounds what a numeric column has to hold.
MAX_COST = Decimal(10) ** 9
MAX_COST_DECIMALS = 12


class JsonText(str):
    """A JSON document in its textual form, passed through without being parsed, so that big integers stay exact."""

    __slots__ = ()


def is_plain_text(value: str) -> bool:
    """Return whether `value` is text that passes `check_text` at first sight, as almost all does."""
    return value.isascii() and "\x00" not in value


def check_text(path: Path, value: str, *, allow_empty: bool = True) -> str:
    """Return `value` if it can be stored as text."""
    if "\x00" in value:
        raise InvalidInput(path, "must not contain the character U+0000; remove it or replace it by U+FFFD")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInput(path, "must be valid Unicode, without lone surrogates (U+D800 to U+DFFF)") from None
    if not allow_empty and not value.strip():
        raise InvalidInput(path, "must not be empty")
    return value


def check_size(path: Path, value: str, max_bytes: int) -> None:
    """Raise `PayloadTooLarge` when `value` takes more than `max_bytes` bytes of UTF-8."""
    if len(value) * 4 > max_bytes and (size := len(value.encode())) > max_bytes:
        raise PayloadTooLarge(path, f"must be at most {max_bytes} bytes of UTF-8, got {size}")


def check_int(path: Path, value: int, *, minimum: int = 0, maximum: int = MAX_INT32) -> int:
    """Return `value` if it is an integer between the two bounds, both included."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(path, "must be an integer")
    if not minimum <= value <= maximum:
        raise InvalidInput(path, f"must be between {minimum} and {maximum}, got {value}")
    return value


def check_cost(path: Path, value: Decimal) -> Decimal:
    """Return `value` if it is a finite amount of money, not negative and of bounded precision."""
    if not value.is_finite():
        raise InvalidInput(path, "must be a finite number")
    if value < 0 or value >= MAX_COST:
        raise InvalidInput(path, f"must be at least 0 and less than {MAX_COST}")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > MAX_COST_DECIMALS:
        raise InvalidInput(path, f"must have at most {MAX_COST_DECIMALS} decimal places")
    return value


def check_instant(path: Path, value: datetime) -> datetime:
    """Return `value` in UTC if it names one instant, that is, carries an offset."""
    if value.tzinfo is None:
        raise InvalidInput(path, "must carry an offset from UTC, such as 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(path, "must lie in the years 1 to 9999 in UTC") from None


def check_object(path: Path, value: object) -> None:
    """Raise `InvalidInput` unless `value` is a JSON object."""
    if type(value) is not dict and not isinstance(value, Mapping):
        raise InvalidInput(path, 'must be a JSON object, such as {"attempt": 2}')


def check_json_object(path: Path, value: Mapping[str, Any], *, max_bytes: int, max_depth: int) -> JsonText:
    """Return the JSON text of an object that jsonb can store exactly, at most so large and so deeply nested."""
    check_object(path, value)
    _check_json_nodes(path, value, max_depth)
    text = _ENCODER.encode(value)
    if (size := len(text.encode())) > max_bytes:
        raise PayloadTooLarge(path, f"must be at most {max_bytes} bytes as JSON, got {size}")
    return JsonText(text)


# Sorted, so that equal objects have equal texts.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


_PLAIN = frozenset({int, bool, type(None)})


def _check_json_nodes(path: Path, root: Any, max_depth: int) -> None:
    pending: list[tuple[Path, Any, int]] = [(path, root, 1)]
    while pending:
        at, node, depth = pending.pop()
        if isinstance(node, dict | list | tuple) or isinstance(node, Mapping):  # noqa: SIM101 - the cheap question first
            if depth > max_depth:
                raise PayloadTooLarge(path, f"must be nested at most {max_depth} levels deep")
            for key, item in _json_children(at, node):
                kind = type(item)
                if kind is str:
                    check_text((*at, key), item)
                elif kind not in _PLAIN:
                    pending.append(((*at, key), item, depth + 1))
        else:
            _check_json_leaf(at, node)


def _check_json_leaf(at: Path, node: Any) -> None:
    if isinstance(node, str):
        check_text(at, node)
    elif isinstance(node, float):
        if not math.isfinite(node):
            raise InvalidInput(at, "must be a finite number; JSON has no NaN and no Infinity")
    elif node is not None and not isinstance(node, bool | int):
        raise InvalidInput(at, f"must be JSON, not {type(node).__name__}")


def _json_children(at: Path, node: Mapping[str, Any] | Sequence[Any]) -> Iterator[tuple[str | int, Any]]:
    if not isinstance(node, dict | Mapping):
        yield from enumerate(node)
        return
    for key, item in node.items():
        if not isinstance(key, str):
            raise InvalidInput(at, "must have text keys only")
        if not key.isascii() or "\x00" in key:
            check_text((*at, ascii(key)[1:-1]), key)
        yield key, item
