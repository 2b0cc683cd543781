"""The closed sets of the audit trail, exposed in the API under their names by importing them from here."""

from enum import StrEnum

from app.audit.dimensions import Dimension
from app.audit.events import ActionType, EscalationTarget, EventStatus
from app.audit.order import OrderField
from app.audit.recording import LogOutcome
from app.audit.time_buckets import TimeInterval
from graphql_schema.enums import graphql_enum

__all__ = [
    "ActionType",
    "Dimension",
    "EscalationTarget",
    "EventStatus",
    "LogOutcome",
    "OrderDirection",
    "OrderField",
    "TimeInterval",
]


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
    OrderField,
    name="AuditEventOrderField",
    description="What a list of events can be ordered by; equal ones are ordered by id.",
    values={
        "CREATED_AT": "When the trail recorded the event.",
        "LATENCY_MS": "How long the action took; events that don't say count as less than all others.",
        "COST_USD": "What the action cost; events that don't say count as less than all others.",
    },
)
graphql_enum(
    OrderDirection,
    name="OrderDirection",
    description="Which way an order runs.",
    values={"ASC": "The least, or oldest, first.", "DESC": "The greatest, or newest, first."},
)
graphql_enum(
    Dimension,
    name="AuditDimension",
    description="What events can be grouped by.",
    values={
        "AGENT_ID": "The agent that acted.",
        "ACTION_TYPE": "The kind of action, such as `LLM_CALL`.",
        "ACTION_NAME": "The model, the tool, or the escalation's target.",
        "STATUS": "How the action ended, such as `FAILED`.",
        "USER_ID": "The person on whose behalf the agent acted.",
    },
)
graphql_enum(
    TimeInterval,
    name="TimeInterval",
    description="How long the buckets of a time series are.",
    values={
        "AUTO": "As long as it takes for about 50 buckets: from one second up.",
        "MINUTE": "One minute.",
        "HOUR": "One hour.",
        "DAY": "From midnight to midnight in the time zone: 23 or 25 hours when the clock changes.",
        "WEEK": "From Monday to Monday in the time zone.",
        "MONTH": "From the first to the first in the time zone.",
    },
)
