"""Searching the knowledge base: by meaning, by words, or both at once, right for every tenant.

A hybrid search ranks by meaning and by words separately and adds up what each rank is worth (reciprocal rank fusion): a
passage that both find comes before one that a single way is sure of, and no scores of different kinds are compared. A
passage with less than half of what the words are worth has no rank by words there: a question in whole sentences shares
a word or two with many passages, which says nothing (measured: benchmarks/RESULTS.md, "Retrieval quality").

The passages themselves are found by the lanes; see `app.kb.lanes`.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isnan
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from asyncpg import Record
from sqlalchemy import Text, Uuid, bindparam, cast, select

from app.database.session import TenantSession
from app.database.statements import compile_statement
from app.embeddings.vector import Vector, has_direction
from app.errors import InvalidInput
from app.kb.candidates import Candidates, SearchFilter, count_candidates
from app.kb.lanes import Lane, nearest
from app.kb.profiles import ProfileChanged
from app.kb.surroundings import document_versions, neighbours
from app.kb.words import MOST_WORDED, by_words, highlights
from app.models import KBChunk
from app.settings import Limits
from app.validation import JsonText

# What a rank is worth is 1 / (60 + rank): the constant of the method's inventors.
_FUSION = 60
# Each way gives this many times what is wanted to the fusion, and to the choice of few passages a document.
_DEPTH_FACTOR = 4
_LEAST_DEPTH = 50
_MOST_DEPTH = 2000
_LEAST_COVERAGE = 0.5
MOST_NEIGHBORS = 3

_EVERYTHING = SearchFilter()
_EMBEDDING = compile_statement(
    select(cast(KBChunk.embedding, Text())).where(KBChunk.id == bindparam("id", type_=Uuid()))
)


class SearchMode(StrEnum):
    """What a search goes by."""

    VECTOR = "vector"
    KEYWORD = "keyword"
    HYBRID = "hybrid"


class SearchStrategy(StrEnum):
    """How a search ran."""

    EXACT = "EXACT"
    HNSW = "HNSW"
    KEYWORD = "KEYWORD"
    HYBRID_EXACT = "HYBRID_EXACT"
    HYBRID_HNSW = "HYBRID_HNSW"


class ShortfallReason(StrEnum):
    """Why a search returned fewer passages than it was asked for."""

    NOT_ENOUGH_MATCHES = "NOT_ENOUGH_MATCHES"
    SCAN_LIMIT_REACHED = "SCAN_LIMIT_REACHED"
    BELOW_MIN_SIMILARITY = "BELOW_MIN_SIMILARITY"


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRequest:
    """What to search for: `limit` passages by a unit vector, by words, or by both, as the mode says.

    A vector without direction finds nothing, nor do words that mean nothing. With `similar_to` the vector is that of a
    stored passage, which is not found itself.
    """

    limit: int
    mode: SearchMode = SearchMode.VECTOR
    vector: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    words: str | None = None
    similar_to: UUID | None = None
    min_similarity: float | None = None
    where: SearchFilter = _EVERYTHING
    exact: bool = False
    max_per_document: int | None = None
    neighbors: int = 0
    with_highlights: bool = False
    with_versions: bool = False
    # The profile that the vector was made for; `None` when there is none, or it is that of a stored passage.
    profile_id: int | None = None

    def checked(self, limits: Limits) -> "SearchRequest":
        """Return itself if it can be answered."""
        if not 1 <= self.limit <= limits.search_results:
            raise InvalidInput(("limit",), f"must be between 1 and {limits.search_results}, got {self.limit}")
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise InvalidInput(("min_similarity",), "must be between -1 and 1")
        if self.max_per_document is not None and self.max_per_document < 1:
            raise InvalidInput(("max_per_document",), f"must be 1 or more, got {self.max_per_document}")
        if not 0 <= self.neighbors <= MOST_NEIGHBORS:
            raise InvalidInput(("include_neighbors",), f"must be between 0 and {MOST_NEIGHBORS}, got {self.neighbors}")
        return self


@dataclass(frozen=True, slots=True)
class Passage:
    """A stored passage."""

    id: UUID
    document_id: UUID
    chunk_index: int
    content: str
    metadata: JsonText

    @classmethod
    def from_row(cls, row: Record) -> "Passage":
        """Take it from a lane's row."""
        return cls(row["id"], row["document_id"], row["chunk_index"], row["content"], JsonText(row["chunk_metadata"]))


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """Which document, at which version, a passage was part of when it was found."""

    external_id: str
    version: int
    content_hash: str


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A passage, what it was ranked by, and where each way had it; the similarity is the cosine to the query."""

    passage: Passage
    score: float
    similarity: float | None = None
    vector_rank: int | None = None
    keyword_rank: int | None = None
    neighbors: Sequence[Passage] = ()
    highlight: str | None = None
    version: DocumentVersion | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The passages found, the best first, and how they were found."""

    hits: Sequence[SearchHit]
    strategy: SearchStrategy
    candidate_count: int
    shortfall_reason: ShortfallReason | None
    took_ms: float


async def search_chunks(session: TenantSession, request: SearchRequest, limits: Limits) -> SearchResult:
    """Return the tenant's best passages, and how they were found.

    Raises `ProfileChanged` when the vector was made for a profile that is not active any more.
    """
    started = time.perf_counter()
    request.checked(limits)
    found = await count_candidates(session, request.where, limits)
    if request.profile_id not in {None, found.profile_id}:
        raise ProfileChanged
    if request.similar_to is not None:
        request = replace(request, vector=await _vector_of(session, request.similar_to))
    hits, strategy, reason = await _search(session, request, found)
    hits = await _complete(session, request, hits)
    return SearchResult(hits, strategy, found.count, reason, (time.perf_counter() - started) * 1000)


async def _search(
    session: TenantSession, request: SearchRequest, found: Candidates
) -> tuple[list[SearchHit], SearchStrategy, ShortfallReason | None]:
    """Look deeper and deeper until there are enough hits, or no more to find."""
    depth = _first_depth(request)
    while True:
        ranked, lane, is_exhausted, is_cut = await _rank(session, request, found, depth)
        similar = _similar_enough(ranked, request.min_similarity)
        hits = _few_per_document(similar, request.max_per_document)[: request.limit]
        if len(hits) == request.limit:
            return hits, _strategy(request, lane), ShortfallReason.SCAN_LIMIT_REACHED if is_cut else None
        if is_exhausted or depth >= _MOST_DEPTH:
            reason = ShortfallReason.NOT_ENOUGH_MATCHES
            if len(similar) < len(ranked):
                reason = ShortfallReason.BELOW_MIN_SIMILARITY
            elif is_cut or not is_exhausted:
                reason = ShortfallReason.SCAN_LIMIT_REACHED
            return hits, _strategy(request, lane), reason
        depth = min(depth * _DEPTH_FACTOR, _MOST_DEPTH)


def _first_depth(request: SearchRequest) -> int:
    if request.mode is SearchMode.HYBRID or request.max_per_document is not None:
        return max(request.limit * _DEPTH_FACTOR, _LEAST_DEPTH)
    # The passage itself is among those that are like it.
    return request.limit + (request.similar_to is not None)


async def _rank(
    session: TenantSession, request: SearchRequest, found: Candidates, depth: int
) -> tuple[list[SearchHit], Lane, bool, bool]:
    """Return the passages that each way has among its first, in order, and the lane.

    Also whether there are no others, and whether more passages hold the words than are looked at.
    """
    vector, dimensions = _as_text(request.vector), len(request.vector)
    near: list[Record] = []
    worded: list[Record] = []
    lane = Lane.EXACT
    if found.count and request.mode is not SearchMode.KEYWORD and vector is not None:
        near, lane = await nearest(session, found, vector, dimensions, depth, exact=request.exact)
    if found.count and request.mode is not SearchMode.VECTOR and request.words is not None:
        worded = await by_words(session, found, request.words, vector, dimensions, depth)
    is_cut = bool(worded) and worded[0]["matching"] >= MOST_WORDED
    is_exhausted = len(near) < depth and len(worded) < depth
    # A vector of zeros is at no angle to anything: its distance is no number, and stands behind all numbers.
    near = [row for row in near if row["id"] != request.similar_to and not isnan(row["distance"])]
    if request.mode is SearchMode.HYBRID and near:
        worded = [row for row in worded if row["coverage"] >= _LEAST_COVERAGE]
    if request.mode is SearchMode.VECTOR:
        return [_near_hit(row, rank) for rank, row in enumerate(near, start=1)], lane, is_exhausted, is_cut
    return _fused(near, worded, request.mode), lane, is_exhausted, is_cut


def _near_hit(row: Record, rank: int) -> SearchHit:
    similarity = 1.0 - row["distance"]
    return SearchHit(Passage.from_row(row), similarity, similarity, vector_rank=rank)


def _fused(near: Sequence[Record], worded: Sequence[Record], mode: SearchMode) -> list[SearchHit]:
    rows = {row["id"]: row for row in (*worded, *near)}
    vector_ranks = {row["id"]: rank for rank, row in enumerate(near, start=1)}
    keyword_ranks = {row["id"]: rank for rank, row in enumerate(worded, start=1)}
    hits = []
    for passage_id, row in rows.items():
        ranks = vector_ranks.get(passage_id), keyword_ranks.get(passage_id)
        score = sum(1 / (_FUSION + rank) for rank in ranks if rank is not None)
        if mode is SearchMode.KEYWORD:
            score = row["relevance"]
        hits.append(SearchHit(Passage.from_row(row), score, _similarity(row), *ranks))
    if mode is SearchMode.KEYWORD:
        # In the order of the lane, which puts those with all of the words first.
        return hits
    return sorted(hits, key=lambda hit: (-hit.score, -(hit.similarity or -1.0), hit.passage.id))


def _similarity(row: Record) -> float | None:
    distance = row["distance"]
    return None if distance is None or isnan(distance) else 1.0 - distance


def _similar_enough(hits: list[SearchHit], least: float | None) -> list[SearchHit]:
    if least is None:
        return hits
    return [hit for hit in hits if hit.similarity is not None and hit.similarity >= least]


def _few_per_document(hits: list[SearchHit], most: int | None) -> list[SearchHit]:
    if most is None:
        return hits
    seen: Counter[UUID] = Counter()
    kept = []
    for hit in hits:
        seen[hit.passage.document_id] += 1
        if seen[hit.passage.document_id] <= most:
            kept.append(hit)
    return kept


def _strategy(request: SearchRequest, lane: Lane) -> SearchStrategy:
    if request.mode is SearchMode.KEYWORD:
        return SearchStrategy.KEYWORD
    return SearchStrategy(lane.value if request.mode is SearchMode.VECTOR else f"HYBRID_{lane.value}")


async def _complete(session: TenantSession, request: SearchRequest, hits: list[SearchHit]) -> list[SearchHit]:
    """Add to the hits what is only looked up for those that are returned."""
    if hits and request.with_highlights and request.words is not None:
        marked = await highlights(session, [hit.passage.id for hit in hits], request.words)
        hits = [replace(hit, highlight=marked.get(hit.passage.id)) for hit in hits]
    if hits and request.neighbors:
        places = [(hit.passage.document_id, hit.passage.chunk_index) for hit in hits]
        beside = await neighbours(session, places, request.neighbors)
        hits = [
            replace(hit, neighbors=[Passage.from_row(row) for row in beside.get(place, ())])
            for hit, place in zip(hits, places, strict=True)
        ]
    if hits and request.with_versions:
        versions = await document_versions(session, [hit.passage.id for hit in hits])
        hits = [replace(hit, version=_version(versions.get(hit.passage.id))) for hit in hits]
    return hits


def _version(row: Record | None) -> DocumentVersion | None:
    return None if row is None else DocumentVersion(row["external_id"], row["version"], row["content_hash"])


async def _vector_of(session: TenantSession, passage_id: UUID) -> Vector:
    rows: list[Any] = await session.fetch(_EMBEDDING, {"id": passage_id})
    if not rows:
        raise InvalidInput(("query", "similar_to_chunk_id"), "there is no such chunk")
    return np.asarray(orjson.loads(rows[0][0]), np.float32)


def _as_text(vector: Vector) -> str | None:
    """Return a vector as the database reads it, which spares the driver a look at each number; `None` without one."""
    if not has_direction(vector):
        return None
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
