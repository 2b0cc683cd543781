"""Changing the embedding model: nothing is lost, nothing is found twice, and nobody who searches or ingests notices."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import numpy as np
import pytest

from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.embeddings import Vector
from app.errors import InvalidInput, Unavailable
from app.kb.documents import ChunkInput, DocumentInput, delete_document
from app.kb.ingest import DocumentIngester, IngestOutcome
from app.kb.profiles import Embedder, Embeddings, Profile, ProfileChanged
from app.kb.reembed import drop_profile, ensure_profile, list_profiles, reembed
from app.kb.search import SearchRequest, search_chunks
from app.settings import EmbeddingsProvider, EmbeddingsSettings, Limits, Settings
from tests.support.database import TestTenant, connect, fresh_database, new_tenant, server_environment
from tests.support.server import GraphQLClient, live_server

OLD, NEW = 8, 12
LIMITS = Limits()
INGEST = """
mutation($text: String!) { ingestKbDocument(input: {externalId: "d", title: "D", body: {text: $text}}) { outcome } }
"""
SEARCH = """
{ kbSearch(input: {query: {text: "When can I come by?"}, mode: VECTOR})
  { hits { chunk { id content } } diagnostics { embeddingModel } } }
"""
BY_VECTOR = "query($input: KbSearchInput!) { kbSearch(input: $input) { hits { rank } } }"
TEXTS = [f"passage number {number}" for number in range(300)]


@dataclass
class Model:
    """A model whose vectors tell the text that they are of; it can be made to wait."""

    dimensions: int
    model: str = "new"
    gate: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    embedded: list[str] = field(default_factory=list)

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Note what is asked for, and answer."""
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        self.embedded.extend(texts)
        return [vector_of(text, self.dimensions) for text in texts]

    async def close(self) -> None:
        """Nothing to release."""


def vector_of(text: str, dimensions: int) -> Vector:
    """Return the same unit vector for the same text, and another one for another."""
    numbers = np.random.default_rng(list(text.encode())).standard_normal(dimensions)
    unit: Vector = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return unit


@dataclass
class Library:
    """A database of its own with two tenants."""

    settings: Settings
    database: Database
    owner: asyncpg.Connection
    tenants: Sequence[TestTenant]
    models: dict[int, Model]
    target: Profile

    def embeddings(self) -> Embeddings:
        """Return what a server process has."""
        return Embeddings(self.database, lambda profile: self.models[profile.dimensions])

    async def ingest(self, embeddings: Embeddings, key: str, texts: Sequence[str], tenant: int = 0) -> IngestOutcome:
        """Take a document in."""
        document = DocumentInput(external_id=key, title=key, chunks=[ChunkInput(content=text) for text in texts])
        ingester = DocumentIngester(self.database, embeddings, LIMITS)
        result = await ingester.ingest(self.tenants[tenant].id, document)
        assert result.mistake is None
        return result.outcome

    async def first(self, embeddings: Embeddings, text: str, tenant: int = 0) -> tuple[str, float]:
        """Return the passage that is nearest to a text, and how near, as a server finds it."""

        async def search(embedder: Embedder) -> tuple[str, float]:
            (vector,) = await embedder.provider.embed([text])
            request = SearchRequest(limit=1, vector=vector, profile_id=embedder.profile.id)
            async with self.database.tenant_session(self.tenants[tenant].id) as session:
                (hit,) = (await search_chunks(session, request, LIMITS)).hits
            return hit.passage.content, hit.score

        return await embeddings.embed_for(search)

    async def finds(self, embeddings: Embeddings, text: str, tenant: int = 0) -> bool:
        """Whether the passage that is nearest to a text is the text itself."""
        content, similarity = await self.first(embeddings, text, tenant)
        return content == text and abs(similarity - 1) < 1e-6

    async def reembed(self, **options: Model) -> list[tuple[int, int]]:
        """Change to the new profile; return the progress that was shown."""
        shown: list[tuple[int, int]] = []
        model = options.get("model", self.models[self.target.dimensions])
        await reembed(self.owner, self.target, model, lambda done, of: shown.append((done, of)))
        return shown

    async def stored(self) -> list[tuple[str, int]]:
        """Return all passages that searches look at, with the length of their vectors."""
        rows = await self.owner.fetch("SELECT content, vector_dims(embedding) FROM kb_chunks ORDER BY content")
        return [(row[0], row[1]) for row in rows]


def of_model(dimensions: int) -> EmbeddingsSettings:
    """Return the settings of a model."""
    return EmbeddingsSettings(provider=EmbeddingsProvider.OPENAI, model=f"m-{dimensions}", dimensions=dimensions)


@pytest.fixture
async def library(postgres: EmbeddedPostgres) -> AsyncIterator[Library]:
    """Two tenants with passages by the old model, and a new profile."""
    settings = await fresh_database(postgres, embeddings=of_model(OLD))
    database = Database(settings.database)
    tenants = [await new_tenant(settings, name) for name in ("One", "Two")]
    async with connect(settings.database.owner_database_url) as owner:
        target = await ensure_profile(owner, of_model(NEW))
        models = {OLD: Model(OLD), NEW: Model(NEW)}
        made = Library(settings, database, owner, tenants, models, target)
        embeddings = made.embeddings()
        await made.ingest(embeddings, "a", TEXTS)
        await made.ingest(embeddings, "b", ["something else", "and more"])
        await made.ingest(embeddings, "a", ["of the other tenant"], tenant=1)
        yield made
    await database.close()


async def test_every_passage_gets_a_vector_of_the_new_model(library: Library) -> None:
    """All passages of all tenants are there after the change, with the new vectors; servers follow by themselves."""
    server = library.embeddings()
    before = await library.stored()
    assert {length for _, length in before} == {OLD}
    assert await library.finds(server, TEXTS[7])
    shown = await library.reembed()
    after = await library.stored()
    assert [content for content, _ in after] == [content for content, _ in before]
    assert {length for _, length in after} == {NEW}
    assert shown[0] == (0, 303)
    assert (303, 303) in shown
    names = await library.owner.fetch(
        "SELECT c.relname AS name FROM pg_class c, pg_partition_tree('kb_chunks') t WHERE c.oid = t.relid"
        " UNION ALL SELECT i.indexrelid::regclass::text FROM pg_index i, pg_partition_tree('kb_chunks') t"
        " WHERE i.indrelid = t.relid"
        " UNION ALL SELECT conname FROM pg_constraint, pg_partition_tree('kb_chunks') WHERE conrelid = relid"
        " AND contype IN ('c', 'f', 'p', 'u')"
    )
    assert [row["name"] for row in names if not row["name"].startswith("kb_chunks")] == []
    assert sorted(library.models[NEW].embedded) == sorted([*TEXTS, "something else", "and more", "of the other tenant"])
    assert await library.finds(server, TEXTS[7])
    assert (await server.current()).profile == library.target
    assert (await library.first(server, "and more", tenant=1))[0] == "of the other tenant"
    assert await library.ingest(server, "c", ["after it"]) is IngestOutcome.CREATED
    assert ("after it", NEW) in await library.stored()


async def test_what_changes_meanwhile_is_caught_up_with(library: Library) -> None:
    """While the model works documents are added, changed and deleted: all of it is there afterwards, nothing twice."""
    gate = asyncio.Event()
    slow = Model(NEW, gate=gate)
    change = asyncio.create_task(library.reembed(model=slow))
    await slow.asked.wait()
    server = library.embeddings()
    assert await library.ingest(server, "a", ["only one now"]) is IngestOutcome.UPDATED
    assert await library.ingest(server, "new", ["quite new"], tenant=1) is IngestOutcome.CREATED
    async with library.database.tenant_session(library.tenants[0].id) as session:
        await delete_document(session, document_id=None, external_id="b")
    gate.set()
    await change
    assert await library.stored() == [(text, NEW) for text in ("of the other tenant", "only one now", "quite new")]


async def test_a_run_that_broke_off_is_gone_on_with(library: Library) -> None:
    """Passages that were embedded before are not embedded again; until the end searches go by the old model."""

    class Failing(Model):
        async def embed(self, texts: Sequence[str]) -> list[Vector]:
            if self.embedded:
                raise Unavailable("the provider is gone")
            return await super().embed(texts)

    failing = Failing(NEW)
    with pytest.raises(Unavailable):
        await library.reembed(model=failing)
    assert len(failing.embedded) == 256
    assert {length for _, length in await library.stored()} == {OLD}
    await library.reembed()
    assert len(library.models[NEW].embedded) == 303 - 256
    assert {length for _, length in await library.stored()} == {NEW}


async def test_switching_back_embeds_only_what_is_new(library: Library) -> None:
    """The old vectors are kept, and only what came later is embedded; then they can be dropped."""
    await library.reembed()
    server = library.embeddings()
    await library.ingest(server, "late", ["came later"])
    old = next(stored.profile for stored in await list_profiles(library.owner) if not stored.is_active)
    model = Model(OLD)
    await reembed(library.owner, old, model, lambda _done, _of: None)
    assert model.embedded == ["came later"]
    assert {length for _, length in await library.stored()} == {OLD}
    assert await library.finds(server, "came later")
    listed = await list_profiles(library.owner)
    assert [(stored.profile.dimensions, stored.is_active, stored.passages) for stored in listed] == [
        (OLD, True, 304),
        (NEW, False, 304),
    ]
    with pytest.raises(InvalidInput, match="active"):
        await drop_profile(library.owner, old.id)
    await drop_profile(library.owner, library.target.id)
    assert [stored.profile for stored in await list_profiles(library.owner)] == [old]
    with pytest.raises(InvalidInput, match="there is no profile 99"):
        await drop_profile(library.owner, 99)


async def test_ingests_that_overtake_the_change(library: Library) -> None:
    """What was embedded by the old model before the change, and written after it, is embedded again."""
    gate = asyncio.Event()
    server = library.embeddings()
    await server.current()
    library.models[OLD] = waiting = Model(OLD, gate=gate)
    slow = Embeddings(library.database, lambda profile: library.models[profile.dimensions])
    ingest = asyncio.create_task(library.ingest(slow, "d", ["embedded before, written after"]))
    await waiting.asked.wait()
    await library.reembed()
    gate.set()
    assert await ingest is IngestOutcome.CREATED
    assert ("embedded before, written after", NEW) in await library.stored()


async def test_searches_and_ingests_go_on_during_the_change(library: Library) -> None:
    """Searches and ingests without a break over the change: none fails, and each search finds its passage."""
    end = asyncio.Event()
    searches = 0

    async def search(tenant: int, text: str) -> None:
        nonlocal searches
        server = library.embeddings()
        while not end.is_set():
            assert await library.finds(server, text, tenant)
            searches += 1

    async def ingest() -> int:
        server, number = library.embeddings(), 0
        while not end.is_set():
            await library.ingest(server, f"more-{number}", [f"one more {number}"], tenant=1)
            number += 1
        return number

    readers = [
        asyncio.create_task(search(tenant, text)) for tenant, text in ((0, TEXTS[3]), (1, "of the other tenant"))
    ]
    writer = asyncio.create_task(ingest())
    await library.reembed()
    await asyncio.sleep(0.5)
    end.set()
    await asyncio.gather(*readers)
    made = await writer
    assert searches > 10
    stored = await library.stored()
    assert {length for _, length in stored} == {NEW}
    assert sum(content.startswith("one more") for content, _ in stored) == made


async def test_a_search_keeps_the_change_waiting(library: Library) -> None:
    """From its first statement to its end, a search sees passages of one profile only: the change waits for it."""
    profile = (await library.embeddings().current()).profile
    request = SearchRequest(limit=1, vector=vector_of(TEXTS[5], OLD), profile_id=profile.id)
    async with library.database.tenant_session(library.tenants[0].id) as session:
        await search_chunks(session, request, LIMITS)
        change = asyncio.create_task(library.reembed())
        done, _ = await asyncio.wait([change], timeout=1.5)
        assert not done
        assert (await search_chunks(session, request, LIMITS)).hits[0].passage.content == TEXTS[5]
    await change
    with pytest.raises(ProfileChanged):
        async with library.database.tenant_session(library.tenants[0].id) as session:
            await search_chunks(session, request, LIMITS)


async def test_impossible_changes(library: Library) -> None:
    """The active profile, no provider, and a second command at the same time are refused in words."""
    active = (await library.embeddings().current()).profile
    with pytest.raises(InvalidInput, match="is active already"):
        await reembed(library.owner, active, library.models[OLD], lambda _done, _of: None)
    none = await ensure_profile(library.owner, EmbeddingsSettings(provider=EmbeddingsProvider.NONE, dimensions=4))
    with pytest.raises(InvalidInput, match="nothing to embed with"):
        await reembed(library.owner, none, library.models[OLD], lambda _done, _of: None)
    slow = Model(NEW, gate=asyncio.Event())
    first = asyncio.create_task(library.reembed(model=slow))
    await slow.asked.wait()
    async with connect(library.settings.database.owner_database_url) as second:
        with pytest.raises(Unavailable, match="another `konstruct kb reembed`"):
            await reembed(second, library.target, library.models[NEW], lambda _done, _of: None)
    assert slow.gate is not None
    slow.gate.set()
    await first
    assert await ensure_profile(library.owner, of_model(NEW)) == library.target


# The commands, beside a running server


async def test_a_running_server_follows_the_command(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """`konstruct kb reembed` changes the model of a server that runs; two more commands show it and tidy up."""
    settings = await fresh_database(postgres)
    tenant = await new_tenant(settings)

    async def command(*arguments: str) -> tuple[int, str]:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "app.cli", "kb", *arguments],
            env=server_environment(settings, COLUMNS="200"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False, timeout=60, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout

    with live_server(settings, tmp_path) as server:
        async with httpx.AsyncClient(timeout=60) as http:
            client = GraphQLClient(server.graphql_url, tenant.api_key, http)
            await client.data(INGEST, {"text": "The workshop is open on weekdays from 8 to 17."})
            before = (await client.data(SEARCH))["kbSearch"]
            assert before["diagnostics"]["embeddingModel"] == "wordllama-l2-supercat-256"
            code, output = await command("reembed", "--embeddings", "local", "--model", "minilm")
            assert code == 0, output
            assert output.startswith("Searches go by local minilm (384 dimensions) now.")
            after = (await client.data(SEARCH))["kbSearch"]
            assert after["diagnostics"]["embeddingModel"] == "all-MiniLM-L6-v2-onnx-int8"
            assert [hit["chunk"] for hit in after["hits"]] == [hit["chunk"] for hit in before["hits"]]
            code, output = await command("profiles", "--json")
            assert [(row["profile"], row["model"], row["passages"], row["active"]) for row in json.loads(output)] == [
                (1, "wordllama", 1, False),
                (2, "minilm", 1, True),
            ]
            vector = {"query": {"vector": [1.0] * 256}}
            (mistake,) = (await client.execute(BY_VECTOR, {"input": vector})).body["errors"]
            assert "384" in mistake["message"]
            assert "256" in mistake["message"]
            assert await command("drop-profile", "1") == (0, "Profile 1 is removed.\n")
            code, output = await command("drop-profile", "2")
            assert code == 1
            assert "profile 2 is the active one" in output
            code, output = await command("reembed", "--embeddings", "local", "--model", "bert")
            assert code == 1
            assert "minilm or wordllama" in output
