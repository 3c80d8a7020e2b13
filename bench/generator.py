"""A load generator for machines without ``wrk``: raw connections, one request at a time on each.

It sends what :mod:`bench.calls` wrote, as ``bench/wrk.lua`` does, and sums up in the same words.
It is slower than ``wrk``; :mod:`bench.load` has it prove that it is fast enough.

    python -m bench.generator HOST PORT FILE --connections N --seconds S
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

from bench.calls import ID, SEPARATOR

_PLACE: Final = b'"id":' + ID


class Tally:
    """What all connections have seen together, and the requests they take in turn."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self.latencies_ns: list[int] = []
        self.received_bytes = 0
        self.errors = dict.fromkeys(("connect", "read", "write", "timeout", "status"), 0)
        self.stopped = False
        self._next = _numbered(requests)

    def next_request(self) -> bytes:
        return next(self._next)

    def summary(self, elapsed_ns: int) -> dict[str, Any]:
        """The same members as the line of ``wrk.lua``."""
        return {
            "requests": len(self.latencies_ns),
            "duration_us": elapsed_ns // 1000,
            "bytes": self.received_bytes,
            **percentiles(self.latencies_ns),
            "errors": self.errors,
        }


def percentiles(times_ns: Sequence[int]) -> dict[str, int]:
    """What a summary says of times, in microseconds; 0 where there were none."""
    ordered = sorted(times_ns) or [0]
    shares = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "max_us": 1.0}
    last = len(ordered) - 1
    return {
        name: ordered[min(last, int(len(ordered) * share))] // 1000
        for name, share in shares.items()
    }


class _Caller(asyncio.Protocol):
    """One connection that sends the next request when it has the whole answer to the last."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._sent_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._tally.received_bytes += len(data)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        tally = self._tally
        if not 200 <= self._parser.get_status_code() < 400:
            tally.errors["status"] += 1
        if not tally.stopped:
            tally.latencies_ns.append(time.perf_counter_ns() - self._sent_ns)
            self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._tally.stopped:
            self._tally.errors["read"] += 1

    def _send(self) -> None:
        if self._transport is not None:
            self._sent_ns = time.perf_counter_ns()
            self._transport.write(self._tally.next_request())


def _numbered(requests: Sequence[bytes]) -> Iterator[bytes]:
    parts = [request.partition(_PLACE) for request in requests]
    number = int(ID)
    while True:
        for before, _, after in parts:
            number += 1
            yield b'%b"id":%d%b' % (before, number, after)


async def generate(
    host: str, port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> dict[str, Any]:
    """Keep ``connections`` requests under way for ``seconds``; what came of it."""
    tally = Tally(requests)
    loop = asyncio.get_running_loop()
    began = time.perf_counter_ns()
    for _ in range(connections):
        try:
            await loop.create_connection(lambda: _Caller(tally), host, port)
        except OSError:
            tally.errors["connect"] += 1
    await asyncio.sleep(seconds)
    tally.stopped = True
    return tally.summary(time.perf_counter_ns() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description="Send requests as fast as they are answered.")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    requests = given.file.read_bytes().split(SEPARATOR)
    run = generate(given.host, given.port, requests, given.connections, given.seconds)
    sys.stdout.write(json.dumps(uvloop.run(run)) + "\n")


if __name__ == "__main__":
    main()
