"""Group commit: what arrives while a commit is under way is written together by the next one.

A durable commit waits for the disk, and one transaction costs about the same for one event as for fifty. So concurrent
requests of one tenant share a transaction: the first event that comes is written at once, those that come meanwhile
wait for their turn and then go together. Nobody waits for others to come. Each tenant has transactions of its own, one
at a time or two, and every caller is answered after the commit of its own events and not before. Where more events of
the tenant wait, and nobody else for the place or the connection, the next transaction begins in the message that
commits the one before.

What a single insert survives, an event in a group survives too. A group that fails for a reason of its content is
written again one caller at a time, so that a bad event fails alone. A connection that is lost before COMMIT was sent
has stored nothing, and the group is written again; when COMMIT was under way nobody knows, and only events with an
idempotency key, which can't be stored twice, are written again: the other callers learn that their events may or may
not have been recorded.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from app.audit.append import append_events
from app.audit.recording import LogResult, PreparedEvent
from app.database.database import Database
from app.database.session import TenantSession
from app.database.tenant_owned import TenantId
from app.errors import MAY_BE_STORED, CommitUnknown, Timeout, TransactionLost, Unavailable

# More at once bring nothing: PostgreSQL flushes its log for all of them together.
_TRANSACTIONS = 4
# Two of a tenant at once make groups smaller, and all of them cost more. It is worth it where so many events wait that
# writing them takes longer than the flush.
_TRANSACTIONS_PER_TENANT = 2
_WORTH_ANOTHER = 100

# It is also worth it where one takes longer than this, as behind a lock or on a dying connection.
_PATIENCE_SECONDS = 1.0

_STOPPING = "the server is stopping; try again"
_STOPPED = f"the server stopped before the commit was answered: {MAY_BE_STORED}"
_FULL = "too many events are waiting to be written; try again in a moment"


@dataclass(slots=True)
class _Waiting:
    """The events of one caller, who waits for their results."""

    events: Sequence[PreparedEvent]
    results: asyncio.Future[list[LogResult]]

    @property
    def is_repeatable(self) -> bool:
        """Whether writing the events again could not store one twice."""
        return all(event.idempotency_key is not None for event in self.events)

    def fail(self, error: BaseException) -> None:
        """Tell the caller, if it is still there, what went wrong."""
        if not self.results.done():
            self.results.set_exception(error)


@dataclass(slots=True, eq=False)
class _Run:
    """Transactions of one tenant, one after the other: whose events are being written, and since when."""

    group: list[_Waiting]
    since: float


@dataclass(slots=True)
class _Lane:
    """What waits in one tenant, how many events that are, and what is running."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    events: int = 0
    runs: list[_Run] = field(default_factory=list)
    # Looks again when the running transaction has taken too long.
    timer: asyncio.TimerHandle | None = None

    def is_due(self, now: float) -> bool:
        """Whether a transaction should begin."""
        if not self.waiting or len(self.runs) >= _TRANSACTIONS_PER_TENANT:
            return False
        return not self.runs or self.events >= _WORTH_ANOTHER or now >= self.runs[0].since + _PATIENCE_SECONDS


class EventWriter:
    """Writes the events of all requests of a process. Close it before the database is closed."""

    def __init__(self, database: Database, *, queued_events: int, events_per_transaction: int) -> None:
        self._database = database
        self._queued_events = queued_events
        self._events_per_transaction = events_per_transaction
        self._lanes: dict[TenantId, _Lane] = {}
        self._queued = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def queued(self) -> int:
        """How many events wait to be written or are being written."""
        return self._queued

    async def write(self, tenant_id: TenantId, events: Sequence[PreparedEvent]) -> list[LogResult]:
        """Write the events durably; return one result an event, in their order.

        Raises `Unavailable` when too many events wait already or the database can't be reached. A caller that goes away
        meanwhile takes nothing back.
        """
        if self._is_closed:
            raise Unavailable(_STOPPING)
        if self._queued + len(events) > self._queued_events:
            raise Unavailable(_FULL)
        item = _Waiting(events, asyncio.get_running_loop().create_future())
        self._queued += len(events)
        lane = self._lanes.get(tenant_id)
        if lane is None:
            lane = self._lanes[tenant_id] = _Lane()
        lane.waiting.append(item)
        lane.events += len(events)
        # Most come while a transaction is under way, and have nothing to start.
        if not lane.runs or lane.events >= _WORTH_ANOTHER or lane.timer is None:
            self._start()
        # A caller that goes away cancels its own results, and nothing else.
        return await item.results

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Take no more events, and wait until the last one is written.

        What takes longer is given up: who waits for a transaction that is under way learns that it may or may not be
        stored, the others that theirs is not. The server has waited for its requests by now, so that few are left.
        """
        self._is_closed = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_seconds
        while self._tasks and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        for lane in self._lanes.values():
            while lane.waiting:
                for item in self._take(lane):
                    self._queued -= len(item.events)
                    item.fail(Unavailable(_STOPPING))
            if lane.timer is not None:
                lane.timer.cancel()
        self._lanes = {tenant_id: lane for tenant_id, lane in self._lanes.items() if lane.runs}
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self) -> None:
        """Start as many transactions as may run, tenants taking turns.

        The last place is for tenants that have none, so that slow ones, with two each, don't hold up all others.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        for tenant_id, lane in list(self._lanes.items()):
            free = _TRANSACTIONS - len(self._tasks)
            if free == 0:
                return
            if not lane.is_due(now):
                self._set_timer(lane)
            elif free > 1 or not lane.runs:
                # To the end of the row, so that a busy tenant does not keep the others waiting.
                self._lanes[tenant_id] = self._lanes.pop(tenant_id)
                run = _Run(self._take(lane), now)
                lane.runs.append(run)
                task = loop.create_task(self._write_groups(tenant_id, lane, run))
                self._tasks.add(task)
                task.add_done_callback(partial(self._finish, tenant_id, lane, run))
                self._set_timer(lane)

    def _set_timer(self, lane: _Lane) -> None:
        if lane.waiting and lane.timer is None and len(lane.runs) == 1:
            when = lane.runs[0].since + _PATIENCE_SECONDS
            lane.timer = asyncio.get_running_loop().call_at(when, self._look_again, lane)

    def _look_again(self, lane: _Lane) -> None:
        lane.timer = None
        self._start()

    def _take(self, lane: _Lane) -> list[_Waiting]:
        group = [lane.waiting.popleft()]
        size = len(group[0].events)
        while lane.waiting and size + len(lane.waiting[0].events) <= self._events_per_transaction:
            group.append(lane.waiting.popleft())
            size += len(group[-1].events)
        lane.events -= size
        return group

    def _finish(self, tenant_id: TenantId, lane: _Lane, run: _Run, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # Who knows how far it had come?
            for item in run.group:
                item.fail(CommitUnknown(_STOPPED))
        self._forget(run)
        lane.runs.remove(run)
        if not lane.waiting and not lane.runs:
            self._lanes.pop(tenant_id, None)
            if lane.timer is not None:
                lane.timer.cancel()
        self._start()

    def _forget(self, run: _Run) -> None:
        self._queued -= sum(len(item.events) for item in run.group)
        run.group = []

    def _may_go_on(self, lane: _Lane) -> bool:
        """Whether more events of the tenant wait, and nobody else wants the place or the connection."""
        return (
            bool(lane.waiting)
            and not self._database.is_waited_for()
            and not any(other.waiting for other in self._lanes.values() if other is not lane)
        )

    async def _write_groups(self, tenant_id: TenantId, lane: _Lane, run: _Run) -> None:
        try:
            await self._write_in_turn(tenant_id, lane, run)
        except CommitUnknown as error:
            for item in run.group:
                if not item.is_repeatable:
                    item.fail(error)
            await self._write_again(tenant_id, [[item] for item in run.group if item.is_repeatable], error)
        except TransactionLost:
            await self._write_again(tenant_id, [run.group])
        except (Unavailable, Timeout) as error:
            for item in run.group:
                item.fail(error)
        except Exception as error:  # noqa: BLE001 - it is told to the caller whose events it is about
            if len(run.group) == 1:
                run.group[0].fail(error)
            else:
                await self._write_again(tenant_id, [[item] for item in run.group])

    async def _write_in_turn(self, tenant_id: TenantId, lane: _Lane, run: _Run) -> None:
        """Write the run's group, and then what waits, a transaction each."""
        async with self._database.tenant_session(tenant_id) as session:
            results = await _append(session, run.group)
            while self._may_go_on(lane):
                await session.commit_and_go_on()
                _tell(run.group, results)
                self._forget(run)
                # Another run of the tenant may have taken what waited.
                if not lane.waiting:
                    return
                run.group = self._take(lane)
                run.since = asyncio.get_running_loop().time()
                results = await _append(session, run.group)
        _tell(run.group, results)

    async def _write_again(
        self, tenant_id: TenantId, groups: list[list[_Waiting]], doubt: CommitUnknown | None = None
    ) -> None:
        """Write once more, each group by itself; nothing is tried a third time.

        Where the first time is in `doubt`, the failure of the second one does not remove it.
        """
        for group in groups:
            try:
                async with self._database.tenant_session(tenant_id) as session:
                    results = await _append(session, group)
                _tell(group, results)
            except Exception as error:  # noqa: BLE001 - it is told to the callers whose events it is about
                for item in group:
                    item.fail(doubt or error)


async def _append(session: TenantSession, group: Sequence[_Waiting]) -> list[LogResult]:
    return await append_events(session, [event for item in group for event in item.events])


def _tell(group: Sequence[_Waiting], results: Sequence[LogResult]) -> None:
    """Give all callers of a group that is committed their own results."""
    remaining = iter(results)
    for item in group:
        own = list(islice(remaining, len(item.events)))
        if not item.results.done():
            item.results.set_result(own)
