"""Taking documents in: check, skip what has not changed, cut, embed, and then replace in one short transaction.

Nothing is written before every vector is there, so a failing provider leaves nothing behind; chunks are replaced in
the transaction that moves the document's version on, so a reader sees the old passages or the new, never a mixture.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.database.database import Database
from app.database.ids import new_id
from app.database.session import TenantSession
from app.database.tenant_owned import TenantId
from app.embeddings import Vector
from app.embeddings.vector import check_vector
from app.errors import DocumentNotFound, InvalidInput, UserMistake, VersionConflict
from app.kb.chunking import MimeType, chunk_text
from app.kb.conversion import html_to_markdown
from app.kb.documents import CheckedDocument, DocumentInput, check_document
from app.kb.profiles import Embedder, Embeddings, Profile, ProfileChanged
from app.models import EmbeddingProfile, KBChunk, KnowledgeBaseDocument
from app.settings import Limits
from app.validation import JsonText

# Rows an INSERT: seven parameters each, far below the protocol's 32,767.
_ROWS_PER_INSERT = 500


class IngestOutcome(StrEnum):
    """What became of a document that was sent in."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The outcome for one document: the stored document, or the mistake for which it was rejected."""

    outcome: IngestOutcome
    document: KnowledgeBaseDocument | None = None
    mistake: UserMistake | None = None


@dataclass(frozen=True, slots=True)
class _Passage:
    content: str
    metadata: JsonText
    vector: Vector


@dataclass(frozen=True, slots=True)
class DocumentIngester:
    """Takes a tenant's documents in, one transaction each."""

    database: Database
    embeddings: Embeddings
    limits: Limits

    async def ingest(self, tenant_id: TenantId, document: DocumentInput) -> IngestResult:
        """Create or update one document. Expected mistakes are in the result; nothing is then stored."""
        try:
            return await self.embeddings.embed_for(lambda embedder: self._ingest(tenant_id, document, embedder))
        except UserMistake as mistake:
            return IngestResult(IngestOutcome.REJECTED, mistake=mistake)

    async def _ingest(self, tenant_id: TenantId, document: DocumentInput, embedder: Embedder) -> IngestResult:
        checked = check_document(document, self.limits, embedder.profile.dimensions)
        async with self.database.tenant_session(tenant_id) as session:
            stored = await _find_stored(session, document.external_id)
        if (unchanged := _unchanged(checked, stored)) is not None:
            return unchanged
        passages = await _embed(checked, embedder)
        async with self.database.tenant_session(tenant_id) as session:
            return await _write(session, checked, passages, embedder.profile)


async def _embed(checked: CheckedDocument, embedder: Embedder) -> list[_Passage]:
    source = checked.source
    if source.text is not None:
        # In a thread: cutting a large document must not hold up the other requests.
        contents = await asyncio.to_thread(_cut, source.text, checked.mime_type)
        if not contents:
            raise InvalidInput(("body", "text"), "must contain text to read")
        metadata: Sequence[JsonText] = [JsonText("{}")] * len(contents)
        given: Sequence[Sequence[float] | None] = [None] * len(contents)
    else:
        chunks = source.chunks or ()
        contents = [chunk.content for chunk in chunks]
        metadata = checked.chunk_metadata
        given = [chunk.embedding for chunk in chunks]
    missing = [content for content, embedding in zip(contents, given, strict=True) if embedding is None]
    computed = iter(await embedder.provider.embed(missing))
    vectors = [
        next(computed) if embedding is None else check_vector((), embedding, embedder.profile.dimensions)
        for embedding in given
    ]
    return [_Passage(*parts) for parts in zip(contents, metadata, vectors, strict=True)]


def _cut(text: str, mime_type: MimeType) -> list[str]:
    if mime_type is MimeType.HTML:
        return chunk_text(html_to_markdown(text), MimeType.MARKDOWN)
    return chunk_text(text, mime_type)


async def _find_stored(session: TenantSession, external_id: str) -> KnowledgeBaseDocument | None:
    query = select(KnowledgeBaseDocument).where(KnowledgeBaseDocument.external_id == external_id)
    return (await session.scalars(query)).one_or_none()


def _unchanged(checked: CheckedDocument, stored: KnowledgeBaseDocument | None) -> IngestResult | None:
    """Check the expected version, and return the result if nothing is to be done."""
    expected = checked.source.expected_version
    if expected is not None:
        current = 0 if stored is None else stored.version
        if expected != current:
            if stored is None:
                raise DocumentNotFound(("expected_version",), "there is no such document; leave expectedVersion out")
            raise VersionConflict(
                ("expected_version",), f"the document is at version {current}, not {expected}; read it again"
            )
    if stored is not None and stored.content_hash == checked.content_hash:
        return IngestResult(IngestOutcome.UNCHANGED, stored)
    return None


async def _write(
    session: TenantSession, checked: CheckedDocument, passages: Sequence[_Passage], profile: Profile
) -> IngestResult:
    values = {
        "title": checked.source.title,
        "source_uri": checked.source.source_uri,
        "mime_type": checked.mime_type.value,
        "document_metadata": checked.metadata,
        "content_hash": checked.content_hash,
        "chunk_count": len(passages),
    }
    key = {"tenant_id": session.tenant_id, "external_id": checked.source.external_id}
    if checked.source.expected_version is None:
        # Two first ingests of one key at the same moment: one inserts, the other waits here and then updates.
        create = upsert(KnowledgeBaseDocument).values(**key, **values, id=new_id(), version=1)
        created = await session.scalars(create.on_conflict_do_nothing().returning(KnowledgeBaseDocument))
        document = created.one_or_none()
        if document is not None:
            await _insert_passages(session, document.id, passages, profile)
            return IngestResult(IngestOutcome.CREATED, document)
    locked = select(KnowledgeBaseDocument).where(KnowledgeBaseDocument.external_id == checked.source.external_id)
    stored = (await session.scalars(locked.with_for_update())).one_or_none()
    if (unchanged := _unchanged(checked, stored)) is not None:
        return unchanged
    if stored is None:
        raise DocumentNotFound(("external_id",), "the document was deleted meanwhile; send it again")
    change = (
        update(KnowledgeBaseDocument)
        .where(KnowledgeBaseDocument.id == stored.id)
        .values(**values, version=KnowledgeBaseDocument.version + 1, updated_at=func.now())
        .returning(KnowledgeBaseDocument)
        .execution_options(populate_existing=True)
    )
    document = (await session.scalars(change)).one()
    await session.execute(delete(KBChunk).where(KBChunk.document_id == stored.id))
    await _insert_passages(session, document.id, passages, profile)
    return IngestResult(IngestOutcome.UPDATED, document)


async def _check_profile(session: TenantSession, profile: Profile) -> None:
    # After the first change of a row: that is committed before another profile can be activated, or it waited until one
    # was, and sees it here.
    active = await session.scalars(select(EmbeddingProfile.id).where(EmbeddingProfile.is_active))
    if active.one() != profile.id:
        raise ProfileChanged


async def _insert_passages(
    session: TenantSession, document_id: UUID, passages: Sequence[_Passage], profile: Profile
) -> None:
    await _check_profile(session, profile)
    for start in range(0, len(passages), _ROWS_PER_INSERT):
        rows = [
            {
                "tenant_id": session.tenant_id,
                "id": new_id(),
                "document_id": document_id,
                "chunk_index": start + offset,
                "content": passage.content,
                "chunk_metadata": passage.metadata,
                "embedding": passage.vector,
            }
            for offset, passage in enumerate(passages[start : start + _ROWS_PER_INSERT])
        ]
        await session.execute(insert(KBChunk).values(rows))
