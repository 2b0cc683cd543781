"""Events as JSON text that PostgreSQL writes: what the API answers and what exports hold.

Where an event is only passed on, it need not become Python objects on its way: PostgreSQL builds the JSON of a whole
page in one go, for less than it costs Python to read the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, ColumnElement, Text, cast, func, literal, literal_column, select

# PostgreSQL cuts longer names off.
_LONGEST_KEY = 63
_UTC: ColumnElement[str] = literal_column("'UTC'")
_RFC_3339: ColumnElement[str] = literal_column("""'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'""")


@dataclass(frozen=True, slots=True)
class JsonMember:
    """A member of an event's JSON object: its key, and the event's attribute or a constant text."""

    key: str
    attribute: str | None
    constant: str = ""


def can_be_written(members: Sequence[JsonMember]) -> bool:
    """Return whether PostgreSQL can write such an object."""
    return bool(members) and all(len(member.key) <= _LONGEST_KEY for member in members)


def json_array(events: CTE, members: Sequence[JsonMember]) -> ColumnElement[Any]:
    """Return the JSON array of all rows of a query, in its order; NULL when there are none."""
    written = select(*json_columns(events, members)).select_from(events)
    return select(func.json_agg(literal_column("event"))).select_from(written.subquery("event")).scalar_subquery()


def json_columns(events: CTE, members: Sequence[JsonMember]) -> list[ColumnElement[Any]]:
    """Return the members of each row as columns, which PostgreSQL writes as the API does."""
    return [_value(events, member).label(member.key) for member in members]


def _value(events: CTE, member: JsonMember) -> ColumnElement[Any]:
    if member.attribute is None:
        return literal(member.constant, Text())
    column: ColumnElement[Any] = events.c[member.attribute]
    if member.attribute in {"action_type", "status"}:
        # The names of the closed sets are their stored values in capitals.
        return func.upper(column)
    if member.attribute in {"cost_usd", "sequence"}:
        return cast(column, Text())
    if member.attribute in {"created_at", "occurred_at"}:
        return func.to_char(func.timezone(_UTC, column), _RFC_3339)
    return column
