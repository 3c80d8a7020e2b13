"""One request in flight on a JSON-RPC connection: its events, its deadline, its end."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from msgspec import Raw

from connectors.deadline import Deadline
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

    ``send`` puts it on the wire and is called when the first event is awaited; ``dismiss(exchange,
    reason)`` when it is given up or overdue, to tell the upstream and to forget it. ``read`` makes
    the end of its answer.
    """

    __slots__ = (
        "_deadline",
        "_dismiss",
        "_events",
        "_read",
        "_send",
        "_started",
        "_unanswered",
        "_waiter",
        "affinity",
        "end",
        "interactive",
        "log_level",
        "request_id",
        "wants_progress",
    )

    def __init__(
        self,
        request_id: int,
        *,
        send: Callable[["Exchange"], Failure | None],
        dismiss: Callable[["Exchange", str], None],
        read: Callable[[Message], Result | Failure],
        timeout_s: float,
        cap_s: float,
    ) -> None:
        self.request_id = request_id
        self.wants_progress = False
        self.log_level: str | None = None
        self.interactive = False
        """Server requests that come while it runs are asked of its caller."""
        self.affinity: str | None = None
        """Whose it is, as far as others may see its messages; None for our own requests."""
        self.end: Result | Failure | None = None
        self._send = send
        self._dismiss = dismiss
        self._read = read
        self._deadline = Deadline(timeout_s, cap_s, self._overdue)
        self._events: deque[Event] = deque()
        self._unanswered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._started = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        self.begin()
        while not self._events:
            if self.end is not None:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._events.popleft()

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
        self._deadline.begin()
        failure = self._send(self)
        if failure is not None:
            self.finish(failure)

    def give_up(self, reason: str) -> None:
        """What :meth:`aclose` does, for those who cannot await. Idempotent."""
        if self.end is None:
            self._abandon(Failure("disconnected", reason), reason)
        self._events.clear()

    def answered(self, answer: Message) -> None:
        """Its answer came."""
        self.finish(self._read(answer))

    def finish(self, end: Result | Failure) -> None:
        """Nothing follows ``end``."""
        if self.end is not None:
            return
        self.end = end
        self._deadline.stop()
        self._put(end)

    def progressed(self, params: dict[str, Raw]) -> None:
        """The upstream says that work goes on."""
        self._deadline.touch()
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
        self._deadline.hold()
        self._unanswered += 1
        self._put(ask)

    def replied(self) -> None:
        """A question was answered or withdrawn; without another one the upstream works on."""
        self._unanswered -= 1
        if not self._unanswered and self.end is None:
            self._deadline.touch()

    def _overdue(self) -> None:
        reason = "The upstream did not answer in time."
        self._abandon(Failure("timeout", reason), reason)

    def _abandon(self, end: Failure, reason: str) -> None:
        self.finish(end)
        if self._started:
            self._dismiss(self, reason)

    def _offer(self, event: Event) -> None:
        if self.end is None and len(self._events) < MAX_WAITING_EVENTS:
            self._put(event)

    def _put(self, event: Event) -> None:
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
