"""The tokens that the default model reads and passages are measured in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.embeddings.wordpiece import TokenCounter, token_ids, token_offsets

# As the tokenizer.json of sentence-transformers/all-MiniLM-L6-v2 has them, without [CLS] and [SEP].
KNOWN = [
    ("", []),
    ("Hello, World!", [7592, 1010, 2088, 999]),
    ("unaffable Ünïcödé", [14477, 20961, 3468, 27260]),
    ("漢字 x", [1904, 100, 1060]),
    ("a" * 101, [100]),
    ("[SEP]", [102]),
]


@pytest.mark.parametrize(("text", "ids"), KNOWN)
def test_ids_are_those_of_the_model(text: str, ids: list[int]) -> None:
    """Letters of any case and accent, Chinese, words too long and special tokens have the numbers of the model."""
    assert token_ids(text) == ids


# Blanks to Python, nothing at all to the model.
SEPARATORS = "\x1c\x1d\x1e\x1f\x85"
CHARACTERS = st.one_of(st.sampled_from("aé漢. -_\n/한"), st.characters(exclude_characters=SEPARATORS))


@given(st.text(CHARACTERS, max_size=200))
def test_counter_agrees_with_the_tokenizer(text: str) -> None:
    """Counting by words gives the tokenizer's own number, for any text without these separators."""
    assert TokenCounter().count(text) == len(token_ids(text)) == len(token_offsets(text))
