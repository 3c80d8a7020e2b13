"""How long a request may be silent, and how long it may take at all: one loop handle, no task."""

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls ``expired`` once: after ``silence_s`` without a sign of life, or ``cap_s`` after the start.

    ``begin`` starts it, ``touch`` is a sign of life, ``hold`` stops the silence from counting (the
    upstream waits for us) until ``touch``; ``stop`` ends it. A touch costs no timer, infinite times never expire.
    """

    __slots__ = ("_cap_at", "_cap_s", "_expired", "_handle", "_held", "_silence_s", "_silent_at")

    def __init__(self, silence_s: float, cap_s: float, expired: Callable[[], None]) -> None:
        self._silence_s = silence_s
        self._cap_s = cap_s
        self._expired = expired
        self._held = False
        self._cap_at = self._silent_at = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Count from now."""
        now = asyncio.get_running_loop().time()
        self._cap_at = now + self._cap_s
        self._silent_at = now + self._silence_s
        self._arm()

    def touch(self) -> None:
        """The upstream gave a sign of life."""
        self._held = False
        self._silent_at = asyncio.get_running_loop().time() + self._silence_s
        if self._handle is not None and self._handle.when() > self._silent_at:
            self._arm()

    def hold(self) -> None:
        """From here on the upstream is not the one to be waited for; the cap goes on."""
        self._held = True

    def stop(self) -> None:
        """Nothing expires any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _due(self) -> float:
        return self._cap_at if self._held else min(self._silent_at, self._cap_at)

    def _arm(self) -> None:
        self.stop()
        if self._due() < math.inf:
            self._handle = asyncio.get_running_loop().call_at(self._due(), self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._due() > asyncio.get_running_loop().time():
            self._arm()
        else:
            self._expired()
