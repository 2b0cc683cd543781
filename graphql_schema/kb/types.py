"""Documents, their chunks and search results, as clients read them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

import strawberry

from app.auth.principal import Scope
from app.errors import NotFound
from app.kb.documents import DocumentFilter, count_documents, list_chunks
from app.kb.search import Passage, SearchHit, SearchResult
from app.pagination import Page, PageRequest
from graphql_schema.arguments import After, First
from graphql_schema.context import Info
from graphql_schema.kb.enums import SearchStrategy, ShortfallReason
from graphql_schema.pagination import BoundedCount, Node, PageInfo, page_info
from graphql_schema.scalars import Json

if TYPE_CHECKING:
    from app import models


@strawberry.type(description="A passage of a document: what searches find.")
class KbChunk(Node):
    """One chunk."""

    chunk_index: int = strawberry.field(description="Its place in the document, from 0.")
    content: str = strawberry.field(description="Its text.")
    metadata: Json = strawberry.field(description="The chunk's own details, always an object.")
    document_id: strawberry.Private[UUID]

    @strawberry.field(description="The document that it is a passage of. Needs the scope KB_READ.")
    async def document(self, info: Info) -> Annotated["KbDocument", strawberry.lazy("graphql_schema.kb.types")]:
        """Load the documents of all chunks of the answer at once."""
        info.context.require(Scope.KB_READ)
        document = await info.context.documents.load(self.document_id)
        if document is None:
            raise NotFound("the document was deleted meanwhile")
        return KbDocument.from_model(document)

    @classmethod
    def from_model(cls, chunk: "models.KBChunk") -> Self:
        """Show a stored chunk."""
        return cls(
            id=strawberry.ID(str(chunk.id)),
            chunk_index=chunk.chunk_index,
            content=chunk.content,
            metadata=Json(chunk.chunk_metadata),
            document_id=chunk.document_id,
        )

    @classmethod
    def from_passage(cls, passage: Passage) -> Self:
        """Show a passage that a search found."""
        return cls(
            id=strawberry.ID(str(passage.id)),
            chunk_index=passage.chunk_index,
            content=passage.content,
            metadata=Json(passage.metadata),
            document_id=passage.document_id,
        )


@strawberry.type(description="One chunk of a page, with its cursor.")
class KbChunkEdge:
    """The Relay edge."""

    cursor: str = strawberry.field(description="The chunk's place in the document, for `after`.")
    node: KbChunk = strawberry.field(description="The chunk.")


@strawberry.type(description="One page of a document's chunks.")
class KbChunkConnection:
    """The Relay connection."""

    nodes: list[KbChunk] = strawberry.field(description="The page's chunks.")
    edges: list[KbChunkEdge] = strawberry.field(description="The page's chunks, each with its cursor.")
    page_info: PageInfo = strawberry.field(description="Where the page lies in the document.")

    @classmethod
    def from_page(cls, page: "Page[models.KBChunk]") -> Self:
        """Show a page."""
        nodes = [KbChunk.from_model(chunk) for chunk in page.items]
        cursors = map(page.cursor_of, page.items)
        edges = [KbChunkEdge(cursor=cursor, node=node) for cursor, node in zip(cursors, nodes, strict=True)]
        return cls(nodes=nodes, edges=edges, page_info=page_info(page))


@strawberry.type(description="A document of the knowledge base.")
class KbDocument(Node):
    """One document."""

    external_id: str = strawberry.field(description="Your own key for it: ingesting the same key again updates it.")
    title: str = strawberry.field(description="Its title.")
    source_uri: str | None = strawberry.field(description="Where it came from.")
    mime_type: str = strawberry.field(description="What kind of text it is, such as `text/markdown`.")
    metadata: Json = strawberry.field(description="Free-form details, always an object.")
    version: int = strawberry.field(description="1 when it was created, one more with each update.")
    content_hash: str = strawberry.field(
        description="SHA-256, in hexadecimal, of all that was sent; the same content is not embedded again."
    )
    chunk_count: int = strawberry.field(description="How many chunks it was cut into.")
    created_at: datetime = strawberry.field(description="When it was first ingested.")
    updated_at: datetime = strawberry.field(description="When its present version was ingested.")

    @strawberry.field(description="Its chunks in reading order. Needs the scope KB_READ.")
    async def chunks(self, info: Info, first: First = None, after: After = None) -> KbChunkConnection:
        """Return one page of chunks, in a session of its own."""
        context = info.context
        context.require(Scope.KB_READ)
        async with context.reading_session() as session:
            page = await list_chunks(session, UUID(self.id), PageRequest(first=first, after=after), context.limits)
        return KbChunkConnection.from_page(page)

    @classmethod
    def from_model(cls, document: "models.KnowledgeBaseDocument") -> Self:
        """Show a stored document."""
        return cls(
            id=strawberry.ID(str(document.id)),
            external_id=document.external_id,
            title=document.title,
            source_uri=document.source_uri,
            mime_type=document.mime_type,
            metadata=Json(document.document_metadata),
            version=document.version,
            content_hash=document.content_hash,
            chunk_count=document.chunk_count,
            created_at=document.created_at,
            updated_at=document.updated_at,
        )


@strawberry.type(description="One document of a page, with its cursor.")
class KbDocumentEdge:
    """The Relay edge."""

    cursor: str = strawberry.field(description="The document's place in the list, for `after` and `before`.")
    node: KbDocument = strawberry.field(description="The document.")


@strawberry.type(description="One page of documents.")
class KbDocumentConnection:
    """The Relay connection."""

    nodes: list[KbDocument] = strawberry.field(description="The page's documents.")
    edges: list[KbDocumentEdge] = strawberry.field(description="The page's documents, each with its cursor.")
    page_info: PageInfo = strawberry.field(description="Where the page lies in the list.")
    where: strawberry.Private[DocumentFilter]

    @strawberry.field(
        description="How many documents match, counted up to 10,000. It is counted only when it is asked for."
    )
    async def total_count(self, info: Info) -> BoundedCount:
        """Count in a session of its own, beside the page."""
        context = info.context
        async with context.reading_session() as session:
            value, is_exact = await count_documents(session, self.where, context.limits)
        return BoundedCount(value=value, is_exact=is_exact)

    @classmethod
    def from_page(cls, page: "Page[models.KnowledgeBaseDocument]", where: DocumentFilter) -> Self:
        """Show a page."""
        nodes = [KbDocument.from_model(document) for document in page.items]
        cursors = map(page.cursor_of, page.items)
        edges = [KbDocumentEdge(cursor=cursor, node=node) for cursor, node in zip(cursors, nodes, strict=True)]
        return cls(nodes=nodes, edges=edges, page_info=page_info(page), where=where)


@strawberry.type(description="A passage that a search found.")
class KbSearchHit:
    """One hit."""

    rank: int = strawberry.field(description="1 for the best hit.")
    score: float = strawberry.field(
        description=(
            "What the hits are ranked by: the cosine similarity (VECTOR), the relevance of the words (KEYWORD) or the"
            " sum of what both ranks are worth (HYBRID). Comparable within one answer only."
        )
    )
    similarity: float | None = strawberry.field(
        description=(
            "Cosine similarity to the query, -1 to 1; 1 means the same direction. Null when there is no vector to"
            " compare with, as in a KEYWORD search."
        )
    )
    vector_rank: int | None = strawberry.field(description="Its rank by meaning; null when it was not among the first.")
    keyword_rank: int | None = strawberry.field(
        description=(
            "Its rank by words; null when it was not among the first or, in a hybrid search, holds less than half of"
            " what the words are worth, a rare word being worth more."
        )
    )
    chunk: KbChunk = strawberry.field(description="The passage.")
    neighbors: list[KbChunk] = strawberry.field(
        description="The chunks before and after it, in reading order, as many as `includeNeighbors` says."
    )
    highlight: str | None = strawberry.field(
        description="The parts of it around the words of the query, which are in **bold** as Markdown has it."
    )

    @classmethod
    def from_hit(cls, rank: int, hit: SearchHit) -> Self:
        """Show a hit."""
        return cls(
            rank=rank,
            score=hit.score,
            similarity=hit.similarity,
            vector_rank=hit.vector_rank,
            keyword_rank=hit.keyword_rank,
            chunk=KbChunk.from_passage(hit.passage),
            neighbors=[KbChunk.from_passage(passage) for passage in hit.neighbors],
            highlight=hit.highlight,
        )


@strawberry.type(description="How a search ran, so that an answer can be trusted or doubted for good reasons.")
class KbSearchDiagnostics:
    """The lane and its completeness."""

    strategy: SearchStrategy = strawberry.field(description="How it searched.")
    is_complete: bool = strawberry.field(
        description="Whether `limit` hits were returned, or all that there are under the filter."
    )
    shortfall_reason: ShortfallReason | None = strawberry.field(
        description="Why there are fewer hits than `limit`; null when there are not."
    )
    candidate_count: int | None = strawberry.field(description="How many chunks the filter left to search.")
    embedding_model: str | None = strawberry.field(
        description="The model that turned the query text into a vector; null when you brought the vector."
    )
    took_ms: float = strawberry.field(description="How long the database part took, in milliseconds.")


@strawberry.type(description="The passages nearest to the query, and how they were found.")
class KbSearchResult:
    """Answer of `kbSearch`."""

    hits: list[KbSearchHit] = strawberry.field(description="The hits, the best first.")
    diagnostics: KbSearchDiagnostics = strawberry.field(description="How the search ran.")

    @classmethod
    def from_result(cls, result: SearchResult, embedding_model: str | None) -> Self:
        """Show a result."""
        return cls(
            hits=[KbSearchHit.from_hit(rank, hit) for rank, hit in enumerate(result.hits, start=1)],
            diagnostics=KbSearchDiagnostics(
                strategy=result.strategy,
                # A lane that comes up short is followed by the exact one, so that no other reason leaves hits out.
                is_complete=result.shortfall_reason is not ShortfallReason.SCAN_LIMIT_REACHED,
                shortfall_reason=result.shortfall_reason,
                candidate_count=result.candidate_count,
                embedding_model=embedding_model,
                took_ms=round(result.took_ms, 3),
            ),
        )
