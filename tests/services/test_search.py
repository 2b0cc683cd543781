"""Search that is right for every tenant: the exact lane, the index lane, and what both must agree on.

The database holds vectors of 8 dimensions that clients bring: a tenant with 20,000 of them beside small ones.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest
from asyncpg import Record
from numpy.typing import NDArray

from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.database.session import TenantSession
from app.database.statements import Statement
from app.embeddings.vector import Vector, check_vector
from app.errors import InvalidInput
from app.filters import TimeFilter
from app.kb import lanes
from app.kb.candidates import SearchFilter
from app.kb.search import SearchRequest, SearchResult, SearchStrategy, ShortfallReason, search_chunks
from app.settings import EmbeddingsProvider, EmbeddingsSettings, Limits, Settings
from tests.support.database import TestTenant, connect, fresh_database, new_tenant
from tests.support.server import Answer, GraphQLClient, LiveServer, live_server

DIMENSIONS = 8
LIMITS = Limits()

Matrix = NDArray[np.float64]

SEARCH = """
query Search($input: KbSearchInput!) {
  kbSearch(input: $input) {
    hits { rank score similarity chunk { chunkIndex content document { externalId } } }
    diagnostics { strategy isComplete shortfallReason candidateCount embeddingModel }
  }
}
"""

INGEST = """
mutation Ingest($input: IngestKbDocumentInput!) {
  ingestKbDocument(input: $input) {
    outcome
    document { externalId chunkCount }
    userErrors { code path message ... on EmbeddingDimensionMismatchError { expected actual } }
  }
}
"""


@dataclass(frozen=True)
class Filled:
    """A tenant and its vectors in the order of their chunks; chunk n has the content `n`."""

    tenant: TestTenant
    vectors: Matrix
    document_ids: tuple[UUID, ...]

    def nearest(self, query: Sequence[float], k: int) -> list[tuple[str, float]]:
        """Return the best k by brute force: content and cosine similarity."""
        lengths = np.linalg.norm(self.vectors, axis=1)
        is_direction = lengths > 0
        similarity = np.full(len(self.vectors), -np.inf)
        asked = np.asarray(query, np.float64)
        similarity[is_direction] = (
            self.vectors[is_direction] @ asked / lengths[is_direction] / float(np.linalg.norm(asked))
        )
        best = np.argsort(-similarity, kind="stable")[:k]
        return [(str(index), float(similarity[index])) for index in best if is_direction[index]]


async def fill(settings: Settings, name: str, vectors: Matrix, *, documents: int = 1) -> Filled:
    """Make a tenant and write its vectors by SQL as the runtime role, as the ingester would have."""
    tenant = await new_tenant(settings, name)
    unit = [check_vector((), row.tolist(), DIMENSIONS) for row in vectors]
    ids = tuple(uuid4() for _ in range(documents))
    assert settings.database.database_url is not None
    connection = await asyncpg.connect(settings.database.database_url.get_secret_value())
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_tenant($1)", tenant.id)
            parts = np.array_split(np.arange(len(unit)), documents)
            for number, (document_id, part) in enumerate(zip(ids, parts, strict=True)):
                await connection.execute(
                    "INSERT INTO kb_documents (tenant_id, id, external_id, title, mime_type, version, content_hash,"
                    " chunk_count) VALUES ($1, $2, $3, 'T', 'text/plain', 1, '', $4)",
                    tenant.id, document_id, f"doc-{number}", len(part),
                )  # fmt: skip
                await connection.execute(
                    "INSERT INTO kb_chunks (tenant_id, id, document_id, chunk_index, content, embedding)"
                    " SELECT $1, gen_random_uuid(), $2, n - 1, ($3::int[])[n]::text, CAST(v AS vector)"
                    " FROM unnest($4::text[]) WITH ORDINALITY AS given (v, n)",
                    tenant.id, document_id, part.tolist(), [_literal(unit[index]) for index in part],
                )  # fmt: skip
    finally:
        await connection.close()
    return Filled(tenant, vectors, ids)


def _literal(vector: Vector) -> str:
    return json.dumps([float(number) for number in vector])


def clustered(count: int, seed: int) -> Matrix:
    """Return vectors in tight groups, as embedded passages of related documents are."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((60, DIMENSIONS))
    return centres[random.integers(0, 60, count)] + 0.15 * random.standard_normal((count, DIMENSIONS))


@pytest.fixture(scope="module")
async def vector_settings(postgres: EmbeddedPostgres) -> Settings:
    """A database for vectors of 8 dimensions that clients bring."""
    embeddings = EmbeddingsSettings(provider=EmbeddingsProvider.NONE, dimensions=DIMENSIONS)
    return await fresh_database(postgres, embeddings=embeddings, pool_size=5)


@pytest.fixture(scope="module")
async def large(vector_settings: Settings) -> Filled:
    """T1 of case C76: 20,000 vectors, uniform in [0, 1)^8."""
    async with connect(vector_settings.database.owner_database_url) as owner:
        # Building the index at once takes a tenth of the time of growing it row by row.
        index = await owner.fetchval("SELECT pg_get_indexdef('kb_chunks_embedding_idx'::regclass)")
        await owner.execute("DROP INDEX kb_chunks_embedding_idx")
        filled = await fill(vector_settings, "Large", np.random.default_rng(1).random((20_000, DIMENSIONS)))
        await owner.execute(index.replace(" ON ONLY ", " ON "))
        await owner.execute("ANALYZE kb_documents, kb_chunks")
    return filled


@pytest.fixture(scope="module")
async def small(vector_settings: Settings, large: Filled) -> Filled:
    """T2 of case C76: 50 vectors, uniform in (-1, 0]^8, and one of zeros, written after T1's."""
    vectors = np.vstack([-np.random.default_rng(2).random((50, DIMENSIONS)), np.zeros((1, DIMENSIONS))])
    return await fill(vector_settings, "Small", vectors)


@pytest.fixture(scope="module")
async def grouped(vector_settings: Settings, large: Filled) -> Filled:
    """A tenant with 4,000 clustered vectors in 40 documents."""
    return await fill(vector_settings, "Grouped", clustered(4000, 3), documents=40)


@pytest.fixture(scope="module")
def vector_server(vector_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server on it."""
    with live_server(vector_settings, tmp_path_factory.mktemp("vectors")) as running:
        yield running


@pytest.fixture(scope="module")
async def pool(vector_settings: Settings) -> AsyncIterator[Database]:
    """A pool on it, for using the product as a library."""
    opened = Database(vector_settings.database)
    yield opened
    await opened.close()


@pytest.fixture
def index_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the index lane begin at 100 candidates."""
    monkeypatch.setattr(lanes, "exact_candidates", lambda _dimensions: 100)


async def api_answer(server: LiveServer, tenant: TestTenant, **sent: Any) -> Answer:
    """Search through the API."""
    client = GraphQLClient(server.graphql_url, tenant.api_key)
    try:
        return await client.execute(SEARCH, {"input": sent})
    finally:
        await client.http.aclose()


async def api_search(server: LiveServer, tenant: TestTenant, vector: Sequence[float], **sent: Any) -> dict[str, Any]:
    """Search by a vector through the API; return the result."""
    found = (await api_answer(server, tenant, query={"vector": list(vector)}, **sent)).data["kbSearch"]
    assert [hit["rank"] for hit in found["hits"]] == list(range(1, len(found["hits"]) + 1))
    return dict(found)


async def library_search(pool: Database, filled: Filled, vector: Sequence[float], **sent: Any) -> SearchResult:
    """Search by a vector as a library."""
    request = SearchRequest(vector=check_vector((), vector, DIMENSIONS), **{"limit": 10, **sent})
    async with pool.tenant_session(filled.tenant.id) as session:
        return await search_chunks(session, request, LIMITS)


def contents(result: SearchResult) -> list[str]:
    """Return the contents of the hits, in their order."""
    return [hit.passage.content for hit in result.hits]


def assert_equal_to_brute_force(hits: list[dict[str, Any]], filled: Filled, query: Sequence[float], k: int) -> None:
    """Check contents, scores and order."""
    expected = filled.nearest(query, k)
    assert [hit["chunk"]["content"] for hit in hits] == [content for content, _ in expected]
    np.testing.assert_allclose([hit["score"] for hit in hits], [score for _, score in expected], atol=1e-6)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert [hit["similarity"] for hit in hits] == [hit["score"] for hit in hits]


async def test_small_tenant_beside_a_large_one_gets_all_its_rows(vector_server: LiveServer, small: Filled) -> None:
    """The query nearest to 20,000 foreign vectors yields exactly the best ten of the tenant's own 51 (C76)."""
    query = [1.0] * DIMENSIONS
    found = await api_search(vector_server, small.tenant, query, limit=10)
    assert len(found["hits"]) == 10
    assert_equal_to_brute_force(found["hits"], small, query, 10)
    assert found["diagnostics"] == {
        "strategy": "EXACT", "isComplete": True, "shortfallReason": None, "candidateCount": 51, "embeddingModel": None,
    }  # fmt: skip


async def test_asking_for_more_than_there_is_yields_everything(vector_server: LiveServer, small: Filled) -> None:
    """With k = 100 the tenant gets its 50 vectors that have a direction, and is told that there are no more."""
    query = [1.0, 0.5, 0.25, 0, 0, 0, 0, -1]
    found = await api_search(vector_server, small.tenant, query, limit=100)
    assert len(found["hits"]) == 50
    assert_equal_to_brute_force(found["hits"], small, query, 50)
    assert found["diagnostics"]["shortfallReason"] == "NOT_ENOUGH_MATCHES"


async def test_small_tenant_is_whole_in_the_index_lane_too(
    pool: Database, small: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a small tenant went through the shared index, a short answer would be completed by the exact lane."""
    monkeypatch.setattr(lanes, "exact_candidates", lambda _dimensions: 10)
    result = await library_search(pool, small, [1.0] * DIMENSIONS)
    assert contents(result) == [content for content, _ in small.nearest([1.0] * DIMENSIONS, 10)]


@pytest.mark.parametrize("k", [1, 41, 100])
async def test_exactly_k_hits(vector_server: LiveServer, large: Filled, k: int) -> None:
    """K beyond the index's default of 40 is not cut (C77)."""
    query = np.random.default_rng(k).random(DIMENSIONS).tolist()
    found = await api_search(vector_server, large.tenant, query, limit=k)
    assert len(found["hits"]) == k
    assert_equal_to_brute_force(found["hits"], large, query, k)


@pytest.mark.usefixtures("index_lane")
@pytest.mark.parametrize("k", [41, 100])
async def test_exactly_k_hits_through_the_index(pool: Database, large: Filled, k: int) -> None:
    """The same in the index lane, with scores equal to the exact distance."""
    query = np.random.default_rng(k).random(DIMENSIONS).tolist()
    result = await library_search(pool, large, query, limit=k)
    assert result.strategy is SearchStrategy.HNSW
    assert len(set(contents(result))) == k
    exact = dict(large.nearest(query, 20_000))
    np.testing.assert_allclose(
        [hit.similarity or 0.0 for hit in result.hits], [exact[hit.passage.content] for hit in result.hits], atol=1e-6
    )


@pytest.mark.parametrize("k", [-1, 0, 101, 2147483647])
async def test_impossible_k_is_a_client_error(vector_server: LiveServer, large: Filled, k: int) -> None:
    """A limit outside 1 to 100 is refused with the bounds, never cut silently (C77)."""
    answer = await api_answer(vector_server, large.tenant, query={"vector": [1.0] * DIMENSIONS}, limit=k)
    assert answer.codes == ["BAD_USER_INPUT"]
    assert answer.body["errors"][0]["message"] == f"limit: must be between 1 and 100, got {k}"
    assert answer.body["data"] is None


async def test_identical_vector_is_first_and_the_opposite_last(vector_server: LiveServer, small: Filled) -> None:
    """A stored vector finds itself with score 1, at any length; its opposite ranks it last (C80)."""
    own = small.vectors[17]
    same = await api_search(vector_server, small.tenant, (own * 123.0).tolist(), limit=1)
    assert same["hits"][0]["chunk"]["content"] == "17"
    assert same["hits"][0]["score"] == pytest.approx(1, abs=1e-6)
    opposite = await api_search(vector_server, small.tenant, (-own).tolist(), limit=100)
    assert opposite["hits"][-1]["chunk"]["content"] == "17"
    assert opposite["hits"][-1]["score"] == pytest.approx(-1, abs=1e-6)


@pytest.mark.usefixtures("index_lane")
async def test_index_lane_finds_what_brute_force_finds(pool: Database, grouped: Filled) -> None:
    """On clustered vectors beside a five times larger tenant, recall@10 of the index lane is at least 0.99."""
    random = np.random.default_rng(4)
    found = wanted = 0
    for row in random.choice(len(grouped.vectors), 50, replace=False):
        query = (grouped.vectors[row] + 0.05 * random.standard_normal(DIMENSIONS)).tolist()
        result = await library_search(pool, grouped, query)
        assert result.strategy is SearchStrategy.HNSW
        expected = {content for content, _ in grouped.nearest(query, 10)}
        found += len(expected & set(contents(result)))
        wanted += 10
    assert found / wanted >= 0.99


@pytest.mark.usefixtures("index_lane")
async def test_index_lane_uses_the_index(pool: Database, large: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement of the index lane is planned with the HNSW index, that of the exact lane without it (C80)."""
    plans = []
    fetch = TenantSession.fetch

    async def explained(session: TenantSession, statement: Statement, values: Mapping[str, Any]) -> list[Record]:
        if "<=>" in statement.sql:
            rows = await fetch(session, replace(statement, sql=f"EXPLAIN {statement.sql}"), values)
            plans.append("\n".join(row[0] for row in rows))
        return await fetch(session, statement, values)

    monkeypatch.setattr(TenantSession, "fetch", explained)
    await library_search(pool, large, [1.0] * DIMENSIONS)
    await library_search(pool, large, [1.0] * DIMENSIONS, exact=True)
    assert ["Order By: ((embedding_half)::halfvec(8) <=> " in plan for plan in plans] == [True, False]
    # Of the partitions each with its index, the tenant's alone is looked at.
    assert [len(set(re.findall(r" on kb_chunks_(\d+) ", plan))) for plan in plans] == [1, 1]


@pytest.mark.usefixtures("index_lane")
async def test_exact_is_honoured_beyond_the_threshold(pool: Database, grouped: Filled) -> None:
    """`exact` compares every candidate, however many there are."""
    query = grouped.vectors[5].tolist()
    result = await library_search(pool, grouped, query, limit=100, exact=True)
    assert (result.strategy, result.candidate_count) == (SearchStrategy.EXACT, 4000)
    assert contents(result) == [content for content, _ in grouped.nearest(query, 100)]


async def test_exact_is_honoured_through_the_api(vector_server: LiveServer, grouped: Filled) -> None:
    """The same through the API, for a default limit of ten."""
    query = grouped.vectors[5].tolist()
    found = await api_search(vector_server, grouped.tenant, query, exact=True)
    assert_equal_to_brute_force(found["hits"], grouped, query, 10)
    assert found["diagnostics"]["strategy"] == "EXACT"


@pytest.mark.parametrize("lane", ["exact", "index"])
async def test_minimum_similarity_cuts_and_says_so(
    pool: Database, grouped: Filled, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    """Hits below the floor are left out and the shortfall is explained, in both lanes alike."""
    monkeypatch.setattr(lanes, "exact_candidates", lambda _dimensions: 100 if lane == "index" else 10_000)
    query = grouped.vectors[9].tolist()
    ranked = grouped.nearest(query, 10)
    floor = (ranked[3][1] + ranked[4][1]) / 2
    cut = await library_search(pool, grouped, query, min_similarity=floor)
    uncut = await library_search(pool, grouped, query, min_similarity=-1.0)
    nothing = await library_search(pool, grouped, (-grouped.vectors[9]).tolist(), min_similarity=1.0)
    assert contents(cut) == [content for content, _ in ranked[:4]]
    assert cut.shortfall_reason is ShortfallReason.BELOW_MIN_SIMILARITY
    assert (len(uncut.hits), uncut.shortfall_reason) == (10, None)
    assert (list(nothing.hits), nothing.shortfall_reason) == ([], ShortfallReason.BELOW_MIN_SIMILARITY)


@pytest.mark.parametrize("floor", [-1.01, 1.01, float("nan")])
def test_impossible_minimum_similarity_is_refused(floor: float) -> None:
    """A floor that no cosine can have is a mistake that names the field."""
    with pytest.raises(InvalidInput) as refusal:
        SearchRequest(limit=1, min_similarity=floor).checked(LIMITS)
    assert refusal.value.path == ("min_similarity",)


@pytest.mark.parametrize("lane", ["exact", "index"])
async def test_filters_leave_the_best_of_what_they_allow(
    pool: Database, grouped: Filled, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    """Searching three of forty documents, by id or key, yields the best of those three, in both lanes."""
    monkeypatch.setattr(lanes, "exact_candidates", lambda _dimensions: 100 if lane == "index" else 10_000)
    query = grouped.vectors[0].tolist()
    allowed = [*range(700, 800), *range(1500, 1600), *range(3900, 4000)]
    expected = [content for content, _ in grouped.nearest(query, 4000) if int(content) in set(allowed)][:10]
    by_id = SearchFilter(document_ids=[grouped.document_ids[number] for number in (7, 15, 39)])
    by_key = SearchFilter(external_ids=["doc-7", "doc-15", "doc-39", "doc-missing"])
    for where in (by_id, by_key):
        result = await library_search(pool, grouped, query, where=where)
        assert contents(result) == expected
        assert result.candidate_count == 300
    both = SearchFilter(document_ids=by_id.document_ids, external_ids=["doc-7"])
    only = await library_search(pool, grouped, query, where=both)
    assert (only.candidate_count, {int(content) // 100 for content in contents(only)}) == (100, {7})


async def test_filter_by_time_of_the_present_version(vector_server: LiveServer, small: Filled) -> None:
    """Documents ingested since an instant are searched, others are not."""
    query = [1.0] * DIMENSIONS
    now = datetime.now(UTC)
    recent = {"updatedAt": {"gte": (now - timedelta(hours=1)).isoformat()}}
    past = {"updatedAt": {"lt": (now - timedelta(hours=1)).isoformat()}}
    found = await api_search(vector_server, small.tenant, query, filter=recent)
    nothing = await api_search(vector_server, small.tenant, query, filter=past)
    assert len(found["hits"]) == 10
    assert (nothing["hits"], nothing["diagnostics"]["candidateCount"]) == ([], 0)


async def test_time_filter_holds_in_the_library(pool: Database, small: Filled) -> None:
    """The library's filter is the same condition."""
    where = SearchFilter(updated_at=TimeFilter(lt=datetime(2020, 1, 1, tzinfo=UTC)))
    result = await library_search(pool, small, [1.0] * DIMENSIONS, where=where)
    assert (list(result.hits), result.candidate_count) == ([], 0)


async def test_foreign_and_empty_scopes_find_nothing(
    vector_server: LiveServer, vector_settings: Settings, large: Filled, small: Filled
) -> None:
    """A tenant without documents, an empty list of ids, and another tenant's id or key all find nothing (C13)."""
    query = large.vectors[0].tolist()
    newcomer = await new_tenant(vector_settings, "Newcomer")
    nothing = await api_search(vector_server, newcomer, query)
    assert (nothing["hits"], nothing["diagnostics"]["candidateCount"]) == ([], 0)
    assert nothing["diagnostics"]["shortfallReason"] == "NOT_ENOUGH_MATCHES"
    scopes: list[dict[str, Any]] = [
        {"documentIds": []},
        {"externalIds": []},
        {"documentIds": [str(large.document_ids[0])]},
        {"documentIds": [str(uuid4())]},
        {"documentIds": ["not-a-uuid"]},
        {"externalIds": ["doc-0"], "documentIds": []},
        {"externalIds": ["doc-1"]},
    ]
    for scope in scopes:
        found = await api_search(vector_server, small.tenant, query, filter=scope)
        assert (found["hits"], found["diagnostics"]["candidateCount"]) == ([], 0), scope
    mixed = {"documentIds": [str(large.document_ids[0]), str(small.document_ids[0])]}
    own = await api_search(vector_server, small.tenant, query, filter=mixed)
    assert own["diagnostics"]["candidateCount"] == 51
    assert_equal_to_brute_force(own["hits"], small, query, 10)


async def ingest(client: GraphQLClient, external_id: str, *embeddings: object) -> Answer:
    """Send a document whose chunks bring these vectors."""
    chunks = [{"content": f"chunk {number}", "embedding": given} for number, given in enumerate(embeddings)]
    sent = {"externalId": external_id, "title": "T", "body": {"chunks": chunks}}
    return await client.execute(INGEST, {"input": sent})


@pytest.fixture
async def fresh(
    vector_settings: Settings, vector_server: LiveServer
) -> AsyncIterator[tuple[TestTenant, GraphQLClient]]:
    """A tenant with nothing in it, and its client."""
    tenant = await new_tenant(vector_settings, "Fresh")
    client = GraphQLClient(vector_server.graphql_url, tenant.api_key)
    yield tenant, client
    await client.http.aclose()


async def stored_chunks(tenant: TestTenant) -> list[tuple[str, list[float]]]:
    """Return what the tenant has stored: content and vector."""
    async with connect(tenant.settings.database.database_url, tenant.id) as connection:
        rows = await connection.fetch(
            "SELECT d.external_id || ' ' || c.chunk_index AS name, c.embedding::text AS vector"
            " FROM kb_chunks c JOIN kb_documents d ON d.id = c.document_id ORDER BY 1"
        )
    return [(row["name"], json.loads(row["vector"])) for row in rows]


@pytest.mark.parametrize("count", [0, 1, DIMENSIONS - 1, DIMENSIONS + 1])
async def test_wrong_dimension_is_a_client_error_and_stores_nothing(
    fresh: tuple[TestTenant, GraphQLClient], count: int
) -> None:
    """A vector of another length is refused with both lengths, in a query and in a document (C81)."""
    tenant, client = fresh
    searched = await client.execute(SEARCH, {"input": {"query": {"vector": [0.5] * count}}})
    written = (await ingest(client, "X", [0.5] * DIMENSIONS, [0.5] * count)).data["ingestKbDocument"]
    assert searched.codes == ["BAD_USER_INPUT"]
    assert searched.body["errors"][0]["message"] == (
        f"query.vector: expected a vector of {DIMENSIONS} numbers, got {count}"
    )
    (mistake,) = written["userErrors"]
    assert (written["outcome"], written["document"]) == ("REJECTED", None)
    assert (mistake["code"], mistake["expected"], mistake["actual"]) == (
        "EMBEDDING_DIMENSION_MISMATCH", DIMENSIONS, count,
    )  # fmt: skip
    assert mistake["path"] == ["body", "chunks", "1", "embedding"]
    assert await stored_chunks(tenant) == []


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", "1e39", "-1e39", "1e400", '"1"', "null", "true"])
async def test_component_that_is_no_float4_is_a_client_error(fresh: tuple[TestTenant, GraphQLClient], bad: str) -> None:
    """A component that is no finite number of a 4-byte float's range is refused, in a query and in a document (C82)."""
    tenant, client = fresh
    vector = f"[{bad}, {', '.join(['0.5'] * (DIMENSIONS - 1))}]"
    searching = json.dumps({"query": SEARCH, "variables": {"input": {"query": {"vector": "@"}}}})
    chunk = {"content": "c", "embedding": "@"}
    document = {"externalId": "X", "title": "T", "body": {"chunks": [chunk]}}
    ingesting = json.dumps({"query": INGEST, "variables": {"input": document}})
    searched = await client.post(searching.replace('"@"', vector))
    written = await client.post(ingesting.replace('"@"', vector))
    assert searched.codes == ["BAD_USER_INPUT"]
    assert not searched.body.get("data")
    if "errors" in written.body:
        assert written.codes == ["BAD_USER_INPUT"]
    else:
        (mistake,) = written.data["ingestKbDocument"]["userErrors"]
        assert (mistake["code"], mistake["path"]) == ("INVALID_INPUT", ["body", "chunks", "0", "embedding", "0"])
    assert await stored_chunks(tenant) == []


async def test_small_and_whole_numbers_are_accepted(fresh: tuple[TestTenant, GraphQLClient]) -> None:
    """Integers, tiny numbers and seventeen digits are stored at unit length to a float4's rounding (C82)."""
    tenant, client = fresh
    given: list[list[float]] = [
        [3, 4, 0, 0, 0, 0, 0, 0],
        [1e-50, 1e-50, 0, 0, 0, 0, 0, 0],
        [0.12345678901234567, 1e-3, 1e10, -7, 0, 0, 0, 0],
        [3.4e38, -3.4e38, 0, 0, 0, 0, 0, 0],
    ]
    assert (await ingest(client, "X", *given)).data["ingestKbDocument"]["outcome"] == "CREATED"
    stored = await stored_chunks(tenant)
    for (_, vector), sent in zip(stored, given, strict=True):
        exact = np.asarray(sent) / np.max(np.abs(sent))
        np.testing.assert_allclose(vector, exact / np.linalg.norm(exact), rtol=1e-6, atol=1e-30)
    found = await client.data(SEARCH, {"input": {"query": {"vector": [1e-50, 1e-50, 0, 0, 0, 0, 0, 0]}, "limit": 1}})
    assert found["kbSearch"]["hits"][0]["score"] == pytest.approx(1, abs=1e-6)


async def test_zero_vector_is_refused_in_a_query_and_never_found(fresh: tuple[TestTenant, GraphQLClient]) -> None:
    """A query without direction is a client error; a stored one is not among the hits."""
    _, client = fresh
    zeros = [0.0] * DIMENSIONS
    assert (await ingest(client, "X", zeros, [1.0] * DIMENSIONS)).data["ingestKbDocument"]["outcome"] == "CREATED"
    refused = await client.execute(SEARCH, {"input": {"query": {"vector": zeros}}})
    found = await client.data(SEARCH, {"input": {"query": {"vector": [-1.0] * DIMENSIONS}}})
    assert refused.codes == ["BAD_USER_INPUT"]
    assert [hit["chunk"]["content"] for hit in found["kbSearch"]["hits"]] == ["chunk 1"]


async def test_text_is_refused_where_nothing_embeds_it(fresh: tuple[TestTenant, GraphQLClient]) -> None:
    """Without a provider a search by meaning says what to send instead; by default words are searched for."""
    _, client = fresh
    for options in ({"mode": "VECTOR"}, {"minSimilarity": 0.1}):
        refused = await client.execute(SEARCH, {"input": {"query": {"text": "refund"}, **options}})
        assert refused.codes == ["BAD_USER_INPUT"]
        assert "send vectors of 8 numbers" in refused.body["errors"][0]["message"]
    found = await client.data(SEARCH, {"input": {"query": {"text": "refund"}}})
    assert found["kbSearch"]["diagnostics"]["strategy"] == "KEYWORD"


async def insert_and_search(client: GraphQLClient, numbers: Matrix, offset: int) -> None:
    """Insert fifty vectors and search for others at the same time; all must succeed."""

    async def find(row: int) -> list[dict[str, Any]]:
        data = await client.data(SEARCH, {"input": {"query": {"vector": numbers[row].tolist()}, "limit": 1}})
        return list(data["kbSearch"]["hits"])

    written, _ = await asyncio.gather(
        asyncio.gather(*(ingest(client, f"doc-{offset + row:03}", numbers[row].tolist()) for row in range(50))),
        asyncio.gather(*(find(row) for row in range(50))),
    )
    assert [answer.data["ingestKbDocument"]["outcome"] for answer in written] == ["CREATED"] * 50


async def test_parallel_inserts_and_searches_on_new_connections(
    fresh: tuple[TestTenant, GraphQLClient], vector_settings: Settings, postgres: EmbeddedPostgres
) -> None:
    """Inserts and searches mixed over a pool of five never fail, also after all its connections were ended (C84)."""
    tenant, client = fresh
    random = np.random.default_rng(8)
    numbers = random.standard_normal((100, DIMENSIONS)) * 10.0 ** random.integers(-20, 20, (100, 1))
    await insert_and_search(client, numbers[:50], 0)
    superuser = await asyncpg.connect(postgres.superuser_url.get_secret_value())
    assert vector_settings.database.database_url is not None
    name = vector_settings.database.database_url.get_secret_value().rsplit("/", 1)[1]
    ended = await superuser.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND usename = 'konstruct_app'", name
    )
    for row in ended:
        assert await superuser.fetchval("SELECT pg_terminate_backend($1, 60000)", row["pid"])
    await superuser.close()
    await insert_and_search(client, numbers[50:], 50)
    stored = await stored_chunks(tenant)
    assert [key for key, _ in stored] == [f"doc-{row:03} 0" for row in range(100)]
    unit = numbers / np.linalg.norm(numbers, axis=1, keepdims=True)
    np.testing.assert_allclose([vector for _, vector in stored], unit, rtol=1e-6, atol=1e-8)
