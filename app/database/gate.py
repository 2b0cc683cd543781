"""The gate in front of the connection pool: lets in as many as there are connections, in the order of their arrival.

The pool by itself gives a free connection to whoever asks next, and those who wait for one may wait very long.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from app.database.failures import ALL_BUSY
from app.errors import Unavailable

T = TypeVar("T")


class Gate(Generic[T]):
    """A number of places. Who leaves one may leave something in it for the next, if somebody waits.

    `end` disposes of what was left for somebody who went away just then.
    """

    def __init__(self, size: int, timeout_seconds: float, end: Callable[[T], Awaitable[None]]) -> None:
        self._free = size
        self._timeout_seconds = timeout_seconds
        self._end = end
        self._waiting: deque[asyncio.Future[T | None]] = deque()
        self._ending: set[asyncio.Task[None]] = set()

    async def enter(self) -> T | None:
        """Wait for a place; return what was left in it. Raises `Unavailable` when there is none in time."""
        if self._free > 0:
            self._free -= 1
            return None
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[T | None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(self._timeout_seconds, _give_up, turn)
        try:
            return await turn
        except BaseException:
            # A place may have been given just as the caller went away.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave(turn.result())
            raise
        finally:
            timer.cancel()

    def is_waited_for(self) -> bool:
        """Whether somebody waits for a place."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return bool(self._waiting)

    def leave(self, left: T | None = None) -> None:
        """Give the place to the next."""
        if self.is_waited_for():
            self._waiting.popleft().set_result(left)
        elif left is None:
            self._free += 1
        else:
            task = asyncio.get_running_loop().create_task(self._free_after_end(left))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _free_after_end(self, left: T) -> None:
        try:
            await self._end(left)
        finally:
            self.leave()


def _give_up(turn: asyncio.Future[T | None]) -> None:
    if not turn.done():
        turn.set_exception(Unavailable(ALL_BUSY))
