"""What an agent did, as values that are valid by construction.

A value checks itself once, when it is made, and raises `InvalidInput` with the field's path. Sizes are limits of the
installation and are checked when the event is recorded (see `app.audit.logger`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from app.errors import InvalidInput
from app.validation import JsonText, check_cost, check_instant, check_int, check_object, check_text, is_plain_text


class ActionType(StrEnum):
    """The kinds of action that an event records."""

    LLM_CALL = "llm_call"
    TOOL_INVOCATION = "tool_invocation"
    ESCALATION = "escalation"


class EventStatus(StrEnum):
    """How the action ended, as far as it has."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DENIED = "denied"
    PENDING = "pending"


class EscalationTarget(StrEnum):
    """Who an agent hands over to."""

    HUMAN = "human"
    AGENT = "agent"
    QUEUE = "queue"


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEventValue:
    """What the three kinds of event have in common.

    `latency_ms` is in milliseconds, `occurred_at` is the client's own claim of the time (with an offset); the trail
    is ordered by the server's. An `idempotency_key` makes a retry harmless: unique per tenant, for ever.
    """

    action_type: ClassVar[ActionType]
    text_fields: ClassVar[tuple[str, ...]] = ("error", "input_summary", "output_summary")
    name_fields: ClassVar[tuple[str, ...]] = ("user_id", "session_id", "trace_id", "idempotency_key")

    agent_id: UUID | None = None
    user_id: str | None = None
    session_id: str | None = None
    trace_id: str | None = None
    parent_event_id: UUID | None = None
    idempotency_key: str | None = None
    status: EventStatus = EventStatus.SUCCEEDED
    error: str | None = None
    occurred_at: datetime | None = None
    latency_ms: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    input_summary: str | None = None
    output_summary: str | None = None

    def __post_init__(self) -> None:
        """Check every field; raise `InvalidInput` for the first that is wrong."""
        check_object(("metadata",), self.metadata)
        for name in self.text_fields:
            text = getattr(self, name)
            if text is not None and not is_plain_text(text):
                check_text((name,), text)
        for name in self.name_fields:
            text = getattr(self, name)
            if text is not None:
                check_text((name,), text, allow_empty=False)
        if self.latency_ms is not None:
            check_int(("latency_ms",), self.latency_ms)
        if self.occurred_at is not None:
            check_instant(("occurred_at",), self.occurred_at)

    @property
    def action_name(self) -> str:
        """The model, the tool, or the target of the escalation."""
        raise NotImplementedError

    @property
    def recorded_metadata(self) -> Mapping[str, Any]:
        """The metadata as it is stored."""
        return self.metadata


@dataclass(frozen=True, kw_only=True, slots=True)
class LlmCall(AuditEventValue):
    """One call of a language model. `cost_usd` is in US dollars."""

    action_type = ActionType.LLM_CALL
    name_fields = (*AuditEventValue.name_fields, "model")

    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None

    def __post_init__(self) -> None:
        """Check the fields that only a model call has, too."""
        AuditEventValue.__post_init__(self)
        for name in ("input_tokens", "output_tokens"):
            count = getattr(self, name)
            if count is not None:
                check_int((name,), count)
        if self.cost_usd is not None:
            check_cost(("cost_usd",), self.cost_usd)

    @property
    def action_name(self) -> str:
        """The model."""
        return self.model


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall(AuditEventValue):
    """One invocation of a tool."""

    action_type = ActionType.TOOL_INVOCATION
    name_fields = (*AuditEventValue.name_fields, "tool_name")

    tool_name: str

    @property
    def action_name(self) -> str:
        """The tool."""
        return self.tool_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Escalation(AuditEventValue):
    """A hand-over to a person, another agent or a queue.

    `reason` and `target_id` are stored in the event's metadata as "reason" and "targetId", where filters find them.
    """

    action_type = ActionType.ESCALATION
    text_fields = (*AuditEventValue.text_fields, "reason")
    name_fields = (*AuditEventValue.name_fields, "target_id")

    target: EscalationTarget
    reason: str
    target_id: str | None = None
    status: EventStatus = EventStatus.PENDING

    def __post_init__(self) -> None:
        """Check the fields that only an escalation has, too."""
        AuditEventValue.__post_init__(self)
        check_text(("reason",), self.reason, allow_empty=False)
        for key in ("reason", "targetId"):
            if key in self.metadata:
                raise InvalidInput(("metadata", key), "is reserved in an escalation; use the field of that name")

    @property
    def action_name(self) -> str:
        """The kind of target."""
        return self.target.value

    @property
    def recorded_metadata(self) -> Mapping[str, Any]:
        """The metadata with the reason and the target."""
        target = {} if self.target_id is None else {"targetId": self.target_id}
        return {**self.metadata, "reason": self.reason, **target}


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedEvent:
    """An event as it stands in the trail, under the attribute names of the ORM's `AuditEvent`.

    `created_at` is the database's own time; `event_metadata` is the stored JSON text.
    """

    id: UUID
    created_at: datetime
    agent_id: UUID | None
    user_id: str | None
    action_type: str
    action_name: str | None
    status: str
    error: str | None
    input_summary: str | None
    output_summary: str | None
    latency_ms: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    event_metadata: JsonText
    occurred_at: datetime | None
    session_id: str | None
    trace_id: str | None
    parent_event_id: UUID | None
    submitted_by: str
    # The event's place in the tenant's sealed log, from 0 on; `None` until it is sealed.
    sequence: int | None = None
