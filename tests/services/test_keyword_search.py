"""Searching by words and by both: what is found, in which order, what comes with it, and who may see it."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.auth.principal import Scope
from app.database.database import Database
from app.database.session import TenantSession
from app.database.statements import Statement
from app.kb import search
from app.kb.candidates import SearchFilter, count_candidates
from app.kb.search import SearchMode, SearchRequest, ShortfallReason, search_chunks
from app.kb.words import by_words
from app.settings import Limits, Settings
from tests.support.database import TestTenant, connect, new_tenant
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import GraphQLClient, LiveServer, live_server

INGEST = "mutation($input: IngestKbDocumentsInput!) { ingestKbDocuments(input: $input) { results { outcome } } }"
SEARCH = (
    "query($input: KbSearchInput!) { kbSearch(input: $input) { hits { rank score similarity vectorRank keywordRank"
    " highlight chunk { id chunkIndex content document { externalId } } neighbors { chunkIndex content } }"
    " diagnostics { strategy isComplete shortfallReason candidateCount embeddingModel } } }"
)

TEXTS = {
    "returns": "You may return a parcel within thirty days. The refund is paid to the card that was charged.",
    "shipping": "Parcels are shipped twice a day. A late parcel is traced after three working days.",
    "invoice": "Each invoice carries the VAT number. An invoice for a late parcel is corrected by a credit note.",
    "code": "Error XK-4411 means that the printer has no paper. Open the tray and fill it.",
    "password": "To choose a new password, open the settings and follow the link in the mail.",
    "hours": "The workshop is open on weekdays from eight to five, on Saturdays until noon.",
    "discounts": "Customers who return often are given a discount of ten per cent.",
}


@dataclass
class Library:
    """A tenant with some short documents."""

    tenant: TestTenant
    client: GraphQLClient

    async def search(self, text: str, mode: str = "HYBRID", **options: Any) -> dict[str, Any]:
        """Search by text."""
        sent = {"query": {"text": text}, "mode": mode, **options}
        return dict((await self.client.data(SEARCH, {"input": sent}))["kbSearch"])


def keys(found: dict[str, Any]) -> list[str]:
    """Return the documents of the hits, in order."""
    return [hit["chunk"]["document"]["externalId"] for hit in found["hits"]]


async def fill(client: GraphQLClient, texts: dict[str, str]) -> None:
    """Ingest documents of one passage each; their metadata holds how long their key is."""
    documents = [
        {"externalId": key, "title": key, "body": {"text": text}, "metadata": {"length": len(key), "kind": key[0]}}
        for key, text in texts.items()
    ]
    data = await client.data(INGEST, {"input": {"documents": documents}})
    assert {result["outcome"] for result in data["ingestKbDocuments"]["results"]} == {"CREATED"}


@pytest.fixture(scope="module")
async def library(server: LiveServer, settings: Settings) -> AsyncIterator[Library]:
    """Seven documents, beside another tenant with the same ones."""
    other = await new_tenant(settings, "Beside")
    beside = GraphQLClient(server.graphql_url, other.api_key)
    await fill(beside, {f"foreign-{key}": text for key, text in TEXTS.items()})
    await beside.http.aclose()
    tenant = await new_tenant(settings, "Library")
    client = GraphQLClient(server.graphql_url, tenant.api_key)
    await fill(client, TEXTS)
    yield Library(tenant, client)
    await client.http.aclose()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("XK-4411", ["code"]),
        ("late parcel", ["shipping", "invoice", "returns"]),
        ('"late parcel" -invoice', ["shipping"]),
        ('"a late parcel"', ["shipping", "invoice"]),
        ("returning", ["returns", "discounts"]),
        ("parcel -late", ["returns"]),
        ("the of and", []),
        ("zyzzyva", []),
        ("'; DROP TABLE kb_chunks; --", []),
        ("( & | ! :* <->", []),
    ],
)
async def test_words_find_what_a_web_search_would(library: Library, words: str, expected: list[str]) -> None:
    """Stems count, quotes and minus signs mean what they do elsewhere, and any text is a valid search."""
    found = await library.search(words, "KEYWORD")
    assert sorted(keys(found)) == sorted(expected)
    if words == "late parcel":
        # Who holds all the words comes before who holds some.
        assert keys(found)[2] == "returns"
    assert found["diagnostics"]["strategy"] == "KEYWORD"
    assert found["diagnostics"]["embeddingModel"] is None
    for number, hit in enumerate(found["hits"], start=1):
        assert (hit["rank"], hit["keywordRank"], hit["vectorRank"], hit["similarity"]) == (number, number, None, None)


async def test_both_ways_are_fused_by_rank(library: Library) -> None:
    """The score is the sum of 1/(60 + rank) over both ways, and the order is that of the score.

    A passage with less than half of what the words are worth has no rank by words.
    """
    too_little = {"where is my late parcel?": {"returns"}}
    for text in ("where is my late parcel?", "XK-4411", "I forgot my login", "money back"):
        vector = keys(await library.search(text, "VECTOR", limit=50))
        words = keys(await library.search(text, "KEYWORD", limit=50))
        assert too_little.get(text, set()) <= {*words}
        words = [key for key in words if key not in too_little.get(text, ())]
        found = await library.search(text, limit=50)
        expected = {
            key: sum(1 / (60 + ranking.index(key) + 1) for ranking in (vector, words) if key in ranking)
            for key in {*vector, *words}
        }
        assert {hit["chunk"]["document"]["externalId"]: hit["score"] for hit in found["hits"]} == pytest.approx(
            expected
        )
        assert [hit["score"] for hit in found["hits"]] == sorted(expected.values(), reverse=True)
        assert found["diagnostics"]["strategy"] == "HYBRID_EXACT"
        for hit in found["hits"]:
            key = hit["chunk"]["document"]["externalId"]
            assert hit["vectorRank"] == (vector.index(key) + 1 if key in vector else None)
            assert hit["keywordRank"] == (words.index(key) + 1 if key in words else None)
            assert -1 <= hit["similarity"] <= 1


async def test_words_that_too_many_passages_hold_are_said_to_be_so(
    library: Library, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When more passages hold the words than are looked at, the search says that it is not complete."""
    reasons = []
    for most in (4, 3):
        monkeypatch.setattr(search, "MOST_WORDED", most)
        request = SearchRequest(limit=2, mode=SearchMode.KEYWORD, words="parcel")
        async with database.tenant_session(library.tenant.id) as session:
            result = await search_chunks(session, request, Limits())
        assert len(result.hits) == 2
        reasons.append(result.shortfall_reason)
    assert reasons == [None, ShortfallReason.SCAN_LIMIT_REACHED]


async def test_words_are_planned_for_their_tenant(library: Library, database: Database) -> None:
    """However often they are asked for: the kept plan of another tenant would read all of this one's passages."""

    async def mode(session: TenantSession) -> str:
        ((found,),) = await session.fetch(Statement("SHOW plan_cache_mode", (), {}), {})
        return str(found)

    request = SearchRequest(limit=2, mode=SearchMode.KEYWORD, words="parcel")
    for _ in range(2):
        async with database.reading_session(library.tenant.id) as session:
            assert await mode(session) == "auto"
            assert (await search_chunks(session, request, Limits())).hits
            assert await mode(session) == "force_custom_plan"


async def test_hybrid_is_what_a_text_is_searched_by(library: Library) -> None:
    """Without a mode both ways are used; a code that says nothing to a model is found first by its letters."""
    data = await library.client.data(SEARCH, {"input": {"query": {"text": "what is XK-4411"}}})
    assert data["kbSearch"]["diagnostics"]["strategy"] == "HYBRID_EXACT"
    assert keys(data["kbSearch"])[0] == "code"


async def test_nonsense_is_cut_by_the_least_similarity(library: Library) -> None:
    """With a floor, what is not similar is not returned, whatever found it, and the reason is given."""
    found = await library.search("qwxz vbnk plmt", minSimilarity=0.6)
    assert found["hits"] == []
    assert found["diagnostics"]["shortfallReason"] == "BELOW_MIN_SIMILARITY"
    assert found["diagnostics"]["isComplete"] is True
    kept = await library.search("late parcel", minSimilarity=0.3)
    assert all(hit["similarity"] >= 0.3 for hit in kept["hits"])


async def test_filters_hold_for_words_and_for_both(library: Library) -> None:
    """By key and by metadata; a filter that matches nothing finds nothing."""
    for mode in ("KEYWORD", "HYBRID", "VECTOR"):
        by_key = await library.search("late parcel", mode, filter={"externalIds": ["invoice", "hours"]})
        assert "invoice" in keys(by_key)
        assert set(keys(by_key)) <= {"invoice", "hours"}
        inside = {"metadata": [{"path": ["length"], "gte": 8}, {"path": ["kind"], "in": ["s", "p"]}]}
        by_metadata = await library.search("late parcel", mode, filter=inside)
        assert set(keys(by_metadata)) <= {"shipping", "password"}
        assert "shipping" in keys(by_metadata)
        nothing = await library.search("late parcel", mode, filter={"externalIds": []})
        assert (nothing["hits"], nothing["diagnostics"]["candidateCount"]) == ([], 0)
    listed = await library.client.data(
        '{ kbDocuments(filter: {metadata: [{path: ["kind"], eq: "h"}]}) { nodes { externalId } totalCount { value } } }'
    )
    assert listed["kbDocuments"] == {"nodes": [{"externalId": "hours"}], "totalCount": {"value": 1}}


async def test_words_are_marked_in_the_highlight(library: Library) -> None:
    """What was looked for is bold; a hit by meaning alone has its beginning."""
    found = await library.search("late parcel", "KEYWORD", limit=1)
    assert "A **late** **parcel** is traced" in found["hits"][0]["highlight"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": {"vector": [0.5] * 256}, "mode": "KEYWORD"}, "input.mode: KEYWORD needs words"),
        ({"query": {"similarToChunkId": "nope"}}, "input.query.similarToChunkId: must be a UUID"),
        ({"query": {"similarToChunkId": str(uuid4())}}, "input.query.similarToChunkId: there is no such chunk"),
        ({"query": {"text": "x"}, "maxPerDocument": 0}, "input.maxPerDocument: must be 1 or more"),
        ({"query": {"text": "x"}, "includeNeighbors": 4}, "input.includeNeighbors: must be between 0 and 3"),
        ({"query": {"text": "x"}, "filter": {"metadata": [{"path": []}]}}, "input.filter.metadata.0.path: must name"),
    ],
)
async def test_impossible_searches_are_refused_by_name(library: Library, options: Any, message: str) -> None:
    """The error names the input and the remedy."""
    answer = await library.client.execute(SEARCH, {"input": options})
    assert answer.codes == ["BAD_USER_INPUT"], answer.text
    found = answer.body["errors"][0]["message"]
    assert message.removeprefix("input.") in found, found


# ---------------------------------------------------------------- long documents


@pytest.fixture(scope="module")
async def book(server: LiveServer, settings: Settings) -> AsyncIterator[Library]:
    """Two documents of several passages about the same, which are given ready."""
    tenant = await new_tenant(settings, "Book")
    client = GraphQLClient(server.graphql_url, tenant.api_key)
    documents = [
        {
            "externalId": name,
            "title": name,
            "body": {
                "chunks": [{"content": f"Chapter {number} of {name}: on repairing bicycles."} for number in range(9)]
            },
        }
        for name in ("first", "second")
    ]
    await client.data(INGEST, {"input": {"documents": documents}})
    yield Library(tenant, client)
    await client.http.aclose()


@pytest.mark.parametrize("mode", ["VECTOR", "KEYWORD", "HYBRID"])
async def test_no_document_has_more_hits_than_allowed(book: Library, mode: str) -> None:
    """The best passages of each document, as many as wanted, and others instead of the rest."""
    found = await book.search("repairing bicycles", mode, limit=4, maxPerDocument=2)
    assert sorted(keys(found)) == ["first", "first", "second", "second"]
    one = await book.search("repairing bicycles", mode, limit=4, maxPerDocument=1)
    assert sorted(keys(one)) == ["first", "second"]
    assert one["diagnostics"]["shortfallReason"] == "NOT_ENOUGH_MATCHES"


async def test_neighbors_come_with_a_hit_in_reading_order(book: Library) -> None:
    """As many before and after as asked for, fewer at the ends, of the same document only."""
    found = await book.search("repairing bicycles", limit=18, includeNeighbors=2)
    assert len(found["hits"]) == 18
    for hit in found["hits"]:
        index = hit["chunk"]["chunkIndex"]
        expected = [place for place in range(max(index - 2, 0), min(index + 2, 8) + 1) if place != index]
        assert [chunk["chunkIndex"] for chunk in hit["neighbors"]] == expected
        name = hit["chunk"]["document"]["externalId"]
        assert all(f"of {name}:" in chunk["content"] for chunk in hit["neighbors"])


async def test_passages_like_a_passage_do_not_include_it(book: Library, library: Library) -> None:
    """A stored passage is a question too; another tenant's is none."""
    hit = (await book.search("Chapter 3 of first", limit=1))["hits"][0]
    like = {"query": {"similarToChunkId": hit["chunk"]["id"]}, "limit": 17}
    found = (await book.client.data(SEARCH, {"input": like}))["kbSearch"]
    assert len(found["hits"]) == 17
    assert hit["chunk"]["id"] not in {other["chunk"]["id"] for other in found["hits"]}
    assert found["diagnostics"]["strategy"] == "EXACT"
    answer = await library.client.execute(SEARCH, {"input": like})
    assert "there is no such chunk" in answer.text


# ---------------------------------------------------------------- lanes and tenants


async def test_filter_that_leaves_everything_changes_nothing(database: Database, library: Library) -> None:
    """With all documents named and with none: the same rows in the same order."""
    limits = Limits()
    everything = SearchFilter(external_ids=tuple(TEXTS))
    async with database.tenant_session(library.tenant.principal.tenant_id) as session:
        for words in ("late parcel", "return", '"late parcel" -invoice', "open settings password"):
            found = []
            for where in (SearchFilter(), everything):
                candidates = await count_candidates(session, where, limits)
                rows = await by_words(session, candidates, words, None, 256, 50)
                found.append([row["id"] for row in rows])
            assert found[0] == found[1] != []


async def test_candidates_are_the_sessions_tenants_only(settings: Settings, library: Library) -> None:
    """The function shows a session its own passages, and one without a tenant none."""
    query = "SELECT count(*) FROM kb_keyword_candidates('parcel', ARRAY['parcel'], NULL, 100)"
    async with connect(settings.database.database_url, library.tenant.id) as connection:
        assert await connection.fetchval(query) == 3
    async with connect(settings.database.database_url, uuid4()) as connection:
        assert await connection.fetchval(query) == 0
    async with connect(settings.database.database_url) as connection:
        assert await connection.fetchval(query) == 0


async def test_words_are_found_through_the_index(settings: Settings, library: Library) -> None:
    """Inside the function the search reads the index by tenant and words."""
    async with connect(settings.database.owner_database_url) as owner, owner.transaction():
        await owner.execute("SELECT set_tenant($1)", library.tenant.id)
        # Passages without a direction, which the vector index leaves out.
        await owner.execute(
            "INSERT INTO kb_chunks (tenant_id, id, document_id, chunk_index, content, embedding)"
            " SELECT d.tenant_id, gen_random_uuid(), d.id, n, 'word' || n, array_fill(0, ARRAY[256])::vector"
            " FROM generate_series(1, 3000) n, (SELECT tenant_id, id FROM kb_documents LIMIT 1) d"
        )
        await owner.execute("ANALYZE kb_chunks")
        for setting in ("enable_seqscan", "enable_indexscan", "enable_indexonlyscan"):
            await owner.execute(f"SET LOCAL {setting} = off")
        plan = await owner.fetch(
            "EXPLAIN SELECT id FROM kb_chunks c WHERE c.tenant_id = current_tenant()"
            " AND c.search_vector @@ 'parcel'::tsquery"
        )
    text = "\n".join(row[0] for row in plan)
    assert re.search(r"Bitmap Index Scan on kb_chunks_\d+_tenant_id_search_vector_idx", text), text
    assert "(tenant_id = " in text
    assert "(search_vector @@ " in text


# ---------------------------------------------------------------- what an agent knew


@pytest.fixture(scope="module")
def recording_server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that records what agents retrieve."""
    with live_server(settings, tmp_path_factory.mktemp("recording"), KONSTRUCT_AUDIT_RETRIEVALS="true") as running:
        yield running


TRACE = "0af7651916cd43dd8448eb211c80319c"
EVENTS = (
    "query($filter: AuditEventFilter) { auditEvents(filter: $filter) { nodes { actionType actionName agentId traceId"
    " sessionId inputSummary submittedBy status latencyMs metadata } } }"
)


async def search_as(url: str, secret: str, headers: dict[str, str]) -> dict[str, Any]:
    """Search with a key and headers."""
    sent = {"query": SEARCH, "variables": {"input": {"query": {"text": "late parcel"}, "limit": 2}}}
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        response = await http.post(url, json=sent, headers={"authorization": f"Bearer {secret}", **headers})
    found: dict[str, Any] = response.json()["data"]["kbSearch"]
    return found


@pytest.mark.parametrize(
    ("headers", "trace", "session"),
    [
        (
            {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
            "0af7651916cd43dd8448eb211c80319c",
            None,
        ),
        ({"X-Trace-Id": "run-1", "X-Session-Id": "conv-7"}, "run-1", "conv-7"),
        ({"traceparent": "nonsense", "X-Trace-Id": "x" * 600}, None, None),
    ],
)
async def test_search_by_an_agent_is_in_the_trail(
    recording_server: LiveServer, library: Library, headers: dict[str, str], trace: str | None, session: str | None
) -> None:
    """With the passages, versions and scores that it returned, under the trace of the request."""
    agent = uuid4()
    # A key that may not write events by itself.
    secret, _ = await library.tenant.new_key([Scope.KB_READ], name="bot", agent_id=agent)
    found = await search_as(recording_server.graphql_url, secret, headers)
    nodes = (await library.client.data(EVENTS, {"filter": {"agentId": {"eq": str(agent)}}}))["auditEvents"]["nodes"]
    (event,) = nodes
    hits = event["metadata"].pop("hits")
    latency = event.pop("latencyMs")
    assert event == {
        "actionType": "TOOL_INVOCATION", "actionName": "kb_search", "agentId": str(agent), "traceId": trace,
        "sessionId": session, "inputSummary": "late parcel", "submittedBy": "bot", "status": "SUCCEEDED",
        "metadata": {"mode": "HYBRID", "strategy": "HYBRID_EXACT", "candidate_count": 7, "limit": 2},
    }  # fmt: skip
    assert latency >= 0
    assert [hit["chunk_id"] for hit in hits] == [hit["chunk"]["id"] for hit in found["hits"]]
    assert [hit["external_id"] for hit in hits] == keys(found)
    assert [hit["score"] for hit in hits] == [pytest.approx(hit["score"]) for hit in found["hits"]]
    assert {hit["document_version"] for hit in hits} == {1}
    assert all(len(hit["content_hash"]) == 64 for hit in hits)


async def test_other_searches_are_not_recorded(
    recording_server: LiveServer, server: LiveServer, library: Library
) -> None:
    """Neither those of keys without an agent, nor any where it is off."""
    agent = uuid4()
    bound, _ = await library.tenant.new_key([Scope.KB_READ], agent_id=agent)
    unbound, _ = await library.tenant.new_key([Scope.KB_READ], name="unbound")
    await search_as(server.graphql_url, bound, {})
    await search_as(recording_server.graphql_url, unbound, {})
    for where in ({"agentId": {"eq": str(agent)}}, {"search": '"unbound"'}, {"agentId": {"isNull": True}}):
        found = await library.client.data(EVENTS, {"filter": where})
        assert found["auditEvents"]["nodes"] == []
