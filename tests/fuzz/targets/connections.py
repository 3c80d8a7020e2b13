"""Bytes on connections, and the two lanes that answer requests."""

import asyncio
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import httptools
import uvicorn
from uvicorn.server import ServerState

from hub.domain.principal import Evidence
from hub.front.door import Door, Lane
from hub.front.protocol import FrontProtocol
from hub.serving import DEFAULT_LIMITS
from hub.surfaces.mcp.stdio import serve_stdio
from hub.wire_errors import CRASHED
from tests.fuzz.mutation import JSON_WORDS
from tests.fuzz.serving import served
from tests.fuzz.target import Check, Target
from tests.fuzz.targets.hub import WORDS, Composed, Sent, composed_hub, read
from tests.fuzz.targets.wire import MESSAGE_WORDS, loads

ANSWER_S: Final = 5.0
STREAM_S: Final = 0.02
"""How long a stream that goes on is listened to before the client hangs up."""
_STREAM: Final = b"content-type: text/event-stream"
_ONCE: Final = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|(?<=mcp-session-id: )[\w-]+"
)
"""What differs between two answers to the same request: call ids and session ids."""


class Line(asyncio.Transport):
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 8080)})
        self.sent = b""
        self.closed = False
        self.changed = asyncio.Event()

    def write(self, data: Any) -> None:
        assert not self.closed, "written after the end"
        self.sent += bytes(data)
        self.changed.set()

    def close(self) -> None:
        self.closed = True
        self.changed.set()

    def abort(self) -> None:
        self.close()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """What was sent was sent."""

    def resume_reading(self) -> None:
        """Nothing more is sent."""


class Answers:
    """Reads answers as a client would."""

    def __init__(self) -> None:
        self.complete = 0
        self.statuses: list[int] = []

    def on_status(self, _: bytes) -> None:
        self.statuses.append(0)

    def on_message_complete(self) -> None:
        self.complete += 1


def door_of(lane: Lane | None) -> Door:
    """The door of a server that has had no connection yet."""
    return Door(lane, lambda _, __: None, DEFAULT_LIMITS)


async def answered(composed: Composed, door: Door, pieces: list[bytes]) -> bytes:
    """What a connection answers to ``pieces`` before its client hangs up."""
    config = uvicorn.Config(composed.hub.asgi, ws="none", lifespan="off", log_config=None,
                            access_log=False, server_header=False, date_header=False,
                            proxy_headers=False)  # fmt: skip
    config.load()
    protocol = FrontProtocol(config, ServerState(), {}, door=door)
    line = Line()
    protocol.connection_made(line)
    for piece in pieces:
        if not line.closed:
            protocol.data_received(piece)
    async with asyncio.timeout(ANSWER_S):
        while not line.closed and _is_answering(protocol):
            line.changed.clear()
            streaming = _STREAM in line.sent
            try:
                await asyncio.wait_for(line.changed.wait(), STREAM_S if streaming else None)
            except TimeoutError:
                break
    protocol.connection_lost(None)
    # What was under way has a turn to find out that its client has gone.
    for _ in range(3):
        await asyncio.sleep(0)
    return line.sent


def _is_answering(protocol: FrontProtocol) -> bool:
    """Whether something is owed; a request that has not come whole is owed nothing."""
    return protocol.is_answering and not (protocol._in_body or protocol._in_head)


def written(sent: Sent) -> bytes:
    """A request as it goes over a connection."""
    lines = [b"%b %b HTTP/1.1" % (sent.method.encode(), sent.target)]
    lines += [name + b": " + value for name, value in sent.headers if name != b"content-length"]
    lines.append(b"content-length: %d" % len(sent.body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + sent.body


async def _lanes(composed: Composed, data: bytes) -> None:
    sent = read(data, composed.places)
    if sent is None or any(name in _TAKING_OVER for name, _ in sent.headers):
        return
    request = written(sent)
    lane = composed.hub.fast_lane
    assert lane is not None
    door = door_of(cast(Lane, lane))
    fast = [await answered(composed, door, [request]) for _ in range(2)]
    plain = await answered(composed, door_of(None), [request])
    if _STREAM not in plain:
        for each in fast:  # the second time, its head is known
            assert _ONCE.sub(b"", each) == _ONCE.sub(b"", plain)


_TAKING_OVER: Final = frozenset((b"transfer-encoding", b"connection", b"upgrade", b"expect"))


@contextmanager
def lanes() -> Iterator[Check]:
    """Whatever a request is, both lanes give the same answer to the byte."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(composed_hub(Path(folder))) as running,
    ):
        yield lambda data: running.run(_lanes(running.service, data))


async def _socket(composed: Composed, data: bytes) -> None:
    middle = len(data) // 2
    door = door_of(cast(Lane, composed.hub.fast_lane))
    sent = await answered(composed, door, [data[:middle], data[middle:]])
    assert b"HTTP/1.1 500" not in sent
    if _STREAM in sent or data.lstrip()[:4] in {b"HEAD", b"CONN"} or b"HEAD " in data:
        return
    answers = Answers()
    parser = httptools.HttpResponseParser(answers)
    parser.feed_data(sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""))
    assert answers.complete == len(answers.statuses) or b"content-length" not in sent


@contextmanager
def socket() -> Iterator[Check]:
    """Whatever bytes come on a connection, what goes back is whole answers, none of them a 500."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(composed_hub(Path(folder))) as running,
    ):
        yield lambda data: running.run(_socket(running.service, data))


class _Input:
    """Standard input: what was typed, in two pieces, and its end."""

    def __init__(self, data: bytes) -> None:
        middle = len(data) // 2
        self._pieces = [data[middle:], data[:middle]]

    async def receive(self, max_bytes: int = 65536) -> bytes:
        piece = self._pieces.pop() if self._pieces else b""
        assert len(piece) <= max_bytes
        return piece


class _Output:
    """Standard output."""

    def __init__(self) -> None:
        self.text = b""

    async def send(self, item: bytes) -> None:
        self.text += item


async def _streams(composed: Composed, data: bytes) -> None:
    if b"listen" in data or b"\\u" in data:
        return  # a subscription lasts until its grace is over
    output = _Output()
    evidence = Evidence(direct=True)
    await serve_stdio(composed.hub.given, _Input(data), output, evidence=evidence)
    assert CRASHED.encode() not in output.text
    for line in output.text.splitlines():
        loads(line)


@contextmanager
def standard_input() -> Iterator[Check]:
    """Whatever a client writes to standard input, each line that comes out is JSON."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(composed_hub(Path(folder))) as running,
    ):
        yield lambda data: running.run(_streams(running.service, data))


_CALLS: Final = (b"echo", b"route", b"search_tools", b"call_tool", b"query")
TARGETS: Final = (
    Target("standard_input", standard_input, (*MESSAGE_WORDS, *_CALLS, b"\n", b"\r", b"ping")),
    Target("lanes", lanes, (*WORDS, *MESSAGE_WORDS, *_CALLS)),
    Target(
        "socket",
        socket,
        (
            *JSON_WORDS, b"\r\n", b"\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0", b"GET /mcp ", b"POST /mcp ",
            b"HEAD /healthz ", b"OPTIONS * ", b"Host: localhost\r\n", b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n", b"5\r\n", b"0\r\n\r\n", b"Connection: close\r\n",
            b"Connection: keep-alive\r\n", b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"\t", b" ",
            b"Content-Type: application/json\r\n", b"Mcp-Method: tools/list\r\n", b"\xff", b"%00",
            b"MCP-Protocol-Version: 2026-07-28\r\n", b"http://x/", b"?", b"#", b"X: " + b"y" * 1000,
        ),
    ),
)  # fmt: skip
