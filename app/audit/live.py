"""The live trail: events in the order of the sealed log, first what there is, then what comes.

A follower knows nothing but its place in the log, so that it can be away for any time and go on where it was: nothing
is skipped, nothing comes twice, and what waits for a slow reader waits in the database. The sealer says that there is
something new, without saying what; one connection a process listens to it. Followers of one tenant with the same filter
are at the same place most of the time, and share what is read for them.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
from cachetools import cached
from sqlalchemy import URL, ColumnElement, literal_column, select

from app.audit.events import RecordedEvent
from app.audit.filter import AuditEventFilter
from app.audit.log_order import Stride, in_log_order, log_size
from app.audit.query import READABLE_COLUMNS
from app.database.database import Database
from app.database.direct import connect_directly
from app.database.statements import Statement, compile_statement, statement_cache
from app.database.tenant_owned import TenantId
from app.errors import InvalidInput, Unavailable
from app.models import AuditLogCursor
from app.observability.logging import get_logger
from app.settings import Limits

# What the sealer notifies of.
CHANNEL = "konstruct_sealed"

# Read at once.
_BATCH = 200
# How long a follower hears nothing before it looks by itself, and is told that nothing came.
_PATIENCE_SECONDS = 2.0
_RETRY_SECONDS = 1.0
_STEP_SECONDS = 0.2
# A sealer at rest says every ten seconds that it is there.
_SEALER_SILENCE_SECONDS = 60
# One that starts with this server says it by then for the first time.
_START_SECONDS = 10.0
_NO_SEALER = (
    "nothing seals the log, so that no event would ever come: set KONSTRUCT_SEALER_DATABASE_URL for the server, or run"
    " `konstruct seal`"
)

_STATEMENTS = statement_cache()
_NOW: ColumnElement[datetime] = literal_column("clock_timestamp()")
_SEALER_AT_WORK = compile_statement(select(AuditLogCursor.worked_at, _NOW.label("now")))

log = get_logger("konstruct.live")


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The matching events up to and including a place of the log."""

    events: Sequence[RecordedEvent]
    place: int


class LiveTrail:
    """Follows the logs of all tenants for one process. `start` it, and `close` it before the database."""

    def __init__(self, database: Database, url: URL) -> None:
        self._database = database
        self._url = url
        self._listening: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None
        self._shared: dict[object, asyncio.Task[_Stretch]] = {}
        self._began = time.monotonic()
        self.followers = 0

    def start(self) -> None:
        """Begin to listen."""
        self._listening = asyncio.get_running_loop().create_task(self._listen(), name="live trail")

    async def close(self) -> None:
        """Listen no longer; followers find out by themselves."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def follow(
        self, tenant_id: TenantId, where: AuditEventFilter, after: int | None, limits: Limits
    ) -> AsyncGenerator[RecordedEvent | None, None]:
        """Yield the matching events after a place of the log, in its order, for ever; `None` when nothing has come.

        Without a place it begins with what is sealed from now on. Raises `InvalidInput` for an impossible filter or
        place, and `Unavailable` when nothing seals the log or the database can't be reached.
        """
        where.checked(limits)
        if after is not None and after < -1:
            raise InvalidInput(("after_sequence",), "must be -1 or more; -1 begins with the first event")
        size = await self._size_of_sealed(tenant_id)
        place = size - 1 if after is None else after
        if place >= size:
            raise InvalidInput(("after_sequence",), f"lies beyond the log, which ends with {size - 1}")
        self.followers += 1
        try:
            while True:
                news = self._next_news()
                stretch = await self._read_together(tenant_id, where, place)
                stride = Stride(_BATCH)
                while stretch.place > place:
                    place = stretch.place
                    for event in stretch.events:
                        yield event
                    stride.found(len(stretch.events))
                    stretch = await self._read(tenant_id, where, place, stride)
                try:
                    await asyncio.wait_for(asyncio.shield(news), _PATIENCE_SECONDS)
                except TimeoutError:
                    self._announce()
                    yield None
        finally:
            self.followers -= 1

    async def _read_together(self, tenant_id: TenantId, where: AuditEventFilter, place: int) -> _Stretch:
        """Read once for all followers who ask the same of the same news."""
        # A filter may hold JSON values, which have no hash.
        key = (tenant_id, repr(where), place)
        reading = self._shared.get(key)
        if reading is None:
            reading = asyncio.get_running_loop().create_task(self._read(tenant_id, where, place, Stride(_BATCH)))
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._shared[key] = reading
        # One follower that goes away takes nothing from the others.
        return await asyncio.shield(reading)

    async def _read(self, tenant_id: TenantId, where: AuditEventFilter, place: int, stride: Stride) -> _Stretch:
        values = dict(where.operands())
        async with self._database.reading_session(tenant_id) as session:
            end = stride.end(place, await log_size(session) - 1)
            if end <= place:
                return _Stretch((), place)
            statement = _statement(tuple(values), where)
            rows = await session.fetch(statement, {**values, "place": place, "end": end})
        events = [RecordedEvent(**row) for row in rows]
        return _Stretch(events, end if len(rows) < _BATCH else rows[-1]["sequence"])

    async def _size_of_sealed(self, tenant_id: TenantId) -> int:
        """Return the size of the tenant's log; raise `Unavailable` when nobody seals it."""
        deadline = max(time.monotonic() + _PATIENCE_SECONDS, self._began + _START_SECONDS)
        while True:
            async with self._database.reading_session(tenant_id) as session:
                seen = await session.fetch(_SEALER_AT_WORK, {})
                if seen and _seconds(seen[0]["worked_at"], seen[0]["now"]) <= _SEALER_SILENCE_SECONDS:
                    return await log_size(session)
            if time.monotonic() >= deadline:
                raise Unavailable(_NO_SEALER)
            await asyncio.sleep(_STEP_SECONDS)

    def _next_news(self) -> asyncio.Future[None]:
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def _announce(self, *_: Any) -> None:
        """Wake all followers, and let them read anew."""
        self._shared = {}
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _listen(self) -> None:
        while True:
            try:
                connection = await connect_directly(self._url, "konstruct live trail")
                try:
                    await self._wait_for_end(connection)
                finally:
                    with suppress(Exception):
                        await connection.close(timeout=1)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("live_trail_interrupted", reason=str(error).partition("\n")[0])
            # Followers look by themselves meanwhile.
            await asyncio.sleep(_RETRY_SECONDS)

    async def _wait_for_end(self, connection: asyncpg.Connection) -> None:
        ended = asyncio.get_running_loop().create_future()

        def end(_connection: object) -> None:
            if not ended.done():
                ended.set_result(None)

        connection.add_termination_listener(end)
        await connection.add_listener(CHANNEL, self._announce)
        self._announce()
        await ended


def _seconds(earlier: datetime, later: datetime) -> float:
    return (later - earlier).total_seconds()


@cached(_STATEMENTS, key=lambda shape, _where: shape)
def _statement(_shape: tuple[str, ...], where: AuditEventFilter) -> Statement:
    return compile_statement(in_log_order(READABLE_COLUMNS, where, _BATCH))
