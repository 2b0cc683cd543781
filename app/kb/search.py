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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isnan
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from cachetools import cached
from pgvector.sqlalchemy import HALFVEC
from pgvector.sqlalchemy import Vector as VectorType
from sqlalchemy import ColumnElement, Select, Text, bindparam, cast, func, literal_column, select

from app.database.session import TenantSession
from app.database.statements import Statement, compile_statement, statement_cache
from app.embeddings.vector import Vector, has_direction
from app.errors import InvalidInput
from app.filters import Column, Condition, Operands, SetFilter, StringFilter, TimeFilter, all_of
from app.models import KBChunk, KnowledgeBaseDocument
from app.settings import Limits
from app.validation import JsonText

# Up to here comparing every vector of the tenant takes some 10 ms (256 dimensions).
EXACT_CANDIDATES = 20_000

# The index compares at half precision: what it ranks a little below the cut may belong above it.
_OVERSAMPLING = 2
_OVERSAMPLING_FLOOR = 40

# How far and how the index is read, for this transaction only.
_SCAN_SETTINGS = compile_statement(
    select(
        func.set_config("hnsw.iterative_scan", "relaxed_order", literal_column("true")),
        func.set_config("hnsw.ef_search", bindparam("ef_search", type_=Text()), literal_column("true")),
        func.set_config("hnsw.max_scan_tuples", "200000", literal_column("true")),
    )
)

_STATEMENTS = statement_cache()


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

    def checked(self, limits: Limits) -> "SearchFilter":
        """Return itself if every operand can be compared."""
        for name, _, operators in self._parts():
            operators.checked(("filter", name), limits)
        return self

    def operands(self) -> Operands:
        """Yield the values by name; the names are the filter's shape."""
        for name, _, operators in self._parts():
            yield from operators.operands(name)

    def condition(self) -> Condition | None:
        """Translate into a condition on documents; `None` when there is none."""
        found: list[Condition] = []
        for name, column, operators in self._parts():
            found.extend(operators.conditions(column, name))
        return all_of(found) if found else None

    def _parts(self) -> Iterator[tuple[str, Column, SetFilter[UUID] | StringFilter | TimeFilter]]:
        if self.document_ids is not None:
            yield "document_ids", KnowledgeBaseDocument.id, SetFilter(in_=self.document_ids)
        if self.external_ids is not None:
            yield "external_ids", KnowledgeBaseDocument.external_id, StringFilter(in_=self.external_ids)
        if self.updated_at is not None:
            yield "updated_at", KnowledgeBaseDocument.updated_at, self.updated_at


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

    id: UUID
    document_id: UUID
    chunk_index: int
    content: str
    metadata: JsonText
    similarity: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The passages found, the nearest first, and how they were found."""

    hits: Sequence[SearchHit]
    strategy: SearchStrategy
    candidate_count: int
    shortfall_reason: ShortfallReason | None
    took_ms: float


async def search_chunks(session: TenantSession, request: SearchRequest, limits: Limits) -> SearchResult:
    """Return the tenant's passages nearest to the vector, with the lane that found them."""
    started = time.perf_counter()
    request.checked(limits)
    values = dict(request.where.checked(limits).operands())
    ((candidates,),) = await session.fetch(_statement("count", request, tuple(values)), values)
    # Text without a known word has no direction, and neither index nor distance is defined for it.
    rows: list[SearchHit] = []
    strategy = SearchStrategy.EXACT
    if candidates and has_direction(request.vector):
        # As text, which the server reads once: the driver would look at each element of a list.
        values["query"] = orjson.dumps(request.vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        if candidates > EXACT_CANDIDATES and not request.exact:
            strategy = SearchStrategy.HNSW
            await session.fetch(_SCAN_SETTINGS, {"ef_search": str(min(max(_oversampled(request.limit), 100), 1000))})
            rows = await _nearest(session, request, strategy, values)
            if len(rows) < min(request.limit, candidates):
                strategy = SearchStrategy.EXACT
        if strategy is SearchStrategy.EXACT:
            rows = await _nearest(session, request, strategy, values)
    hits = rows
    if request.min_similarity is not None:
        hits = [hit for hit in rows if hit.similarity >= request.min_similarity]
    return SearchResult(
        hits, strategy, candidates, _shortfall(request, rows, hits), (time.perf_counter() - started) * 1000
    )


async def _nearest(
    session: TenantSession, request: SearchRequest, strategy: SearchStrategy, values: dict[str, Any]
) -> list[SearchHit]:
    shape = tuple(values)
    rows = await session.fetch(_statement(strategy.value, request, shape), values)
    return [
        SearchHit(
            row["id"], row["document_id"], row["chunk_index"], row["content"], JsonText(row["chunk_metadata"]),
            1.0 - row["distance"],
        )
        for row in rows
        # A vector of zeros is at no angle to anything: its distance is no number, and stands behind all numbers.
        if not isnan(row["distance"])
    ]  # fmt: skip


def _oversampled(limit: int) -> int:
    return max(limit * _OVERSAMPLING, _OVERSAMPLING_FLOOR)


@cached(_STATEMENTS, key=lambda kind, request, shape: (kind, len(request.vector), request.limit, shape))
def _statement(kind: str, request: SearchRequest, _shape: tuple[str, ...]) -> Statement:
    documents = request.where.condition()
    if kind == "count":
        # Each document knows how many chunks it has, so that no chunk is read to count them.
        count = select(func.coalesce(func.sum(KnowledgeBaseDocument.chunk_count), 0))
        return compile_statement(count if documents is None else count.where(documents))
    dimensions = len(request.vector)
    # With its type said: a bare parameter beside the half-precision cast would become half-precision everywhere.
    query = cast(bindparam("query", type_=VectorType()), VectorType())
    distance = KBChunk.embedding.cosine_distance(query)
    columns = (KBChunk.id, KBChunk.document_id, KBChunk.chunk_index, KBChunk.content)
    found = select(*columns, KBChunk.chunk_metadata.label("chunk_metadata"), distance.label("distance"))
    if kind == SearchStrategy.HNSW.value:
        half = HALFVEC(dimensions)
        by_index = cast(KBChunk.embedding, half).cosine_distance(cast(query, half))
        near = _within(select(KBChunk.id), documents).order_by(by_index).limit(_written(_oversampled(request.limit)))
        candidates = near.cte("near")
        found = found.join(candidates, candidates.c.id == KBChunk.id)
    else:
        found = _within(found, documents)
    return compile_statement(found.order_by(distance, KBChunk.id).limit(_written(request.limit)))


def _within(query: Select[Any], documents: Condition | None) -> Select[Any]:
    if documents is None:
        return query
    return query.where(KBChunk.document_id.in_(select(KnowledgeBaseDocument.id).where(documents)))


def _written(number: int) -> ColumnElement[int]:
    # As text of the query and not as a parameter, so that PostgreSQL plans for the few rows that are wanted.
    return literal_column(str(number))


def _shortfall(request: SearchRequest, rows: Sequence[SearchHit], hits: Sequence[SearchHit]) -> ShortfallReason | None:
    if len(hits) >= request.limit:
        return None
    return ShortfallReason.BELOW_MIN_SIMILARITY if len(hits) < len(rows) else ShortfallReason.NOT_ENOUGH_MATCHES
