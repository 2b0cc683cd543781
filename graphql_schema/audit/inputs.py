"""What clients send to log events and to filter them."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Optional
from uuid import UUID

import strawberry

from app.audit.events import AuditEventValue, Escalation, LlmCall, ToolCall
from app.audit.filter import AuditEventFilter
from app.audit.order import EventOrder
from app.errors import InvalidInput, UserMistake
from app.filters import StringFilter
from graphql_schema.audit.enums import (
    ActionType,
    EscalationTarget,
    EventStatus,
    OrderDirection,
    OrderField,
)
from graphql_schema.filters import (
    BigIntFilterInput,
    DateTimeFilterInput,
    DecimalFilterInput,
    IdFilterInput,
    IntFilterInput,
    JsonPredicateInput,
    StringFilterInput,
    UuidFilterInput,
    converted,
)
from graphql_schema.scalars import Json


@strawberry.input
class LogEventFields:
    """What the three kinds of event have in common; no type of the API by itself."""

    agent_id: UUID | None = strawberry.field(
        default=None,
        description=(
            "The agent that acted, such as `0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f`. May be left out when the"
            " credential is bound to one agent, and must match it then."
        ),
    )
    user_id: str | None = strawberry.field(
        default=None, description="The person on whose behalf the agent acted, at most 512 bytes."
    )
    session_id: str | None = strawberry.field(
        default=None, description="The conversation or session the action belongs to, at most 512 bytes."
    )
    trace_id: str | None = strawberry.field(
        default=None, description="The run of the agent that the action belongs to, at most 512 bytes."
    )
    parent_event_id: UUID | None = strawberry.field(
        default=None, description="The `id` of the event that led to this one. It need not be recorded yet."
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description=(
            "Makes a retry harmless: unique in the tenant, for ever. The same key with the same body returns the first"
            " event (DUPLICATE), with another body it is an IDEMPOTENCY_CONFLICT. At most 512 bytes."
        ),
    )
    status: EventStatus | None = strawberry.field(
        default=EventStatus.SUCCEEDED, description="How the action ended, as far as it has."
    )
    error: str | None = strawberry.field(default=None, description="What went wrong, at most 16 KiB.")
    occurred_at: datetime | None = strawberry.field(
        default=None,
        description=(
            "When the action happened, by your clock, such as `2026-01-31T12:00:00Z`. The trail keeps its own time too,"
            " which can't be set."
        ),
    )
    latency_ms: int | None = strawberry.field(
        default=None, description="How long the action took, in milliseconds, 0 to 2147483647."
    )
    metadata: Json | None = strawberry.field(
        default=None, description="Free-form details: a JSON object of at most 64 KiB and 16 levels."
    )
    input_summary: str | None = strawberry.field(
        default=None, description="What went into the action, in short, at most 16 KiB."
    )
    output_summary: str | None = strawberry.field(
        default=None, description="What came out of the action, in short, at most 16 KiB."
    )

    def common(self, *, default_status: EventStatus) -> dict[str, Any]:
        """Return the common fields as the service's events take them."""
        return {
            "agent_id": self.agent_id,
            "user_id": self.user_id,
            "session_id": self.session_id,
            "trace_id": self.trace_id,
            "parent_event_id": self.parent_event_id,
            "idempotency_key": self.idempotency_key,
            "status": self.status or default_status,
            "error": self.error,
            "occurred_at": self.occurred_at,
            "latency_ms": self.latency_ms,
            "metadata": {} if self.metadata is None else self.metadata,
            "input_summary": self.input_summary,
            "output_summary": self.output_summary,
        }


@strawberry.input(description="A call of a language model.")
class LogLlmCallInput(LogEventFields):
    """Input of `logLlmCall`."""

    model: str = strawberry.field(description="The model's name, such as `gpt-4o`; at most 512 bytes.")
    input_tokens: int | None = strawberry.field(
        default=None, description="Tokens that the model read, such as 812; 0 to 2147483647."
    )
    output_tokens: int | None = strawberry.field(
        default=None, description="Tokens that the model wrote, such as 120; 0 to 2147483647."
    )
    cost_usd: Decimal | None = strawberry.field(
        default=None,
        description=(
            'What the call cost, in US dollars, such as `"0.0125"`: 0 to less than 1,000,000,000, with at most 12'
            " decimal places."
        ),
    )

    def to_event(self) -> LlmCall:
        """Build the event; raises `InvalidInput`."""
        return LlmCall(
            model=self.model,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost_usd=self.cost_usd,
            **self.common(default_status=EventStatus.SUCCEEDED),
        )


@strawberry.input(description="An invocation of a tool.")
class LogToolCallInput(LogEventFields):
    """Input of `logToolCall`."""

    tool_name: str = strawberry.field(description="The tool's name, such as `issue_refund`; at most 512 bytes.")

    def to_event(self) -> ToolCall:
        """Build the event; raises `InvalidInput`."""
        return ToolCall(tool_name=self.tool_name, **self.common(default_status=EventStatus.SUCCEEDED))


@strawberry.input(description="A hand-over to a person, another agent or a queue.")
class LogEscalationInput(LogEventFields):
    """Input of `logEscalation`."""

    status: EventStatus | None = strawberry.field(
        default=EventStatus.PENDING, description="How the hand-over ended, as far as it has."
    )
    target: EscalationTarget = strawberry.field(description="Who takes over.")
    target_id: str | None = strawberry.field(
        default=None, description="Which person, agent or queue, at most 512 bytes; kept as `metadata.targetId`."
    )
    reason: str = strawberry.field(description="Why the agent hands over, at most 16 KiB; kept as `metadata.reason`.")

    def to_event(self) -> Escalation:
        """Build the event; raises `InvalidInput`."""
        return Escalation(
            target=self.target,
            target_id=self.target_id,
            reason=self.reason,
            **self.common(default_status=EventStatus.PENDING),
        )


@strawberry.input(description="One event of a batch, of exactly one kind.", one_of=True)
class AuditEventInput:
    """Input of one item of `logEvents`."""

    llm_call: strawberry.Maybe[LogLlmCallInput] = strawberry.field(description="A call of a language model.")
    tool_call: strawberry.Maybe[LogToolCallInput] = strawberry.field(description="An invocation of a tool.")
    escalation: strawberry.Maybe[LogEscalationInput] = strawberry.field(
        description="A hand-over to a person, another agent or a queue."
    )

    def to_event(self) -> AuditEventValue | UserMistake:
        """Build the event, or return the mistake in its place, so that it is rejected alone."""
        sent = self.llm_call or self.tool_call or self.escalation
        if sent is None:
            return InvalidInput((), "pass exactly one of llmCall, toolCall and escalation")
        try:
            return sent.value.to_event()
        except UserMistake as mistake:
            return mistake


@strawberry.input(description="Up to 1,000 events at once.")
class LogEventsInput:
    """Input of `logEvents`."""

    events: list[AuditEventInput] = strawberry.field(description="The events, 1 to 1,000.")
    atomic: bool | None = strawberry.field(
        default=False,
        description="True: all or none are recorded. False: each event has its own outcome and good ones are recorded.",
    )


@strawberry.input(name="AuditActionTypeFilter", description="Conditions on the kind of action.")
class AuditActionTypeFilterInput:
    """Operators on the action type."""

    eq: ActionType | None = strawberry.field(default=None, description="Exactly this kind.")
    in_: list[ActionType] | None = strawberry.field(
        name="in", default=None, description="One of these kinds; an empty list matches nothing."
    )


@strawberry.input(name="AuditEventStatusFilter", description="Conditions on how an action ended.")
class AuditEventStatusFilterInput:
    """Operators on the status."""

    eq: EventStatus | None = strawberry.field(default=None, description="Exactly this status.")
    in_: list[EventStatus] | None = strawberry.field(
        name="in", default=None, description="One of these statuses; an empty list matches nothing."
    )


@strawberry.input(
    name="AuditEventFilter",
    description=(
        "Which events are wanted. All conditions given must hold; `{}` matches every event; null is as if left out."
    ),
)
class AuditEventFilterInput:
    """The one filter of all audit queries."""

    id: IdFilterInput | None = strawberry.field(default=None, description="The event's own id.")
    agent_id: UuidFilterInput | None = strawberry.field(default=None, description="The agent that acted.")
    user_id: StringFilterInput | None = strawberry.field(default=None, description="The person it acted for.")
    action_type: AuditActionTypeFilterInput | None = strawberry.field(default=None, description="The kind of action.")
    action_name: StringFilterInput | None = strawberry.field(
        default=None, description="The model, the tool, or the escalation's target."
    )
    status: AuditEventStatusFilterInput | None = strawberry.field(default=None, description="How the action ended.")
    session_id: StringFilterInput | None = strawberry.field(default=None, description="The conversation or session.")
    trace_id: StringFilterInput | None = strawberry.field(default=None, description="The run of the agent.")
    created_at: DateTimeFilterInput | None = strawberry.field(
        default=None, description="When the trail recorded the event."
    )
    latency_ms: IntFilterInput | None = strawberry.field(
        default=None, description="How long the action took, in milliseconds."
    )
    cost_usd: DecimalFilterInput | None = strawberry.field(
        default=None, description="What the action cost, in US dollars."
    )
    sequence: BigIntFilterInput | None = strawberry.field(
        default=None, description="The place in the sealed log; events that are not sealed yet have none."
    )
    metadata: list[JsonPredicateInput] | None = strawberry.field(
        default=None, description="Conditions on what lies inside the metadata, at most 1,000; all must hold."
    )
    search: str | None = strawberry.field(
        default=None,
        description=(
            "Words in either summary, the error or the action's name, as web searches have them: `refund late`,"
            ' `"exact phrase"`, `refund or return`, `refund -late`. Small and capital letters are the same; words'
            " are compared as they are, in no language. Any text of at most 16 KiB is a valid search; one without a"
            " word finds nothing."
        ),
    )
    and_: list["AuditEventFilterInput"] | None = strawberry.field(
        name="and", default=None, description="All of these, at most 1,000, must hold; at most 3 levels deep."
    )
    or_: list["AuditEventFilterInput"] | None = strawberry.field(
        name="or",
        default=None,
        description=(
            "At least one of these, at most 1,000, must hold; an empty list matches nothing. At most 3 levels deep."
        ),
    )
    not_: Optional["AuditEventFilterInput"] = strawberry.field(
        name="not",
        default=None,
        description="This must not hold: exactly the events that it does not match. At most 3 levels deep.",
    )

    def to_filter(self) -> AuditEventFilter:
        """Convert to the service's filter."""
        return AuditEventFilter(
            id=converted(self.id),
            agent_id=converted(self.agent_id),
            user_id=converted(self.user_id),
            action_type=_enum_filter(self.action_type),
            action_name=converted(self.action_name),
            status=_enum_filter(self.status),
            session_id=converted(self.session_id),
            trace_id=converted(self.trace_id),
            created_at=converted(self.created_at),
            latency_ms=converted(self.latency_ms),
            cost_usd=converted(self.cost_usd),
            sequence=converted(self.sequence),
            metadata=None if self.metadata is None else [predicate.to_filter() for predicate in self.metadata],
            search=self.search,
            and_=None if self.and_ is None else [branch.to_filter() for branch in self.and_],
            or_=None if self.or_ is None else [branch.to_filter() for branch in self.or_],
            not_=converted(self.not_),
        )


def _enum_filter(
    given: AuditActionTypeFilterInput | AuditEventStatusFilterInput | None,
) -> StringFilter | None:
    if given is None:
        return None
    return StringFilter(
        eq=None if given.eq is None else given.eq.value,
        in_=None if given.in_ is None else tuple(item.value for item in given.in_),
    )


@strawberry.input(description="The order of a list of events.")
class AuditEventOrder:
    """Input of `orderBy`."""

    field: OrderField = strawberry.field(description="What to order by, such as `LATENCY_MS`.")
    direction: OrderDirection = strawberry.field(
        description="Which way: `ASC` from the least, `DESC` from the greatest."
    )

    def to_order(self) -> EventOrder:
        """Convert to the service's order."""
        return EventOrder(self.field, descending=self.direction is OrderDirection.DESC)
