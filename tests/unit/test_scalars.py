"""What the scalars read and write, value by value."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import orjson
import pytest
from graphql import GraphQLError
from hypothesis import given
from hypothesis import strategies as st

from app.validation import JsonText
from graphql_schema.scalars import (
    format_date_time,
    format_decimal,
    format_json,
    parse_date_time,
    parse_decimal,
    parse_uuid,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31T17:30:00+05:30", NOON),
        ("2026-01-31T12:00:00-00:00", NOON),
        ("2026-01-31T12:00:00.1Z", NOON.replace(microsecond=100_000)),
        ("2026-01-31T12:00:00.123456789Z", NOON.replace(microsecond=123_456)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
    ],
)
def test_time_with_offset_is_read_in_utc(text: str, instant: datetime) -> None:
    """A time with an offset is one instant, kept to the microsecond."""
    read = parse_date_time(text)
    assert read == instant
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31T12:00:00",
        "2026-01-31",
        "2026-W05-6",
        "2026-01-31 12:00:00Z",
        "20260131T120000Z",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00.1234567890Z",
        "2026-01-31T12:00:00+0530",
        "2026-02-30T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:60Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-01-31T12:00:00Z\n",
        "٢٠٢٦-01-31T12:00:00Z",
        "now",
        "",
        1769860800,
        1.5,
        True,
        None,
        ["2026-01-31T12:00:00Z"],
    ],
)
def test_anything_else_is_no_time(value: object) -> None:
    """A time without an offset, an impossible one, or another kind of value is refused."""
    with pytest.raises(GraphQLError, match=r"^DateTime must"):
        parse_date_time(value)


@given(st.datetimes(timezones=st.just(UTC)))
def test_written_time_is_read_back(instant: datetime) -> None:
    """Every time that is written is read back as the same instant."""
    assert parse_date_time(format_date_time(instant)) == instant


def test_time_is_written_in_utc_with_six_digits() -> None:
    """An answer always carries an offset and all digits."""
    local = datetime(2026, 1, 31, 7, tzinfo=timezone(timedelta(hours=-5)))
    assert format_date_time(local) == "2026-01-31T12:00:00.000000Z"


@pytest.mark.parametrize("text", ["0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f", "0197F2A0-5C1E-7CC3-98C4-DC0C0C07398F"])
def test_canonical_uuid_is_read(text: str) -> None:
    """A UUID is read in lower and in upper case."""
    assert parse_uuid(text) == UUID("0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "nope",
        1,
        None,
        "{0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f}",
        "urn:uuid:0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f",
        "0197f2a05c1e7cc398c4dc0c0c07398f",
        "0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f ",
        "0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f\n",
        "\u0660197f2a-5c1e-7cc3-98c4-dc0c0c07398f",
    ],
)
def test_other_spellings_are_no_uuid(value: object) -> None:
    """Only the canonical form is a UUID."""
    with pytest.raises(GraphQLError, match=r"^UUID must look like"):
        parse_uuid(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.1, "0.1"),
        ("0.1", "0.1"),
        ("123456789.123456789012", "123456789.123456789012"),
        ("1e3", "1000"),
        ("-0.50", "-0.50"),
    ],
)
def test_decimal_is_exact(value: object, text: str) -> None:
    """A number is read exactly and written in full."""
    assert format_decimal(parse_decimal(value)) == text


@pytest.mark.parametrize("value", ["", "x", "NaN", "Infinity", "-inf", "٣", "1" * 65, float("nan"), True, None, [], {}])
def test_no_finite_number_is_no_decimal(value: object) -> None:
    """What is no finite number is refused."""
    with pytest.raises(GraphQLError, match=r"^Decimal must be"):
        parse_decimal(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**9, places=12))
def test_written_decimal_is_read_back(number: Decimal) -> None:
    """Every amount that is written is read back as the same amount."""
    assert parse_decimal(format_decimal(number)) == number


def test_stored_json_goes_out_as_it_is() -> None:
    """Stored JSON text is not parsed on its way out, so its numbers keep every digit."""
    stored = JsonText('{"a":12345678901234567890123,"b":1e22}')
    assert orjson.dumps({"metadata": format_json(stored)}) == b'{"metadata":' + stored.encode() + b"}"


def test_other_json_is_passed_on() -> None:
    """A value that is no stored text is passed on as the value it is."""
    value = {"a": [1, None, "x"]}
    assert json.loads(orjson.dumps(format_json(value))) == value
