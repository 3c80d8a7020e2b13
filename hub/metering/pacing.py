"""How a rate with a burst is kept: the one rule, in whole microseconds, of every way of counting.

A bucket is known by the moment at which it will be full again, one ``interval`` per call taken. A
call may be taken while that moment lies no further ahead than ``burst`` intervals: the generic cell
rate algorithm (ITU-T I.371). Intervals are rounded up, so that a rate is never exceeded; it may be
missed by less than a microsecond per call.
"""

from typing import Final

from hub.domain.metering import Counter

MICROSECONDS: Final = 1_000_000
_LONGEST_US: Final = 10**15
"""A bucket fills within 31 years: moments stay below 2**53, as a Redis script's numbers have to."""


def interval_us(counter: Counter) -> int:
    """Microseconds that one call of a rate takes up."""
    return min(-(-int(counter.window_s * MICROSECONDS) // max(1, counter.amount)), _LONGEST_US)


def depth_us(counter: Counter) -> int:
    """How far ahead of now a bucket may be taken up; no ``burst``: as many as come in a window."""
    return min((counter.burst or counter.amount) * interval_us(counter), _LONGEST_US)
