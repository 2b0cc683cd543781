"""`make bench-retrieval`: how often the right document is among the first five, into RESULTS.md.

The docstrings of Python's standard library are ingested into a knowledge base of their own, and people's questions (see
benchmarks/questions.py) are asked by meaning, by words and by both.
"""

import importlib
import inspect
import time
from collections.abc import Iterator, Mapping

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
    " maxPerDocument: 1}) { hits { chunk { document { externalId } } } diagnostics { embeddingModel tookMs } } }"
)
_MODES = ("VECTOR", "KEYWORD", "HYBRID")
_SHORTEST_DOCSTRING = 40
_BATCH = 50


def main() -> None:
    """Ingest and ask."""
    parser = make_parser(__doc__)
    parser.add_argument("--misses", action="store_true", help="print the questions that find nothing")
    options = parser.parse_args()
    with bench_database(options.data_dir.resolve(), Size(1000, 0, 1)) as database, product(database) as server:
        with server.client() as client:
            documents = dict(_documents())
            _check(documents)
            seconds = _ingest(client, documents)
            print(f"{len(documents)} documents in {seconds:.1f} s", flush=True)
            rows = [_ask(client, mode, print_misses=options.misses) for mode in _MODES]
        versions = database.versions()
    how = (
        f"{len(documents)} docstrings of Python's library, {len(QUESTIONS)} questions in other words. Ingested at"
        f" {len(documents) / seconds:.0f} documents a second."
    )
    header = ("mode", "hit@1", "hit@5", "MRR", "ms in the database")
    write_section(RESULTS, "Retrieval quality", conditions(versions, how), table(header, rows))


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


def _ingest(client: Client, documents: Mapping[str, str]) -> float:
    sent = [
        {"externalId": name, "title": name, "body": {"text": f"{name}\n\n{text}"}} for name, text in documents.items()
    ]
    started = time.perf_counter()
    for start in range(0, len(sent), _BATCH):
        data = client.ask(_INGEST, {"documents": sent[start : start + _BATCH]})
        for result in data["ingestKbDocuments"]["results"]:
            if result["outcome"] == "REJECTED":
                raise RuntimeError(str(result["userErrors"]))
    return time.perf_counter() - started


def _ask(client: Client, mode: str, *, print_misses: bool) -> tuple[str, str, str, str, str]:
    first = five = 0
    reciprocal = milliseconds = 0.0
    for question, answers in QUESTIONS:
        found = client.ask(_SEARCH, {"text": question, "mode": mode})["kbSearch"]
        names = [hit["chunk"]["document"]["externalId"] for hit in found["hits"]]
        milliseconds += found["diagnostics"]["tookMs"]
        rank = next((place for place, name in enumerate(names, start=1) if name in answers), 0)
        first += rank == 1
        five += rank > 0
        reciprocal += 1 / rank if rank else 0.0
        if print_misses and not rank:
            print(f"{mode}: {question}: {', '.join(names)}", flush=True)
    asked = len(QUESTIONS)
    print(f"{mode}: {first / asked:.2f} {five / asked:.2f}", flush=True)
    return (
        mode, f"{first / asked:.2f}", f"**{five / asked:.2f}**", f"{reciprocal / asked:.2f}",
        f"{milliseconds / asked:.1f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
