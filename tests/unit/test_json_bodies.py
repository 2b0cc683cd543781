"""Bodies are read by the fastest parser that is right: always as Python's own would read them."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphql_schema.http import MalformedRequest, decode_json

LEAVES = (
    st.none()
    | st.booleans()
    | st.text()
    | st.integers(-(10**40), 10**40)
    | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**18, 10**19])
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def refused(constant: str) -> None:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError(constant)


def typed(value: Any) -> Any:
    """Return a value with the type of every part of it, since 1 and 1.0 and True are equal."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value), repr(value)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_json_is_read_exactly(value: Any, ascii_only: bool, indent: int | None) -> None:
    """Integers of any size, fractions, text of any kind: what was written comes back, with its types."""
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(body.decode())
    except UnicodeDecodeError:
        # Lone surrogates, which are no UTF-8.
        with pytest.raises(MalformedRequest):
            decode_json(body)
    else:
        assert typed(decode_json(body)) == typed(expected)


@given(st.text(alphabet='0123456789.eE+-[]{}",: \\untrfasl', max_size=30))
@example("-0")
@example("1E400")
@example("[1, 12345678901234567890123]")
@example('"\\ud800"')
@example('{"a": 1, "a": 2}')
@example("\ufeff{}")
@example("NaN")
def test_text_that_may_be_json_is_read_or_refused_as_by_python(text: str) -> None:
    """Whatever the bytes: the same value, or an error in both."""
    try:
        expected = json.loads(text, parse_constant=refused)
    except ValueError:
        with pytest.raises(MalformedRequest):
            decode_json(text.encode())
    else:
        assert typed(decode_json(text.encode())) == typed(expected)


def test_endless_nesting_is_refused() -> None:
    """A deep body is an error of the client's, not of ours."""
    with pytest.raises(MalformedRequest, match="nested too deeply"):
        decode_json(b"[" * 100_000)
