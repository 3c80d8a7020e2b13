"""MCP over standard streams: newline-delimited messages of both eras, answered in this process.

Source: 2026-07-28 stdio transport; 2025-11-25 transports, stdio.
"""

from collections import deque
from typing import Final, Protocol

import anyio

from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.principal import Evidence
from hub.surfaces.asgi import MAX_BODY_BYTES
from hub.surfaces.mcp.calls import Caller
from hub.surfaces.mcp.channel import Channel, new_nonce
from hub.surfaces.mcp.collaborators import Collaborators
from hub.surfaces.mcp.event_stream import CROWDED
from hub.surfaces.mcp.inbound import Malformed
from hub.surfaces.mcp.machinery import machinery_of
from mcp_wire import codes

GRACE_S: Final = 1.5
"""How long calls under way may go on when the client has closed its end; clients wait 2 s."""


class ByteSource(Protocol):
    """Where lines come from; ``anyio.abc.ByteReceiveStream`` is one."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Some bytes; raises :class:`anyio.EndOfStream`, or gives none, at the end."""
        ...


class ByteSink(Protocol):
    """Where lines go; ``anyio.abc.ByteSendStream`` is one."""

    async def send(self, item: bytes) -> None:
        """Take all of them."""
        ...


class Lines:
    """Cuts what a source gives into lines; one that is too long is given as None."""

    def __init__(self, source: ByteSource, limit_bytes: int = MAX_BODY_BYTES) -> None:
        self._source = source
        self._limit = limit_bytes
        self._buffer = bytearray()
        self._skipping = False

    def __aiter__(self) -> "Lines":
        return self

    async def __anext__(self) -> bytes | None:
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                if not self._skipping and len(line) <= self._limit:
                    return line
                self._skipping = False
                return None
            searched = len(self._buffer)
            if searched > self._limit:
                self._buffer.clear()
                self._skipping, searched = True, 0
            await self._read()

    async def _read(self) -> None:
        try:
            chunk = await self._source.receive(65536)
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            chunk = b""
        if not chunk:
            raise StopAsyncIteration
        self._buffer += chunk


class LineWriter:
    """Writes messages as lines, in order, by one task."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._waiting: deque[bytes] = deque()
        self._wake = anyio.Event()
        self._sent = anyio.Event()
        self._ending = False
        self.gone = False
        """Whether nothing more can be written."""

    def offer(self, message: bytes) -> None:
        """Write a message when its turn comes; line ends between its tokens become spaces."""
        if not self.gone:
            line = message.replace(b"\n", b" ").replace(b"\r", b" ")
            self._waiting.append(line + b"\n")
            self._wake.set()

    async def room(self) -> None:
        """Wait until few messages wait."""
        while len(self._waiting) > CROWDED and not self.gone:
            self._sent = anyio.Event()
            await self._sent.wait()

    def end(self) -> None:
        """Stop once everything offered so far was written."""
        self._ending = True
        self._wake.set()

    async def run(self) -> None:
        """Write until the end, or until nobody reads."""
        try:
            while True:
                while self._waiting:
                    batch = b"".join(self._waiting)
                    self._waiting.clear()
                    await self._sink.send(batch)
                    self._sent.set()
                if self._ending:
                    return
                self._wake = anyio.Event()
                await self._wake.wait()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            return
        finally:
            self.gone = True
            self._waiting.clear()
            self._sent.set()


async def serve_stdio(
    given: Collaborators,
    source: ByteSource,
    sink: ByteSink,
    *,
    evidence: Evidence,
    virtual_server: str = DEFAULT_VIRTUAL_SERVER,
) -> None:
    """Answer what comes on ``source`` until it ends; ``evidence`` proves whoever started this."""
    writer = LineWriter(sink)
    reading = anyio.CancelScope()

    async def write() -> None:
        await writer.run()
        reading.cancel()  # nobody would hear of what is read from now on

    async with anyio.create_task_group() as writing:
        writing.start_soon(write)
        async with anyio.create_task_group() as calls:
            caller = Caller(evidence, virtual_server)
            channel = Channel(machinery_of(given), caller, writer, calls, new_nonce())
            try:
                with reading:
                    await _read(source, channel)
                await _wind_down(channel)
            finally:
                channel.close()
        writer.end()


async def _read(source: ByteSource, channel: Channel) -> None:
    async for line in Lines(source):
        if line is not None and not line.strip():
            continue
        try:
            if line is None:
                raise Malformed(
                    codes.INVALID_REQUEST, f"A line has {MAX_BODY_BYTES} bytes at most."
                )
            channel.receive(line)
        except Malformed as error:
            channel.refuse(error)


async def _wind_down(channel: Channel) -> None:
    """Let calls under way end for a while, then give them up."""
    with anyio.move_on_after(GRACE_S):
        await channel.idle()
    channel.cancel_calls()
    channel.end_listening()
