"""What clients send to ingest, filter and search documents."""

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

import strawberry

from app.errors import InvalidInput
from app.json_predicates import JsonPredicate
from app.kb.candidates import SearchFilter
from app.kb.documents import ChunkInput, DocumentFilter, DocumentInput
from graphql_schema.filters import (
    DateTimeFilterInput,
    IdFilterInput,
    JsonPredicateInput,
    StringFilterInput,
    converted,
    uuids,
)
from graphql_schema.kb.enums import SearchMode
from graphql_schema.pagination import read_uuid
from graphql_schema.scalars import Json


@strawberry.input(description="A passage that you cut yourself.")
class KbChunkInput:
    """One ready chunk."""

    content: str = strawberry.field(description="Its text, at most 32 KiB.")
    embedding: list[float] | None = strawberry.field(
        default=None,
        description="Its vector: as many numbers as the index has dimensions (384 with the built-in model); embedded"
        " here when left out. A zero vector is never found.",
    )
    metadata: Json | None = strawberry.field(
        default=None, description="The chunk's own details: a JSON object of at most 64 KiB and 16 levels."
    )

    def to_chunk(self) -> ChunkInput:
        """Convert to the service's value."""
        return ChunkInput(content=self.content, embedding=self.embedding, metadata=_metadata(self.metadata))


@strawberry.input(description="A document's content: text to be cut, or ready chunks.", one_of=True)
class KbDocumentBodyInput:
    """Exactly one of the two."""

    text: strawberry.Maybe[str] = strawberry.field(description="The whole text, at most 5 MiB; cut and embedded here.")
    chunks: strawberry.Maybe[list[KbChunkInput]] = strawberry.field(description="Ready chunks, 1 to 10,000.")


@strawberry.input(description="A document to take in, or to bring up to date.")
class IngestKbDocumentInput:
    """Input of `ingestKbDocument`."""

    external_id: str = strawberry.field(
        description="Your stable key for it, at most 512 bytes: the same key again updates the document."
    )
    title: str = strawberry.field(description="Its title, at most 512 bytes.")
    body: KbDocumentBodyInput = strawberry.field(description="Its content.")
    source_uri: str | None = strawberry.field(
        default=None, description="Where it came from, such as `https://example.com/returns`, at most 512 bytes."
    )
    mime_type: str | None = strawberry.field(
        default="text/plain",
        description=(
            "`text/plain`, `text/markdown` or `text/html`: Markdown and HTML are cut at their headings. For text that"
            " you took out of a PDF, `application/pdf`."
        ),
    )
    metadata: Json | None = strawberry.field(
        default=None, description="Free-form details: a JSON object of at most 64 KiB and 16 levels."
    )
    expected_version: int | None = strawberry.field(
        default=None,
        description="Update only if the document is still at this `version`, such as `3`; else VERSION_CONFLICT.",
    )

    def to_document(self) -> DocumentInput:
        """Convert to the service's value."""
        chunks = self.body.chunks
        return DocumentInput(
            external_id=self.external_id,
            title=self.title,
            source_uri=self.source_uri,
            mime_type=self.mime_type or "text/plain",
            metadata=_metadata(self.metadata),
            text=self.body.text.value if self.body.text else None,
            chunks=[chunk.to_chunk() for chunk in chunks.value] if chunks else None,
            expected_version=self.expected_version,
        )


@strawberry.input(description="Up to 50 documents at once.")
class IngestKbDocumentsInput:
    """Input of `ingestKbDocuments`."""

    documents: list[IngestKbDocumentInput] = strawberry.field(description="The documents, 1 to 50.")


@strawberry.input(description="Which document to delete: by its id or by your key.")
class DeleteKbDocumentInput:
    """Input of `deleteKbDocument`."""

    id: strawberry.ID | None = strawberry.field(default=None, description="The document's `id`.")
    external_id: str | None = strawberry.field(default=None, description="Your key for it, such as `returns.md`.")


@strawberry.input(
    name="KbDocumentFilter",
    description="Which documents are wanted. All conditions given must hold; null is as if left out.",
)
class KbDocumentFilterInput:
    """The filter of document lists."""

    id: IdFilterInput | None = strawberry.field(default=None, description="The document's own id.")
    external_id: StringFilterInput | None = strawberry.field(
        default=None, description="Your key for it, such as `returns.md`."
    )
    title: StringFilterInput | None = strawberry.field(default=None, description="Its title.")
    updated_at: DateTimeFilterInput | None = strawberry.field(
        default=None, description="When its present version was ingested."
    )

    metadata: list[JsonPredicateInput] | None = strawberry.field(
        default=None, description="Conditions on what lies inside the metadata, at most 1,000; all must hold."
    )

    def to_filter(self) -> DocumentFilter:
        """Convert to the service's filter."""
        return DocumentFilter(
            id=converted(self.id),
            external_id=converted(self.external_id),
            title=converted(self.title),
            updated_at=converted(self.updated_at),
            metadata=_predicates(self.metadata),
        )


@strawberry.input(description="What to search for: text, or a vector that you made yourself.", one_of=True)
class KbQueryInput:
    """Exactly one of the two."""

    text: strawberry.Maybe[str] = strawberry.field(description="A question or some words, at most 16 KiB.")
    vector: strawberry.Maybe[list[float]] = strawberry.field(
        description="A vector of as many numbers as the index has dimensions (384 with the built-in model), not all of"
        " them 0; it is searched for by meaning alone."
    )
    similar_to_chunk_id: strawberry.Maybe[strawberry.ID] = strawberry.field(
        description="The `id` of a chunk of your tenant: passages that mean something like it, itself left out."
    )


@strawberry.input(description="Which documents to search. All conditions given must hold; null is as if left out.")
class KbSearchFilter:
    """The filter of searches."""

    document_ids: list[strawberry.ID] | None = strawberry.field(
        default=None,
        description="Only the documents with one of these `id`s, at most 1,000; an empty list matches nothing.",
    )
    external_ids: list[str] | None = strawberry.field(
        default=None,
        description="Only the documents under these keys of yours, at most 1,000; an empty list matches nothing.",
    )
    metadata: list[JsonPredicateInput] | None = strawberry.field(
        default=None,
        description="Conditions on what lies inside the documents' metadata, at most 1,000; all must hold.",
    )
    updated_at: DateTimeFilterInput | None = strawberry.field(
        default=None, description="Only documents whose present version was ingested then."
    )

    def to_filter(self) -> SearchFilter:
        """Convert to the service's filter."""
        return SearchFilter(
            document_ids=None if self.document_ids is None else uuids(self.document_ids),
            external_ids=None if self.external_ids is None else tuple(self.external_ids),
            metadata=_predicates(self.metadata),
            updated_at=converted(self.updated_at),
        )


@strawberry.input(description="A search of the knowledge base.")
class KbSearchInput:
    """Input of `kbSearch`."""

    query: KbQueryInput = strawberry.field(description="What to search for.")
    mode: SearchMode | None = strawberry.field(
        default=SearchMode.HYBRID, description="What to go by; a vector or a chunk is always searched for by VECTOR."
    )
    limit: int | None = strawberry.field(default=10, description="How many hits at most, 1 to 100.")
    min_similarity: float | None = strawberry.field(
        default=None,
        description=(
            "Only hits at least so similar, -1 to 1, whatever they were found by (0.3 is a usual floor for short"
            " questions)."
        ),
    )
    filter: KbSearchFilter | None = strawberry.field(default=None, description="Which documents to search.")
    include_neighbors: int | None = strawberry.field(
        default=0, description="How many chunks before and after each hit to return with it, 0 to 3."
    )
    max_per_document: int | None = strawberry.field(
        default=None,
        description="How many hits of one document at most, so that one long document is not all there is; 1 or more.",
    )
    exact: bool | None = strawberry.field(
        default=False, description="True: compare every candidate, however many there are."
    )


def _metadata(given: Json | None) -> Mapping[str, Any]:
    # Whether it is an object at all is checked with everything else about it.
    return {} if given is None else cast("Mapping[str, Any]", given)


def _predicates(given: list[JsonPredicateInput] | None) -> tuple[JsonPredicate, ...] | None:
    return None if given is None else tuple(predicate.to_filter() for predicate in given)


def query_of(sent: KbQueryInput) -> str | list[float] | UUID:
    """Return the text, the vector or the chunk to search for."""
    if sent.text:
        return sent.text.value
    if sent.vector:
        return sent.vector.value
    if sent.similar_to_chunk_id:
        return read_uuid(("query", "similar_to_chunk_id"), sent.similar_to_chunk_id.value)
    raise InvalidInput(("query",), "pass exactly one of text, vector and similarToChunkId")
