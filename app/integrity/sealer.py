"""The sealer: follows the committed events and gives each its place in its tenant's log.

Neither a sequence nor the order of transaction ids is the order of commits: a transaction may commit long after ones
that began later. So the sealer keeps a snapshot, as PostgreSQL does: up to which transaction it has seen everything,
but for those that were still running. With each step it looks for the events of later transactions and of the running
ones that it has noted. Nothing is skipped, nobody waits for a slow transaction, and what a step finds does not depend
on how long ago the last one was. That an event has one place is the unique key's last word.

A step is one transaction under a lock, so that any number of sealers may run; one of them works. After a restore, an
upgrade or any change of the cluster the noted transactions mean nothing: then, and once an hour, all events are looked
at again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from app.audit.live import CHANNEL
from app.database.direct import connect_directly
from app.database.urls import parse_database_url
from app.integrity.leaf import leaf_hash
from app.observability.logging import get_logger

# Any constant of the product's own.
_LOCK = 0x6B6F6E7365616C72
_STEP_SECONDS = 0.2
_RETRY_SECONDS = 2.0
_HEARTBEAT = timedelta(seconds=10)
_SWEEP_EVERY = timedelta(hours=1)
_BATCH = 5000
_NO_ID = UUID(int=0)

_COLUMNS = (
    "tenant_id, id, created_at, occurred_at, action_type, action_name, status, agent_id, session_id, trace_id,"
    " parent_event_id, latency_ms, input_tokens, output_tokens, cost_usd, submitted_by, user_id, input_summary,"
    " output_summary, error, metadata::text AS metadata, content_salt, xid::text::bigint AS xid"
)
_UNSEALED = (
    "SELECT {columns} FROM audit_events e"
    " WHERE NOT EXISTS (SELECT FROM audit_log_leaves l WHERE l.tenant_id = e.tenant_id AND l.event_id = e.id)"
    " AND {condition} ORDER BY e.xid, e.id LIMIT {most}"
)
_NEW = _UNSEALED.format(columns=_COLUMNS, most=_BATCH, condition="(e.xid, e.id) > ($1::bigint::text::xid8, $2::uuid)")
_OF_PENDING = _UNSEALED.format(
    columns=_COLUMNS,
    most=_BATCH,
    condition="e.xid = ANY ($1::text[]::xid8[]) AND (e.xid, e.id) > ($2::bigint::text::xid8, $3::uuid)",
)
_SNAPSHOT = """
SELECT pg_snapshot_xmax(s)::text::bigint AS xmax,
    ARRAY(SELECT x::text::bigint FROM pg_snapshot_xip(s) x) AS running,
    (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
    clock_timestamp() AS now
FROM pg_current_snapshot() s
"""
_READ_CURSOR = """
SELECT next_xid::text::bigint AS next_xid, next_id, pending::text[]::bigint[] AS pending, system_identifier, swept_at,
    worked_at
FROM audit_log_cursor
"""
_WRITE_CURSOR = """
INSERT INTO audit_log_cursor (next_xid, next_id, pending, system_identifier, swept_at, worked_at)
VALUES ($1::bigint::text::xid8, $2, $3::bigint[]::text[]::xid8[], $4, $5, $6)
ON CONFLICT (is_only) DO UPDATE SET next_xid = excluded.next_xid, next_id = excluded.next_id,
    pending = excluded.pending, system_identifier = excluded.system_identifier, swept_at = excluded.swept_at,
    worked_at = excluded.worked_at
"""
_GROW = """
INSERT INTO audit_log_states (tenant_id, size) SELECT * FROM unnest($1::uuid[], $2::bigint[])
ON CONFLICT (tenant_id) DO UPDATE SET size = audit_log_states.size + excluded.size
RETURNING tenant_id, size
"""
_ADD_LEAVES = """
INSERT INTO audit_log_leaves (tenant_id, sequence, event_id, event_created_at, leaf_hash)
SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::timestamptz[], $5::bytea[])
"""

log = get_logger("konstruct.sealer")


@dataclass(frozen=True, slots=True)
class _Cursor:
    """All events are sealed up to (`next_xid`, `next_id`), but for those of the transactions in `pending`."""

    next_xid: int
    next_id: UUID
    pending: Sequence[int]
    system_identifier: int
    swept_at: Any
    worked_at: Any


async def seal_step(connection: asyncpg.Connection) -> int | None:
    """Seal up to 5,000 new events and all of late transactions; return how many, `None` if another sealer is at it.

    The connection is the sealer's own role.
    """
    async with connection.transaction():
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
            return None
        # Before the events are looked at: what commits in between is seen, and looked for once more.
        snapshot = await connection.fetchrow(_SNAPSHOT)
        if snapshot is None:
            raise RuntimeError("the database gave no snapshot")
        cursor = _usable(await connection.fetchrow(_READ_CURSOR), snapshot)
        sealed = await _seal_late(connection, cursor)
        rows = await connection.fetch(_NEW, cursor.next_xid, cursor.next_id)
        await _add(connection, rows)
        sealed += len(rows)
        moved = _moved(cursor, rows, snapshot)
        if sealed or moved.pending != cursor.pending or snapshot["now"] - cursor.worked_at >= _HEARTBEAT:
            await connection.execute(
                _WRITE_CURSOR,
                moved.next_xid, moved.next_id, moved.pending, moved.system_identifier, moved.swept_at, moved.worked_at,
            )  # fmt: skip
        if sealed:
            await connection.execute(f"NOTIFY {CHANNEL}")
    return sealed


def _usable(found: asyncpg.Record | None, snapshot: asyncpg.Record) -> _Cursor:
    """Return the stored cursor, or one before all events when it is of another cluster or an hour has passed."""
    now = snapshot["now"]
    if found is not None:
        is_of_this_cluster = (
            found["system_identifier"] == snapshot["system_identifier"] and found["next_xid"] <= snapshot["xmax"]
        )
        if is_of_this_cluster and now - found["swept_at"] < _SWEEP_EVERY:
            return _Cursor(**found)
    beginning = now - _HEARTBEAT
    return _Cursor(0, _NO_ID, [], snapshot["system_identifier"], swept_at=now, worked_at=beginning)


def _moved(cursor: _Cursor, rows: Sequence[asyncpg.Record], snapshot: asyncpg.Record) -> _Cursor:
    """Return the cursor behind these rows; behind the snapshot when there are no more."""
    next_xid, next_id = snapshot["xmax"], _NO_ID
    # Transactions that began after the snapshot may be among the rows; which of them are running it does not tell.
    if len(rows) == _BATCH and rows[-1]["xid"] < next_xid:
        next_xid, next_id = rows[-1]["xid"], rows[-1]["id"]
    pending = sorted(xid for xid in snapshot["running"] if xid < next_xid)
    return _Cursor(
        next_xid, next_id, pending, cursor.system_identifier, swept_at=cursor.swept_at, worked_at=snapshot["now"]
    )


async def _seal_late(connection: asyncpg.Connection, cursor: _Cursor) -> int:
    if not cursor.pending:
        return 0
    pending = [str(xid) for xid in cursor.pending]
    sealed, place = 0, (0, _NO_ID)
    while rows := await connection.fetch(_OF_PENDING, pending, *place):
        await _add(connection, rows)
        sealed += len(rows)
        place = rows[-1]["xid"], rows[-1]["id"]
    return sealed


async def _add(connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> None:
    """Append the events to their tenants' logs, in their order."""
    by_tenant: dict[UUID, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        by_tenant[row["tenant_id"]].append(row)
    if not by_tenant:
        return
    # In one order, whoever else might be writing.
    tenants = sorted(by_tenant)
    sizes = await connection.fetch(_GROW, tenants, [len(by_tenant[tenant]) for tenant in tenants])
    leaves = [
        (tenant, size - len(by_tenant[tenant]) + number, row["id"], row["created_at"], leaf_hash(dict(row)))
        for tenant, size in sizes
        for number, row in enumerate(by_tenant[tenant])
    ]
    await connection.execute(_ADD_LEAVES, *map(list, zip(*leaves, strict=True)))


class Sealer:
    """Seals in the background, on a connection of its own, until it is stopped."""

    def __init__(self, url: SecretStr) -> None:
        self._url = parse_database_url(url, "KONSTRUCT_SEALER_DATABASE_URL")

    async def run(self) -> None:
        """Seal for ever; a lost connection is made again. Cancel it to stop."""
        while True:
            try:
                connection = await self._connect()
                try:
                    await self._follow(connection)
                finally:
                    with suppress(Exception):
                        await connection.close(timeout=1)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("sealer_interrupted", reason=str(error).splitlines()[0] if str(error) else repr(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def catch_up(self) -> int:
        """Seal what there is to be sealed and return how many events that was."""
        connection = await self._connect()
        total = 0
        try:
            while sealed := await seal_step(connection):
                total += sealed
        finally:
            await connection.close()
        return total

    async def _follow(self, connection: asyncpg.Connection) -> None:
        loop = asyncio.get_running_loop()
        seen, looked_at = None, 0.0
        while True:
            # While no transaction begins or ends there is nothing to do, which costs one look to know.
            snapshot = await connection.fetchval("SELECT pg_current_snapshot()::text")
            if snapshot == seen and loop.time() - looked_at < _HEARTBEAT.total_seconds():
                await asyncio.sleep(_STEP_SECONDS)
                continue
            sealed = await seal_step(connection)
            seen, looked_at = None if sealed is None else snapshot, loop.time()
            # A full step: there is more to do.
            if sealed is None or sealed < _BATCH:
                await asyncio.sleep(_STEP_SECONDS)
            else:
                seen = None

    async def _connect(self) -> asyncpg.Connection:
        # A step looks each event up in the index of the leaves; a plan that reads all of them would be a bad guess.
        return await connect_directly(
            self._url, "konstruct sealer", jit="off", enable_hashjoin="off", enable_mergejoin="off"
        )
