"""Prefix ranges and operand checks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput, PayloadTooLarge
from app.filters import RangeFilter, SetFilter, StringFilter, _following_prefix, check_count
from app.settings import Limits

LIMITS = Limits(filter_values=3)
TEXT = st.text(st.sampled_from("a%\ud7ff\ue000\uffff\U00010000\U0010ffff"), max_size=4)


@pytest.mark.parametrize(
    ("prefix", "following"),
    [
        ("a", "b"),
        ("ab", "ac"),
        ("a%", "a&"),
        ("a\ud7ff", "a\ue000"),
        ("a\uffff", "a\U00010000"),
        ("a\U0010ffff", "b"),
        ("a\U0010ffff\U0010ffff", "b"),
        ("\U0010ffff", None),
    ],
)
def test_following_prefix(prefix: str, following: str | None) -> None:
    """The next prefix skips surrogates and carries over the last code point."""
    assert _following_prefix(prefix) == following


@given(TEXT.filter(bool), TEXT)
def test_prefix_range_holds_exactly_the_texts_with_the_prefix(prefix: str, text: str) -> None:
    """In code point order, the texts from the prefix up to the following one are those that start with it."""
    following = _following_prefix(prefix)
    in_range = text >= prefix and (following is None or text < following)
    assert in_range == text.startswith(prefix)


@pytest.mark.parametrize(
    ("operators", "path"),
    [
        (StringFilter(eq="\x00"), ("filter", "user_id", "eq")),
        (StringFilter(starts_with="\ud800"), ("filter", "user_id", "starts_with")),
        (StringFilter(contains="a\x00"), ("filter", "user_id", "contains")),
        (StringFilter(in_=("a", "\x00")), ("filter", "user_id", "in", 1)),
        (StringFilter(not_in=("\udfff",)), ("filter", "user_id", "not_in", 0)),
    ],
)
def test_text_that_no_row_can_hold_is_refused(operators: StringFilter, path: tuple[str | int, ...]) -> None:
    """An operand that PostgreSQL can't take is refused before it is sent."""
    with pytest.raises(InvalidInput) as caught:
        operators.checked(("filter", "user_id"), LIMITS)
    assert caught.value.path == path


def test_lists_of_operands_are_bounded() -> None:
    """As many values as the limit pass, one more does not."""
    check_count(("filter",), (1, 2, 3), LIMITS)
    check_count(("filter",), None, LIMITS)
    with pytest.raises(PayloadTooLarge, match="at most 3 values, got 4"):
        check_count(("filter",), (1, 2, 3, 4), LIMITS)
    many: SetFilter[int] = SetFilter(not_in=(1, 2, 3, 4))
    with pytest.raises(PayloadTooLarge):
        many.checked(("filter", "id"), LIMITS)


def test_range_of_integers_needs_no_check() -> None:
    """Integers are always finite."""
    operators = RangeFilter(gt=1, lte=5)
    assert operators.checked(("filter", "latency_ms"), LIMITS) is operators
