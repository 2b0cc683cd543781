"""Time, cut into buckets as people in a time zone would cut it.

Days, weeks (from Monday) and months begin at midnight of the zone, so that on the days of the clock change a day has 23
or 25 hours; parts of a day begin at multiples since midnight by the wall clock; hours and less are as long as they say.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.errors import InvalidInput

MOST_BUCKETS = 1000
_AUTO_BUCKETS = 60

# No event is from outside these years, and inside them every time has neighbours in every time zone.
_EARLIEST = datetime(2, 1, 1, tzinfo=UTC)
_LATEST = datetime(9998, 1, 1, tzinfo=UTC)

_HOUR = 3600
_DAY = 24 * _HOUR


class TimeInterval(StrEnum):
    """How long a bucket is; AUTO makes about 50 of the whole range."""

    AUTO = "auto"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class _Step:
    """A number of seconds, of days or of months; only one of them is not zero."""

    seconds: int = 0
    days: int = 0
    months: int = 0

    @property
    def length(self) -> timedelta:
        """How long it is at the least."""
        return timedelta(seconds=self.seconds, days=self.days + 28 * self.months)


_STEPS = {
    TimeInterval.MINUTE: _Step(seconds=60),
    TimeInterval.HOUR: _Step(seconds=_HOUR),
    TimeInterval.DAY: _Step(days=1),
    TimeInterval.WEEK: _Step(days=7),
    TimeInterval.MONTH: _Step(months=1),
}
_AUTO_STEPS = (
    *(_Step(seconds=seconds) for seconds in (1, 2, 5, 10, 15, 30)),
    *(_Step(seconds=60 * minutes) for minutes in (1, 2, 5, 10, 15, 30)),
    *(_Step(seconds=_HOUR * hours) for hours in (1, 2, 3, 6, 12)),
    _Step(days=1),
    _Step(days=7),
    *(_Step(months=months) for months in (1, 3, 6, 12, 60, 120, 600, 1200)),
)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A half-open range of time."""

    start: datetime
    end: datetime


def find_zone(name: str) -> ZoneInfo:
    """Return a time zone of the IANA database; raise `InvalidInput` when there is none of the name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        reason = "must be a time zone of the IANA database, such as Europe/Berlin, America/New_York or UTC"
        raise InvalidInput(("timezone",), reason) from None


def cut(whole: TimeRange, interval: TimeInterval, zone: ZoneInfo) -> list[TimeRange]:
    """Return the buckets that hold the range, which begin where the clock does, not where the range does.

    Raises `InvalidInput` when the interval would make more than 1,000 of them.
    """
    start, end = max(whole.start, _EARLIEST), min(whole.end, _LATEST)
    if start >= end:
        return []
    step = _STEPS.get(interval) or _automatic(end - start)
    expected = (end - start) / step.length
    if expected > MOST_BUCKETS:
        reason = f"would make about {expected:.0f} buckets, at most {MOST_BUCKETS} are allowed; take a longer interval"
        raise InvalidInput(("interval",), f"{reason}, or narrow the range with filter.createdAt")
    starts: list[datetime] = []
    for begin in _begins(step, start.astimezone(zone).date(), zone):
        instant = begin.astimezone(UTC)
        if instant <= start:
            starts[:1] = [instant]
        elif not starts or instant > starts[-1]:
            starts.append(instant)
        if instant >= end:
            break
    return [TimeRange(*ends) for ends in pairwise(starts)]


def _automatic(length: timedelta) -> _Step:
    return next((step for step in _AUTO_STEPS if length / step.length <= _AUTO_BUCKETS), _AUTO_STEPS[-1])


def _begins(step: _Step, first_day: date, zone: ZoneInfo) -> Iterator[datetime]:
    """Yield where buckets begin, in the zone, without end; the first not later than the day does."""
    if step.months:
        month = 12 * first_day.year + first_day.month - 1
        # The year 1 is as good a beginning as any for what is longer than a year.
        month -= (month - 12) % step.months
        while month // 12 <= MAXYEAR:
            yield datetime(max(month // 12, 1), month % 12 + 1, 1, tzinfo=zone)
            month += step.months
        yield datetime(MAXYEAR, 12, 31, tzinfo=UTC)
        return
    if step.days:
        day = first_day - timedelta(days=first_day.weekday()) if step.days == 7 else first_day
        while True:
            yield datetime.combine(day, time(), zone)
            day += timedelta(days=step.days)
    day = first_day
    while True:
        yield from _within_day(day, step.seconds, zone)
        day += timedelta(days=1)


def _within_day(day: date, seconds: int, zone: ZoneInfo) -> Sequence[datetime] | Iterator[datetime]:
    if seconds > _HOUR:
        return [datetime.combine(day, time(hour), zone) for hour in range(0, 24, seconds // _HOUR)]
    return _counted(day, timedelta(seconds=seconds), zone)


def _counted(day: date, length: timedelta, zone: ZoneInfo) -> Iterator[datetime]:
    begin = datetime.combine(day, time(), zone).astimezone(UTC)
    end = datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)
    while begin < end:
        yield begin
        begin += length
