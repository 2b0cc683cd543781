"""Cutting a document into passages that are worth embedding. Pure: text in, texts out.

Sizes are in characters. A passage of some 800 characters holds one thought; an overlap of 100 keeps a sentence that
falls on a cut findable from both sides.
"""

import re
from enum import StrEnum

from semantic_text_splitter import MarkdownSplitter, TextSplitter

CHUNK_CHARACTERS = 800
OVERLAP_CHARACTERS = 100

# The splitter looks for ever finer boundaries and takes a time that grows faster than a run without any (base64, one
# endless line). Such runs carry no meaning to keep together and are cut by length.
_LONG_RUN = re.compile(rf"(\S{{{2 * CHUNK_CHARACTERS},}})")

# Characters that print nothing: byte order mark, zero-width space and joiners, soft hyphen, word joiner.
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u00ad\u2060"), None)


class MimeType(StrEnum):
    """The kinds of text that can be cut."""

    PLAIN = "text/plain"
    MARKDOWN = "text/markdown"


def has_visible_text(text: str) -> bool:
    """Whether there is at least one letter, digit or symbol to read."""
    return any(character.isalnum() for character in text.translate(_INVISIBLE))


def chunk_text(text: str, mime_type: MimeType) -> list[str]:
    """Return the passages of a document in their order; none is empty or longer than `CHUNK_CHARACTERS`."""
    splitter = MarkdownSplitter if mime_type is MimeType.MARKDOWN else TextSplitter
    cut = splitter(CHUNK_CHARACTERS, overlap=OVERLAP_CHARACTERS)
    chunks: list[str] = []
    for position, segment in enumerate(_LONG_RUN.split(text)):
        if position % 2:
            chunks.extend(
                segment[start : start + CHUNK_CHARACTERS] for start in range(0, len(segment), CHUNK_CHARACTERS)
            )
        else:
            chunks.extend(cut.chunks(segment))
    return [chunk for chunk in chunks if has_visible_text(chunk)]
