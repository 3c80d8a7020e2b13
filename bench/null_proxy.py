"""The least that a proxy in Python can do: find message ends, share upstream connections, check nothing.

The floor where nginx is missing. Bytes pass unchanged. All upstream connections are made at the
start; a request that finds none idle waits for one.

    python -m bench.null_proxy HOST PORT [--port N]     prints {"url": …} when ready
"""

import argparse
import asyncio
from collections import deque
from typing import Final, cast

import httptools
import uvloop

from bench.listening import listen

UPSTREAM_CONNECTIONS: Final = 128


class Pool:
    """Upstream connections: the one used last is used next."""

    def __init__(self) -> None:
        self.idle: list[Outbound] = []
        self._waiting: deque[Inbound] = deque()

    def forward(self, inbound: "Inbound") -> None:
        """Send the request that ``inbound`` has read as soon as a connection is idle."""
        if self.idle:
            self.idle.pop().send(inbound)
        else:
            self._waiting.append(inbound)

    def give_back(self, outbound: "Outbound") -> None:
        if self._waiting:
            outbound.send(self._waiting.popleft())
        else:
            self.idle.append(outbound)


class Outbound(asyncio.Protocol):
    """A connection to the upstream, answering one caller at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._inbound: Inbound | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, inbound: "Inbound") -> None:
        self._inbound = inbound
        if self._transport is not None:
            self._transport.write(inbound.take_request())

    def data_received(self, data: bytes) -> None:
        if self._inbound is not None:
            self._inbound.write(data)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._inbound = None
        self._pool.give_back(self)


class Inbound(asyncio.Protocol):
    """A caller's connection, without pipelining: the next request comes after the answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._pool.forward(self)

    def take_request(self) -> bytes:
        """The bytes of the request that is complete."""
        request = b"".join(self._pieces)
        self._pieces.clear()
        return request

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def serve(upstream_host: str, upstream_port: int, port: int) -> None:
    """Stand in front of the upstream on 127.0.0.1 until the process is told to end."""
    loop = asyncio.get_running_loop()
    pool = Pool()
    for _ in range(UPSTREAM_CONNECTIONS):
        _, outbound = await loop.create_connection(
            lambda: Outbound(pool), upstream_host, upstream_port
        )
        pool.idle.append(outbound)
    await listen(lambda: Inbound(pool), port, "/mcp")


def main() -> None:
    parser = argparse.ArgumentParser(description="A proxy that checks nothing.")
    parser.add_argument("upstream_host")
    parser.add_argument("upstream_port", type=int)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    given = parser.parse_args()
    uvloop.run(serve(given.upstream_host, given.upstream_port, given.port))


if __name__ == "__main__":
    main()
