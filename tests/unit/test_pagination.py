"""Cursors, and what makes one unusable."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.order import NEWEST_FIRST
from app.errors import CursorMismatch, InvalidInput
from app.pagination import DEFAULT_PAGE_SIZE, PageRequest, Position, decode_cursor, encode_cursor, fingerprint

LIST = fingerprint("audit_events", "a filter")
ID = UUID("0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f")
INSTANT = datetime(2026, 1, 31, 12, 0, 0, 123_457, UTC)


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_cursor_brings_back_the_exact_place(instant: datetime, row_id: UUID) -> None:
    """A cursor keeps the microsecond and the id."""
    position = decode_cursor("after", encode_cursor(Position.at_time(instant, row_id), LIST), LIST)
    assert (position.time, position.id) == (instant, row_id)


def test_neighbouring_microseconds_are_told_apart() -> None:
    """Two rows one microsecond apart have places one apart."""
    later = Position.at_time(INSTANT + timedelta(microseconds=1), ID)
    assert later.key - Position.at_time(INSTANT, ID).key == 1


def test_cursor_of_another_list_is_a_mismatch() -> None:
    """A cursor can't continue a list with another filter."""
    cursor = encode_cursor(Position.at_time(INSTANT, ID), LIST)
    with pytest.raises(CursorMismatch) as caught:
        decode_cursor("before", cursor, fingerprint("audit_events", "another filter"))
    assert caught.value.path == ("before",)
    assert caught.value.code == "CURSOR_MISMATCH"


def test_a_time_that_does_not_exist_is_no_cursor() -> None:
    """A cursor that was made up is refused like any other text."""
    keyset = NEWEST_FIRST.keyset("audit_events")
    cursor = encode_cursor(Position(2**62, ID), fingerprint("audit_events", True))
    with pytest.raises(InvalidInput, match="is not a cursor"):
        keyset.plan(PageRequest(after=cursor), 500)


def _malformed() -> list[str]:
    cursor = encode_cursor(Position.at_time(INSTANT, ID), LIST)
    other_version = bytes([2]) + base64.urlsafe_b64decode(cursor)[1:]
    return [
        "",
        "x",
        "not-a-cursor",
        cursor[:-1],
        cursor + "=",
        " " + cursor[1:],
        "é" * 44,
        "\ud800" * 44,
        "\x00" * 44,
        base64.b64encode(b"{}").decode(),
        base64.urlsafe_b64encode(other_version).decode(),
        "A" * 1_000_000,
    ]


@pytest.mark.parametrize("cursor", _malformed())
def test_anything_else_is_no_cursor(cursor: str) -> None:
    """Text that is no cursor is refused under the argument's name, never taken for the first page."""
    with pytest.raises(InvalidInput) as caught:
        decode_cursor("after", cursor, LIST)
    assert caught.value.path == ("after",)
    assert caught.value.code == "BAD_USER_INPUT"


def test_fingerprint_tells_lists_apart() -> None:
    """Another list, filter or order has another fingerprint; the same has the same."""
    assert fingerprint("a", 1) == fingerprint("a", 1)
    assert len({fingerprint("a", 1), fingerprint("a", 2), fingerprint("b", 1), fingerprint("a1")}) == 4


@pytest.mark.parametrize(
    ("page", "size"),
    [
        (PageRequest(), DEFAULT_PAGE_SIZE),
        (PageRequest(first=0), 0),
        (PageRequest(first=500), 500),
        (PageRequest(last=7), 7),
    ],
)
def test_page_size(page: PageRequest, size: int) -> None:
    """A page has the wanted size, or the default one, never everything."""
    assert page.size(500) == size


@pytest.mark.parametrize(
    ("page", "argument"),
    [
        (PageRequest(first=-1), "first"),
        (PageRequest(first=501), "first"),
        (PageRequest(last=-1), "last"),
        (PageRequest(last=2**31 - 1), "last"),
        (PageRequest(first=1, last=1), "last"),
    ],
)
def test_impossible_page_is_refused(page: PageRequest, argument: str) -> None:
    """A size out of range, or both ends at once, is refused under the argument's name."""
    with pytest.raises(InvalidInput) as caught:
        page.size(500)
    assert caught.value.path == (argument,)


def test_default_page_respects_a_small_limit() -> None:
    """Where the installation allows less than the default, the default is that."""
    assert PageRequest().size(10) == 10
