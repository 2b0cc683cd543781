"""The closed sets of the audit trail, exposed in the API under their names by importing them from here."""

from enum import StrEnum

from app.audit.append import LogOutcome
from app.audit.events import ActionType, EscalationTarget, EventStatus
from graphql_schema.enums import graphql_enum

__all__ = [
    "ActionType",
    "AuditEventOrderField",
    "EscalationTarget",
    "EventStatus",
    "LogOutcome",
    "OrderDirection",
]


class AuditEventOrderField(StrEnum):
    """What a list of events can be ordered by."""

    CREATED_AT = "created_at"


class OrderDirection(StrEnum):
    """Which way an order runs."""

    ASC = "asc"
    DESC = "desc"


graphql_enum(
    ActionType,
    name="AuditActionType",
    description="What kind of action an event records.",
    values={
        "LLM_CALL": "A call of a language model.",
        "TOOL_INVOCATION": "An invocation of a tool.",
        "ESCALATION": "A hand-over to a person, another agent or a queue.",
    },
)
graphql_enum(
    EventStatus,
    name="AuditEventStatus",
    description="How an action ended, as far as it has.",
    values={
        "SUCCEEDED": "It did what it should.",
        "FAILED": "It was tried and went wrong; `error` says how.",
        "DENIED": "It was not allowed, by a policy or a person.",
        "PENDING": "It waits for somebody, as an escalation does.",
    },
)
graphql_enum(
    EscalationTarget,
    name="EscalationTarget",
    description="Who an agent hands over to.",
    values={"HUMAN": "A person.", "AGENT": "Another agent.", "QUEUE": "A queue that somebody works through."},
)
graphql_enum(
    LogOutcome,
    name="LogOutcome",
    description="What became of an event that was sent in.",
    values={
        "RECORDED": "It is stored, durably, and will never change.",
        "DUPLICATE": "Its idempotency key was recorded before with the same body: the first event is returned.",
        "REJECTED": "It is not stored; `userErrors` says why.",
    },
)
graphql_enum(
    AuditEventOrderField,
    name="AuditEventOrderField",
    description="What a list of events can be ordered by.",
    values={"CREATED_AT": "When the trail recorded the event; equal times are ordered by id."},
)
graphql_enum(
    OrderDirection,
    name="OrderDirection",
    description="Which way an order runs.",
    values={"ASC": "The least, or oldest, first.", "DESC": "The greatest, or newest, first."},
)
