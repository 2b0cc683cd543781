"""The gate before the connection pool: order, time-outs, and what is left in a place for the next."""

import asyncio

import pytest

from app.database.gate import Gate
from app.errors import Unavailable


class Ends:
    """Notes what was ended because nobody was there to take it."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def end(self, left: str) -> None:
        """End it."""
        await asyncio.sleep(0)
        self.ended.append(left)


async def waiting(gate: Gate[str], number: int) -> list[asyncio.Task[str | None]]:
    """Start so many who wait for a place."""
    tasks = [asyncio.create_task(gate.enter()) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_places_are_given_in_order_with_what_was_left_in_them() -> None:
    """Who waits longest gets the place that becomes free, and what was left for it."""
    ends = Ends()
    gate = Gate(1, 5, ends.end)
    assert await gate.enter() is None
    assert not gate.is_waited_for()
    first, second, third = await waiting(gate, 3)
    assert gate.is_waited_for()
    gate.leave("left")
    assert await first == "left"
    gate.leave()
    assert await second is None
    gate.leave("more")
    assert await third == "more"
    assert not gate.is_waited_for()
    gate.leave()
    assert await asyncio.wait_for(gate.enter(), 1) is None
    assert ends.ended == []


async def test_what_was_left_for_one_who_went_away_goes_to_the_next() -> None:
    """A waiter that is cancelled just as it gets the place passes on the place with what is in it."""
    gate = Gate(1, 5, Ends().end)
    await gate.enter()
    first, second = await waiting(gate, 2)
    gate.leave("left")
    first.cancel()
    assert await second == "left"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_what_nobody_takes_is_ended_before_the_place_is_free() -> None:
    """Without a next one it is ended, and only then somebody else gets in."""
    ends = Ends()
    gate = Gate(1, 5, ends.end)
    await gate.enter()
    (only,) = await waiting(gate, 1)
    gate.leave("left")
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert await asyncio.wait_for(gate.enter(), 1) is None
    assert ends.ended == ["left"]


async def test_a_place_is_not_lost_when_what_was_left_in_it_can_not_be_ended() -> None:
    """Even then the place becomes free."""

    async def fail(_left: str) -> None:
        raise OSError("gone")

    gate = Gate(1, 5, fail)
    await gate.enter()
    (only,) = await waiting(gate, 1)
    gate.leave("left")
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert await asyncio.wait_for(gate.enter(), 1) is None


async def test_who_waits_too_long_is_told_and_takes_no_place() -> None:
    """After the time-out the place goes to the next one, or is free."""
    gate = Gate(1, 0.05, Ends().end)
    await gate.enter()
    with pytest.raises(Unavailable):
        await gate.enter()
    assert not gate.is_waited_for()
    gate.leave()
    assert await gate.enter() is None
