"""The checks that every stored value passes."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput, PayloadTooLarge
from app.validation import (
    check_cost,
    check_instant,
    check_int,
    check_json_object,
    check_size,
    check_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def checked(value: Any, *, max_bytes: int = 10**6, max_depth: int = 16) -> str:
    """Check an object."""
    return check_json_object(("metadata",), value, max_bytes=max_bytes, max_depth=max_depth)


@pytest.mark.parametrize("text", ["", "a", "naïve", "\U0001f600", "\u0001", "\ufffd", "a\r\n\tb"])
def test_storable_text_passes_unchanged(text: str) -> None:
    """Text that PostgreSQL can store is returned as it is."""
    assert check_text(("error",), text) == text


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800", "a\udfffb"])
def test_unstorable_text_is_refused(text: str) -> None:
    """U+0000 and lone surrogates are refused under the field's path."""
    with pytest.raises(InvalidInput) as caught:
        check_text(("error",), text)
    assert caught.value.path == ("error",)


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_empty_name_is_refused(text: str) -> None:
    """A name must have something in it."""
    with pytest.raises(InvalidInput, match="must not be empty"):
        check_text(("model",), text, allow_empty=False)


def test_size_is_counted_in_bytes_of_utf8() -> None:
    """The limit is in bytes: four for a character beyond the basic plane."""
    check_size(("error",), "\U0001f600" * 4, 16)
    check_size(("error",), "a" * 16, 16)
    with pytest.raises(PayloadTooLarge, match="at most 16 bytes of UTF-8, got 17"):
        check_size(("error",), "\U0001f600" * 4 + "a", 16)


@pytest.mark.parametrize("value", [-1, 2**31, True, 1.0, "1"])
def test_integer_out_of_range_or_of_another_kind_is_refused(value: Any) -> None:
    """Only integers that fit the column pass."""
    with pytest.raises(InvalidInput):
        check_int(("latency_ms",), value)


@pytest.mark.parametrize("value", [0, 2**31 - 1])
def test_integer_bounds_are_included(value: int) -> None:
    """Both ends of the range are allowed."""
    assert check_int(("latency_ms",), value) == value


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity", "-0.01", "1000000000", "0.0000000000001"])
def test_impossible_cost_is_refused(text: str) -> None:
    """A cost is finite, not negative, below a thousand million and of at most 12 decimals."""
    with pytest.raises(InvalidInput):
        check_cost(("cost_usd",), Decimal(text))


@pytest.mark.parametrize("text", ["0", "-0", "0.000000000001", "999999999.999999999999"])
def test_possible_cost_passes(text: str) -> None:
    """The extremes of a cost pass."""
    assert check_cost(("cost_usd",), Decimal(text)) == Decimal(text)


def test_instant_is_returned_in_utc() -> None:
    """A time with an offset is turned into UTC; one without is refused."""
    local = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert check_instant(("occurred_at",), local).isoformat() == "2026-01-01T06:30:00+00:00"
    with pytest.raises(InvalidInput):
        check_instant(("occurred_at",), local.replace(tzinfo=None))
    with pytest.raises(InvalidInput):
        check_instant(("occurred_at",), datetime.min.replace(tzinfo=timezone(timedelta(hours=1))))
    assert check_instant(("occurred_at",), datetime.max.replace(tzinfo=UTC)).year == 9999


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_json_object_keeps_its_value_or_is_refused(value: Mapping[str, Any]) -> None:
    """An object comes through with exactly its value, unless it holds U+0000."""
    if "\\u0000" in json.dumps(value).replace("\\\\", ""):
        with pytest.raises(InvalidInput):
            checked(value)
    else:
        assert json.loads(checked(value)) == value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": "\x00"}, ("metadata", "a")),
        ({"a": [1, {"b": "x\ud800"}]}, ("metadata", "a", 1, "b")),
        ({"a\x00b": 1}, ("metadata", "a\\x00b")),
        ({"a": float("nan")}, ("metadata", "a")),
        ({"a": [float("inf")]}, ("metadata", "a", 0)),
        ({1: "a"}, ("metadata",)),
        ({"a": object()}, ("metadata", "a")),
        ([1], ("metadata",)),
        ("{}", ("metadata",)),
        (None, ("metadata",)),
    ],
)
def test_what_is_no_storable_object_is_refused_with_its_path(value: Any, path: tuple[str | int, ...]) -> None:
    """The path leads to the one bad value."""
    with pytest.raises(InvalidInput) as caught:
        checked(value)
    assert caught.value.path == path


def test_json_depth_is_bounded() -> None:
    """Sixteen levels pass and seventeen do not, however many there are."""

    def nested(levels: int) -> Any:
        value: Any = {}
        for _ in range(levels - 1):
            value = {"a": value}
        return value

    checked(nested(16))
    for levels in (17, 5000):
        with pytest.raises(PayloadTooLarge, match="at most 16 levels"):
            checked(nested(levels))


def test_json_size_is_bounded_in_bytes() -> None:
    """The limit is in bytes of compact JSON."""
    checked({"a": "é"}, max_bytes=10)
    with pytest.raises(PayloadTooLarge, match="at most 9 bytes as JSON, got 10"):
        checked({"a": "é"}, max_bytes=9)


def test_big_integers_keep_every_digit() -> None:
    """No number passes through a float."""
    assert checked({"c": 12345678901234567890123}) == '{"c":12345678901234567890123}'
