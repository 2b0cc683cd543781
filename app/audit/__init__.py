"""The audit trail: recording what agents did, and reading it back."""

from app.audit.events import AuditEventValue, Escalation, EscalationTarget, EventStatus, LlmCall, ToolCall
from app.audit.logger import AuditLogger

__all__ = [
    "AuditEventValue",
    "AuditLogger",
    "Escalation",
    "EscalationTarget",
    "EventStatus",
    "LlmCall",
    "ToolCall",
]
