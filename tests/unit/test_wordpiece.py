"""The tokens that the default model reads and passages are measured in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.embeddings.wordpiece import TokenCounter, token_ids, words

# As the tokenizer.json of sentence-transformers/all-MiniLM-L6-v2 has them, without [CLS] and [SEP].
KNOWN = [
    ("", []),
    ("Hello, World!", [7592, 1010, 2088, 999]),
    ("unaffable Ünïcödé", [14477, 20961, 3468, 27260]),
    ("漢字 x", [1904, 100, 1060]),
    ("a" * 101, [100]),
    ("[SEP]", [102]),
    ("one\fpage", [2028, 3931]),
]


def texts(often: str) -> st.SearchStrategy[str]:
    """Return texts that get past `check_text` (no lone surrogates), in which some characters are frequent."""
    return st.text(st.one_of(st.sampled_from(often), st.characters(codec="utf-8")), max_size=200)


@pytest.mark.parametrize(("text", "ids"), KNOWN)
def test_ids_are_those_of_the_model(text: str, ids: list[int]) -> None:
    """Letters of any case and accent, Chinese, words too long, special tokens and page breaks get its numbers."""
    assert token_ids(text) == ids


@given(texts("aé漢. -_\n\f/한"))
def test_counter_agrees_with_the_tokenizer(text: str) -> None:
    """Counting by words gives the tokenizer's own number, for any text."""
    assert TokenCounter().count(text) == len(token_ids(text))


@given(texts("aé漢.-_/한"))
def test_words_are_all_of_a_run(text: str) -> None:
    """The words of a text without blanks have all its tokens, in their order, and none overlaps another."""
    run = "".join(text.split())
    found = list(words(run))
    assert sum(word.tokens for word in found) == len(token_ids(run))
    places = [place for word in found for place in (word.start, word.end)]
    assert places == sorted(places)
