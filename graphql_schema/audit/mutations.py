"""Logging events: the only way to write to the trail, and it only adds."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import strawberry

from app.audit.events import AuditEventValue
from app.audit.recording import LogResult
from app.errors import UserMistake
from graphql_schema.audit.enums import LogOutcome
from graphql_schema.audit.inputs import LogEscalationInput, LogEventsInput, LogLlmCallInput, LogToolCallInput
from graphql_schema.audit.payloads import LogEventPayload, LogEventsPayload
from graphql_schema.context import Context, Info
from graphql_schema.lookahead import names_below
from graphql_schema.plans import selection
from graphql_schema.user_errors import user_errors

E = TypeVar("E", bound=AuditEventValue)

_DURABLE = "The answer comes after the commit: what is RECORDED is durable. Needs the scope AUDIT_WRITE."


@strawberry.type
class AuditMutations:
    """Root mutation fields of the audit trail."""

    @strawberry.mutation(description=f"Record a call of a language model. {_DURABLE}")
    async def log_llm_call(
        self,
        info: Info,
        input: Annotated[LogLlmCallInput, strawberry.argument(description="The call.")],
    ) -> LogEventPayload:
        """Log one model call."""
        logger = info.context.audit_logger(echo_metadata="metadata" in names_below(selection(info), "event"))
        return await _record(info.context, input.to_event, logger.log_llm_call)

    @strawberry.mutation(description=f"Record an invocation of a tool. {_DURABLE}")
    async def log_tool_call(
        self,
        info: Info,
        input: Annotated[LogToolCallInput, strawberry.argument(description="The invocation.")],
    ) -> LogEventPayload:
        """Log one tool call."""
        logger = info.context.audit_logger(echo_metadata="metadata" in names_below(selection(info), "event"))
        return await _record(info.context, input.to_event, logger.log_tool_call)

    @strawberry.mutation(description=f"Record a hand-over to a person, another agent or a queue. {_DURABLE}")
    async def log_escalation(
        self,
        info: Info,
        input: Annotated[LogEscalationInput, strawberry.argument(description="The hand-over.")],
    ) -> LogEventPayload:
        """Log one escalation."""
        logger = info.context.audit_logger(echo_metadata="metadata" in names_below(selection(info), "event"))
        return await _record(info.context, input.to_event, logger.log_escalation)

    @strawberry.mutation(description=f"Record up to 1,000 events in one transaction, an outcome each. {_DURABLE}")
    async def log_events(
        self,
        info: Info,
        input: Annotated[LogEventsInput, strawberry.argument(description="The events.")],
    ) -> LogEventsPayload:
        """Log a batch."""
        selected = selection(info)
        logger = info.context.audit_logger(echo_metadata="metadata" in names_below(selected, "results", "event"))
        try:
            results = await logger.log_events([event.to_event() for event in input.events], atomic=bool(input.atomic))
        except UserMistake as mistake:
            payload = LogEventsPayload.from_results(info.context, [], with_items=False)
            payload.user_errors = user_errors(mistake)
            return payload
        _count(info.context, results)
        return LogEventsPayload.from_results(info.context, results, with_items="results" in selected)


async def _record(
    context: Context, build: Callable[[], E], log: Callable[[E], Awaitable[LogResult]]
) -> LogEventPayload:
    try:
        result = await log(build())
    except UserMistake as mistake:
        result = LogResult(LogOutcome.REJECTED, mistake=mistake)
    context.services.metrics.count_event(result.outcome)
    return LogEventPayload.from_result(context, result)


def _count(context: Context, results: list[LogResult]) -> None:
    for outcome, number in Counter(result.outcome for result in results).items():
        context.services.metrics.events.labels(outcome.value).inc(number)
