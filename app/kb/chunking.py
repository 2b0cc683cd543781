"""Cutting a document into passages that are worth embedding. Pure: text in, texts out.

Sizes are in the tokens of all-MiniLM-L6-v2, whatever model embeds: it reads the fewest (256), and so a document has the
same passages under every provider. Of OpenAI's tokens English prose has about as many. A passage of 200 tokens, some
800 characters of prose, holds one thought; an overlap of 25 keeps a sentence that falls on a cut findable from both
sides.
"""

import re
from collections.abc import Iterator
from enum import StrEnum

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from app.embeddings.wordpiece import TokenCounter, words

CHUNK_TOKENS = 200
OVERLAP_TOKENS = 25

# To the model a word of more than 100 characters is one unknown token, and a blank none: without a limit in characters
# as well, a passage of such things would have no end. Prose has some 4 characters a token.
CHUNK_CHARACTERS = 1600
_CHARACTERS_PER_TOKEN = CHUNK_CHARACTERS // CHUNK_TOKENS

# The splitter looks for ever finer boundaries in all the text it is given, in a time that grows faster than the text.
# So it gets a large document in parts, cut where the text itself has the best break. A part without any (base64, one
# endless word) has nothing to keep together and is cut by length.
_PART_CHARACTERS = 20_000
_BREAKS = ("\n\n", "\n", " ")
_LONG_RUN = re.compile(rf"(\S{{{CHUNK_CHARACTERS},}})")

# Characters that print nothing: byte order mark, zero-width space and joiners, soft hyphen, word joiner.
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u00ad\u2060"), None)


class MimeType(StrEnum):
    """The kinds of text that can be cut, by where it came from."""

    PLAIN = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    # What was taken out of a PDF; the API takes no files.
    PDF = "application/pdf"


def has_visible_text(text: str) -> bool:
    """Whether there is at least one letter or digit; signs and pictures alone say nothing that a search could find."""
    return any(character.isalnum() for character in text.translate(_INVISIBLE))


def chunk_text(text: str, mime_type: MimeType) -> list[str]:
    """Return the passages of a document in their order.

    None is empty or longer than `CHUNK_TOKENS` or `CHUNK_CHARACTERS`.
    """
    counter = TokenCounter()

    def size(passage: str) -> int:
        by_length = -(-len(passage) // _CHARACTERS_PER_TOKEN)
        return by_length if by_length > CHUNK_TOKENS else max(by_length, counter.count(passage))

    splitter = MarkdownSplitter if mime_type is MimeType.MARKDOWN else TextSplitter
    cut = splitter.from_callback(size, CHUNK_TOKENS, overlap=OVERLAP_TOKENS)
    chunks: list[str] = []
    for part in _parts(text):
        for position, run in enumerate(_LONG_RUN.split(part)):
            chunks.extend(_cut_run(run) if position % 2 else cut.chunks(run))
    return [chunk for chunk in chunks if has_visible_text(chunk)]


def _cut_run(run: str) -> Iterator[str]:
    """Cut between what the model takes for words; within one only if it is too long by itself."""
    start = tokens = 0
    for word in words(run):
        if tokens and (tokens + word.tokens > CHUNK_TOKENS or word.end - start > CHUNK_CHARACTERS):
            yield run[start : word.start]
            start, tokens = word.start, 0
        tokens += word.tokens
        while word.end - start > CHUNK_CHARACTERS:
            yield run[start : start + CHUNK_CHARACTERS]
            start += CHUNK_CHARACTERS
    yield run[start:]


def _parts(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PART_CHARACTERS:
        latest = start + _PART_CHARACTERS
        found = (text.rfind(mark, start + CHUNK_CHARACTERS, latest) for mark in _BREAKS)
        end = next((position for position in found if position != -1), latest)
        yield text[start:end]
        start = end
    yield text[start:]
