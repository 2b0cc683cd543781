"""`konstruct kb ingest`: a folder of real files, good and bad, taken in whole, however often it is stopped."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.database.tenant_owned import TenantId
from app.kb.chunking import MimeType
from app.kb.conversion import UnreadableFile, convert_file, html_to_markdown
from app.settings import Settings
from tests.support.database import TestTenant, connect, new_tenant, server_environment
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import GraphQLClient, LiveServer

HTML = b"""<!doctype html><html><head><title>Returns policy</title><style>p { color: red }</style></head><body>
<nav><a href="/">Home</a> <a href="/shop">Shop</a></nav><script>var secret = 1;</script>
<main><h1>Returns</h1><p>Parcels may be <b>returned</b> within thirty days.</p><h2>Costs</h2><p>None at all.</p></main>
<footer>Imprint</footer></body></html>"""


def make_pdf(pages: list[str]) -> bytes:
    """Write a PDF by hand: one line of text a page."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode("latin-1")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >>"
            b" /Contents %d 0 R >>" % len(objects)
        )
    objects[1] = f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(kids)}] >>".encode()
    written, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return written + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (len(objects) + 1, table, len(objects) + 1, len(written))
    )


# ---------------------------------------------------------------- one file


def test_page_becomes_its_content() -> None:
    """Headings stay headings; what stands around the text, and what is no text, is gone."""
    markdown = html_to_markdown(HTML.decode())
    assert "# Returns" in markdown
    assert "## Costs" in markdown
    assert "within thirty days" in markdown
    assert not any(word in markdown for word in ("Home", "secret", "Imprint", "color"))


@pytest.mark.parametrize(
    ("name", "content", "kind", "title", "part"),
    [
        ("a.html", HTML, MimeType.HTML, "Returns policy", "<h1>Returns</h1>"),
        ("a.MD", b"\xef\xbb\xbf# Opening hours\n\nFrom eight.", MimeType.MARKDOWN, "Opening hours", "From eight"),
        ("a.txt", "naïve".encode("utf-16"), MimeType.PLAIN, None, "naïve"),
        ("a.pdf", make_pdf(["The first page.", "The second page."]), MimeType.PDF, None, "The second page."),
    ],
)
def test_file_is_read_by_its_kind(name: str, content: bytes, kind: MimeType, title: str | None, part: str) -> None:
    """Each kind gives its text and, where it has one, its title."""
    found = convert_file(name, content)
    assert (found.mime_type, found.title) == (kind, title)
    assert part in found.text


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"\x7fELF\x02\x01\x01\x00\x00\x00", "is no text: it holds zero bytes"),
        ("a.txt", b"caf\xe9", "is no text in UTF-8"),
        ("a.docx", b"PK", "is of no known kind"),
        ("a.pdf", b"no pdf at all", "is no PDF that can be read"),
        ("a.pdf", make_pdf([""]), "is a PDF without text"),
        ("a.pdf", make_pdf(["x"])[:200], "is no PDF that can be read"),
    ],
)
def test_unreadable_file_says_why(name: str, content: bytes, reason: str) -> None:
    """The message is for whoever chose the file."""
    with pytest.raises(UnreadableFile) as caught:
        convert_file(name, content)
    assert str(caught.value).startswith(reason)


# ---------------------------------------------------------------- a folder


def start(settings: Settings, tenant: TestTenant, folder: Path, *options: str) -> "subprocess.Popen[str]":
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", "kb", "ingest", str(folder), "--tenant", str(tenant.id), "--json", *options],
        env=server_environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def run(settings: Settings, tenant: TestTenant, folder: Path) -> tuple[int, dict[str, Any]]:
    """Run the command to its end; return its exit code and its summary."""
    process = start(settings, tenant, folder)
    out, err = await asyncio.to_thread(process.communicate, timeout=180)
    assert out, err
    return process.returncode, json.loads(out)


async def test_folder_is_taken_in_and_found(
    settings: Settings, server: LiveServer, client_a: GraphQLClient, tenant_a: TestTenant, tmp_path: Path
) -> None:
    """Good files are found by what they say, bad ones are named; a second run changes nothing, a third what changed."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "returns.html").write_bytes(HTML)
    (tmp_path / "hours.md").write_text("# Opening hours\n\nThe workshop opens at eight.")
    (tmp_path / "book.pdf").write_bytes(make_pdf([f"Page {number} is about gearboxes." for number in range(200)]))
    (tmp_path / "long.md").write_text("\n\n".join(f"## Part {n}\n\nA paragraph about bicycles." for n in range(2000)))
    (tmp_path / "line.txt").write_text("word " * 200_000)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "program.txt").write_bytes(b"\x7fELF\x00\x00")
    (tmp_path / "ignored.png").write_bytes(b"\x89PNG")
    started = time.monotonic()
    code, summary = await run(settings, tenant_a, tmp_path)
    assert time.monotonic() - started < 120
    assert code == 1
    assert summary == {
        "created": 5, "updated": 0, "unchanged": 0, "failed": 2,
        "failures": {"empty.txt": "is empty", "program.txt": "is no text: it holds zero bytes"},
    }  # fmt: skip
    documents = await client_a.data("{ kbDocuments { nodes { externalId title mimeType sourceUri chunkCount } } }")
    found = {node.pop("externalId"): node for node in documents["kbDocuments"]["nodes"]}
    assert found["shop/returns.html"] == {
        "title": "Returns policy", "mimeType": "text/html", "sourceUri": "shop/returns.html", "chunkCount": 1,
    }  # fmt: skip
    assert found["hours.md"]["title"] == "Opening hours"
    assert found["book.pdf"]["mimeType"] == "application/pdf"
    for question, key in (("gearboxes", "book.pdf"), ("when does the workshop open?", "hours.md")):
        data = await client_a.data(
            "query($text: String!) { kbSearch(input: {query: {text: $text}, limit: 3}) { hits { chunk { document"
            " { externalId } } } } }",
            {"text": question},
        )
        assert data["kbSearch"]["hits"][0]["chunk"]["document"]["externalId"] == key
    for name in ("empty.txt", "program.txt"):
        (tmp_path / name).unlink()
    (tmp_path / "hours.md").write_text("# Opening hours\n\nThe workshop opens at nine.")
    assert await run(settings, tenant_a, tmp_path) == (
        0, {"created": 0, "updated": 1, "unchanged": 4, "failed": 0, "failures": {}},
    )  # fmt: skip


async def test_killed_run_leaves_no_half_document(settings: Settings, tmp_path: Path) -> None:
    """After kill -9 in the middle each document is whole or absent; the next run completes the rest, nothing twice."""
    tenant = await new_tenant(settings, "Folder")
    for number in range(60):
        paragraphs = (f"Paragraph {part} of manual {number}, which is about pumps. " * 8 for part in range(12))
        (tmp_path / f"manual-{number:02}.md").write_text(f"# Manual {number}\n\n" + "\n\n".join(paragraphs))
    query = (
        "SELECT count(*) AS documents, count(*) FILTER (WHERE chunk_count <> (SELECT count(*) FROM kb_chunks c"
        " WHERE c.document_id = d.id)) AS broken FROM kb_documents d"
    )

    async def look() -> tuple[int, int]:
        async with connect(settings.database.database_url, tenant.id) as connection:
            row = await connection.fetchrow(query)
        assert row is not None
        return row["documents"], row["broken"]

    async with connect(settings.database.database_url, tenant.id) as holder:
        # Who takes the key of one of the later documents waits: so the run can't end by itself.
        await holder.execute(
            "INSERT INTO kb_documents"
            " (tenant_id, id, external_id, title, mime_type, version, content_hash, chunk_count)"
            " VALUES ($1, $2, 'manual-30.md', 'Held', 'text/plain', 1, 'hash', 0)",
            tenant.id,
            uuid4(),
        )
        process = start(settings, tenant, tmp_path)
        while (await look())[0] < 5:
            assert process.poll() is None
            await asyncio.sleep(0.02)
        process.kill()
        # Nor do the processes that read files for it live on, which would keep its output open.
        await asyncio.to_thread(process.communicate, timeout=PATIENCE_SECONDS)
    documents, broken = await look()
    assert (documents < 60, broken) == (True, 0)
    code, summary = await run(settings, tenant, tmp_path)
    assert code == 0
    assert (summary["created"] + summary["unchanged"], summary["failed"]) == (60, 0)
    assert summary["unchanged"] >= documents
    assert await look() == (60, 0)


async def test_folder_command_says_what_is_wrong(settings: Settings, tmp_path: Path) -> None:
    """A folder without a file to read, and a tenant that does not exist, are errors of one line."""
    tenant = await new_tenant(settings)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("text")
    for name, tenant_id, message in (
        ("empty", str(tenant.id), "konstruct: folder: holds no file of a known kind"),
        ("full", str(uuid4()), "konstruct: tenant: there is none with this id"),
    ):
        process = start(settings, replace(tenant, id=TenantId(UUID(tenant_id))), tmp_path / name)
        out, err = await asyncio.to_thread(process.communicate, timeout=60)
        assert (process.returncode, out) == (1, "")
        assert err.startswith(message)
        assert len(err.splitlines()) == 1
