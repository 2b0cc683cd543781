"""Keyset pages: forwards and backwards through a list in a total order, without counting and without offsets.

A cursor names a row's place, not its number: rows that arrive meanwhile shift nothing, and the hundredth page costs
what the first one costs. It also carries a fingerprint of the list, filter and order that made it, so that it can't
silently continue another list.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, literal_column, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from app.errors import CursorMismatch, InvalidInput

DEFAULT_PAGE_SIZE = 50

_FORMAT = struct.Struct(">B8sq16s")
_VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENCODED_LENGTH = 44

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Position:
    """A row's place in its list: the ordering number (a time in microseconds, or an index), then the row's id."""

    key: int
    id: UUID

    @classmethod
    def at_time(cls, instant: datetime, row_id: UUID) -> "Position":
        """Return the place of a row in a list that is ordered by time."""
        return cls((instant - _EPOCH) // timedelta(microseconds=1), row_id)

    @property
    def time(self) -> datetime:
        """The ordering time."""
        return _EPOCH + timedelta(microseconds=self.key)


def fingerprint(*parts: object) -> bytes:
    """Return 8 bytes that stand for a list, its filter and its order; `parts` must have a stable `repr`."""
    return hashlib.sha256(repr(parts).encode()).digest()[:8]


def encode_cursor(position: Position, list_fingerprint: bytes) -> str:
    """Write a cursor: 44 characters of base64url."""
    packed = _FORMAT.pack(_VERSION, list_fingerprint, position.key, position.id.bytes)
    return base64.urlsafe_b64encode(packed).decode()


def decode_cursor(argument: str, cursor: str, list_fingerprint: bytes) -> Position:
    """Read a cursor; raise `InvalidInput` when it is not one, `CursorMismatch` when it is of another list."""
    if len(cursor) != _ENCODED_LENGTH:
        raise _malformed(argument)
    try:
        packed = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        version, found, key, row_id = _FORMAT.unpack(packed)
        position = Position(key, UUID(bytes=row_id))
    except (ValueError, binascii.Error, struct.error):
        raise _malformed(argument) from None
    if version != _VERSION:
        raise _malformed(argument)
    if found != list_fingerprint:
        raise CursorMismatch((argument,), "belongs to another list, filter or order; start again without it")
    return position


def _malformed(argument: str) -> InvalidInput:
    return InvalidInput((argument,), "is not a cursor of this API; pass endCursor or startCursor unchanged")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page is wanted: the first so many after a cursor, or the last so many before one."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None

    @property
    def is_backward(self) -> bool:
        """Whether the page is counted from the end of the range."""
        return self.last is not None

    def size(self, max_page_size: int) -> int:
        """Return how many rows are wanted; raise `InvalidInput` when that is impossible or too many."""
        if self.first is not None and self.last is not None:
            raise InvalidInput(("last",), "can't be combined with first; pass one of the two")
        name, wanted = ("last", self.last) if self.last is not None else ("first", self.first)
        if wanted is None:
            return min(DEFAULT_PAGE_SIZE, max_page_size)
        if not 0 <= wanted <= max_page_size:
            raise InvalidInput((name,), f"must be between 0 and {max_page_size}, got {wanted}")
        return wanted


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of rows, in the list's order."""

    items: Sequence[T]
    has_next: bool
    has_previous: bool
    cursor_of: Callable[[T], str]


@dataclass(frozen=True, slots=True)
class PagePlan:
    """What makes a query a page. Plans that are equal make the same SQL: their `values`, by name, do not count."""

    size: int
    descending: bool
    is_backward: bool
    is_after: bool
    is_before: bool
    values: Mapping[str, object] = field(compare=False)

    def apply(
        self,
        query: Select[Any],
        key: InstrumentedAttribute[Any],
        row_id: InstrumentedAttribute[UUID],
        *,
        beyond: bool = True,
    ) -> Select[Any]:
        """Restrict the query to the page and one row beyond it, in the order in which the rows are to be read."""
        # The size is written out, so that PostgreSQL plans for the few rows that are wanted.
        return self.in_order(query, key, row_id).limit(literal_column(str(self.size + beyond)))

    def in_order(
        self, query: Select[Any], key: InstrumentedAttribute[Any], row_id: InstrumentedAttribute[UUID]
    ) -> Select[Any]:
        """Restrict the query to what lies beyond the cursors, in the order in which the rows are to be read."""
        if self.is_after:
            query = query.where(_beyond(key, row_id, "after", downwards=self.descending))
        if self.is_before:
            query = query.where(_beyond(key, row_id, "before", downwards=not self.descending))
        return query.order_by(*(column.desc() if self.downwards else column.asc() for column in (key, row_id)))

    @property
    def downwards(self) -> bool:
        """Whether the rows are read from the greatest on."""
        return self.descending != self.is_backward


def _beyond(
    key: InstrumentedAttribute[Any], row_id: InstrumentedAttribute[UUID], cursor: str, *, downwards: bool
) -> ColumnElement[bool]:
    here = tuple_(key, row_id)
    there = tuple_(bindparam(f"{cursor}_key", type_=key.type), bindparam(f"{cursor}_id", type_=row_id.type))
    return here < there if downwards else here > there


@dataclass(frozen=True, slots=True)
class Keyset(Generic[T]):
    """The total order of one list: a number or time column, then the id, both ascending or both descending.

    `identity` is what tells the list from others, its filter and its order; its `repr` must be stable.
    """

    position_of: Callable[[T], Position]
    key_from: Callable[[Position], object]
    descending: bool
    identity: tuple[object, ...]

    def plan(self, page: PageRequest, max_page_size: int) -> PagePlan:
        """Read the cursors; raise `InvalidInput` for an impossible page, `CursorMismatch` for another list's cursor."""
        size = page.size(max_page_size)
        values: dict[str, object] = {}
        for argument, cursor in (("after", page.after), ("before", page.before)):
            if cursor is not None:
                position = decode_cursor(argument, cursor, fingerprint(*self.identity, self.descending))
                try:
                    key = self.key_from(position)
                except OverflowError:
                    # Such a time does not exist.
                    raise _malformed(argument) from None
                values |= {f"{argument}_key": key, f"{argument}_id": position.id}
        return PagePlan(
            size=size,
            descending=self.descending,
            is_backward=page.is_backward,
            is_after=page.after is not None,
            is_before=page.before is not None,
            values=values,
        )

    def page(self, rows: Sequence[T], plan: PagePlan) -> Page[T]:
        """Build the page from the rows that the planned query returned."""
        has_more = len(rows) > plan.size
        items = rows[: plan.size]
        if plan.is_backward:
            items = items[::-1]
        return Page(
            items=items,
            has_next=plan.is_before if plan.is_backward else has_more,
            has_previous=has_more if plan.is_backward else plan.is_after,
            cursor_of=self.cursor_writer(),
        )

    def cursor_writer(self) -> Callable[[T], str]:
        """Return the function that writes the cursor of a row."""
        known: list[bytes] = []

        def cursor_of(row: T) -> str:
            # Reckoned with the first cursor: many pages need none.
            if not known:
                known.append(fingerprint(*self.identity, self.descending))
            return encode_cursor(self.position_of(row), known[0])

        return cursor_of
