"""Many deadlines behind one loop handle: a request that ends in time has cost no timer of its own."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Protocol


class Timed(Protocol):
    """What has a deadline."""

    due: float
    """When it expires, in the event loop's time; it may move while it is watched."""

    def expire(self) -> None:
        """It is due; called once."""
        ...


class Alarm:
    """Rings for everything it watches, at the earliest of the deadlines first."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        self._watched: set[Timed] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._rings_at = inf
        self.forget: Callable[[Timed], None] = self._watched.discard
        """It does not expire any more. The next ring may come in vain, and plans the one after."""

    def watch(self, timed: Timed) -> None:
        """Ring when ``timed`` is due, unless it is forgotten before; never for an infinite one."""
        due = timed.due
        if due < inf:
            self._watched.add(timed)
            if due < self._rings_at:
                self._set(due)

    def stop(self) -> None:
        """Ring no more."""
        self._watched.clear()
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._rings_at = None, inf

    def _set(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._rings_at = due
        self._handle = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._handle, self._rings_at = None, inf
        now = self.now()
        overdue = [timed for timed in self._watched if timed.due <= now]
        self._watched.difference_update(overdue)
        for timed in overdue:
            timed.expire()
        if self._watched and self._handle is None:
            self._set(min(timed.due for timed in self._watched))
