"""Periods of the calendar, in UTC: when the one begins and ends that a moment lies in.

A period holds its beginning and not its end. Weeks begin on Monday. Leap seconds are not counted,
as in Unix time.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from hub.domain.rules import Period

PERIODS: Final[tuple[Period, ...]] = ("hour", "day", "week", "month")

_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S
_WEEK_S: Final = 7 * _DAY_S
_MONDAY_S: Final = 4 * _DAY_S
"""1970 began on a Thursday; its first Monday was the 5th of January."""


def start_of(period: Period, at: datetime) -> datetime:
    """When the period began that ``at`` (any zone) lies in."""
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if period == "hour":
        return hour
    day = hour.replace(hour=0)
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def end_of(period: Period, at: datetime) -> datetime:
    """When the period ends that ``at`` lies in, and the next one begins."""
    start = start_of(period, at)
    if period == "hour":
        return start + timedelta(hours=1)
    if period == "day":
        return start + timedelta(days=1)
    if period == "week":
        return start + timedelta(days=7)
    return start_of("month", start + timedelta(days=31))


def span_s(period: Period, at_s: float) -> tuple[int, int]:
    """Start and end of the period that a moment lies in; all in seconds since 1970."""
    if period == "month":
        at = datetime.fromtimestamp(at_s // 1, UTC)
        return int(start_of("month", at).timestamp()), int(end_of("month", at).timestamp())
    length = {"hour": _HOUR_S, "day": _DAY_S, "week": _WEEK_S}[period]
    first = _MONDAY_S if period == "week" else 0
    start = int((at_s - first) // length) * length + first
    return start, start + length
