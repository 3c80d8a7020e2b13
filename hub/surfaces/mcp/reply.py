"""The answer to one POST: JSON in one go, or an event stream once something is to be said before.

A call that is answered at once costs one timer. Only one that lasts gets a watch for its client's
hanging up, and after a silent while becomes a stream, which comments keep alive (mcp.md S13, S16).
"""

import asyncio
from collections.abc import Callable
from typing import Final

from anyio.abc import TaskGroup

from hub.surfaces.asgi import JSON, Headers, encoded
from hub.surfaces.mcp.answering import Answer
from hub.surfaces.mcp.arrival import Arrival
from mcp_wire.sse import encode_comment, encode_frame

WATCH_AFTER_S: Final = 0.05
"""How long a call may last before somebody watches whether its client is still there."""

STREAM_HEADERS: Final[Headers] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
COMMENT: Final = encode_comment("ping")


def frame(message: bytes, event_id: str | None = None) -> bytes:
    """One JSON-RPC message as an event."""
    return encode_frame(message, event="message", id=event_id)


class Reply:
    """Answers one POST. ``on_gone`` is called, on the event loop, when the client has hung up."""

    __slots__ = (
        "_arrival",
        "_ended",
        "_heartbeat_s",
        "_hung_up",
        "_lock",
        "_started",
        "_tasks",
        "_timer",
        "can_show",
        "headers",
        "on_gone",
    )

    def __init__(
        self,
        arrival: Arrival,
        tasks: TaskGroup,
        heartbeat_s: float,
        on_gone: Callable[[], None] | None,
    ) -> None:
        self._arrival = arrival
        self._tasks = tasks
        self._heartbeat_s = heartbeat_s
        self.on_gone = on_gone
        self._started = False
        self._ended = False
        self._lock: asyncio.Lock | None = None
        self.headers: Headers = ()
        """What goes with the answer, whatever form it takes."""
        self._hung_up = False
        self.can_show = arrival.accepts_stream()
        """Whether anything can be sent before the answer."""
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._lasts)

    @property
    def gone(self) -> bool:
        """Whether the client has hung up; seen only of calls that last."""
        return self._hung_up

    async def show(self, message: bytes) -> None:
        """Send a notification or a request; from now on the answer is a stream."""
        if self.can_show and not self.gone:
            await self._write(frame(message))

    async def pause(self, _retry_ms: int | None) -> None:
        """Nothing: this answer's stream cannot be taken up again."""

    async def finish(self, answer: Answer) -> None:
        """Send the answer, and nothing after it."""
        self._timer.cancel()
        if self._started:
            await self._write(frame(answer.message), last=True)
            return
        self._ended = True
        headers = (JSON, *encoded(answer.headers)) if answer.headers else (JSON,)
        await self._arrival.respond(answer.status, answer.message, (*headers, *self.headers))

    def give_up(self) -> None:
        """End without an answer: the client has hung up."""
        self._ended = True
        self._timer.cancel()

    def _lasts(self) -> None:
        self._tasks.start_soon(self._watch)
        self._beat_later()

    def _beat_later(self) -> None:
        if self.can_show:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._heartbeat_s, self._tasks.start_soon, self._beat)

    async def _beat(self) -> None:
        if not self._ended and not self._hung_up:
            await self._write(COMMENT)
            if not self._ended:
                self._beat_later()

    async def _watch(self) -> None:
        receive = self._arrival.receive
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self._ended:
            self._hung_up = True
            self._timer.cancel()
            self._left()

    def _left(self) -> None:
        """The client has hung up."""
        if self.on_gone is not None:
            self.on_gone()

    def _opening(self) -> bytes:
        """What a stream begins with."""
        return b""

    async def _write(self, chunk: bytes, *, last: bool = False) -> None:
        send = self._arrival.send
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if self._ended:
                return
            if not self._started:
                self._started = True
                headers = [*STREAM_HEADERS, *self.headers, *self._arrival.cors]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                chunk = self._opening() + chunk
            self._ended = last
            await send({"type": "http.response.body", "body": chunk, "more_body": not last})
