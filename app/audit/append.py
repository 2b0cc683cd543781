"""Writing events: one INSERT for all, each event once.

The rows go to the server as one array a column: the statement is the same for batches of every size, so that it is
compiled once here and prepared once a connection.

Idempotency keys live in a table of their own. A key is claimed with INSERT ... ON CONFLICT DO NOTHING in the event's
own transaction: of any number of simultaneous retries one claims it, the others wait for that commit and then find
the first event. Keys are claimed in sorted order, so that two batches with the same keys can't deadlock.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, and_, any_, bindparam, func, literal_column, select
from sqlalchemy import column as sql_column
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as upsert

from app.audit.events import RecordedEvent
from app.audit.query import EVENT_COLUMNS
from app.audit.recording import ROW, LogOutcome, LogResult, PreparedEvent, Written, body_hash
from app.database.session import TenantSession
from app.database.statements import compile_statement
from app.errors import IdempotencyConflict
from app.filters import list_of
from app.models import AuditEvent, AuditIdempotencyKey, Base

SALT_BYTES = 32


async def append_events(session: TenantSession, events: Sequence[PreparedEvent]) -> list[LogResult]:
    """Write the events in the session's transaction; return one result an event, in their order."""
    keyed = [event for event in events if event.idempotency_key is not None]
    existing = await _claim_keys(session, keyed) if keyed else {}
    new = [event for event in events if event.id not in existing] if existing else events
    written = await _insert(session, new) if new else []
    if not existing:
        return [LogResult(LogOutcome.RECORDED, written=event) for event in written]
    by_id = {event.prepared.id: event for event in written}
    return [_result(event, existing.get(event.id), by_id) for event in events]


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


_WRITE = _from_arrays(AuditEvent, (*ROW, "content_salt"))
_INSERT = compile_statement(_WRITE.returning(AuditEvent.id, AuditEvent.created_at, AuditEvent.event_metadata))
# All rows of a transaction have its time, so that one answers for all.
_WRITTEN = _WRITE.returning(AuditEvent.created_at).cte("written")
_INSERT_SILENTLY = compile_statement(select(_WRITTEN.c.created_at).limit(literal_column("1")))
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


async def _insert(session: TenantSession, events: Sequence[PreparedEvent]) -> list[Written]:
    values: dict[str, Any] = dict(zip(ROW, zip(*(event.row for event in events), strict=True), strict=True))
    salts = secrets.token_bytes(SALT_BYTES * len(events))
    values["content_salt"] = [salts[start : start + SALT_BYTES] for start in range(0, len(salts), SALT_BYTES)]
    if any(event.echo for event in events):
        stored = {row[0]: (row[1], row[2]) for row in await session.fetch(_INSERT, values)}
        return [Written(event, *stored[event.id]) for event in events]
    ((created_at,),) = await session.fetch(_INSERT_SILENTLY, values)
    return [Written(event, created_at, event.row[_METADATA]) for event in events]


_METADATA = ROW.index("event_metadata")


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


def _result(event: PreparedEvent, claim: _Claim | None, written: dict[UUID, Written]) -> LogResult:
    if claim is None:
        return LogResult(LogOutcome.RECORDED, written=written[event.id])
    # An event whose month has been dropped by retention is gone; its key still stands for it.
    earlier = claim.event
    if earlier is None and claim.event_id in written:
        earlier = written[claim.event_id].event()
    if claim.body_hash == body_hash(event):
        return LogResult(LogOutcome.DUPLICATE, earlier)
    mistake = IdempotencyConflict(
        ("idempotency_key",), "was used before for an event with another body; use a new key for a new event"
    )
    return LogResult(LogOutcome.REJECTED, earlier, mistake)


def _key(event: PreparedEvent) -> str:
    if event.idempotency_key is None:
        raise ValueError("only events with an idempotency key are claimed")
    return event.idempotency_key
