"""An event on its way into the trail: as it is prepared, as the row that it becomes, and what became of it."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from app.audit.events import ActionType, AuditEventValue, EventStatus, LlmCall, RecordedEvent
from app.audit.query import EVENT_COLUMNS
from app.database.ids import new_id
from app.errors import UserMistake
from app.validation import JsonText


class LogOutcome(StrEnum):
    """What became of an event that was sent in."""

    RECORDED = "RECORDED"
    DUPLICATE = "DUPLICATE"
    REJECTED = "REJECTED"


# What is written of an event, by the attributes of `AuditEvent`; the server adds the time.
ROW = tuple(name for name in EVENT_COLUMNS if name != "created_at")
_GENERATED = frozenset({"id", "submitted_by"})


@dataclass(frozen=True, slots=True)
class PreparedEvent:
    """An event ready to be written: checked against all limits, as the row that it becomes (see `ROW`).

    Without `echo` nobody will look at the metadata as the database has it, and it need not be read back.
    """

    row: tuple[Any, ...]
    idempotency_key: str | None
    echo: bool = True

    @property
    def id(self) -> UUID:
        """The event's id."""
        event_id: UUID = self.row[0]
        return event_id

    @classmethod
    def from_value(
        cls, value: AuditEventValue, agent_id: UUID | None, metadata: JsonText, submitted_by: str, *, echo: bool = True
    ) -> "PreparedEvent":
        """Give the event its id."""
        call = value if isinstance(value, LlmCall) else None
        row = (
            new_id(), agent_id, value.user_id, _TEXT_OF[value.action_type], value.action_name, _TEXT_OF[value.status],
            value.error, value.input_summary, value.output_summary, value.latency_ms,
            call and call.input_tokens, call and call.output_tokens, call and call.cost_usd, metadata,
            value.occurred_at, value.session_id, value.trace_id, value.parent_event_id, submitted_by,
        )  # fmt: skip
        return cls(row, value.idempotency_key, echo)


_TEXT_OF: dict[StrEnum, str] = {member: member.value for kind in (ActionType, EventStatus) for member in kind}


class LogResult:
    """The outcome for one event: the stored event, or the mistake for which it was rejected.

    On an idempotency conflict, `event` is the event that the key already stands for.
    """

    __slots__ = ("_event", "_written", "mistake", "outcome")

    def __init__(
        self,
        outcome: LogOutcome,
        event: RecordedEvent | None = None,
        mistake: UserMistake | None = None,
        written: "Written | None" = None,
    ) -> None:
        self.outcome = outcome
        self.mistake = mistake
        self._event = event
        self._written = written

    @property
    def new_row(self) -> dict[str, Any] | None:
        """The columns of an event that was just recorded, by the attributes of `AuditEvent`."""
        return None if self._written is None else self._written.row()

    @property
    def event(self) -> RecordedEvent | None:
        """The event; made when somebody asks for it, which most writers of batches don't."""
        if self._event is None and self._written is not None:
            self._event = self._written.event()
        return self._event


@dataclass(frozen=True, slots=True)
class Written:
    """An event that was written, and what the database made of it."""

    prepared: PreparedEvent
    created_at: datetime
    metadata: str

    def event(self) -> RecordedEvent:
        """Return the event as it stands in the trail."""
        return RecordedEvent(**self.row())

    def row(self) -> dict[str, Any]:
        """Return the event's columns, by the attributes of `AuditEvent`."""
        row: dict[str, Any] = dict(zip(ROW, self.prepared.row, strict=True))
        row["created_at"] = self.created_at
        row["event_metadata"] = JsonText(self.metadata)
        row["sequence"] = None
        return row


def body_hash(event: PreparedEvent) -> bytes:
    """Return the SHA-256 of all that the client said about the event, by which a retry is told from a new body."""
    said = sorted(
        (name, _canonical(value)) for name, value in zip(ROW, event.row, strict=True) if name not in _GENERATED
    )
    return hashlib.sha256(repr(said).encode()).digest()


def _canonical(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value.normalize())
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, UUID):
        return str(value)
    return repr(value)
