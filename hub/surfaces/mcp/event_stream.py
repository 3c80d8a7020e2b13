"""An event stream that stays open."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from anyio.abc import TaskGroup

from hub.surfaces.asgi import Headers
from hub.surfaces.mcp.arrival import Arrival
from hub.surfaces.mcp.reply import COMMENT, STREAM_HEADERS, frame

MAX_WAITING: Final = 1024
"""Messages that may wait for a slow reader; one that falls further behind is hung up on."""

CROWDED: Final = 64
"""Messages that may wait before those who can wait do."""


class EventStream:
    """An event stream that stays open until one side ends it; comments keep it alive.

    Offering never waits: a reader that falls too far behind is hung up on.
    """

    def __init__(self, arrival: Arrival, tasks: TaskGroup, heartbeat_s: float) -> None:
        self._arrival = arrival
        self._tasks = tasks
        self._heartbeat_s = heartbeat_s
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._ending = False
        self._over = False
        self.gone = False
        """Whether nothing more can be sent: it ended, or the client hung up or did not keep up."""

    def offer(self, message: bytes) -> None:
        """Send a JSON-RPC message when its turn comes."""
        self.offer_chunk(frame(message))

    def offer_chunk(self, chunk: bytes) -> None:
        """The same for an event that is encoded already."""
        if self._ending or self.gone:
            return
        if len(self._waiting) >= MAX_WAITING:
            self.gone = True
        else:
            self._waiting.append(chunk)
        self._wake.set()

    async def room(self) -> None:
        """Wait until few messages wait."""
        while len(self._waiting) > CROWDED and not self.gone:
            self._sent.clear()
            await self._sent.wait()

    def end(self) -> None:
        """Close it once everything offered so far was sent."""
        self._ending = True
        self._wake.set()

    async def serve(self, headers: Headers, check: Callable[[], None]) -> None:
        """Send what is offered until the end; ``check`` is called before each comment."""
        send = self._arrival.send
        head = [*STREAM_HEADERS, *headers, *self._arrival.cors]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        self._tasks.start_soon(self._watch)
        try:
            while not self.gone:
                while self._waiting and not self.gone:
                    chunk = self._waiting.popleft()
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self._sent.set()
                if self._ending:
                    break
                if not await self._woken():
                    check()
                    self._waiting.append(COMMENT)
        finally:
            self._over = True
            self.gone = True
            self._sent.set()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _woken(self) -> bool:
        """Wait for something to do; False when there was nothing for one heartbeat."""
        self._wake.clear()
        if self._waiting or self._ending or self.gone:
            return True
        try:
            async with asyncio.timeout(self._heartbeat_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _watch(self) -> None:
        while (await self._arrival.receive())["type"] != "http.disconnect":
            pass
        if not self._over:
            self.gone = True
            self._wake.set()
