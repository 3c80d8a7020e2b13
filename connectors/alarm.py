"""Many deadlines behind one loop handle: a call that ends in time has cost no timer of its own."""

import asyncio
from collections.abc import Callable

from connectors.deadline import Deadline


class Alarm:
    """Rings for every deadline it watches, at the earliest of them first."""

    def __init__(self) -> None:
        self._watched: set[SharedDeadline] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._rings_at = float("inf")

    def watch(self, deadline: "SharedDeadline") -> None:
        """Ring when ``deadline`` is due, unless it is forgotten before; never for an infinite one."""
        if deadline.due < float("inf"):
            self._watched.add(deadline)
            if deadline.due < self._rings_at:
                self._set(deadline.due)

    def forget(self, deadline: "SharedDeadline") -> None:
        """It does not expire any more. The next ring may come in vain, and plans the one after."""
        self._watched.discard(deadline)

    def stop(self) -> None:
        """Ring no more."""
        self._watched.clear()
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._rings_at = None, float("inf")

    def _set(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._rings_at = due
        self._handle = asyncio.get_running_loop().call_at(due, self._ring)

    def _ring(self) -> None:
        self._handle, self._rings_at = None, float("inf")
        now = asyncio.get_running_loop().time()
        overdue = [deadline for deadline in self._watched if deadline.due <= now]
        self._watched.difference_update(overdue)
        for deadline in overdue:
            deadline.expire()
        if self._watched and self._handle is None:
            self._set(min(deadline.due for deadline in self._watched))


class SharedDeadline(Deadline):
    """A deadline that an alarm watches; see :class:`connectors.deadline.Deadline`."""

    __slots__ = ("_alarm", "due")

    def __init__(
        self, alarm: Alarm, silence_s: float, cap_s: float, expired: Callable[[], None]
    ) -> None:
        super().__init__(silence_s, cap_s, expired)
        self._alarm = alarm
        self.due = float("inf")
        """When it expires, in the event loop's time."""

    def begin(self) -> None:
        """Count from now."""
        now = asyncio.get_running_loop().time()
        self._cap_at = now + self._cap_s
        self._set(now)

    def touch(self) -> None:
        """The upstream gave a sign of life."""
        self._set(asyncio.get_running_loop().time())

    def hold(self) -> None:
        """Silence does not count from here on; the cap does."""
        self.due = self._cap_at
        self._alarm.watch(self)

    def stop(self) -> None:
        """Nothing expires any more."""
        self._alarm.forget(self)

    def expire(self) -> None:
        """The alarm: it is due."""
        self._expired()

    def _set(self, now: float) -> None:
        silent_at = now + self._silence_s
        self.due = min(silent_at, self._cap_at)
        self._alarm.watch(self)
