"""Call ids: unique, sortable by time, cheap."""

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final

_COUNTER_BITS: Final = 26


class CallIds:
    """Makes ids in the layout of a UUID version 7 (RFC 9562): milliseconds, a counter, a random part.

    The random part is drawn once per process; the counter starts again with each millisecond and
    keeps ids of one process in order, also when the clock is set back.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._random = secrets.randbits(48)
        self._ms = 0
        self._counter = 0

    def __call__(self) -> str:
        """The next id, 36 characters."""
        ms = int(self._now().timestamp() * 1000)
        if ms > self._ms:
            self._ms, self._counter = ms, 0
        else:
            self._counter += 1
            if self._counter >> _COUNTER_BITS:
                self._ms, self._counter = self._ms + 1, 0
        count = self._counter
        text = (
            f"{self._ms:012x}7{count >> 14:03x}{0x8000 | (count & 0x3FFF):04x}{self._random:012x}"
        )
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
