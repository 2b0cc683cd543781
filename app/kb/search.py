"""Finding passages by meaning, right for every tenant.

An HNSW index knows nothing of tenants: under row level security it yields its nearest vectors first and the foreign
ones are then filtered out, so that a small tenant beside large ones gets too few rows or none. So we choose the lane,
not the planner, by how the query is written:

- EXACT orders by the distance of the column itself, for which there is no index: every vector of the tenant is
  compared. Right by construction, and fast as long as the candidates are few.
- HNSW orders by the indexed half-precision expression with an iterative scan, takes more rows than wanted and ranks
  them again by the exact distance. Should it yield fewer rows than there are candidates, the exact lane answers.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
from pgvector.sqlalchemy import HALFVEC
from pgvector.sqlalchemy import Vector as VectorType
from sqlalchemy import ColumnElement, Select, bindparam, cast, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from app.embeddings.vector import Vector, has_direction
from app.errors import InvalidInput
from app.filters import Condition, SetFilter, StringFilter, TimeFilter, all_of
from app.models import KBChunk, KnowledgeBaseDocument
from app.settings import Limits

# Up to here comparing every vector of the tenant takes some 10 ms (256 dimensions).
EXACT_CANDIDATES = 20_000

# The index compares at half precision: what it ranks a little below the cut may belong above it.
_OVERSAMPLING = 2
_OVERSAMPLING_FLOOR = 40

_SCAN_SETTINGS = text(
    "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),"
    " set_config('hnsw.ef_search', :ef_search, true), set_config('hnsw.max_scan_tuples', '200000', true)"
)


class SearchStrategy(StrEnum):
    """How a search ran."""

    EXACT = "EXACT"
    HNSW = "HNSW"


class ShortfallReason(StrEnum):
    """Why a search returned fewer passages than it was asked for."""

    NOT_ENOUGH_MATCHES = "NOT_ENOUGH_MATCHES"
    BELOW_MIN_SIMILARITY = "BELOW_MIN_SIMILARITY"


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchFilter:
    """Which documents are searched. An empty list of ids matches nothing."""

    document_ids: Sequence[UUID] | None = None
    external_ids: Sequence[str] | None = None
    updated_at: TimeFilter | None = None

    def condition(self, limits: Limits) -> Condition | None:
        """Check the operands and translate into a condition on documents; `None` when there is none."""
        found: list[Condition] = []
        if self.document_ids is not None:
            ids: SetFilter[UUID] = SetFilter(in_=self.document_ids)
            found += ids.checked(("filter", "document_ids"), limits).conditions(KnowledgeBaseDocument.id)
        if self.external_ids is not None:
            keys = StringFilter(in_=self.external_ids)
            found += keys.checked(("filter", "external_ids"), limits).conditions(KnowledgeBaseDocument.external_id)
        if self.updated_at is not None:
            times = self.updated_at.checked(("filter", "updated_at"), limits)
            found += times.conditions(KnowledgeBaseDocument.updated_at)
        return all_of(found) if found else None


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRequest:
    """What to search for: `limit` passages nearest to a unit vector, by cosine similarity (-1 to 1).

    A vector without direction finds nothing.
    """

    limit: int
    vector: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    min_similarity: float | None = None
    where: SearchFilter = SearchFilter()
    exact: bool = False

    def checked(self, limits: Limits) -> "SearchRequest":
        """Return itself if it can be answered."""
        if not 1 <= self.limit <= limits.search_results:
            raise InvalidInput(("limit",), f"must be between 1 and {limits.search_results}, got {self.limit}")
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise InvalidInput(("min_similarity",), "must be between -1 and 1")
        return self


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A passage and its cosine similarity to the query."""

    chunk: KBChunk
    similarity: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The passages found, the nearest first, and how they were found."""

    hits: Sequence[SearchHit]
    strategy: SearchStrategy
    candidate_count: int
    shortfall_reason: ShortfallReason | None
    took_ms: float


async def search_chunks(session: AsyncSession, request: SearchRequest, limits: Limits) -> SearchResult:
    """Return the tenant's passages nearest to the vector, with the lane that found them."""
    started = time.perf_counter()
    request.checked(limits)
    documents = request.where.condition(limits)
    candidates = await _count_candidates(session, documents)
    # Text without a known word has no direction, and neither index nor distance is defined for it.
    rows: list[SearchHit] = []
    strategy = SearchStrategy.EXACT
    if candidates and has_direction(request.vector):
        if candidates > EXACT_CANDIDATES and not request.exact:
            strategy = SearchStrategy.HNSW
            rows = await _search_index(session, request, documents)
            if len(rows) < min(request.limit, candidates):
                strategy = SearchStrategy.EXACT
        if strategy is SearchStrategy.EXACT:
            rows = await _run(session, _nearest(_restricted(documents), request, request.limit))
    hits = rows
    if request.min_similarity is not None:
        hits = [hit for hit in rows if hit.similarity >= request.min_similarity]
    return SearchResult(
        hits, strategy, candidates, _shortfall(request, rows, hits), (time.perf_counter() - started) * 1000
    )


async def _count_candidates(session: AsyncSession, documents: Condition | None) -> int:
    # Each document knows how many chunks it has, so that no chunk is read to count them.
    query = select(func.coalesce(func.sum(KnowledgeBaseDocument.chunk_count), 0))
    if documents is not None:
        query = query.where(documents)
    return int((await session.execute(query)).scalar_one())


async def _search_index(session: AsyncSession, request: SearchRequest, documents: Condition | None) -> list[SearchHit]:
    wanted = max(request.limit * _OVERSAMPLING, _OVERSAMPLING_FLOOR)
    await session.execute(_SCAN_SETTINGS, {"ef_search": str(min(max(wanted, 100), 1000))})
    dimensions = len(request.vector)
    indexed = cast(KBChunk.embedding, HALFVEC(dimensions))
    by_index = indexed.cosine_distance(cast(_query_vector(request), HALFVEC(dimensions)))
    near = _restricted(documents).with_only_columns(KBChunk.id).order_by(by_index).limit(wanted).cte("near")
    return await _run(session, _nearest(select(KBChunk).join(near, near.c.id == KBChunk.id), request, request.limit))


def _restricted(documents: Condition | None) -> Select[Any]:
    query = select(KBChunk)
    if documents is not None:
        query = query.where(KBChunk.document_id.in_(select(KnowledgeBaseDocument.id).where(documents)))
    return query


def _nearest(query: Select[Any], request: SearchRequest, limit: int) -> Select[Any]:
    distance = KBChunk.embedding.cosine_distance(_query_vector(request))
    # A vector of zeros is at no angle to anything (its distance is NaN).
    return (
        query.add_columns(distance.label("distance"))
        .options(defer(KBChunk.embedding, raiseload=True))
        .where(distance != text("'NaN'::float8"))
        .order_by(distance, KBChunk.id)
        .limit(limit)
    )


def _query_vector(request: SearchRequest) -> ColumnElement[Any]:
    # With its type said: a bare parameter beside the half-precision cast would become half-precision everywhere.
    return cast(bindparam("query", request.vector, VectorType()), VectorType(len(request.vector)))


async def _run(session: AsyncSession, query: Select[Any]) -> list[SearchHit]:
    return [SearchHit(chunk, 1.0 - float(distance)) for chunk, distance in await session.execute(query)]


def _shortfall(request: SearchRequest, rows: Sequence[SearchHit], hits: Sequence[SearchHit]) -> ShortfallReason | None:
    if len(hits) >= request.limit:
        return None
    return ShortfallReason.BELOW_MIN_SIMILARITY if len(hits) < len(rows) else ShortfallReason.NOT_ENOUGH_MATCHES
