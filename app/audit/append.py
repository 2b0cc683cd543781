"""Writing events: one multi-row INSERT, each event once.

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
from uuid import UUID

from sqlalchemy import insert, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.events import AuditEventValue
from app.database.session import session_tenant
from app.errors import IdempotencyConflict, UserMistake
from app.models import AuditEvent, AuditIdempotencyKey
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
    event: AuditEvent | None = None
    mistake: UserMistake | None = None


@dataclass(frozen=True, slots=True)
class PreparedEvent:
    """An event ready to be written: checked against all limits, with its id and its metadata as JSON text."""

    id: UUID
    value: AuditEventValue
    agent_id: UUID | None
    metadata: JsonText
    submitted_by: str


async def append_events(session: AsyncSession, events: Sequence[PreparedEvent]) -> list[LogResult]:
    """Write the events in the session's transaction; return one result an event, in their order."""
    keyed = [event for event in events if event.value.idempotency_key is not None]
    existing = await _claim_keys(session, keyed) if keyed else {}
    new = [event for event in events if existing.get(event.id) is None]
    stored = await _insert(session, new)
    return [_result(event, existing.get(event.id), stored) for event in events]


@dataclass(frozen=True, slots=True)
class _Claim:
    """The event that a key stands for, if it is not the one that was sent."""

    event_id: UUID
    body_hash: bytes
    event: AuditEvent | None = None


async def _insert(session: AsyncSession, events: Sequence[PreparedEvent]) -> dict[UUID, AuditEvent]:
    if not events:
        return {}
    tenant_id = session_tenant(session)
    rows = [{"tenant_id": tenant_id, **_columns(event)} for event in events]
    inserted = await session.scalars(insert(AuditEvent).returning(AuditEvent), rows)
    return {event.id: event for event in inserted}


def _columns(event: PreparedEvent) -> dict[str, object]:
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


async def _claim_keys(session: AsyncSession, keyed: Sequence[PreparedEvent]) -> dict[UUID, _Claim]:
    """Claim the events' keys; return, for each event whose key was taken, what it stands for."""
    tenant_id = session_tenant(session)
    first_of: dict[str, PreparedEvent] = {}
    for event in keyed:
        first_of.setdefault(_key(event), event)
    rows = [
        {"tenant_id": tenant_id, "key": key, "event_id": event.id, "body_hash": body_hash(event)}
        for key, event in sorted(first_of.items())
    ]
    statement = upsert(AuditIdempotencyKey).values(rows).on_conflict_do_nothing().returning(AuditIdempotencyKey.key)
    claimed = set(await session.scalars(statement))
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


async def _stored_claims(session: AsyncSession, keys: set[str]) -> dict[str, _Claim]:
    claims = (await session.scalars(select(AuditIdempotencyKey).where(AuditIdempotencyKey.key.in_(keys)))).all()
    places = [(claim.event_created_at, claim.event_id) for claim in claims]
    query = select(AuditEvent).where(tuple_(AuditEvent.created_at, AuditEvent.id).in_(places))
    events = {event.id: event for event in await session.scalars(query)}
    return {claim.key: _Claim(claim.event_id, claim.body_hash, events.get(claim.event_id)) for claim in claims}


def _result(event: PreparedEvent, claim: _Claim | None, stored: dict[UUID, AuditEvent]) -> LogResult:
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
