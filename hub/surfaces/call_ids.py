"""Call ids: unique, sortable by time, cheap."""

import secrets
import time
from collections.abc import Callable
from typing import Final

_COUNTER_BITS: Final = 26
_LAYOUT: Final = "%08x-%04x-%04x-%04x-%s"


class CallIds:
    """Makes ids in the layout of a UUID version 7 (RFC 9562): milliseconds, a counter, a random part.

    The random part is drawn once per process; the counter starts again with each millisecond and
    keeps ids of one process in order, also when the clock is set back.
    """

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        """``now_ns``: nanoseconds since the epoch."""
        self._now_ns = now_ns
        self._random = f"{secrets.randbits(48):012x}"
        self._ms = 0
        self._counter = 0

    def __call__(self) -> str:
        """The next id, 36 characters."""
        ms, counter = self._now_ns() // 1_000_000, 0
        if ms <= self._ms:
            ms, counter = self._ms, self._counter + 1
            if counter >> _COUNTER_BITS:
                ms, counter = ms + 1, 0
        self._ms, self._counter = ms, counter
        parts = (ms >> 16, ms & 0xFFFF, 0x7000 | counter >> 14, 0x8000 | counter & 0x3FFF)
        return _LAYOUT % (*parts, self._random)
