"""Files as people have them, turned into the text that is cut and searched. Pure: bytes in, text out.

What can't be read is said in words that a person who chose the file understands.
"""

import io
from dataclasses import dataclass
from pathlib import PurePath

from bs4 import BeautifulSoup
from markdownify import MarkdownConverter
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from app.kb.chunking import MimeType

# What a page has around its text.
_NOT_CONTENT = ("script", "style", "noscript", "template", "nav", "header", "footer", "svg", "form", "iframe")

_KINDS = {
    ".txt": MimeType.PLAIN,
    ".text": MimeType.PLAIN,
    ".log": MimeType.PLAIN,
    ".rst": MimeType.PLAIN,
    ".md": MimeType.MARKDOWN,
    ".markdown": MimeType.MARKDOWN,
    ".html": MimeType.HTML,
    ".htm": MimeType.HTML,
    ".pdf": MimeType.PDF,
}
SUFFIXES = tuple(_KINDS)


class UnreadableFile(Exception):
    """The file holds no text that can be had; the message says why."""


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """A file's text, what kind of file it was, and what it calls itself (`None` if it does not)."""

    text: str
    mime_type: MimeType
    title: str | None


def convert_file(name: str, content: bytes) -> ConvertedFile:
    """Return the text of a file, whose kind its name tells; raise `UnreadableFile`."""
    kind = _KINDS.get(PurePath(name).suffix.lower())
    if kind is None:
        raise UnreadableFile(f"is of no known kind; there are {', '.join(SUFFIXES)}")
    if not content:
        raise UnreadableFile("is empty")
    if kind is MimeType.PDF:
        return _convert_pdf(content)
    text = _decode(content)
    title = _html_title(text) if kind is MimeType.HTML else _first_heading(text)
    return ConvertedFile(text, kind, title)


def html_to_markdown(html: str) -> str:
    """Return a page's content as Markdown, with its headings and without what stands around it."""
    page = BeautifulSoup(html, "html.parser")
    for element in page(_NOT_CONTENT):
        element.decompose()
    content = page.find("main") or page.find("article") or page.body or page
    converter = MarkdownConverter(heading_style="ATX", bullets="-", strip=["img"])
    markdown: str = converter.convert_soup(content)
    return markdown


def _decode(content: bytes) -> str:
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise UnreadableFile("is no text in UTF-8") from None
    if "\x00" in text:
        raise UnreadableFile("is no text: it holds zero bytes")
    return text


def _first_heading(text: str) -> str | None:
    for line in text[:10_000].splitlines():
        if line.startswith("# "):
            return line[2:].strip() or None
    return None


def _html_title(html: str) -> str | None:
    title = BeautifulSoup(html[:100_000], "html.parser").title
    return title.get_text(strip=True) or None if title is not None else None


def _convert_pdf(content: bytes) -> ConvertedFile:
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableFile("is a PDF that needs a password")
        pages = [page.extract_text() for page in reader.pages]
        title = reader.metadata.title if reader.metadata is not None else None
    except (PyPdfError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableFile(f"is no PDF that can be read: {error}") from None
    text = "\n\n".join(page.strip() for page in pages if page.strip()).replace("\x00", "")
    if not text:
        raise UnreadableFile("is a PDF without text, such as a scan")
    return ConvertedFile(text, MimeType.PDF, str(title).strip() or None if title else None)
