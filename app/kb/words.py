"""Finding passages by their words, through a function of the database that knows the session's tenant."""

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from asyncpg import Record
from cachetools import cached
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Float,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from app.database.session import Plans, TenantSession
from app.database.statements import Statement, compile_statement, statement_cache
from app.kb.candidates import PASSAGE, Candidates, SearchFilter, distance_to_query, within, written
from app.models import KBChunk, KnowledgeBaseDocument

# Passages with the words of a question that are looked at (migration 008); a word that is in more says next to nothing.
MOST_WORDED = 20_000

_STATEMENTS = statement_cache()
_OPERATORS = re.compile(r'"|(?:^|\s)-\w')


async def by_words(
    session: TenantSession, found: Candidates, words: str, vector: str | None, dimensions: int, depth: int
) -> list[Record]:
    """Return the passages with the words, with their `relevance`; with a vector, with their `distance` too.

    Each row says its `coverage`: which share (0 to 1) of what all the words are worth it holds; and how many passages
    are `matching`, up to `MOST_WORDED`: the others were not looked at.
    """
    values: dict[str, Any] = {**found.values, "words": words} | ({} if vector is None else {"query": vector})
    shape = (has_operators(words), dimensions if vector is not None else 0, depth, found.shape)
    # The plan of a tenant with few passages would be kept for one with many, within the function too.
    await session.plan(Plans.EACH_TIME)
    return await session.fetch(_words_statement(shape, found.where), values)


async def highlights(session: TenantSession, ids: Sequence[UUID], words: str) -> dict[UUID, str]:
    """Return, for each passage, its parts around the words, which are marked as **bold**."""
    rows = await session.fetch(_HIGHLIGHTS[has_operators(words)], {"ids": list(ids), "words": words})
    return {row["id"]: row["highlight"] for row in rows}


def has_operators(words: str) -> bool:
    """Whether somebody who writes so knows what a web search does with quotes and minus signs."""
    return _OPERATORS.search(words) is not None


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
    most = written(max(depth * 4, 200))
    given = func.kb_keyword_candidates(loose, lexemes, wanted, most).table_valued(
        "id", "relevance", "coverage", "matching"
    )
    distance: ColumnElement[Any] = distance_to_query()[1] if dimensions else literal_column("NULL::float8", Float())
    rows = (
        select(*PASSAGE, distance.label("distance"), given.c.relevance, given.c.coverage, given.c.matching)
        .join(given, given.c.id == KBChunk.id)
        .order_by(KBChunk.search_vector.op("@@")(strict).desc(), given.c.relevance.desc(), KBChunk.id)
    )
    return compile_statement(within(rows, documents).limit(written(depth)))


def _queries(*, as_written: bool) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return the web search, and the same with every word optional unless it is written with operators."""
    strict = func.websearch_to_tsquery(func.kb_search_language(), bindparam("words", type_=Text()))
    if as_written:
        return strict, strict
    return strict, cast(func.replace(cast(strict, Text()), " & ", " | "), TSQUERY())


def _highlight_statement(*, as_written: bool) -> Statement:
    _, loose = _queries(as_written=as_written)
    options: ColumnElement[str] = literal_column(
        "'StartSel=**, StopSel=**, MaxFragments=2, MinWords=8, MaxWords=24, FragmentDelimiter=\" … \"'"
    )
    highlight = func.ts_headline(func.kb_search_language(), KBChunk.content, loose, options)
    wanted = KBChunk.id == any_(bindparam("ids", type_=ARRAY(Uuid())))
    return compile_statement(select(KBChunk.id, highlight.label("highlight")).where(wanted))


_HIGHLIGHTS = {as_written: _highlight_statement(as_written=as_written) for as_written in (False, True)}
