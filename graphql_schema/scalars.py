"""The scalars of the API, strict in what they accept and exact in what they return."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NewType, Self
from uuid import UUID

import orjson
import strawberry
from graphql import GraphQLError, ValueNode, value_from_ast_untyped
from strawberry.types.scalar import ScalarDefinition

from app.validation import JsonText

Json = NewType("Json", object)
BigInt = NewType("BigInt", int)


class WrittenFloat(float):
    """A number of a JSON body that remembers its digits, which binary floating point would round."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, written: str) -> Self:
        """Read the number."""
        number = super().__new__(cls, written)
        number.written = written
        return number


def read_number(text: str) -> float:
    """Read a number with a fraction or an exponent; what a float writes as it was written needs no memory of it."""
    number = float(text)
    return number if repr(number) == text else WrittenFloat(text)


_DATE_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|z|[+-]\d{2}:\d{2})", re.ASCII)
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def parse_date_time(value: object) -> datetime:
    """Read an RFC 3339 time in UTC; digits beyond the microsecond are cut off."""
    match = _DATE_TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise GraphQLError(
            f"DateTime must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z, got {_shown(value)}"
        )
    date, time, fraction, offset = match.groups()
    text = f"{date}T{time}.{(fraction or '0')[:6].ljust(6, '0')}{'+00:00' if offset in 'Zz' else offset}"
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise GraphQLError(f"DateTime must exist and lie in the years 1 to 9999 in UTC, got {_shown(value)}") from None


def format_date_time(value: datetime) -> str:
    """Write a time in UTC with all six digits of the microsecond."""
    if value.tzinfo is UTC:
        return value.isoformat(timespec="microseconds")[:-6] + "Z"
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_uuid(value: object) -> UUID:
    """Read a UUID in its canonical form, in upper or lower case."""
    if not isinstance(value, str) or _UUID.fullmatch(value) is None:
        raise GraphQLError(f"UUID must look like 0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f, got {_shown(value)}")
    return UUID(value)


def parse_decimal(value: object) -> Decimal:
    """Read a number, or its text, exactly."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise GraphQLError(f"Decimal must be a number or its text, such as 0.0125, got {_shown(value)}")
    text = value.written if isinstance(value, WrittenFloat) else str(value)
    try:
        number = Decimal(text) if len(text) <= 64 and text.isascii() else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise GraphQLError(f"Decimal must be a finite number, such as 0.0125, got {_shown(value)}")
    return number


def parse_big_int(value: object) -> int:
    """Read a whole number of 64 bits, or its text."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise GraphQLError(f"BigInt must be a whole number of 64 bits or its text, such as 42, got {_shown(value)}")
    return value


def _parse_big_int_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> int:
    # An integer literal may have more digits than a 32-bit number; it is read from its text.
    text = getattr(node, "value", None)
    return parse_big_int(text if isinstance(text, str) else value_from_ast_untyped(node, variables))


def _parse_json_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> object:
    return value_from_ast_untyped(node, variables)


def _parse_decimal_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> Decimal:
    # The literal's own text, so that no binary floating point comes in between.
    text = getattr(node, "value", None)
    return parse_decimal(text if isinstance(text, str) else value_from_ast_untyped(node, variables))


def format_decimal(value: Decimal) -> str:
    """Write a number in full, without an exponent."""
    return f"{value:f}"


def format_json(value: object) -> object:
    """Put stored JSON text into the answer as it is."""
    return orjson.Fragment(value.encode()) if isinstance(value, JsonText) else value


def json_date_time(value: datetime) -> object:
    """Return a time in UTC as it goes into an answer; orjson writes it, but would leave out six zeros."""
    return value if value.microsecond else format_date_time(value)


def json_fragment(value: str) -> orjson.Fragment:
    """Return stored JSON text as it goes into an answer."""
    return orjson.Fragment(value.encode())


def to_json(answer: object) -> bytes:
    """Write an answer."""
    return orjson.dumps(answer, option=orjson.OPT_UTC_Z)


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=True)
    return text if len(text) <= 80 else text[:77] + "..."


SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description=(
            'A whole number of up to 64 bits, such as a sum of tokens. Answers are text (`"4294967296"`), since many'
            " clients round numbers beyond 2^53; input may be text or a number."
        ),
        serialize=str,
        parse_value=parse_big_int,
        parse_literal=_parse_big_int_literal,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description=(
            "A point in time, RFC 3339 with an offset from UTC: `2026-01-31T12:00:00.123456Z`. Answers are in UTC and"
            " carry six digits of the second; input may have up to nine, of which six are kept. A time without an"
            " offset is refused, since it could mean any of a day's hours."
        ),
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=format_date_time,
        parse_value=parse_date_time,
    ),
    UUID: strawberry.scalar(
        name="UUID",
        description="A UUID in its canonical form: `0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f`.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc9562",
        serialize=str,
        parse_value=parse_uuid,
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description=(
            'An exact decimal number, such as an amount of money. Answers are text (`"0.0125"`), so that no client'
            " rounds them; input may be text or a number."
        ),
        serialize=format_decimal,
        parse_value=parse_decimal,
        parse_literal=_parse_decimal_literal,
    ),
    Json: strawberry.scalar(
        name="JSON",
        description="Any JSON value. Integers of any size come back digit for digit; NaN and Infinity are not JSON.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=format_json,
        parse_value=lambda value: value,
        parse_literal=_parse_json_literal,
    ),
}
