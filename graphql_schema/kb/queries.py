"""Reading and searching the knowledge base."""

from dataclasses import replace
from typing import Annotated
from uuid import UUID

import strawberry

from app.auth.principal import Scope
from app.embeddings.vector import check_vector, has_direction
from app.errors import EmbeddingFailed, InvalidInput, Unavailable
from app.kb.candidates import SearchFilter
from app.kb.documents import DocumentFilter, find_document, find_document_by_external_id, list_documents
from app.kb.profiles import Embedder
from app.kb.search import SearchMode, SearchRequest, SearchResult, search_chunks
from app.pagination import PageRequest
from app.validation import check_size, check_text
from graphql_schema.arguments import After, Before, First, Last
from graphql_schema.context import Context, Info
from graphql_schema.kb.inputs import KbDocumentFilterInput, KbSearchInput, query_of
from graphql_schema.kb.provenance import is_recorded, record_search
from graphql_schema.kb.types import KbDocument, KbDocumentConnection, KbSearchResult
from graphql_schema.lookahead import Selection, names_below
from graphql_schema.pagination import find_uuid
from graphql_schema.plans import selection

_DEFAULT_LIMIT = 10


@strawberry.type
class KbQueries:
    """Root query fields of the knowledge base."""

    @strawberry.field(
        description=(
            "One document of your tenant, by its id or by your own key; null when there is none. Needs the scope"
            " KB_READ."
        )
    )
    async def kb_document(
        self,
        info: Info,
        id: Annotated[
            strawberry.ID | None, strawberry.argument(description="The document's `id`. Not together with externalId.")
        ] = None,
        external_id: Annotated[
            str | None, strawberry.argument(description="Your key for it, such as `returns.md`.")
        ] = None,
    ) -> KbDocument | None:
        """Return the document."""
        context = info.context
        context.require(Scope.KB_READ)
        if (id is None) == (external_id is None):
            raise InvalidInput(("id",), "pass either id or externalId")
        async with context.reading_session() as session:
            if external_id is not None:
                document = await find_document_by_external_id(session, external_id)
            else:
                document = await find_document(session, find_uuid(id or ""))
        return None if document is None else KbDocument.from_model(document)

    @strawberry.field(
        description="A page of your tenant's documents, the one created last first. Needs the scope KB_READ."
    )
    async def kb_documents(
        self,
        info: Info,
        filter: Annotated[
            KbDocumentFilterInput | None,
            strawberry.argument(description="Which documents are wanted; all when left out."),
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> KbDocumentConnection:
        """Return one page."""
        context = info.context
        context.require(Scope.KB_READ)
        page = PageRequest(first=first, after=after, last=last, before=before)
        where = filter.to_filter() if filter else DocumentFilter()
        async with context.reading_session() as session:
            documents = await list_documents(session, where, page, context.limits)
        return KbDocumentConnection.from_page(documents, where)

    @strawberry.field(
        description=(
            "The passages of your tenant's documents that answer a question best. A search by a key that is bound to an"
            " agent is itself recorded in the trail, where the installation says so, as the tool `kb_search`: with the"
            " passages and versions it returned, under the trace of the request's `traceparent` or `X-Trace-Id` header."
            " Needs the scope KB_READ."
        )
    )
    async def kb_search(
        self,
        info: Info,
        input: Annotated[KbSearchInput, strawberry.argument(description="The search.")],
    ) -> KbSearchResult:
        """Embed the question first, then search in a short session."""
        context = info.context
        context.require(Scope.KB_READ)
        selected = selection(info)

        async def search(embedder: Embedder) -> tuple[SearchRequest, str | None, SearchResult]:
            request, model = await _search_request(context, input, selected, embedder)
            async with context.reading_session() as session:
                return request, model, await search_chunks(session, request, context.limits)

        request, model, result = await context.services.embeddings.embed_for(search)
        await record_search(context, request, result)
        return KbSearchResult.from_result(result, model)


async def _search_request(
    context: Context, sent: KbSearchInput, selected: Selection, embedder: Embedder
) -> tuple[SearchRequest, str | None]:
    """Check the search and embed its text; return it with the model that was used."""
    query = query_of(sent.query)
    if isinstance(query, str):
        check_text(("query", "text"), query, allow_empty=False)
        check_size(("query", "text"), query, context.limits.summary_bytes)
    request = SearchRequest(
        limit=_DEFAULT_LIMIT if sent.limit is None else sent.limit,
        min_similarity=sent.min_similarity,
        where=sent.filter.to_filter() if sent.filter else SearchFilter(),
        exact=bool(sent.exact),
        max_per_document=sent.max_per_document,
        neighbors=sent.include_neighbors or 0,
        with_highlights="highlight" in names_below(selected, "hits"),
        with_versions=is_recorded(context),
    ).checked(context.limits)
    mode = sent.mode or SearchMode.HYBRID
    if isinstance(query, str):
        return await _for_text(embedder, replace(request, words=query, mode=mode))
    if mode is SearchMode.KEYWORD:
        raise InvalidInput(("mode",), "KEYWORD needs words; pass query.text")
    if isinstance(query, UUID):
        return replace(request, similar_to=query), None
    vector = check_vector(("query", "vector"), query, embedder.profile.dimensions)
    if not has_direction(vector):
        raise InvalidInput(("query", "vector"), "must not be all zeros: it has no direction to compare")
    return replace(request, vector=vector, profile_id=embedder.profile.id), None


async def _for_text(embedder: Embedder, request: SearchRequest) -> tuple[SearchRequest, str | None]:
    """Embed the words of a search; without a provider those who did not ask for VECTOR search by words alone."""
    if request.mode is SearchMode.KEYWORD:
        return request, None
    provider = embedder.provider
    if provider.model is None and request.mode is SearchMode.HYBRID and request.min_similarity is None:
        return replace(request, mode=SearchMode.KEYWORD), None
    try:
        (vector,) = await provider.embed([request.words or ""])
    except EmbeddingFailed as error:
        if provider.model is None:
            raise
        raise Unavailable(error.reason) from error
    return replace(request, vector=vector, profile_id=embedder.profile.id), provider.model
