"""Writing events: one INSERT for all, each event once.

The rows go to the server as one array a column: the statement is the same for batches of every size, so that it is
compiled once here and prepared once a connection.

Idempotency keys live in a table of their own. A key is claimed with INSERT ... ON CONFLICT DO NOTHING in the event's
own transaction: of any number of simultaneous retries one claims it, the others wait for that commit and then find
the first event. Keys are claimed in sorted order, so that two batches with the same keys can't deadlock.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, and_, any_, bindparam, func, select
from sqlalchemy import column as sql_column
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as upsert

from app.audit.events import AuditEventValue, RecordedEvent
from app.audit.query import EVENT_COLUMNS
from app.database.session import TenantSession
from app.database.statements import compile_statement
from app.errors import IdempotencyConflict, UserMistake
from app.filters import list_of
from app.models import AuditEvent, AuditIdempotencyKey, Base
from app.validation import JsonText

SALT_BYTES = 32


class LogOutcome(StrEnum):
    """What became of an event that was sent in."""

    RECORDED = "RECORDED"
    DUPLICATE = "DUPLICATE"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class LogResult:
    """The outcome for one event: the stored event, or the mistake for which it was rejected.

    On an idempotency conflict, `event` is the event that the key already stands for.
    """

    outcome: LogOutcome
    event: RecordedEvent | None = None
    mistake: UserMistake | None = None


@dataclass(frozen=True, slots=True)
class PreparedEvent:
    """An event ready to be written: checked against all limits, with its id and its metadata as JSON text."""

    id: UUID
    value: AuditEventValue
    agent_id: UUID | None
    metadata: JsonText
    submitted_by: str


async def append_events(session: TenantSession, events: Sequence[PreparedEvent]) -> list[LogResult]:
    """Write the events in the session's transaction; return one result an event, in their order."""
    keyed = [event for event in events if event.value.idempotency_key is not None]
    existing = await _claim_keys(session, keyed) if keyed else {}
    new = [event for event in events if event.id not in existing] if existing else events
    stored = await _insert(session, new) if new else {}
    return [_result(event, existing.get(event.id), stored) for event in events]


@dataclass(frozen=True, slots=True)
class _Claim:
    """The event that a key stands for, if it is not the one that was sent."""

    event_id: UUID
    body_hash: bytes
    event: RecordedEvent | None = None


def _from_arrays(table: type[Base], names: Sequence[str]) -> Insert:
    """Return the insertion of one row an element of the named arrays: one statement for batches of every size."""
    columns = {name: getattr(table, name).property.columns[0] for name in names}
    arrays = [bindparam(name, type_=list_of(column)) for name, column in columns.items()]
    given = func.unnest(*arrays).table_valued(*(sql_column(name, column.type) for name, column in columns.items()))
    rows = given.render_derived("sent")
    stored = ["tenant_id", *(column.name for column in columns.values())]
    return upsert(table).from_select(stored, select(bindparam("tenant_id", type_=Uuid()), rows))


_EVENT_COLUMNS = (*(name for name in EVENT_COLUMNS if name != "created_at"), "content_salt")
_INSERT = compile_statement(
    _from_arrays(AuditEvent, _EVENT_COLUMNS).returning(AuditEvent.id, AuditEvent.created_at, AuditEvent.event_metadata)
)
_CLAIM = compile_statement(
    _from_arrays(AuditIdempotencyKey, ("key", "event_id", "body_hash"))
    .on_conflict_do_nothing()
    .returning(AuditIdempotencyKey.key)
)
_FIND_CLAIMS = compile_statement(
    select(
        AuditIdempotencyKey.key,
        AuditIdempotencyKey.body_hash,
        AuditIdempotencyKey.event_id,
        *(getattr(AuditEvent, name).label(name) for name in EVENT_COLUMNS),
    )
    .outerjoin(
        AuditEvent,
        and_(
            AuditEvent.tenant_id == AuditIdempotencyKey.tenant_id,
            AuditEvent.created_at == AuditIdempotencyKey.event_created_at,
            AuditEvent.id == AuditIdempotencyKey.event_id,
        ),
    )
    .where(AuditIdempotencyKey.key == any_(bindparam("keys", type_=ARRAY(Text()))))
)


async def _insert(session: TenantSession, events: Sequence[PreparedEvent]) -> dict[UUID, RecordedEvent]:
    rows = {event.id: _columns(event) for event in events}
    arrays = {name: [row[name] for row in rows.values()] for name in _EVENT_COLUMNS}
    stored = {}
    for event_id, created_at, metadata in await session.fetch(_INSERT, arrays):
        row = rows[event_id]
        del row["content_salt"]
        stored[event_id] = RecordedEvent(**row | {"created_at": created_at, "event_metadata": JsonText(metadata)})
    return stored


def _columns(event: PreparedEvent) -> dict[str, Any]:
    value = event.value
    return {
        "id": event.id,
        "agent_id": event.agent_id,
        "user_id": value.user_id,
        "action_type": value.action_type.value,
        "action_name": value.action_name,
        "status": value.status.value,
        "error": value.error,
        "input_summary": value.input_summary,
        "output_summary": value.output_summary,
        "latency_ms": value.latency_ms,
        "input_tokens": getattr(value, "input_tokens", None),
        "output_tokens": getattr(value, "output_tokens", None),
        "cost_usd": getattr(value, "cost_usd", None),
        "event_metadata": event.metadata,
        "occurred_at": value.occurred_at,
        "session_id": value.session_id,
        "trace_id": value.trace_id,
        "parent_event_id": value.parent_event_id,
        "submitted_by": event.submitted_by,
        "content_salt": secrets.token_bytes(SALT_BYTES),
    }


async def _claim_keys(session: TenantSession, keyed: Sequence[PreparedEvent]) -> dict[UUID, _Claim]:
    """Claim the events' keys; return, for each event whose key was taken, what it stands for."""
    first_of: dict[str, PreparedEvent] = {}
    for event in keyed:
        first_of.setdefault(_key(event), event)
    claims_sent = sorted(first_of.items())
    values = {
        "key": [key for key, _ in claims_sent],
        "event_id": [event.id for _, event in claims_sent],
        "body_hash": [body_hash(event) for _, event in claims_sent],
    }
    claimed = {row["key"] for row in await session.fetch(_CLAIM, values)}
    taken = first_of.keys() - claimed
    stored = await _stored_claims(session, taken) if taken else {}
    claims: dict[UUID, _Claim] = {}
    for event in keyed:
        key = _key(event)
        first = first_of[key]
        if key in stored:
            claims[event.id] = stored[key]
        elif event is not first:
            claims[event.id] = _Claim(first.id, body_hash(first))
    return claims


async def _stored_claims(session: TenantSession, keys: set[str]) -> dict[str, _Claim]:
    claims = {}
    for row in await session.fetch(_FIND_CLAIMS, {"keys": sorted(keys)}):
        event = None if row["id"] is None else RecordedEvent(**{name: row[name] for name in EVENT_COLUMNS})
        claims[row["key"]] = _Claim(row["event_id"], row["body_hash"], event)
    return claims


def _result(event: PreparedEvent, claim: _Claim | None, stored: dict[UUID, RecordedEvent]) -> LogResult:
    if claim is None:
        return LogResult(LogOutcome.RECORDED, stored[event.id])
    # An event whose month has been dropped by retention is gone; its key still stands for it.
    earlier = claim.event or stored.get(claim.event_id)
    if claim.body_hash == body_hash(event):
        return LogResult(LogOutcome.DUPLICATE, earlier)
    mistake = IdempotencyConflict(
        ("idempotency_key",), "was used before for an event with another body; use a new key for a new event"
    )
    return LogResult(LogOutcome.REJECTED, earlier, mistake)


def body_hash(event: PreparedEvent) -> bytes:
    """Return the SHA-256 of all that the client said about the event, by which a retry is told from a new body."""
    columns = _columns(event)
    for generated in ("id", "content_salt", "submitted_by"):
        del columns[generated]
    said = sorted((name, _canonical(value)) for name, value in columns.items())
    return hashlib.sha256(repr(said).encode()).digest()


def _canonical(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value.normalize())
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return repr(value)


def _key(event: PreparedEvent) -> str:
    key = event.value.idempotency_key
    if key is None:
        raise ValueError("only events with an idempotency key are claimed")
    return key
