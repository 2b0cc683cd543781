"""What the documents say should be typed, and what they say comes out.

A block is what stands between two fences, and its language says how it is run. A comment of Markdown before the fence,
which readers of the page do not see, says what the text around it says in words:

    <!-- not run: reason -->     it can't be run here, and why
    <!-- key: AGENT_KEY -->      GraphQL: the variable of the shell that holds the credential; `KEY` if not said
    <!-- as: konstruct_owner --> SQL: the role
    <!-- fails -->               a command that must be refused

A block of `text` or `json` right after another one is its output. Two outputs are the same when they differ in white
space alone, and `...` stands for anything: ids, times, and whatever else is new each time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--\s*([\w ]+?)\s*(?::\s*((?:(?!-->).)*?))?\s*-->\s*\Z", re.DOTALL)
_INDENTED = re.compile(r"\n\n {4}(?! *[-*\d])(.*)")
OUTPUTS = ("text", "json")


@dataclass
class Block:
    """A fenced block, with what the comments before it say and the output that the next block shows."""

    document: str
    line: int
    language: str
    text: str
    said: dict[str, str] = field(default_factory=dict)
    output: "Block | None" = None

    @property
    def place(self) -> str:
        """Where it is, as editors take it."""
        return f"{self.document}:{self.line}"


def blocks_of(document: Path, root: Path) -> list[Block]:
    """Return the blocks of a document in their order, each with its output."""
    content = document.read_text()
    found: list[Block] = []
    end = 0
    for fence in _FENCE.finditer(content):
        between = content[end : fence.start()]
        line = content.count("\n", 0, fence.start()) + 1
        block = Block(str(document.relative_to(root)), line, fence[1], fence[2], dict(_comments(between)))
        if block.language in OUTPUTS and found and not between.strip() and found[-1].output is None:
            found[-1].output = block
        else:
            found.append(block)
        end = fence.end()
    return found


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Yield what the comments at the end of a text say."""
    while match := _COMMENT.search(text):
        yield match[1], " ".join((match[2] or "").split())
        text = text[: match.start()]


def indented_blocks(document: Path) -> list[str]:
    """Return code that is set off by spaces and not by fences, which nobody would run."""
    return _INDENTED.findall(_FENCE.sub("", document.read_text()))


def is_shown(expected: str, actual: str, *, is_json: bool = False) -> bool:
    """Whether an output is as the document shows it."""
    if is_json:
        # What stands between tokens says nothing; nor do, for this, the spaces within texts.
        expected, actual = ("".join(text.split()) for text in (expected, actual))
    else:
        expected, actual = (" ".join(text.split()) for text in (expected, actual))
    pattern = ".*?".join(re.escape(part.strip()) for part in expected.split("..."))
    return re.fullmatch(pattern, actual, re.DOTALL) is not None
