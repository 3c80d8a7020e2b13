"""Call ids: unique, sortable by time, cheap."""

import secrets
import time
from collections.abc import Callable
from typing import Final

_COUNTER_BITS: Final = 26


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
        self._time = ""
        self._counter = 0

    def __call__(self) -> str:
        """The next id, 36 characters."""
        ms = self._now_ns() // 1_000_000
        if ms > self._ms:
            self._begin(ms)
        else:
            self._counter += 1
            if self._counter >> _COUNTER_BITS:
                self._begin(self._ms + 1)
        counter = self._counter
        return f"{self._time}-7{counter >> 14:03x}-{0x8000 | counter & 0x3FFF:04x}-{self._random}"

    def _begin(self, ms: int) -> None:
        text = f"{ms:012x}"
        self._ms, self._time, self._counter = ms, f"{text[:8]}-{text[8:]}", 0
