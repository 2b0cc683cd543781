"""What a search may find: the passages that a filter leaves, and the parts that all of its statements share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cachetools import cached
from pgvector.sqlalchemy import Vector as VectorType
from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    cast,
    false,
    func,
    literal_column,
    select,
)

from app.database.session import TenantSession
from app.database.statements import Statement, compile_statement, statement_cache
from app.filters import Column, Condition, Operands, SetFilter, StringFilter, TimeFilter, all_of
from app.json_predicates import JsonPredicate, check_predicates, predicate_conditions, predicate_operands
from app.models import EmbeddingProfile, KBChunk, KnowledgeBaseDocument
from app.settings import Limits

_STATEMENTS = statement_cache()

# What is read of a passage.
PASSAGE = (
    KBChunk.id, KBChunk.document_id, KBChunk.chunk_index, KBChunk.content,
    KBChunk.chunk_metadata.label("chunk_metadata"),
)  # fmt: skip


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


def within(query: Select[Any], documents: Condition | None) -> Select[Any]:
    """Restrict a query of passages to those of the documents that a condition holds for."""
    return query if documents is None else query.where(is_of(documents))


def is_of(documents: Condition) -> ColumnElement[bool]:
    """Return whether a passage is of one of the documents that a condition holds for."""
    return KBChunk.document_id.in_(select(KnowledgeBaseDocument.id).where(documents))


def written(number: int) -> ColumnElement[int]:
    """Return a number as text of the query."""
    # As text of the query and not as a parameter, so that PostgreSQL plans for the few rows that are wanted.
    return literal_column(str(number))


def distance_to_query() -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return the vector that is searched for (the value `query`) and a passage's cosine distance to it."""
    # With its type said: a bare parameter beside the cast to a length would take that type everywhere.
    query = cast(bindparam("query", type_=VectorType()), VectorType())
    return query, KBChunk.embedding.cosine_distance(query)


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
