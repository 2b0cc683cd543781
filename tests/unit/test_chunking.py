"""What a passage is: no more than the model reads, and cut where the text has the best break."""

from itertools import pairwise

import pytest

from app.embeddings.minilm import WINDOW_TOKENS
from app.embeddings.wordpiece import token_ids
from app.kb.chunking import CHUNK_CHARACTERS, CHUNK_TOKENS, MimeType, chunk_text

TABLE = "\n".join(f"| bolt-{number:03} | {number * 7} mm | shelf {number % 9} |" for number in range(200))
CODE = "\n".join(f"    total_{number} += price[{number}] * quantity[{number}]  # net" for number in range(200))
DENSE = [
    pytest.param(f"# Stock\n\n| part | length | place |\n|---|---|---|\n{TABLE}\n", id="table"),
    pytest.param(f"# Sum\n\n```python\ndef total():\n{CODE}\n```\n", id="code"),
    pytest.param("0123456789abcdef-" * 500, id="keys in one line"),
    pytest.param("返品は三十日以内に受け付けます。" * 300, id="Japanese in one line"),
    pytest.param("한국어 문장은 띄어쓰기가 있습니다. " * 300, id="Korean"),
    pytest.param("a/b.c:d;" * 2000, id="marks between letters"),
]


@pytest.mark.parametrize("text", DENSE)
def test_model_reads_each_passage_of_a_dense_text_to_its_end(text: str) -> None:
    """Texts with few characters a token are cut into passages that the model reads whole."""
    chunks = chunk_text(text, MimeType.MARKDOWN)
    sizes = [len(token_ids(chunk)) for chunk in chunks]
    assert max(sizes) <= CHUNK_TOKENS < WINDOW_TOKENS - 2
    assert sum(sizes) / len(sizes) > CHUNK_TOKENS / 2


def test_passages_of_prose_overlap_at_sentences() -> None:
    """Neighbouring passages share whole sentences, and none is lost."""
    sentences = [f"Clause {number} says that the tenant pays on day {number % 28}." for number in range(200)]
    chunks = chunk_text(" ".join(sentences), MimeType.PLAIN)
    assert [sentence for sentence in sentences if not any(sentence in chunk for chunk in chunks)] == []
    for before, after in pairwise(chunks):
        assert after.startswith("Clause ")
        assert after.partition(".")[0] in before


def test_sections_that_fit_stay_whole() -> None:
    """A heading stays with its text, and a fence in one piece, when they fit into a passage together."""
    sections = [
        f"## Step {number}\n\nRun this and wait until the light is green, which takes a minute or two at most.\n\n"
        f"```sh\nmake step-{number}\n\nmake check-{number}\n```\n\n" + "Then go on to the next one. " * 20
        for number in range(20)
    ]
    chunks = chunk_text("\n".join(sections), MimeType.MARKDOWN)
    for number in range(20):
        (passage,) = (chunk for chunk in chunks if f"## Step {number}\n" in chunk)
        assert f"```sh\nmake step-{number}\n\nmake check-{number}\n```" in passage


def test_words_unknown_to_the_model_are_cut_by_length() -> None:
    """A word too long for the model is one token to it; the passage's length is limited all the same."""
    chunks = chunk_text(" ".join("x" * 300 for _ in range(1000)), MimeType.PLAIN)
    assert max(map(len, chunks)) <= CHUNK_CHARACTERS
