"""What is looked up for passages that were found: those beside them, and the versions that they are part of."""

from collections.abc import Sequence
from uuid import UUID

from asyncpg import Record
from sqlalchemy import (
    ARRAY,
    Integer,
    Uuid,
    any_,
    bindparam,
    column,
    func,
    select,
)

from app.database.session import TenantSession
from app.database.statements import Statement, compile_statement
from app.kb.candidates import PASSAGE
from app.models import KBChunk, KnowledgeBaseDocument


async def document_versions(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, Record]:
    """Return, for each passage that is still there, the `external_id`, `version` and `content_hash` it belongs to.

    An update replaces all passages with the version, so that a passage never gets another version than its own.
    """
    return {row["id"]: row for row in await session.fetch(_VERSIONS, {"ids": list(ids)})}


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


def _neighbour_statement() -> Statement:
    arrays = (bindparam("documents", type_=ARRAY(Uuid())), bindparam("indexes", type_=ARRAY(Integer())))
    given = func.unnest(*arrays).table_valued(column("document", Uuid()), column("of_index", Integer()))
    places = given.render_derived("places")
    reach = bindparam("reach", type_=Integer())
    query = (
        select(*PASSAGE, places.c.of_index)
        .join(places, places.c.document == KBChunk.document_id)
        .where(
            KBChunk.chunk_index.between(places.c.of_index - reach, places.c.of_index + reach),
            KBChunk.chunk_index != places.c.of_index,
        )
    )
    return compile_statement(query.order_by(KBChunk.document_id, places.c.of_index, KBChunk.chunk_index))


_NEIGHBOURS = _neighbour_statement()
