"""When customers write and when people are there to answer: a team in Ireland, in UTC."""

import random
from datetime import datetime, timedelta

# How busy each hour of a working day is.
_HOURS = (1, 1, 1, 1, 1, 2, 6, 18, 34, 44, 46, 40, 28, 34, 42, 40, 32, 22, 12, 8, 6, 4, 3, 2)
_WEEKEND = 0.22
_PEAK_HOURS = frozenset({9, 10, 14})
_SUPPORT_HOURS = range(8, 18)

# Seconds until the next message, by who writes it: another agent, or a customer in a channel.
_PAUSES = {"agent": (1, 6), "chat": (40, 540), "email": (900, 10_000)}


def arrivals(rng: random.Random, now: datetime, days: int, count: int) -> list[datetime]:
    """Return the times at which `count` customers write within the days before `now`, in no order."""
    first = now - timedelta(days=days)
    hours = [first + timedelta(hours=hour) for hour in range(days * 24)]
    busyness = [_HOURS[hour.hour] * (1 if _is_working_day(hour) else _WEEKEND) for hour in hours]
    chosen = rng.choices(hours, busyness, k=count)
    return [hour + timedelta(seconds=rng.uniform(0, 3600)) for hour in chosen]


def pause(rng: random.Random, writer: str) -> timedelta:
    """Return how long an agent waits for the next message."""
    return timedelta(seconds=rng.uniform(*_PAUSES[writer]))


def is_peak(moment: datetime) -> bool:
    """Whether so many customers write that the models' providers begin to refuse calls."""
    return _is_working_day(moment) and moment.hour in _PEAK_HOURS


def is_support_open(moment: datetime) -> bool:
    """Whether the people of the support team are at work."""
    return _is_working_day(moment) and moment.hour in _SUPPORT_HOURS


def _is_working_day(moment: datetime) -> bool:
    return moment.weekday() < 5
