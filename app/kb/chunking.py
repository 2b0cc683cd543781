"""Cutting a document into passages that are worth embedding. Pure: text in, texts out.

Sizes are in characters. A passage of some 800 characters holds one thought; an overlap of 100 keeps a sentence that
falls on a cut findable from both sides.
"""

import re
from collections.abc import Iterator
from enum import StrEnum

from semantic_text_splitter import MarkdownSplitter, TextSplitter

CHUNK_CHARACTERS = 800
OVERLAP_CHARACTERS = 100

# The splitter looks for ever finer boundaries in all the text it is given, in a time that grows faster than the text.
# So it gets a large document in parts, cut where the text itself has the best break. A part without any (base64, one
# endless word) has nothing to keep together and is cut by length.
_PART_CHARACTERS = 20_000
_BREAKS = ("\n\n", "\n", " ")
_LONG_RUN = re.compile(rf"(\S{{{2 * CHUNK_CHARACTERS},}})")

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
    """Return the passages of a document in their order; none is empty or longer than `CHUNK_CHARACTERS`."""
    splitter = MarkdownSplitter if mime_type is MimeType.MARKDOWN else TextSplitter
    cut = splitter(CHUNK_CHARACTERS, overlap=OVERLAP_CHARACTERS)
    chunks: list[str] = []
    for part in _parts(text):
        for position, run in enumerate(_LONG_RUN.split(part)):
            if position % 2:
                chunks.extend(run[start : start + CHUNK_CHARACTERS] for start in range(0, len(run), CHUNK_CHARACTERS))
            else:
                chunks.extend(cut.chunks(run))
    return [chunk for chunk in chunks if has_visible_text(chunk)]


def _parts(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PART_CHARACTERS:
        latest = start + _PART_CHARACTERS
        found = (text.rfind(mark, start + CHUNK_CHARACTERS, latest) for mark in _BREAKS)
        end = next((position for position in found if position != -1), latest)
        yield text[start:end]
        start = end
    yield text[start:]
