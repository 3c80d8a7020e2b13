"""The answer to a legacy POST whose stream may break, or pause, and be taken up again by a GET.

Source: 2025-11-25 transports, Sending Messages to the Server (6) and Resumability and Redelivery. An
answer that is no stream costs nothing here: what is said is kept from its first event on.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from anyio.abc import TaskGroup

from hub.surfaces.mcp.answering import Answer
from hub.surfaces.mcp.arrival import Arrival
from hub.surfaces.mcp.collaborators import Replay
from hub.surfaces.mcp.event_stream import EventStream
from hub.surfaces.mcp.reply import Reply, frame
from mcp_wire.revisions import at_least

RESUMABLE_SINCE: Final = "2025-03-26"
"""The first revision whose clients know event ids."""
POLLED_SINCE: Final = "2025-11-25"
"""The first one whose clients take an event without data, and come back when they are sent away."""
RETRY_MS: Final = 1000
"""How soon a client is to come back, where the upstream names no time."""


class ResumableReply(Reply):
    """Answers one POST, and goes on at the streams by which its client takes the answer up again.

    A client that hung up in the middle may come back within two heartbeats; until then its open
    questions stay open. ``keep`` begins what is kept.
    """

    __slots__ = ("_away", "_grace_s", "_keep", "_kept", "_paused", "_polled")

    def __init__(
        self,
        arrival: Arrival,
        tasks: TaskGroup,
        heartbeat_s: float,
        keep: Callable[[], Replay],
        revision: str,
    ) -> None:
        super().__init__(arrival, tasks, heartbeat_s, None)
        self._keep = keep
        self._kept: Replay | None = None
        self._polled = at_least(revision, POLLED_SINCE)
        self._paused = False
        """The client was sent away and is expected back."""
        self._grace_s = 2 * heartbeat_s
        self._away: asyncio.TimerHandle | None = None

    @property
    def gone(self) -> bool:
        """Whether the client has hung up and not come back."""
        if self._kept is None:
            return self._hung_up
        return not self._is_here and not self._paused and self._kept.reader is None

    async def show(self, message: bytes) -> None:
        """Send a notification or a request; from now on the answer is a stream."""
        if self.can_show and (self._kept is not None or not self._hung_up):
            await self._say(self._begun(), message)

    async def pause(self, retry_ms: int | None) -> None:
        """Send the client away for a while, if it is one that comes back."""
        if not self._polled or not self.can_show or self.gone:
            return
        kept, retry_ms = self._begun(), RETRY_MS if retry_ms is None else retry_ms
        farewell = _saying_nothing(kept.mark(), retry_ms)
        reader: EventStream | None = kept.reader
        self._paused = True
        self._wait_for_it(retry_ms / 1000 + self._grace_s)
        if self._is_here:
            self._timer.cancel()
            await self._write(farewell, last=True)
        elif reader is not None:
            reader.offer_chunk(farewell)
            reader.end()

    async def finish(self, answer: Answer) -> None:
        """Send the answer, and nothing after it."""
        if self._kept is None and not self._is_streamed(answer):
            await super().finish(answer)
            return
        self._timer.cancel()
        await self._say(self._begun(), answer.message, last=True)
        self._stop_waiting()

    def give_up(self) -> None:
        """End without an answer."""
        super().give_up()
        self._stop_waiting()
        if self._kept is not None:
            self._kept.forget()

    @property
    def _is_here(self) -> bool:
        return not self._hung_up and not self._ended

    def _is_streamed(self, answer: Answer) -> bool:
        """Whether an answer that comes at once is a stream all the same, as its client likes that better."""
        return self._arrival.prefers_stream() and answer.status == 200 and self._is_here

    def _begun(self) -> Replay:
        if self._kept is None:
            self._kept = self._keep()
            self._kept.on_taken_up(self._taken_up)
        return self._kept

    def _opening(self) -> bytes:
        """See :meth:`hub.surfaces.mcp.reply.Reply._opening`: clients of today learn an id first."""
        kept = self._begun()
        return _saying_nothing(kept.beginning) if self._polled else b""

    async def _say(self, kept: Replay, message: bytes, *, last: bool = False) -> None:
        chunk = frame(message, kept.keep(message, last=last))
        reader: EventStream | None = kept.reader
        if reader is not None:
            reader.offer_chunk(chunk)
            if last:
                reader.end()
            else:
                await reader.room()
        elif self._is_here:
            await self._write(chunk, last=last)

    def _left(self) -> None:
        if self._kept is None:
            super()._left()
        else:
            self._wait_for_it(self._grace_s)

    def _taken_up(self) -> None:
        """A reader has come, or left."""
        if self._kept is None or self._kept.reader is None:
            if not self._paused:
                self._wait_for_it(self._grace_s)
            return
        self._stop_waiting()
        self._paused = False
        if self._is_here:
            self._timer.cancel()
            self._tasks.start_soon(self._end_here)

    async def _end_here(self) -> None:
        """The client goes on elsewhere, and may not know that this response stood."""
        await self._write(b"", last=True)

    def _wait_for_it(self, seconds: float) -> None:
        self._stop_waiting()
        self._away = asyncio.get_running_loop().call_later(seconds, self._stayed_away)

    def _stop_waiting(self) -> None:
        if self._away is not None:
            self._away.cancel()
            self._away = None

    def _stayed_away(self) -> None:
        self._away = None
        self._paused = False
        super()._left()


def _saying_nothing(event_id: str, retry_ms: int | None = None) -> bytes:
    """An event that says where to go on, and when.

    Its data is a line without a space, which readers who look for ``data: `` do not see.
    """
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return b"id: %b\n%bdata:\n\n" % (event_id.encode("ascii"), retry)
