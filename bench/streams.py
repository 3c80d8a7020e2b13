"""A load generator for answers that come bit by bit: every chunk is read, counted and checked.

Each connection has one stream at a time, as ``bench/generator.py`` has one request; none is begun
once the time is over, and those under way are read to their end, so that all that was paid for counts.
A stream is complete when each progress notification came once, in order, under the token of its own
request, and the result of that request after the last one, and nothing after that.

    python -m bench.streams HOST PORT FILE --connections N --seconds S --chunks N
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import httptools
import uvloop
from msgspec import DecodeError, Raw, Struct, field
from msgspec.json import Decoder

from bench.calls import ID, SEPARATOR
from bench.generator import percentiles
from mcp_wire.codes import META_PROGRESS
from mcp_wire.sse import SseDecoder

PATIENCE_S: Final = 30.0
"""For streams under way when the time is over."""
_PLACES: Final = (b'"id":', b'"%b":' % META_PROGRESS.encode())


class _Params(Struct, frozen=True, gc=False):
    token: int = field(default=0, name=META_PROGRESS)
    progress: float = 0


class _Message(Struct, frozen=True, gc=False):
    id: int = 0
    method: str = ""
    params: _Params = _Params()
    result: Raw = Raw()


_message: Final = Decoder(_Message)


class Tally:
    """What all connections have seen together, and the requests they take in turn."""

    def __init__(self, requests: Sequence[bytes], chunks: int) -> None:
        self.chunks_of_each = chunks
        self.chunks = 0
        self.latencies_ns: list[int] = []
        """Of whole streams."""
        self.first_ns: list[int] = []
        """From the request to the first event."""
        self.received_bytes = 0
        self.errors = dict.fromkeys(("connect", "read", "timeout", "status", "incomplete"), 0)
        self.fault = ""
        """The first thing that went wrong."""
        self.stopped = False
        self.numbered = _numbered(requests)

    def wrong(self, kind: str, fault: str) -> None:
        """Note what went wrong."""
        self.errors[kind] += 1
        self.fault = self.fault or fault

    def summary(self, elapsed_ns: int) -> dict[str, Any]:
        """The same members as the line of ``wrk.lua``, and what there is to say of streams."""
        return {
            "requests": len(self.latencies_ns),
            "duration_us": elapsed_ns // 1000,
            "bytes": self.received_bytes,
            **percentiles(self.latencies_ns),
            "errors": self.errors,
            "chunks": self.chunks,
            "first_p50_us": percentiles(self.first_ns)["p50_us"],
            "fault": self.fault,
        }


class _Caller(asyncio.Protocol):
    """One connection that sends the next request when it has the whole stream of the last."""

    def __init__(self, tally: Tally) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when it will make no more requests."""
        self._tally = tally
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._events = SseDecoder()
        self._number = 0
        self._sent_ns = 0
        self._chunks = 0
        self._has_result = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._tally.received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail("read", f"no HTTP: {error!r}")

    def on_body(self, body: bytes) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._fail("status", f"{status}: {body[:200]!r}")
            return
        for frame in self._events.feed(body):
            if not self._chunks:
                self._tally.first_ns.append(time.perf_counter_ns() - self._sent_ns)
            if not self._is_next(frame.data):
                so_far = f"after {self._chunks} of {self._tally.chunks_of_each} chunks"
                self._fail("incomplete", f"request {self._number}: {so_far} came {frame.data!r}")
                return

    def on_message_complete(self) -> None:
        tally = self._tally
        if self.ended.done():
            return
        if not self._has_result:
            so_far = (
                f"ended after {self._chunks} of {tally.chunks_of_each} chunks, without a result"
            )
            self._fail("incomplete", f"request {self._number}: {so_far}")
            return
        tally.chunks += self._chunks
        tally.latencies_ns.append(time.perf_counter_ns() - self._sent_ns)
        if tally.stopped:
            self._end()
        else:
            self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.ended.done():
            self._fail("read", f"hung up on after {self._chunks} chunks of request {self._number}")

    def _is_next(self, data: bytes) -> bool:
        """Whether the event is the one that has to come now."""
        try:
            message = _message.decode(data)
        except DecodeError:
            return False
        if self._has_result:
            return False
        if self._chunks == self._tally.chunks_of_each:
            self._has_result = message.id == self._number and message.result != Raw()
            return self._has_result
        self._chunks += 1
        told = message.params
        return (
            message.method == "notifications/progress"
            and told.token == self._number
            and told.progress == self._chunks
        )

    def _send(self) -> None:
        self._events = SseDecoder()
        self._chunks = 0
        self._has_result = False
        self._number, request = next(self._tally.numbered)
        if self._transport is not None:
            self._sent_ns = time.perf_counter_ns()
            self._transport.write(request)

    def _fail(self, kind: str, fault: str) -> None:
        if not self.ended.done():
            self._tally.wrong(kind, fault)
            self._end()

    def _end(self) -> None:
        self.ended.set_result(None)
        if self._transport is not None:
            self._transport.close()


def _numbered(requests: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """The requests in turn, each with a number for its id and its progress token."""
    number = int(ID)
    while True:
        for request in requests:
            number += 1
            own = request
            for place in _PLACES:
                own = own.replace(place + ID, b"%b%d" % (place, number), 1)
            yield number, own


async def generate(
    host: str, port: int, requests: Sequence[bytes], connections: int, seconds: float, chunks: int
) -> dict[str, Any]:
    """Keep ``connections`` streams under way for ``seconds``; what came of it."""
    tally = Tally(requests, chunks)
    loop = asyncio.get_running_loop()
    began = time.perf_counter_ns()
    callers: list[_Caller] = []
    for _ in range(connections):
        try:
            _, caller = await loop.create_connection(lambda: _Caller(tally), host, port)
            callers.append(caller)
        except OSError as error:
            tally.wrong("connect", str(error))
    await asyncio.sleep(seconds)
    tally.stopped = True
    try:
        async with asyncio.timeout(PATIENCE_S):
            for caller in callers:
                await caller.ended
    except TimeoutError:
        tally.wrong("timeout", f"a stream was under way {PATIENCE_S:g} s after the time was over")
    return tally.summary(time.perf_counter_ns() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description="Read streams, and check each chunk.")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--chunks", type=int, required=True, help="in each stream")
    given = parser.parse_args()
    requests = given.file.read_bytes().split(SEPARATOR)
    run = generate(given.host, given.port, requests, given.connections, given.seconds, given.chunks)
    sys.stdout.write(json.dumps(uvloop.run(run)) + "\n")


if __name__ == "__main__":
    main()
