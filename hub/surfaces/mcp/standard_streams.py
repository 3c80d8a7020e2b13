"""This process's standard input and output as byte streams of the event loop."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from typing import BinaryIO, Literal

import anyio
from anyio import to_thread
from msgspec import Struct

from hub.surfaces.mcp.stdio import ByteSink, ByteSource


class _PipeSource:
    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._reader.read(max_bytes)


class _PipeSink:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, item: bytes) -> None:
        self._writer.write(item)
        await self._writer.drain()


class _File(Struct):
    """A regular file: the event loop cannot wait for one, and need not."""

    descriptor: int

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await to_thread.run_sync(os.read, self.descriptor, max_bytes)

    async def send(self, item: bytes) -> None:
        while item:
            written = await to_thread.run_sync(os.write, self.descriptor, item)
            item = item[written:]


@asynccontextmanager
async def standard_streams() -> AsyncIterator[tuple[ByteSource, ByteSink]]:
    """Standard input and output, for as long as the block runs.

    Whatever else this process prints must go to standard error meanwhile.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    source: ByteSource
    sink: ByteSink
    reading: asyncio.BaseTransport | None = None
    writer: asyncio.StreamWriter | None = None
    try:
        reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), _duplicate(sys.stdin.buffer, "rb")
        )
        source = _PipeSource(reader)
    except ValueError:
        source = _File(sys.stdin.fileno())
    try:
        writing, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, _duplicate(sys.stdout.buffer, "wb")
        )
        writer = asyncio.StreamWriter(writing, protocol, None, loop)
        sink = _PipeSink(writer)
    except ValueError:
        sink = _File(sys.stdout.fileno())
    try:
        yield source, sink
    finally:
        if writer is not None:
            writer.close()
        if reading is not None:
            reading.close()
        await anyio.lowlevel.checkpoint()


def _duplicate(stream: BinaryIO, mode: Literal["rb", "wb"]) -> FileIO:
    """A file of our own on the same descriptor: transports close what they are given."""
    return FileIO(os.dup(stream.fileno()), mode)
