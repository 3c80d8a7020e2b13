"""One request in flight on a JSON-RPC connection: its events, its deadline, its end."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from msgspec import Raw

from connectors.alarm import Alarm
from connectors.outcome import Ask, Event, Failure, Log, Progress, Result
from mcp_wire.codes import LOG_LEVELS
from mcp_wire.jsonrpc import Message, string_of

MAX_WAITING_EVENTS: Final = 1024
"""Progress and log messages kept for a caller that does not take them; further ones are dropped."""


def severity(level: str | None) -> int:
    """Rank of a log level; -1 for an unknown one."""
    return LOG_LEVELS.index(level) if level in LOG_LEVELS else -1


class Exchange:
    """A request and what comes back for it; an :class:`connectors.outcome.Outcome`.

    It ends ``timeout_s`` after the last sign of life and ``cap_s`` after its beginning at the
    latest; infinite times never expire. What carries it says how it is launched and dismissed.
    """

    __slots__ = (
        "_alarm",
        "_cap_at",
        "_cap_s",
        "_events",
        "_started",
        "_take",
        "_timeout_s",
        "_unanswered",
        "_waiter",
        "affinity",
        "due",
        "end",
        "interactive",
        "log_level",
        "request_id",
        "wants_progress",
    )

    def __init__(self, request_id: int, alarm: Alarm, timeout_s: float, cap_s: float) -> None:
        self.request_id = request_id
        self.wants_progress = False
        self.log_level: str | None = None
        self.interactive = False
        """Server requests that come while it runs are asked of its caller."""
        self.affinity: str | None = None
        """Whose it is, as far as others may see its messages; None for our own requests."""
        self.end: Result | Failure | None = None
        self.due = 0.0
        """When it expires, in the event loop's time; see :class:`connectors.alarm.Timed`."""
        self._alarm = alarm
        self._timeout_s = timeout_s
        self._cap_s = cap_s
        self._cap_at = 0.0
        self._events: deque[Event] = deque()
        self._unanswered = 0
        self._take: Callable[[Event | None], None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._started = False

    def launch(self) -> Failure | None:
        """Put it on the wire; a Failure when it cannot be."""
        raise NotImplementedError

    def dismiss(self, reason: str) -> None:
        """It was given up or is overdue: tell the upstream, and forget it."""
        raise NotImplementedError

    def read(self, answer: Message) -> Result | Failure:
        """The end that its answer stands for."""
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        self._take = None
        self.begin()
        while not self._events:
            if self.end is not None:
                raise StopAsyncIteration
            await self._awaken()
        return self._events.popleft()

    def first(self, take: Callable[[Event | None], None]) -> None:
        """See :class:`connectors.outcome.Prompt`."""
        self._take = take
        self.begin()

    async def aclose(self) -> None:
        """Give the request up; the upstream is told before this returns for the first time."""
        self.give_up("The caller gave the request up.")

    async def last(self) -> Result | Failure:
        """The end, for requests whose events nobody wants; giving up the wait gives the request up."""
        try:
            async for _ in self:
                pass
        finally:
            await self.aclose()
        if self.end is None:
            raise AssertionError("an exchange ended without an end")
        return self.end

    async def wait(self, seconds: float) -> Result | Failure | None:
        """The end, when it comes within ``seconds``; the request stays in flight otherwise."""
        try:
            async with asyncio.timeout(seconds):
                async for _ in self:
                    pass
        except TimeoutError:
            return None
        return self.end

    def begin(self) -> None:
        """Put it on the wire, which awaiting the first event does as well. Idempotent."""
        if self._started:
            return
        self._started = True
        now = self._alarm.now()
        self._cap_at = now + self._cap_s
        self.due = now + min(self._timeout_s, self._cap_s)
        self._alarm.watch(self)
        failure = self.launch()
        if failure is not None:
            self.finish(failure)

    def give_up(self, reason: str) -> None:
        """What :meth:`aclose` does, for those who cannot await. Idempotent."""
        if self.end is None:
            self._abandon(Failure("disconnected", reason), reason)
        self._events.clear()

    def answered(self, answer: Message) -> None:
        """Its answer came."""
        self.finish(self.read(answer))

    def finish(self, end: Result | Failure) -> None:
        """Nothing follows ``end``."""
        if self.end is not None:
            return
        self.end = end
        self._alarm.forget(self)
        self._put(end)

    def progressed(self, params: dict[str, Raw]) -> None:
        """The upstream says that work goes on."""
        self.touch()
        if self.wants_progress:
            self._offer(Progress(params))

    def logged(self, params: dict[str, Raw]) -> None:
        """A log message that may belong to this request; kept when its level was asked for."""
        if self.log_level is None:
            return
        if severity(string_of(params.get("level"))) >= severity(self.log_level):
            self._offer(Log(params))

    def asked(self, ask: Ask) -> None:
        """The upstream waits for an answer of the caller; its silence does not count meanwhile."""
        self.hold()
        self._unanswered += 1
        self._put(ask)

    def replied(self) -> None:
        """A question was answered or withdrawn; without another one the upstream works on."""
        self._unanswered -= 1
        if not self._unanswered and self.end is None:
            self.touch()

    def touch(self) -> None:
        """The upstream gave a sign of life."""
        if self.end is None:
            self._extend(self._alarm.now())

    def hold(self) -> None:
        """From here on the upstream is not the one to be waited for, until :meth:`touch`; the cap goes on."""
        if self.end is None:
            self.due = self._cap_at
            self._alarm.watch(self)

    def expire(self) -> None:
        """It is overdue; see :class:`connectors.alarm.Timed`."""
        reason = "The upstream did not answer in time."
        self._abandon(Failure("timeout", reason), reason)

    def _extend(self, now: float) -> None:
        due = now + self._timeout_s
        self.due = min(due, self._cap_at)
        self._alarm.watch(self)

    def _abandon(self, end: Failure, reason: str) -> None:
        self.finish(end)
        if self._started:
            self.dismiss(reason)

    def _offer(self, event: Event) -> None:
        if self.end is None and len(self._events) < MAX_WAITING_EVENTS:
            self._put(event)

    def _put(self, event: Event) -> None:
        take = self._take
        if take is not None:
            self._take = None
            take(event)
        else:
            self._events.append(event)
            self._awake()

    def _awake(self) -> None:
        """Tell whoever waits that there is something to do."""
        if self._take is not None:
            take, self._take = self._take, None
            take(None)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _awaken(self) -> None:
        """Wait until there is something to do."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
