"""What an agent knew: each search by a key that is bound to an agent becomes an event of the trail.

The event is committed before the search is answered, so that no agent acts on passages that nobody can name afterwards.
"""

from app.audit import AuditLogger
from app.audit.events import ToolCall
from app.audit.recording import LogOutcome
from app.kb.search import SearchRequest, SearchResult
from graphql_schema.context import Context

ACTION_NAME = "kb_search"


def is_recorded(context: Context) -> bool:
    """Whether a search is recorded: its caller is an agent, and retrievals are to be recorded."""
    return context.services.audit_retrievals and context.caller.agent_id is not None


async def record_search(context: Context, request: SearchRequest, result: SearchResult) -> None:
    """Record a search, if it is to be. Raises `Unavailable`."""
    if not is_recorded(context):
        return
    services, hits = context.services, result.hits
    found = [
        {
            "chunk_id": str(hit.passage.id),
            "chunk_index": hit.passage.chunk_index,
            "document_id": str(hit.passage.document_id),
            "external_id": hit.version and hit.version.external_id,
            "document_version": hit.version and hit.version.version,
            "content_hash": hit.version and hit.version.content_hash,
            "score": hit.score,
            "similarity": hit.similarity,
        }
        for hit in hits
    ]
    metadata = {
        "mode": request.mode.name,
        "strategy": result.strategy.value,
        "candidate_count": result.candidate_count,
        "limit": request.limit,
        "hits": found,
    }
    logger = AuditLogger(services.database, context.caller, context.limits, services.writer, echo_metadata=False)
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
