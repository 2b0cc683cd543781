"""The ways to the passages nearest to a vector: by an index, or by comparing every vector.

An HNSW index knows nothing of tenants: under row level security it yields its nearest vectors first and the foreign
ones are then filtered out, so that a small tenant beside large ones gets too few rows or none. So we choose the lane,
not the planner, by how the query is written:

- EXACT compares every vector of the tenant, at half precision, and again as they are those that are near enough to
  matter: fast as long as the candidates are few. Those who ask for it have every vector compared as it is.
- HNSW orders by the indexed expression with an iterative scan, takes more rows than wanted and ranks them again by the
  exact distance. Should it yield fewer rows than there are candidates, the exact lane answers.
"""

from enum import StrEnum
from typing import Any

from asyncpg import Record
from cachetools import cached
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    ColumnElement,
    Subquery,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    true,
)

from app.database.session import EF_SEARCH, TenantSession
from app.database.statements import Statement, compile_statement, statement_cache
from app.filters import Condition
from app.kb.candidates import PASSAGE, Candidates, SearchFilter, distance_to_query, is_of, within, written
from app.models import KBChunk

# Numbers that are compared in some 8 ms: 15,000 vectors of 384 dimensions. Beyond that the index takes less.
_EXACT_NUMBERS = 15_000 * 384
# However long the vectors are: fewer are always compared, more never.
_EXACT_LEAST = 5_000
_EXACT_MOST = 15_000

# Candidates that the index gives before the best are chosen. The fewer of its vectors are the tenant's, the further it
# is read for them, which keeps the recall of small tenants beside large ones.
_SCANNED = 150
# At half precision, and in a scan that is only about in order, what is a little below the cut may belong above it.
_OVERSAMPLING = 2
_OVERSAMPLING_FLOOR = 40
# Neighbours that the scan keeps in sight, at most. With the 400 that sessions set it misses fewer than 1 of 100 for a
# tenant of a fifth of a million vectors, with 100 it misses 5 (benchmarks/RESULTS.md).
_EF_SEARCH_MOST = 1000

_LOOK_FARTHER = compile_statement(
    select(func.set_config("hnsw.ef_search", bindparam("ef_search", type_=Text()), literal_column("true")))
)

_STATEMENTS = statement_cache()


class Lane(StrEnum):
    """How the passages nearest to a vector were found."""

    EXACT = "EXACT"
    HNSW = "HNSW"


class _Way(StrEnum):
    """How vectors are compared."""

    AS_THEY_ARE = "as they are"
    HALVED = "halved"
    BY_INDEX = "by index"


def exact_candidates(dimensions: int) -> int:
    """Return up to how many candidates every vector is compared."""
    return min(max(_EXACT_NUMBERS // dimensions, _EXACT_LEAST), _EXACT_MOST)


async def nearest(
    session: TenantSession, found: Candidates, vector: str, dimensions: int, depth: int, *, exact: bool
) -> tuple[list[Record], Lane]:
    """Return the passages nearest to a vector (as JSON text), with their `distance`, and the lane that found them."""
    values = {**found.values, "query": vector}
    if found.count > exact_candidates(dimensions) and not exact:
        if _oversampled(depth) > EF_SEARCH:
            await session.fetch(_LOOK_FARTHER, {"ef_search": str(min(_oversampled(depth), _EF_SEARCH_MOST))})
        rows = await session.fetch(
            _near_statement((_Way.BY_INDEX, dimensions, depth, found.shape), found.where), values
        )
        if len(rows) >= min(depth, found.count):
            return rows, Lane.HNSW
    way = _Way.AS_THEY_ARE if exact else _Way.HALVED
    shape = (way, dimensions, depth, found.shape)
    rows = await session.fetch(_near_statement(shape, found.where), values)
    return rows, Lane.EXACT


def _oversampled(limit: int) -> int:
    return max(limit * _OVERSAMPLING, _OVERSAMPLING_FLOOR)


@cached(_STATEMENTS, key=lambda shape, _where: ("near", shape))
def _near_statement(shape: tuple[_Way, int, int, tuple[str, ...]], where: SearchFilter) -> Statement:
    way, dimensions, depth, _ = shape
    documents = where.condition()
    query, distance = distance_to_query()
    found = select(*PASSAGE, distance.label("distance"))
    if way is _Way.AS_THEY_ARE:
        found = within(found, documents)
    else:
        near = _scanned(dimensions, depth, query, documents) if way is _Way.BY_INDEX else _compared(query, documents)
        # The scan is not quite in order, but PostgreSQL believes so, and would do without this sort.
        best = select(near.c.id).order_by(near.c.distance + literal_column("0")).limit(written(_oversampled(depth)))
        candidates = best.cte("best")
        found = found.join(candidates, candidates.c.id == KBChunk.id)
    return compile_statement(found.order_by(distance, KBChunk.id).limit(written(depth)))


def _compared(query: ColumnElement[Any], documents: Condition | None) -> Subquery:
    """Return all candidates with their distances at half precision, for which there is no index."""
    distance = KBChunk.embedding_half.cosine_distance(_once(query, HALFVEC()))
    return within(select(KBChunk.id, distance.label("distance")), documents).subquery("near")


def _scanned(dimensions: int, depth: int, query: ColumnElement[Any], documents: Condition | None) -> Subquery:
    """Return the first candidates of the index, which are about the nearest, with their distances."""
    sized = HALFVEC(dimensions)
    distance = cast(KBChunk.embedding_half, sized).cosine_distance(_once(query, sized))
    scanned = select(KBChunk.id, distance.label("distance"))
    if documents is not None:
        # Not as a join, which PostgreSQL would rather begin with the documents: all their vectors would be compared.
        scanned = scanned.where(is_of(documents).is_(true()))
    most = max(_SCANNED, _oversampled(depth))
    return scanned.order_by(distance).limit(written(most)).subquery("near")


def _once(query: ColumnElement[Any], kind: HALFVEC) -> ColumnElement[Any]:
    """Return the query's vector at half precision. In a query of its own, or it would be halved again for each row."""
    return select(cast(query, kind)).scalar_subquery()
