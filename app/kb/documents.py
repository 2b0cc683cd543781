"""Documents as clients send them, and reading, listing and deleting the stored ones."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import defer

from app.database.session import TenantSession
from app.embeddings.vector import check_vector
from app.errors import DocumentNotFound, InvalidInput, Path, PayloadTooLarge
from app.filters import Condition, Operands, SetFilter, StringFilter, TimeFilter, all_of
from app.json_predicates import JsonPredicate, check_predicates, predicate_conditions, predicate_operands
from app.kb.chunking import MimeType, has_visible_text
from app.models import KBChunk, KnowledgeBaseDocument
from app.pagination import Keyset, Page, PageRequest, Position
from app.settings import Limits
from app.validation import JsonText, check_int, check_json_object, check_size, check_text

COUNT_LIMIT = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkInput:
    """A passage that the client cut itself, with its own vector or none (it is then embedded)."""

    content: str
    embedding: Sequence[float] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentInput:
    """A document under the client's own key: the same key again updates it. Either `text` or `chunks` is given."""

    external_id: str
    title: str
    source_uri: str | None = None
    mime_type: str = MimeType.PLAIN.value
    metadata: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None
    chunks: Sequence[ChunkInput] | None = None
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class CheckedDocument:
    """A document within all limits, with its metadata as JSON text and the hash of all that the client sent."""

    source: DocumentInput
    mime_type: MimeType
    metadata: JsonText
    chunk_metadata: Sequence[JsonText]
    content_hash: str


def check_document(document: DocumentInput, limits: Limits, dimensions: int) -> CheckedDocument:
    """Check everything about a document before any of it is embedded or stored."""
    for name in ("external_id", "title"):
        check_text((name,), getattr(document, name), allow_empty=False)
        check_size((name,), getattr(document, name), limits.name_bytes)
    if document.source_uri is not None:
        check_text(("source_uri",), document.source_uri)
        check_size(("source_uri",), document.source_uri, limits.name_bytes)
    if document.expected_version is not None:
        check_int(("expected_version",), document.expected_version)
    mime_type = _check_mime_type(document.mime_type)
    metadata = _check_metadata(("metadata",), document.metadata, limits)
    if (document.text is None) == (document.chunks is None):
        raise InvalidInput(("body",), "must hold either text or chunks")
    if document.text is not None:
        _check_content(("body", "text"), document.text, limits.document_bytes)
        chunk_metadata: Sequence[JsonText] = ()
    else:
        chunk_metadata = _check_chunks(document.chunks or (), limits, dimensions)
    return CheckedDocument(document, mime_type, metadata, chunk_metadata, _content_hash(document, metadata))


def _check_mime_type(mime_type: str) -> MimeType:
    try:
        return MimeType(mime_type)
    except ValueError:
        known = " or ".join(MimeType)
        raise InvalidInput(("mime_type",), f"must be {known}") from None


def _check_content(path: Path, content: str, max_bytes: int) -> None:
    check_text(path, content)
    check_size(path, content, max_bytes)
    if not has_visible_text(content):
        raise InvalidInput(path, "must contain text to read")


def _check_metadata(path: Path, metadata: Mapping[str, Any], limits: Limits) -> JsonText:
    return check_json_object(path, metadata, max_bytes=limits.metadata_bytes, max_depth=limits.metadata_depth)


def _check_chunks(chunks: Sequence[ChunkInput], limits: Limits, dimensions: int) -> list[JsonText]:
    path: Path = ("body", "chunks")
    if not chunks:
        raise InvalidInput(path, "must hold at least one chunk")
    if len(chunks) > limits.chunks_per_document:
        raise PayloadTooLarge(path, f"must hold at most {limits.chunks_per_document} chunks, got {len(chunks)}")
    metadata = []
    for position, chunk in enumerate(chunks):
        at: Path = (*path, position)
        _check_content((*at, "content"), chunk.content, limits.chunk_bytes)
        if chunk.embedding is not None:
            check_vector((*at, "embedding"), chunk.embedding, dimensions)
        metadata.append(_check_metadata((*at, "metadata"), chunk.metadata, limits))
    return metadata


def _content_hash(document: DocumentInput, metadata: JsonText) -> str:
    chunks = None
    if document.chunks is not None:
        chunks = [[chunk.content, chunk.embedding, chunk.metadata] for chunk in document.chunks]
    said = [document.title, document.source_uri, document.mime_type, metadata, document.text, chunks]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentFilter:
    """Which documents are wanted. All conditions given must hold; an empty filter matches every document."""

    id: SetFilter[UUID] | None = None
    external_id: StringFilter | None = None
    title: StringFilter | None = None
    updated_at: TimeFilter | None = None
    metadata: Sequence[JsonPredicate] | None = None

    def checked(self, limits: Limits) -> "DocumentFilter":
        """Return itself if every operand can be compared."""
        for name in _COMPARED:
            operators = getattr(self, name)
            if operators is not None:
                operators.checked(("filter", name), limits)
        check_predicates(("filter", "metadata"), self.metadata, limits)
        return self

    def operands(self) -> Operands:
        """Yield the values by name."""
        for name in _COMPARED:
            operators = getattr(self, name)
            if operators is not None:
                yield from operators.operands(name)
        yield from predicate_operands(self.metadata, "metadata")

    def condition(self) -> Condition:
        """Translate into one condition."""
        found: list[Condition] = []
        for name in _COMPARED:
            operators = getattr(self, name)
            if operators is not None:
                found.extend(operators.conditions(getattr(KnowledgeBaseDocument, name), name))
        found.extend(predicate_conditions(self.metadata, KnowledgeBaseDocument.document_metadata, "metadata"))
        return all_of(found)


_COMPARED = ("id", "external_id", "title", "updated_at")


async def list_documents(
    session: TenantSession, where: DocumentFilter, page: PageRequest, limits: Limits
) -> Page[KnowledgeBaseDocument]:
    """Return one page of the tenant's documents, the one created last first."""
    keyset: Keyset[KnowledgeBaseDocument] = Keyset(
        position_of=lambda document: Position.at_time(document.created_at, document.id),
        key_from=lambda position: position.time,
        descending=True,
        identity=("kb_documents", where),
    )
    plan = keyset.plan(page, limits.page_size)
    matching = select(KnowledgeBaseDocument).where(where.checked(limits).condition())
    query = plan.apply(matching, KnowledgeBaseDocument.created_at, KnowledgeBaseDocument.id)
    rows = await session.scalars(query, {**dict(where.operands()), **plan.values})
    return keyset.page(rows.all(), plan)


async def count_documents(session: TenantSession, where: DocumentFilter, limits: Limits) -> tuple[int, bool]:
    """Count the matching documents up to 10,000; return the number and whether it is exact."""
    query = select(KnowledgeBaseDocument.id).where(where.checked(limits).condition()).limit(COUNT_LIMIT + 1)
    count = select(func.count()).select_from(query.subquery())
    found = (await session.execute(count, dict(where.operands()))).scalar_one()
    return min(found, COUNT_LIMIT), found <= COUNT_LIMIT


async def find_documents(session: TenantSession, ids: Iterable[UUID]) -> dict[UUID, KnowledgeBaseDocument]:
    """Return those of the documents that exist in the tenant, by id."""
    query = select(KnowledgeBaseDocument).where(KnowledgeBaseDocument.id.in_(list(ids)))
    return {document.id: document for document in await session.scalars(query)}


async def find_document(session: TenantSession, document_id: UUID | None) -> KnowledgeBaseDocument | None:
    """Return a document of the tenant, if it exists; `None` is the id of none."""
    return None if document_id is None else (await find_documents(session, [document_id])).get(document_id)


async def find_document_by_external_id(session: TenantSession, external_id: str) -> KnowledgeBaseDocument | None:
    """Return the document under the client's key, if there is one."""
    check_text(("external_id",), external_id)
    query = select(KnowledgeBaseDocument).where(KnowledgeBaseDocument.external_id == external_id)
    return (await session.scalars(query)).one_or_none()


async def list_chunks(session: TenantSession, document_id: UUID, page: PageRequest, limits: Limits) -> Page[KBChunk]:
    """Return one page of a document's chunks in reading order."""
    keyset: Keyset[KBChunk] = Keyset(
        position_of=lambda chunk: Position(chunk.chunk_index, chunk.id),
        key_from=lambda position: min(max(position.key, -1), 2**31 - 1),
        descending=False,
        identity=("kb_chunks", document_id),
    )
    plan = keyset.plan(page, limits.page_size)
    matching = (
        select(KBChunk).where(KBChunk.document_id == document_id).options(defer(KBChunk.embedding, raiseload=True))
    )
    rows = await session.scalars(plan.apply(matching, KBChunk.chunk_index, KBChunk.id), plan.values)
    return keyset.page(rows.all(), plan)


async def find_chunk(session: TenantSession, chunk_id: UUID) -> KBChunk | None:
    """Return a chunk of the tenant, if it exists."""
    query = select(KBChunk).where(KBChunk.id == chunk_id).options(defer(KBChunk.embedding, raiseload=True))
    return (await session.scalars(query)).one_or_none()


async def delete_document(session: TenantSession, *, document_id: UUID | None, external_id: str | None) -> UUID:
    """Delete a document with its chunks; return its id. Raises `DocumentNotFound`.

    Audit events about it stay as they are.
    """
    if (document_id is None) == (external_id is None):
        raise InvalidInput(("id",), "pass either id or externalId")
    if external_id is not None:
        check_text(("external_id",), external_id)
        matches = KnowledgeBaseDocument.external_id == external_id
    else:
        matches = KnowledgeBaseDocument.id == document_id
    deleted = await session.scalars(delete(KnowledgeBaseDocument).where(matches).returning(KnowledgeBaseDocument.id))
    found: UUID | None = deleted.one_or_none()
    if found is None:
        path = ("id",) if external_id is None else ("external_id",)
        raise DocumentNotFound(path, "there is no such document")
    return found
