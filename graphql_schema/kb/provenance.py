"""What an agent knew: each search by a key that is bound to an agent becomes an event of the trail.

The event is committed before the search is answered, so that no agent acts on passages that nobody can name afterwards.
"""

from typing import Any

from app.audit import AuditLogger
from app.audit.append import LogOutcome
from app.audit.events import ToolCall
from app.kb.documents import find_documents
from app.kb.search import SearchRequest, SearchResult
from graphql_schema.context import Context

ACTION_NAME = "kb_search"


async def record_search(context: Context, request: SearchRequest, result: SearchResult) -> None:
    """Record a search, when its caller is an agent and retrievals are to be recorded. Raises `Unavailable`."""
    services, caller = context.services, context.caller
    if not services.audit_retrievals or caller.agent_id is None:
        return
    hits = result.hits
    async with context.tenant_session() as session:
        documents = await find_documents(session, {hit.passage.document_id for hit in hits}) if hits else {}
    found: list[dict[str, Any]] = []
    for hit in hits:
        document = documents.get(hit.passage.document_id)
        found.append(
            {
                "chunk_id": str(hit.passage.id),
                "chunk_index": hit.passage.chunk_index,
                "document_id": str(hit.passage.document_id),
                "external_id": document and document.external_id,
                "document_version": document and document.version,
                "content_hash": document and document.content_hash,
                "score": hit.score,
                "similarity": hit.similarity,
            }
        )
    metadata = {
        "mode": request.mode.name,
        "strategy": result.strategy.value,
        "candidate_count": result.candidate_count,
        "limit": request.limit,
        "hits": found,
    }
    logger = AuditLogger(services.database, caller, context.limits, services.writer, echo_metadata=False)
    logged = await logger.log_tool_call(
        ToolCall(
            tool_name=ACTION_NAME,
            trace_id=context.trace_id,
            session_id=context.session_id,
            input_summary=_asked(request),
            output_summary=f"{len(hits)} passages" if len(hits) != 1 else "1 passage",
            latency_ms=round(result.took_ms),
            metadata=metadata,
        )
    )
    if logged.outcome is LogOutcome.REJECTED and logged.mistake is not None:
        raise logged.mistake


def _asked(request: SearchRequest) -> str:
    if request.words is not None:
        return request.words
    if request.similar_to is not None:
        return f"like chunk {request.similar_to}"
    return f"a vector of {len(request.vector)} numbers"
