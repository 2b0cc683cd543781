"""The knowledge base: documents, embedding profiles, and the embedded chunks that searches find."""

from datetime import datetime
from uuid import UUID

from pgvector.sqlalchemy import HALFVEC, Vector
from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from app.database.tenant_owned import TenantOwned
from app.models.base import Base, Name
from app.validation import JsonText


class KnowledgeBaseDocument(TenantOwned, Base):
    """One document under the client's own stable key (`external_id`)."""

    __tablename__ = "kb_documents"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        UniqueConstraint("tenant_id", "external_id", name="kb_documents_external_id_key"),
        CheckConstraint("jsonb_typeof(metadata) = 'object'", name="metadata"),
        CheckConstraint("version >= 1", name="version"),
        Index("kb_documents_created_at_idx", "tenant_id", "created_at", "id"),
        Index("kb_documents_chunk_count_idx", "tenant_id", postgresql_include=["chunk_count"]),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[Name]
    title: Mapped[str]
    source_uri: Mapped[str | None]
    mime_type: Mapped[Name]
    document_metadata: Mapped[JsonText] = mapped_column("metadata", JSONB, server_default=text("'{}'"))
    version: Mapped[int]
    # SHA-256 in hexadecimal of all that the client sent; equal content is not embedded again.
    content_hash: Mapped[Name]
    chunk_count: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EmbeddingProfile(Base):
    """A model and the length of its vectors. Searches go by the one that is active; no tenant owns it."""

    __tablename__ = "kb_profiles"
    __table_args__ = (
        UniqueConstraint("provider", "model", "dimensions", name="kb_profiles_model_key"),
        CheckConstraint("dimensions BETWEEN 1 AND 4000", name="dimensions"),
        Index("kb_profiles_active_idx", "is_active", unique=True, postgresql_where=text("is_active")),
    )

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    provider: Mapped[Name]
    model: Mapped[Name]
    dimensions: Mapped[int]
    is_active: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class KBChunk(TenantOwned, Base):
    """A passage of a document with its embedding (unit length, or all zeros when the text says nothing)."""

    __tablename__ = "kb_chunks"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "document_id"], ["kb_documents.tenant_id", "kb_documents.id"], ondelete="CASCADE"
        ),
        UniqueConstraint("tenant_id", "document_id", "chunk_index", name="kb_chunks_chunk_index_key"),
        CheckConstraint("jsonb_typeof(metadata) = 'object'", name="metadata"),
        CheckConstraint("chunk_index >= 0", name="chunk_index"),
        Index("kb_chunks_search_idx", "tenant_id", "search_vector", postgresql_using="gin"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID]
    chunk_index: Mapped[int]
    content: Mapped[str]
    chunk_metadata: Mapped[JsonText] = mapped_column("metadata", JSONB, server_default=text("'{}'"))
    # As many dimensions as the active profile says.
    embedding: Mapped[list[float]] = mapped_column(Vector())
    embedding_half: Mapped[list[float]] = mapped_column(
        HALFVEC(), Computed("embedding::halfvec", persisted=True), deferred=True
    )
    # The words of the content, cut to their stems by the language that migration 007 fixes.
    search_vector: Mapped[str] = mapped_column(
        TSVECTOR, Computed("to_tsvector(kb_search_language(), content)", persisted=True), deferred=True
    )
