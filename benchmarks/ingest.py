"""`make bench-ingest`: documents a second through the running product, into RESULTS.md.

The documents are what the installed packages bring: README files in Markdown and HTML, the packages' descriptions, and
the topics of Python's own help in reStructuredText. They are ingested embedded by each of the models that run offline,
and by a server that answers at once, which leaves what everything else costs.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distributions
from pathlib import Path
from pydoc_data.topics import topics
from threading import Thread

from app.kb.chunking import MimeType, has_visible_text
from app.kb.conversion import UnreadableFile, convert_file, html_to_markdown
from app.settings import LocalModel
from benchmarks.client import Client
from benchmarks.database import BenchDatabase, Size, bench_database
from benchmarks.options import make_parser
from benchmarks.processes import cpu_seconds
from benchmarks.report import RESULTS, conditions, table, write_section
from benchmarks.servers import product

_INGEST = (
    "mutation($documents: [IngestKbDocumentInput!]!) { ingestKbDocuments(input: {documents: $documents})"
    " { results { outcome document { chunkCount } userErrors { message } } } }"
)
_SUFFIXES = (".md", ".markdown", ".rst", ".html", ".htm")
_SHORTEST_BYTES = 200
_BATCH = 10
_CLIENTS = 2
Document = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Ingested:
    chunks: int
    seconds: float
    cpu_seconds: float


def main() -> None:
    """Ingest the same documents with and without the cost of embedding."""
    parser = make_parser(__doc__)
    parser.add_argument("--documents", type=int, default=500, help="how many")
    options = parser.parse_args()
    documents = _documents(options.documents)
    rows: list[Sequence[object]] = []
    ways = (
        ("a server that answers at once", LocalModel.MINILM, False),
        *((f"{model}, in the process", model, True) for model in LocalModel),
    )
    for name, model, own_model in ways:
        with bench_database(options.data_dir.resolve(), Size(1000, 0, 1), model) as database:
            done = _ingest(database, documents, own_model=own_model)
            versions = database.versions()
        rows.append(
            (
                name,
                f"{done.seconds:.1f}",
                f"**{len(documents) / done.seconds:.1f}**",
                f"{done.chunks / done.seconds:.0f}",
                f"{done.cpu_seconds / len(documents) * 1000:.1f}",
            )
        )
        print(rows[-1], flush=True)
    size = sum(len(str(document["body"])) for document in documents)
    how = (
        f"{len(documents)} documents of installed packages, {size / 1e6:.1f} MB, {done.chunks:,} chunks; one server"
        f" process, {_CLIENTS} clients that each send {_BATCH} documents a request."
    )
    header = ("embedded by", "seconds", "documents/s", "chunks/s", "server CPU ms a document")
    write_section(RESULTS, "Ingesting documents", conditions(versions, how), table(header, rows))


def _documents(count: int) -> list[Document]:
    """Return so many documents, none twice: the same ones as long as the same packages are installed."""
    by_text = {str(document["body"]): document for document in _found()}
    if len(by_text) < count:
        raise RuntimeError(f"the installed packages have {len(by_text)} documents, not {count}; see --documents")
    return list(by_text.values())[:count]


def _found() -> Iterator[Document]:
    for package in sorted(distributions(), key=lambda package: package.metadata["Name"].lower()):
        name = package.metadata["Name"]
        described = (package.read_text("METADATA") or "").partition("\n\n")[2]
        if len(described) >= _SHORTEST_BYTES:
            yield _document(f"{name}/METADATA", name, described, "text/markdown")
        for file in sorted(package.files or (), key=str):
            path = Path(str(file.locate()))
            if path.suffix.lower() in _SUFFIXES and path.exists() and path.stat().st_size >= _SHORTEST_BYTES:
                try:
                    found = convert_file(path.name, path.read_bytes())
                except UnreadableFile:
                    continue
                # Some pages are programs that have no text until they run.
                if found.mime_type is not MimeType.HTML or has_visible_text(html_to_markdown(found.text)):
                    yield _document(f"{name}/{file}", found.title or path.stem, found.text, found.mime_type)
    for name, text in sorted(topics.items()):
        yield _document(f"topics/{name}", name, text, "text/plain")


def _document(key: str, title: str, text: str, mime_type: str) -> Document:
    return {"externalId": key[-500:], "title": title[:100], "mimeType": mime_type, "body": {"text": text}}


def _ingest(database: BenchDatabase, documents: Sequence[Document], *, own_model: bool) -> _Ingested:
    with _instant_embeddings() as url:
        settings = {
            "KONSTRUCT_EMBEDDINGS": "openai",
            "KONSTRUCT_EMBEDDINGS_URL": url,
            "KONSTRUCT_EMBEDDINGS_DIMENSIONS": str(database.model.dimensions),
        }
        if not own_model:
            database.go_by("openai", "text-embedding-3-small")
        with product(database, settings=None if own_model else settings) as server:
            with server.client() as client:
                _send(client, [_document("warm-up", "Warm-up", "Loads the model.", "text/plain")])
            cpu_before, started = cpu_seconds(server.pid), time.perf_counter()

            def work(batches: Sequence[Sequence[Document]]) -> int:
                with server.client() as client:
                    return sum(_send(client, batch) for batch in batches)

            batches = [documents[start : start + _BATCH] for start in range(0, len(documents), _BATCH)]
            with ThreadPoolExecutor(_CLIENTS) as clients:
                chunks = sum(clients.map(work, [batches[first::_CLIENTS] for first in range(_CLIENTS)]))
            return _Ingested(chunks, time.perf_counter() - started, cpu_seconds(server.pid) - cpu_before)


def _send(client: Client, documents: Sequence[Document]) -> int:
    results = client.ask(_INGEST, {"documents": documents})["ingestKbDocuments"]["results"]
    for result in results:
        if result["outcome"] != "CREATED":
            raise RuntimeError(f"a document was not created: {result}")
    return sum(result["document"]["chunkCount"] for result in results)


@contextmanager
def _instant_embeddings() -> Iterator[str]:
    """Run a server with OpenAI's API that gives every text the same vector; yield its address."""
    vector = [0.05] * LocalModel.MINILM.dimensions

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
            body = json.dumps({"data": [{"index": index, "embedding": vector} for index in range(len(texts))]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
