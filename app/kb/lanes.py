"""The ways to passages: by the vector's index, by every vector, by words. Each gives rows, the best first.

An HNSW index knows nothing of tenants: under row level security it yields its nearest vectors first and the foreign
ones are then filtered out, so that a small tenant beside large ones gets too few rows or none. So we choose the lane,
not the planner, by how the query is written:

- EXACT compares every vector of the tenant, at half precision, and again as they are those that are near enough to
  matter: fast as long as the candidates are few. Those who ask for it have every vector compared as it is.
- HNSW orders by the indexed expression with an iterative scan, takes more rows than wanted and ranks them again by the
  exact distance. Should it yield fewer rows than there are candidates, the exact lane answers.
- Words are looked up in an index, through a function that knows the session's tenant (migration 007).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from asyncpg import Record
from cachetools import cached
from pgvector.sqlalchemy import HALFVEC
from pgvector.sqlalchemy import Vector as VectorType
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Float,
    Integer,
    Select,
    Subquery,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    column,
    false,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from app.database.session import TenantSession
from app.database.statements import Statement, compile_statement, statement_cache
from app.filters import Column, Condition, Operands, SetFilter, StringFilter, TimeFilter, all_of
from app.json_predicates import JsonPredicate, check_predicates, predicate_conditions, predicate_operands
from app.models import EmbeddingProfile, KBChunk, KnowledgeBaseDocument
from app.settings import Limits

# Numbers that are compared in some 7 ms: 20,000 vectors of 384 dimensions.
_EXACT_NUMBERS = 20_000 * 384
# However long the vectors are: fewer are always compared, more never.
_EXACT_LEAST = 10_000
_EXACT_MOST = 20_000

# Candidates that the index gives before the best are chosen. The fewer of its vectors are the tenant's, the further it
# is read for them, which keeps the recall of small tenants beside large ones.
_SCANNED = 150
# At half precision, and in a scan that is only about in order, what is a little below the cut may belong above it.
_OVERSAMPLING = 2
_OVERSAMPLING_FLOOR = 40
# Neighbours that the scan keeps in sight. With 400 it misses fewer than 1 of 100 for a tenant of a fifth of a million
# vectors, with 100 it misses 5 (benchmarks/RESULTS.md).
_EF_SEARCH = 400
_EF_SEARCH_MOST = 1000

# Passages with the words of a question that are looked at (migration 008); a word that is in more says next to nothing.
MOST_WORDED = 20_000

# How far and how the index is read, for this transaction only.
_SCAN_SETTINGS = compile_statement(
    select(
        func.set_config("hnsw.iterative_scan", "relaxed_order", literal_column("true")),
        func.set_config("hnsw.ef_search", bindparam("ef_search", type_=Text()), literal_column("true")),
        func.set_config("hnsw.max_scan_tuples", "200000", literal_column("true")),
    )
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


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchFilter:
    """Which documents are searched. An empty list of ids matches nothing."""

    document_ids: Sequence[UUID] | None = None
    external_ids: Sequence[str] | None = None
    metadata: Sequence[JsonPredicate] | None = None
    updated_at: TimeFilter | None = None

    def checked(self, limits: Limits) -> "SearchFilter":
        """Return itself if every operand can be compared."""
        for name, _, operators in self._parts():
            operators.checked(("filter", name), limits)
        check_predicates(("filter", "metadata"), self.metadata, limits)
        return self

    def operands(self) -> Operands:
        """Yield the values by name; the names are the filter's shape."""
        for name, _, operators in self._parts():
            yield from operators.operands(name)
        yield from predicate_operands(self.metadata, "metadata")

    def condition(self) -> Condition | None:
        """Translate into a condition on documents; `None` when there is none."""
        found: list[Condition] = []
        for name, compared, operators in self._parts():
            found.extend(operators.conditions(compared, name))
        found.extend(predicate_conditions(self.metadata, KnowledgeBaseDocument.document_metadata, "metadata"))
        return all_of(found) if found else None

    def _parts(self) -> Iterator[tuple[str, Column, SetFilter[UUID] | StringFilter | TimeFilter]]:
        if self.document_ids is not None:
            yield "document_ids", KnowledgeBaseDocument.id, SetFilter(in_=self.document_ids)
        if self.external_ids is not None:
            yield "external_ids", KnowledgeBaseDocument.external_id, StringFilter(in_=self.external_ids)
        if self.updated_at is not None:
            yield "updated_at", KnowledgeBaseDocument.updated_at, self.updated_at


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a filter leaves to be searched, and the filter's values by name."""

    where: SearchFilter
    values: Mapping[str, Any]
    count: int
    profile_id: int

    @property
    def shape(self) -> tuple[str, ...]:
        """What tells the filter's SQL from that of others."""
        return (*self.values,)


async def count_candidates(session: TenantSession, where: SearchFilter, limits: Limits) -> Candidates:
    """Count the passages that a filter leaves, and note whose vectors they have; raise `InvalidInput`.

    Until the session ends no other profile can be activated.
    """
    values = dict(where.checked(limits).operands())
    ((count, profile_id, _),) = await session.fetch(_count_statement((*values,), where), values)
    return Candidates(where, values, count, profile_id)


def exact_candidates(dimensions: int) -> int:
    """Return up to how many candidates every vector is compared."""
    return min(max(_EXACT_NUMBERS // dimensions, _EXACT_LEAST), _EXACT_MOST)


async def nearest(
    session: TenantSession, found: Candidates, vector: str, dimensions: int, depth: int, *, exact: bool
) -> tuple[list[Record], Lane]:
    """Return the passages nearest to a vector (as JSON text), with their `distance`, and the lane that found them."""
    values = {**found.values, "query": vector}
    if found.count > exact_candidates(dimensions) and not exact:
        ef_search = min(max(_oversampled(depth), _EF_SEARCH), _EF_SEARCH_MOST)
        await session.fetch(_SCAN_SETTINGS, {"ef_search": str(ef_search)})
        rows = await session.fetch(
            _near_statement((_Way.BY_INDEX, dimensions, depth, found.shape), found.where), values
        )
        if len(rows) >= min(depth, found.count):
            return rows, Lane.HNSW
    way = _Way.AS_THEY_ARE if exact else _Way.HALVED
    shape = (way, dimensions, depth, found.shape)
    rows = await session.fetch(_near_statement(shape, found.where), values)
    return rows, Lane.EXACT


async def by_words(
    session: TenantSession, found: Candidates, words: str, vector: str | None, dimensions: int, depth: int
) -> list[Record]:
    """Return the passages with the words, with their `relevance`; with a vector, with their `distance` too.

    Each row says its `coverage`: which share (0 to 1) of what all the words are worth it holds; and how many passages
    are `matching`, up to `MOST_WORDED`: the others were not looked at.
    """
    values: dict[str, Any] = {**found.values, "words": words} | ({} if vector is None else {"query": vector})
    shape = (has_operators(words), dimensions if vector is not None else 0, depth, found.shape)
    return await session.fetch(_words_statement(shape, found.where), values)


async def document_versions(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, Record]:
    """Return, for each passage that is still there, the `external_id`, `version` and `content_hash` it belongs to.

    An update replaces all passages with the version, so that a passage never gets another version than its own.
    """
    return {row["id"]: row for row in await session.fetch(_VERSIONS, {"ids": list(ids)})}


async def highlights(session: TenantSession, ids: Sequence[UUID], words: str) -> dict[UUID, str]:
    """Return, for each passage, its parts around the words, which are marked as **bold**."""
    rows = await session.fetch(_HIGHLIGHTS[has_operators(words)], {"ids": list(ids), "words": words})
    return {row["id"]: row["highlight"] for row in rows}


async def neighbours(
    session: TenantSession, places: Sequence[tuple[UUID, int]], reach: int
) -> dict[tuple[UUID, int], list[Record]]:
    """Return the passages before and after each (document, index), up to `reach` on each side, in reading order."""
    rows = await session.fetch(
        _NEIGHBOURS,
        {"documents": [document for document, _ in places], "indexes": [index for _, index in places], "reach": reach},
    )
    found: dict[tuple[UUID, int], list[Record]] = {}
    for row in rows:
        found.setdefault((row["document_id"], row["of_index"]), []).append(row)
    return found


def has_operators(words: str) -> bool:
    """Whether somebody who writes so knows what a web search does with quotes and minus signs."""
    return _OPERATORS.search(words) is not None


_OPERATORS = re.compile(r'"|(?:^|\s)-\w')


def _oversampled(limit: int) -> int:
    return max(limit * _OVERSAMPLING, _OVERSAMPLING_FLOOR)


_PASSAGE = (
    KBChunk.id, KBChunk.document_id, KBChunk.chunk_index, KBChunk.content,
    KBChunk.chunk_metadata.label("chunk_metadata"),
)  # fmt: skip


@cached(_STATEMENTS, key=lambda shape, _where: ("count", shape))
def _count_statement(_shape: tuple[str, ...], where: SearchFilter) -> Statement:
    # Each document knows how many chunks it has, so that no chunk is read to count them. But their table is named, and
    # with it locked: it can't change its name for that of another profile's.
    count = select(
        func.coalesce(func.sum(KnowledgeBaseDocument.chunk_count), 0),
        select(EmbeddingProfile.id).where(EmbeddingProfile.is_active).scalar_subquery(),
        select(KBChunk.chunk_index).where(false()).scalar_subquery(),
    )
    documents = where.condition()
    return compile_statement(count if documents is None else count.where(documents))


@cached(_STATEMENTS, key=lambda shape, _where: ("near", shape))
def _near_statement(shape: tuple[_Way, int, int, tuple[str, ...]], where: SearchFilter) -> Statement:
    way, dimensions, depth, _ = shape
    documents = where.condition()
    query, distance = _distance()
    found = select(*_PASSAGE, distance.label("distance"))
    if way is _Way.AS_THEY_ARE:
        found = _within(found, documents)
    else:
        near = _scanned(dimensions, depth, query, documents) if way is _Way.BY_INDEX else _compared(query, documents)
        # The scan is not quite in order, but PostgreSQL believes so, and would do without this sort.
        best = select(near.c.id).order_by(near.c.distance + literal_column("0")).limit(_written(_oversampled(depth)))
        candidates = best.cte("best")
        found = found.join(candidates, candidates.c.id == KBChunk.id)
    return compile_statement(found.order_by(distance, KBChunk.id).limit(_written(depth)))


@cached(_STATEMENTS, key=lambda shape, _where: ("words", shape))
def _words_statement(shape: tuple[bool, int, int, tuple[str, ...]], where: SearchFilter) -> Statement:
    as_written, dimensions, depth, _ = shape
    documents = where.condition()
    strict, loose = _queries(as_written=as_written)
    lexemes = func.tsvector_to_array(func.to_tsvector(func.kb_search_language(), bindparam("words", type_=Text())))
    wanted: ColumnElement[Any] = literal_column("NULL::uuid[]")
    if documents is not None:
        wanted = func.array(select(KnowledgeBaseDocument.id).where(documents).scalar_subquery())
    # More than wanted: who holds all of the words comes first.
    most = _written(max(depth * 4, 200))
    given = func.kb_keyword_candidates(loose, lexemes, wanted, most).table_valued(
        "id", "relevance", "coverage", "matching"
    )
    distance: ColumnElement[Any] = _distance()[1] if dimensions else literal_column("NULL::float8", Float())
    rows = (
        select(*_PASSAGE, distance.label("distance"), given.c.relevance, given.c.coverage, given.c.matching)
        .join(given, given.c.id == KBChunk.id)
        .order_by(KBChunk.search_vector.op("@@")(strict).desc(), given.c.relevance.desc(), KBChunk.id)
    )
    return compile_statement(_within(rows, documents).limit(_written(depth)))


def _compared(query: ColumnElement[Any], documents: Condition | None) -> Subquery:
    """Return all candidates with their distances at half precision, for which there is no index."""
    distance = KBChunk.embedding_half.cosine_distance(_once(query, HALFVEC()))
    return _within(select(KBChunk.id, distance.label("distance")), documents).subquery("near")


def _scanned(dimensions: int, depth: int, query: ColumnElement[Any], documents: Condition | None) -> Subquery:
    """Return the first candidates of the index, which are about the nearest, with their distances."""
    sized = HALFVEC(dimensions)
    distance = cast(KBChunk.embedding_half, sized).cosine_distance(_once(query, sized))
    scanned = select(KBChunk.id, distance.label("distance"))
    if documents is not None:
        # Not as a join, which PostgreSQL would rather begin with the documents: all their vectors would be compared.
        allowed = KBChunk.document_id.in_(select(KnowledgeBaseDocument.id).where(documents))
        scanned = scanned.where(allowed.is_(true()))
    most = max(_SCANNED, _oversampled(depth))
    return scanned.order_by(distance).limit(_written(most)).subquery("near")


def _once(query: ColumnElement[Any], kind: HALFVEC) -> ColumnElement[Any]:
    """Return the query's vector at half precision. In a query of its own, or it would be halved again for each row."""
    return select(cast(query, kind)).scalar_subquery()


def _distance() -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    # With its type said: a bare parameter beside the cast to a length would take that type everywhere.
    query = cast(bindparam("query", type_=VectorType()), VectorType())
    return query, KBChunk.embedding.cosine_distance(query)


def _queries(*, as_written: bool) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return the web search, and the same with every word optional unless it is written with operators."""
    strict = func.websearch_to_tsquery(func.kb_search_language(), bindparam("words", type_=Text()))
    if as_written:
        return strict, strict
    return strict, cast(func.replace(cast(strict, Text()), " & ", " | "), TSQUERY())


def _within(query: Select[Any], documents: Condition | None) -> Select[Any]:
    if documents is None:
        return query
    return query.where(KBChunk.document_id.in_(select(KnowledgeBaseDocument.id).where(documents)))


def _written(number: int) -> ColumnElement[int]:
    # As text of the query and not as a parameter, so that PostgreSQL plans for the few rows that are wanted.
    return literal_column(str(number))


def _highlight_statement(*, as_written: bool) -> Statement:
    _, loose = _queries(as_written=as_written)
    options: ColumnElement[str] = literal_column(
        "'StartSel=**, StopSel=**, MaxFragments=2, MinWords=8, MaxWords=24, FragmentDelimiter=\" … \"'"
    )
    highlight = func.ts_headline(func.kb_search_language(), KBChunk.content, loose, options)
    wanted = KBChunk.id == any_(bindparam("ids", type_=ARRAY(Uuid())))
    return compile_statement(select(KBChunk.id, highlight.label("highlight")).where(wanted))


_VERSIONS = compile_statement(
    select(
        KBChunk.id,
        KnowledgeBaseDocument.external_id,
        KnowledgeBaseDocument.version,
        KnowledgeBaseDocument.content_hash,
    )
    .join(KnowledgeBaseDocument, KnowledgeBaseDocument.id == KBChunk.document_id)
    .where(KBChunk.id == any_(bindparam("ids", type_=ARRAY(Uuid()))))
)


_HIGHLIGHTS = {as_written: _highlight_statement(as_written=as_written) for as_written in (False, True)}


def _neighbour_statement() -> Statement:
    arrays = (bindparam("documents", type_=ARRAY(Uuid())), bindparam("indexes", type_=ARRAY(Integer())))
    given = func.unnest(*arrays).table_valued(column("document", Uuid()), column("of_index", Integer()))
    places = given.render_derived("places")
    reach = bindparam("reach", type_=Integer())
    query = (
        select(*_PASSAGE, places.c.of_index)
        .join(places, places.c.document == KBChunk.document_id)
        .where(
            KBChunk.chunk_index.between(places.c.of_index - reach, places.c.of_index + reach),
            KBChunk.chunk_index != places.c.of_index,
        )
    )
    return compile_statement(query.order_by(KBChunk.document_id, places.c.of_index, KBChunk.chunk_index))


_NEIGHBOURS = _neighbour_statement()
