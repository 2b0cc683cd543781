"""Documents into the knowledge base: replaced whole or not at all, embedded only when they changed."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import numpy as np
import pytest

from app.audit import AuditLogger, ToolCall
from app.database.database import Database
from app.embeddings.vector import Vector
from app.embeddings.wordpiece import token_ids
from app.errors import DocumentNotFound, EmbeddingFailed, InvalidInput, VersionConflict
from app.kb.chunking import CHUNK_CHARACTERS, CHUNK_TOKENS, MimeType, chunk_text
from app.kb.documents import ChunkInput, DocumentInput, delete_document, list_chunks, list_documents
from app.kb.documents import DocumentFilter as Where
from app.kb.ingest import DocumentIngester, IngestOutcome, IngestResult
from app.kb.search import SearchRequest, search_chunks
from app.models import KBChunk, KnowledgeBaseDocument
from app.pagination import PageRequest
from app.settings import Limits
from tests.support.database import DIMENSIONS, TestTenant, connect, embeddings_by, stored_events
from tests.support.patience import PATIENCE_SECONDS

LIMITS = Limits()


class FakeProvider:
    """Gives each text a direction of its own, remembers what it was asked, and fails or waits on request."""

    model = "fake"
    dimensions = DIMENSIONS

    def __init__(self, before: Callable[[], Awaitable[None]] | None = None) -> None:
        self.calls: list[list[str]] = []
        self.before = before

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit vector a text."""
        self.calls.append(list(texts))
        if self.before is not None:
            await self.before()
        return [direction(text) for text in texts]

    async def close(self) -> None:
        """Nothing to release."""

    @property
    def embedded(self) -> list[str]:
        """All texts that were embedded, in their order."""
        return [text for call in self.calls for text in call]


def direction(text: str) -> Vector:
    """Return the unit vector that stands for a text."""
    numbers = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIMENSIONS)
    unit: Vector = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return unit


@pytest.fixture
def provider() -> FakeProvider:
    """A provider that always answers."""
    return FakeProvider()


@pytest.fixture
def ingester(database: Database, provider: FakeProvider) -> DocumentIngester:
    """An ingester over the fake provider."""
    return DocumentIngester(database, embeddings_by(database, provider), LIMITS)


def passages(*texts: str, external_id: str = "X", expected_version: int | None = None) -> DocumentInput:
    """Return a document of ready passages."""
    chunks = [ChunkInput(content=text) for text in texts]
    return DocumentInput(external_id=external_id, title="T", chunks=chunks, expected_version=expected_version)


def stored(result: IngestResult, outcome: IngestOutcome) -> KnowledgeBaseDocument:
    """Return the document of a result that must have the given outcome."""
    assert (result.outcome, result.mistake) == (outcome, None)
    assert result.document is not None
    return result.document


async def chunks_of(database: Database, tenant: TestTenant, document_id: UUID) -> list[KBChunk]:
    """Return a document's chunks as a reader gets them, in one statement."""
    async with database.tenant_session(tenant.id) as session:
        return list((await list_chunks(session, document_id, PageRequest(first=500), LIMITS)).items)


async def texts_of(database: Database, tenant: TestTenant, document_id: UUID) -> list[str]:
    """Return the texts of a document's chunks as a reader gets them."""
    return [chunk.content for chunk in await chunks_of(database, tenant, document_id)]


async def is_found(database: Database, tenant: TestTenant, text: str) -> bool:
    """Whether a search for exactly this text finds it."""
    async with database.tenant_session(tenant.id) as session:
        result = await search_chunks(session, SearchRequest(limit=1, vector=direction(text)), LIMITS)
    return [hit.passage.content for hit in result.hits] == [text]


async def counts(tenant: TestTenant) -> tuple[int, int]:
    """Return how many documents and chunks the tenant has."""
    async with connect(tenant.settings.database.database_url, tenant.id) as connection:
        row = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM kb_documents) AS documents, (SELECT count(*) FROM kb_chunks) AS chunks"
        )
    assert row is not None
    return row["documents"], row["chunks"]


TEN = [f"passage {number} of the long version" for number in range(10)]
TWELVE = [f"passage {number} of twelve" for number in range(12)]
THREE = [f"passage {number} of the short version" for number in range(3)]


async def test_same_content_again_changes_and_embeds_nothing(
    ingester: DocumentIngester, provider: FakeProvider, database: Database, tenant_a: TestTenant
) -> None:
    """Ingesting ten chunks again leaves the same ten rows and asks the provider for nothing (C88)."""
    first = stored(await ingester.ingest(tenant_a.id, passages(*TEN)), IngestOutcome.CREATED)
    before = [chunk.id for chunk in await chunks_of(database, tenant_a, first.id)]
    again = stored(await ingester.ingest(tenant_a.id, passages(*TEN)), IngestOutcome.UNCHANGED)
    assert (again.id, again.version, again.chunk_count, again.updated_at) == (first.id, 1, 10, first.updated_at)
    assert provider.calls == [TEN]
    assert [chunk.id for chunk in await chunks_of(database, tenant_a, first.id)] == before
    assert await counts(tenant_a) == (1, 10)


async def test_shorter_version_replaces_every_chunk(
    ingester: DocumentIngester, database: Database, tenant_a: TestTenant
) -> None:
    """After an update from ten chunks to three, three are left and the old text is unfindable (C88)."""
    first = stored(await ingester.ingest(tenant_a.id, passages(*TEN)), IngestOutcome.CREATED)
    assert await is_found(database, tenant_a, TEN[9])
    second = stored(await ingester.ingest(tenant_a.id, passages(*THREE)), IngestOutcome.UPDATED)
    assert (second.id, second.version, second.chunk_count) == (first.id, 2, 3)
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    assert await texts_of(database, tenant_a, first.id) == THREE
    assert [await is_found(database, tenant_a, text) for text in TEN] == [False] * 10
    assert [await is_found(database, tenant_a, text) for text in THREE] == [True] * 3
    assert await counts(tenant_a) == (1, 3)


async def test_chunks_come_in_numeric_order(
    ingester: DocumentIngester, database: Database, tenant_a: TestTenant
) -> None:
    """Ordinals run from 0 without a gap, and 10 comes after 9, also across pages (C88)."""
    document = stored(await ingester.ingest(tenant_a.id, passages(*TWELVE)), IngestOutcome.CREATED)
    seen: list[int] = []
    cursor: str | None = None
    async with database.tenant_session(tenant_a.id) as session:
        for _ in range(3):
            page = await list_chunks(session, document.id, PageRequest(first=5, after=cursor), LIMITS)
            seen += [chunk.chunk_index for chunk in page.items]
            cursor = page.cursor_of(page.items[-1])
    assert seen == list(range(12))
    assert await texts_of(database, tenant_a, document.id) == TWELVE


async def test_longer_text_is_cut_and_shrinks_with_its_next_version(
    ingester: DocumentIngester, database: Database, tenant_a: TestTenant
) -> None:
    """A text is cut here into numbered chunks whose count the document knows; a short version leaves one (C88)."""
    long = " ".join(f"Sentence number {number} says something." for number in range(300))
    first = stored(
        await ingester.ingest(tenant_a.id, DocumentInput(external_id="X", title="T", text=long)), IngestOutcome.CREATED
    )
    chunks = await chunks_of(database, tenant_a, first.id)
    assert [chunk.chunk_index for chunk in chunks] == list(range(first.chunk_count))
    assert first.chunk_count == len(chunks) > 10
    assert all(0 < len(token_ids(chunk.content)) <= CHUNK_TOKENS for chunk in chunks)
    assert chunks[0].content.startswith("Sentence number 0 says")
    assert chunks[-1].content.endswith("Sentence number 299 says something.")
    second = stored(
        await ingester.ingest(tenant_a.id, DocumentInput(external_id="X", title="T", text="Short.")),
        IngestOutcome.UPDATED,
    )
    assert second.chunk_count == 1
    assert await texts_of(database, tenant_a, first.id) == ["Short."]


async def test_changed_title_alone_is_an_update(ingester: DocumentIngester, tenant_a: TestTenant) -> None:
    """Each thing that a client sends is part of what "unchanged" means; the order of metadata keys is not."""
    first = DocumentInput(external_id="X", title="T", text="words", metadata={"a": 1, "b": 2})
    titled = replace(first, title="T2")
    described = replace(titled, metadata={"a": 1, "b": 3})
    placed = replace(described, source_uri="https://x.example")
    variants = [
        first,
        replace(first, metadata={"b": 2, "a": 1}),
        titled,
        described,
        placed,
        replace(placed, mime_type="text/markdown"),
    ]
    outcomes = [(await ingester.ingest(tenant_a.id, variant)).outcome.value for variant in variants]
    assert outcomes == ["CREATED", "UNCHANGED", "UPDATED", "UPDATED", "UPDATED", "UPDATED"]


async def test_own_vectors_are_kept_and_only_the_rest_is_embedded(
    ingester: DocumentIngester, provider: FakeProvider, database: Database, tenant_a: TestTenant
) -> None:
    """A chunk that brings its vector is not embedded; the others get theirs, each in its own place."""
    own = [0.0] * DIMENSIONS
    own[7] = 2.5
    document = DocumentInput(
        external_id="X",
        title="T",
        chunks=[
            ChunkInput(content="first"),
            ChunkInput(content="brings its own", embedding=own, metadata={"page": 4}),
            ChunkInput(content="third"),
        ],
    )
    stored(await ingester.ingest(tenant_a.id, document), IngestOutcome.CREATED)
    assert provider.calls == [["first", "third"]]
    async with database.tenant_session(tenant_a.id) as session:
        result = await search_chunks(session, SearchRequest(limit=1, vector=np.asarray(own, np.float32) / 2.5), LIMITS)
    (hit,) = result.hits
    assert (hit.passage.content, hit.passage.metadata) == ("brings its own", '{"page": 4}')
    assert hit.similarity is not None
    assert hit.similarity == pytest.approx(1, abs=1e-6)
    assert await is_found(database, tenant_a, "third")


INVISIBLE = ["", " \n\t", "\ufeff", "\u200b", "---", "\u200b\u2060\u00ad", "***\n\n---\n"]


@pytest.mark.parametrize("text", INVISIBLE, ids=ascii)
async def test_invisible_text_is_refused_and_nothing_is_stored(
    ingester: DocumentIngester, provider: FakeProvider, tenant_a: TestTenant, text: str
) -> None:
    """A document or chunk without anything to read is refused with its field; the provider hears nothing (C93)."""
    whole = await ingester.ingest(tenant_a.id, DocumentInput(external_id="X", title="T", text=text))
    part = await ingester.ingest(tenant_a.id, passages("readable", text))
    assert (whole.outcome, part.outcome) == (IngestOutcome.REJECTED, IngestOutcome.REJECTED)
    assert isinstance(whole.mistake, InvalidInput)
    assert isinstance(part.mistake, InvalidInput)
    assert whole.mistake.path == ("body", "text")
    assert part.mistake.path == ("body", "chunks", 1, "content")
    assert provider.calls == []
    assert await counts(tenant_a) == (0, 0)


async def test_chunks_of_a_mostly_blank_text_are_never_empty(
    ingester: DocumentIngester, provider: FakeProvider, tenant_a: TestTenant
) -> None:
    """Rules, blank stretches and zero-width runs between words give neither an empty chunk nor an empty request."""
    blanks = ("\n" * 900, " " * 900, "-" * 1700, "\u200b" * 900, "\n---\n" * 200)
    text = "start" + "".join(f"{blank} word{number} " for number, blank in enumerate(blanks))
    document = stored(
        await ingester.ingest(
            tenant_a.id, DocumentInput(external_id="X", title="T", text=text, mime_type="text/markdown")
        ),
        IngestOutcome.CREATED,
    )
    assert document.chunk_count == len(provider.embedded) > 0
    assert [content for content in provider.embedded if not any(map(str.isalnum, content))] == []
    found = " ".join(provider.embedded)
    assert [word for word in ("start", "word0", "word1", "word2", "word3", "word4") if word not in found] == []


PAGE = """## Rule {number} of the house

The clerk checks that account {number}-B agrees with the paper. Whoever is in doubt asks first; nobody guesses.

```python
def rule_{number}(account: str) -> bool:
    # checks the account

    return account == "{number}-B"
```

- one copy for the binder
- one copy for the customer, who signs below

| part | count |
|---|---|
| bolts | {number} |
"""

RUNS = [
    pytest.param("a" * 1_000_000, MimeType.PLAIN, id="one endless word"),
    pytest.param("QUJDREVGR0hJSktMTU5PUFFS" * 20_834, MimeType.MARKDOWN, id="base64"),
    pytest.param("x\n" * 100_000, MimeType.PLAIN, id="short lines"),
    pytest.param("x\n" * 100_000, MimeType.MARKDOWN, id="short lines of markdown"),
    pytest.param("# h\n" * 50_000, MimeType.MARKDOWN, id="headings only"),
    pytest.param("[a " * 100_000, MimeType.MARKDOWN, id="open brackets"),
    pytest.param("Ends here. " * 90_000, MimeType.PLAIN, id="a sentence end in every overlap"),
    pytest.param("é\u0301" * 300_000, MimeType.PLAIN, id="combining marks"),
    pytest.param("word " * 300_000, MimeType.PLAIN, id="words without an end of sentence"),
    pytest.param("这个句子没有空格。" * 100_000, MimeType.PLAIN, id="Chinese in one line"),
    pytest.param(("这个句子没有空格。" * 100 + "\n\n") * 500, MimeType.MARKDOWN, id="Chinese paragraphs"),
    pytest.param(("QUJD/REVG+R0h" * 50 + "\n") * 1_000, MimeType.PLAIN, id="base64 in lines"),
    pytest.param("\n\n".join(PAGE.format(number=number) for number in range(8_000)), MimeType.MARKDOWN, id="a book"),
]


@pytest.mark.parametrize(("text", "mime_type"), RUNS)
async def test_unbroken_text_is_cut_in_time_while_the_loop_answers(text: str, mime_type: MimeType) -> None:
    """Texts without good places to cut finish in seconds with a bounded number of chunks, beside other work (C92)."""
    turns = 0

    async def work_beside() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    other_work = asyncio.create_task(work_beside())
    started = time.perf_counter()
    chunks = await asyncio.to_thread(chunk_text, text, mime_type)
    took = time.perf_counter() - started
    other_work.cancel()
    assert took < PATIENCE_SECONDS
    # Had the cutting held the interpreter, there would be none; a machine that stalls takes some.
    assert turns >= 3 or took < 0.2
    assert all(0 < len(chunk) <= CHUNK_CHARACTERS for chunk in chunks)
    sizes = [len(token_ids(chunk)) for chunk in chunks]
    assert max(sizes) <= CHUNK_TOKENS
    # Each is as full as its tokens or its characters allow, less the overlap.
    assert len(text) / CHUNK_CHARACTERS <= len(chunks)
    assert len(chunks) <= max(sum(sizes) / (CHUNK_TOKENS / 2), len(text) / (CHUNK_CHARACTERS / 2)) + 2


async def test_megabyte_without_a_space_is_ingested(ingester: DocumentIngester, tenant_a: TestTenant) -> None:
    """A megabyte of one letter goes in within seconds, each character once (C92)."""
    started = time.perf_counter()
    result = await ingester.ingest(tenant_a.id, DocumentInput(external_id="X", title="T", text="a" * 1_000_000))
    assert stored(result, IngestOutcome.CREATED).chunk_count == 650
    assert time.perf_counter() - started < PATIENCE_SECONDS
    assert await counts(tenant_a) == (1, 650)


async def test_expected_version_lets_one_of_two_writers_through(
    ingester: DocumentIngester, database: Database, tenant_a: TestTenant
) -> None:
    """An update based on a version that is gone is refused and changes nothing."""
    first = stored(await ingester.ingest(tenant_a.id, passages("one")), IngestOutcome.CREATED)
    updated = await ingester.ingest(tenant_a.id, passages("two", expected_version=1))
    late = await ingester.ingest(tenant_a.id, passages("three", expected_version=1))
    same = await ingester.ingest(tenant_a.id, passages("two", expected_version=2))
    assert stored(updated, IngestOutcome.UPDATED).version == 2
    assert isinstance(late.mistake, VersionConflict)
    assert (late.outcome, late.mistake.path) == (IngestOutcome.REJECTED, ("expected_version",))
    assert stored(same, IngestOutcome.UNCHANGED).version == 2
    assert await texts_of(database, tenant_a, first.id) == ["two"]


async def test_simultaneous_writers_with_one_expected_version(
    ingester: DocumentIngester, database: Database, tenant_a: TestTenant
) -> None:
    """Of ten simultaneous updates of version 1 one is made; the others hear of the conflict."""
    first = stored(await ingester.ingest(tenant_a.id, passages("one")), IngestOutcome.CREATED)
    results = await asyncio.gather(
        *(ingester.ingest(tenant_a.id, passages(f"by {writer}", expected_version=1)) for writer in range(10))
    )
    made = [writer for writer, result in enumerate(results) if result.outcome is IngestOutcome.UPDATED]
    assert len(made) == 1
    assert sum(isinstance(result.mistake, VersionConflict) for result in results) == 9
    assert await texts_of(database, tenant_a, first.id) == [f"by {made[0]}"]


async def test_expected_version_of_a_missing_document(
    ingester: DocumentIngester, provider: FakeProvider, tenant_a: TestTenant
) -> None:
    """Expecting a version of a document that does not exist is refused; it is not created."""
    result = await ingester.ingest(tenant_a.id, passages("one", expected_version=1))
    assert isinstance(result.mistake, DocumentNotFound)
    assert provider.calls == []
    assert await counts(tenant_a) == (0, 0)


@pytest.fixture
async def wide_database(tenant_a: TestTenant) -> AsyncIterator[Database]:
    """A pool in which ten writers do not wait for each other's connections."""
    opened = Database(tenant_a.settings.database.model_copy(update={"database_pool_size": 20}))
    yield opened
    await opened.close()


async def test_simultaneous_first_ingests_of_one_document(wide_database: Database, tenant_a: TestTenant) -> None:
    """Of ten simultaneous first ingests of one key with the same content, one creates and nine change nothing."""
    arrived = asyncio.Barrier(10)

    async def together() -> None:
        await arrived.wait()

    ingester = DocumentIngester(wide_database, embeddings_by(wide_database, FakeProvider(before=together)), LIMITS)
    results = await asyncio.gather(*(ingester.ingest(tenant_a.id, passages(*TEN)) for _ in range(10)))
    assert sorted(result.outcome.value for result in results) == ["CREATED"] + ["UNCHANGED"] * 9
    (document_id,) = {result.document.id for result in results if result.document is not None}
    assert await texts_of(wide_database, tenant_a, document_id) == TEN
    assert await counts(tenant_a) == (1, 10)


async def test_simultaneous_first_ingests_of_different_contents(wide_database: Database, tenant_a: TestTenant) -> None:
    """Ten simultaneous first ingests of one key with different contents leave one whole version, the last written."""
    arrived = asyncio.Barrier(10)

    async def together() -> None:
        await arrived.wait()

    ingester = DocumentIngester(wide_database, embeddings_by(wide_database, FakeProvider(before=together)), LIMITS)
    contents = [[f"{writer}: passage {number}" for number in range(writer + 1)] for writer in range(10)]
    results = await asyncio.gather(*(ingester.ingest(tenant_a.id, passages(*texts)) for texts in contents))
    assert sorted(result.outcome.value for result in results) == ["CREATED"] + ["UPDATED"] * 9
    versions = {stored(result, result.outcome).version: writer for writer, result in enumerate(results)}
    assert sorted(versions) == list(range(1, 11))
    (document_id,) = {result.document.id for result in results if result.document is not None}
    assert await texts_of(wide_database, tenant_a, document_id) == contents[versions[10]]
    assert await counts(tenant_a) == (1, versions[10] + 1)


async def test_failing_provider_leaves_nothing(database: Database, tenant_a: TestTenant) -> None:
    """When embedding fails, a new document is not there at all, and a later try succeeds."""

    async def fail() -> None:
        raise EmbeddingFailed((), "the embedding provider answered with HTTP status 500")

    provider = FakeProvider(before=fail)
    ingester = DocumentIngester(database, embeddings_by(database, provider), LIMITS)
    failed = await ingester.ingest(tenant_a.id, passages(*THREE))
    assert failed.outcome is IngestOutcome.REJECTED
    assert isinstance(failed.mistake, EmbeddingFailed)
    assert await counts(tenant_a) == (0, 0)
    async with database.tenant_session(tenant_a.id) as session:
        assert list((await list_documents(session, Where(), PageRequest(), LIMITS)).items) == []
    provider.before = None
    stored(await ingester.ingest(tenant_a.id, passages(*THREE)), IngestOutcome.CREATED)
    assert await counts(tenant_a) == (1, 3)


async def test_failing_provider_keeps_the_old_version(
    ingester: DocumentIngester, provider: FakeProvider, database: Database, tenant_a: TestTenant
) -> None:
    """When embedding an update fails, readers keep the version that was there."""
    first = stored(await ingester.ingest(tenant_a.id, passages(*TEN)), IngestOutcome.CREATED)

    async def fail() -> None:
        raise EmbeddingFailed((), "no")

    provider.before = fail
    failed = await ingester.ingest(tenant_a.id, passages(*THREE))
    assert isinstance(failed.mistake, EmbeddingFailed)
    assert await texts_of(database, tenant_a, first.id) == TEN
    assert await is_found(database, tenant_a, TEN[4])


async def test_slow_provider_holds_no_connection(database: Database, tenant_a: TestTenant) -> None:
    """While a provider thinks, no database connection is held, so that others are not held up (C90)."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await answer.wait()

    ingester = DocumentIngester(database, embeddings_by(database, FakeProvider(before=wait)), LIMITS)
    ingest = asyncio.create_task(ingester.ingest(tenant_a.id, passages("x")))
    await asked.wait()
    held = database.engine.pool.checkedout()  # type: ignore[attr-defined]
    answer.set()
    stored(await ingest, IngestOutcome.CREATED)
    assert held == 0


async def test_readers_see_the_old_or_the_new_version_only(
    ingester: DocumentIngester, database: Database, tenant_a: TestTenant
) -> None:
    """A reader beside updates that alternate between ten and three chunks never sees a mixture or a gap."""
    document = stored(await ingester.ingest(tenant_a.id, passages(*TEN)), IngestOutcome.CREATED)
    is_done = False
    seen: list[list[str]] = []

    async def read() -> None:
        while not is_done:
            seen.append(await texts_of(database, tenant_a, document.id))

    reader = asyncio.create_task(read())
    for turn in range(2000):
        stored(await ingester.ingest(tenant_a.id, passages(*(TEN if turn % 2 else THREE))), IngestOutcome.UPDATED)
        if turn >= 30 and TEN in seen and THREE in seen:
            break
    is_done = True
    await reader
    assert [texts for texts in seen if texts not in (TEN, THREE)] == []
    assert TEN in seen
    assert THREE in seen


@pytest.mark.parametrize("by", ["id", "external_id"])
async def test_deleting_removes_the_document_with_its_chunks_only(
    ingester: DocumentIngester, database: Database, tenant_a: TestTenant, by: str
) -> None:
    """A deleted document is unfindable, the others stay, and audit events about it stay as they are (C71)."""
    gone = stored(await ingester.ingest(tenant_a.id, passages(*TEN)), IngestOutcome.CREATED)
    kept = stored(await ingester.ingest(tenant_a.id, passages(*THREE, external_id="Y")), IngestOutcome.CREATED)
    logger = AuditLogger(database, tenant_a.principal, LIMITS)
    logged = await logger.log_tool_call(ToolCall(tool_name="ingest", metadata={"document": str(gone.id)}))
    async with database.tenant_session(tenant_a.id) as session:
        deleted = await delete_document(
            session, document_id=gone.id if by == "id" else None, external_id="X" if by == "external_id" else None
        )
    assert deleted == gone.id
    assert await counts(tenant_a) == (1, 3)
    assert await is_found(database, tenant_a, TEN[0]) is False
    assert await texts_of(database, tenant_a, kept.id) == THREE
    (event,) = await stored_events(tenant_a.settings, tenant_a.id)
    assert logged.event is not None
    assert (event["id"], event["metadata"]) == (logged.event.id, f'{{"document": "{gone.id}"}}')


async def test_deleted_key_can_be_used_again(
    ingester: DocumentIngester, database: Database, tenant_a: TestTenant
) -> None:
    """After a deletion the same key makes a new document, version 1."""
    first = stored(await ingester.ingest(tenant_a.id, passages("one")), IngestOutcome.CREATED)
    async with database.tenant_session(tenant_a.id) as session:
        await delete_document(session, document_id=first.id, external_id=None)
    second = stored(await ingester.ingest(tenant_a.id, passages("one")), IngestOutcome.CREATED)
    assert second.version == 1
    assert second.id != first.id


async def test_foreign_and_missing_documents_can_not_be_deleted(
    ingester: DocumentIngester, database: Database, tenant_a: TestTenant, tenant_b: TestTenant
) -> None:
    """Another tenant's document answers exactly as a missing one, and stays."""
    document = stored(await ingester.ingest(tenant_a.id, passages("one")), IngestOutcome.CREATED)
    messages = []
    for document_id, external_id in ((document.id, None), (uuid4(), None), (None, "X"), (None, "missing")):
        with pytest.raises(DocumentNotFound) as refusal:
            async with database.tenant_session(tenant_b.id) as session:
                await delete_document(session, document_id=document_id, external_id=external_id)
        messages.append(refusal.value.message)
    assert messages == [
        "id: there is no such document",
        "id: there is no such document",
        "external_id: there is no such document",
        "external_id: there is no such document",
    ]
    assert await counts(tenant_a) == (1, 1)


async def test_two_tenants_use_one_key(
    ingester: DocumentIngester, database: Database, tenant_a: TestTenant, tenant_b: TestTenant
) -> None:
    """The same external id in two tenants is two documents, and an update of one leaves the other (C09)."""
    mine = stored(await ingester.ingest(tenant_a.id, passages("mine")), IngestOutcome.CREATED)
    theirs = stored(await ingester.ingest(tenant_b.id, passages("theirs")), IngestOutcome.CREATED)
    stored(await ingester.ingest(tenant_a.id, passages("mine, changed")), IngestOutcome.UPDATED)
    assert mine.id != theirs.id
    assert await texts_of(database, tenant_b, theirs.id) == ["theirs"]
    assert await texts_of(database, tenant_b, mine.id) == []
