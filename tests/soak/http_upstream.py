"""An upstream over HTTP that fails at random: ``/modern`` and ``/legacy`` on one port, by script.

It prints its port; ``GET /stats`` tells how many calls are under way, and how many wait for an answer
to their question. Standard library only.
"""

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Final

TOOLS: Final = [
    {"name": name, "description": name, "inputSchema": {"type": "object"}}
    for name in ("work", "ask")
]
QUESTION: Final = {"message": "Go on?", "requestedSchema": {"type": "object", "properties": {}}}
DISCOVERED: Final = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 600_000,
    "cacheScope": "private",
}
LISTED: Final = {
    "resultType": "complete",
    "tools": TOOLS,
    "ttlMs": 600_000,
    "cacheScope": "private",
}
TROUBLE: Final[Mapping[str, float]] = {
    "hang": 1.5,
    "slow": 8,
    "close before answering": 3,
    "close in the middle": 3,
    "status 500": 3,
    "status 503": 2,
    "garbage": 3,
    "half of it": 2,
    "another's id": 1,
}
"""How often of a hundred calls; the rest is answered."""


class Request:
    """What came on a connection, and the ways to answer it."""

    def __init__(
        self, line: str, headers: Mapping[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        self.method, self.path, _ = line.split(" ", 2)
        self.headers = headers
        self.message: Any = json.loads(body) if body else {}
        self._writer = writer

    async def reply(self, status: int, body: bytes = b"", more: str = "") -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await self._writer.drain()

    async def result(self, result: Any, more: str = "") -> None:
        await self.reply(200, self.answer(result), more)

    def answer(self, result: Any, request_id: Any = None) -> bytes:
        number = self.message["id"] if request_id is None else request_id
        return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()

    async def start_stream(self) -> None:
        self._writer.write(
            b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        await self._writer.drain()

    async def frame(self, message: bytes) -> None:
        data = b"data: %b\n\n" % message
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    async def end_stream(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def hang_up(self) -> None:
        self._writer.transport.abort()


class Upstream:
    """Both eras, and everything that is under way."""

    def __init__(self, seed: int, trouble: float) -> None:
        self._random = random.Random(seed)  # noqa: S311  # what fails when, not a secret
        self._trouble = trouble
        self._numbers = count(1)
        self._sessions: set[str] = set()
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self.under_way = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *lines = head.rstrip("\r\n").split("\r\n")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (each.partition(":") for each in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._take(Request(line, headers, body, writer), reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    async def _take(self, request: Request, reader: asyncio.StreamReader) -> None:
        if request.path == "/stats":
            numbers = {"under_way": self.under_way, "asking": len(self._asked)}
            await request.reply(200, json.dumps(numbers).encode())
        elif request.path == "/modern":
            await self._modern(request, reader)
        else:
            await self._legacy(request, reader)

    async def _modern(self, request: Request, reader: asyncio.StreamReader) -> None:
        method = request.message.get("method")
        if method == "server/discover":
            await request.result(DISCOVERED)
        elif method == "tools/list":
            await request.result(LISTED)
        elif method == "tools/call":
            await self._call(request, reader, self._ask_modern)
        else:
            error = {"code": -32601, "message": "no"}
            answer = {"jsonrpc": "2.0", "id": request.message.get("id"), "error": error}
            await request.reply(404, json.dumps(answer).encode())

    async def _legacy(self, request: Request, reader: asyncio.StreamReader) -> None:
        session, method = request.headers.get("mcp-session-id", ""), request.message.get("method")
        if request.method == "DELETE":
            self._sessions.discard(session)
            await request.reply(200)
        elif request.method == "GET":
            await request.reply(405)
        elif method == "initialize":
            await self._initialize(request)
        elif request.headers.get("mcp-protocol-version", "2025-03-26") > "2026":
            error = {"code": -32600, "message": "Unsupported protocol version"}
            answer = {"jsonrpc": "2.0", "id": None, "error": error}
            await request.reply(400, json.dumps(answer).encode())
        elif session not in self._sessions:
            await request.reply(404)
        elif method == "tools/list":
            await request.result({"tools": TOOLS})
        elif method == "tools/call":
            await self._call(request, reader, self._ask_legacy)
        else:
            asked = self._asked.get(str(request.message.get("id")))
            if method is None and asked is not None and not asked.done():
                asked.set_result(request.message)
            await request.reply(202)

    async def _initialize(self, request: Request) -> None:
        session = f"session-{next(self._numbers)}"
        self._sessions.add(session)
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "soak", "version": "0"},
        }
        await request.result(result, f"Mcp-Session-Id: {session}\r\n")

    async def _call(
        self,
        request: Request,
        reader: asyncio.StreamReader,
        ask: Callable[[Request, asyncio.StreamReader], Awaitable[None]],
    ) -> None:
        self.under_way += 1
        try:
            if request.message["params"]["name"] == "ask":
                await ask(request, reader)
            else:
                await self._work(request, reader)
        finally:
            self.under_way -= 1

    async def _work(self, request: Request, reader: asyncio.StreamReader) -> None:
        kinds = list(TROUBLE)
        weights = [TROUBLE[kind] * self._trouble for kind in kinds]
        kind = self._random.choices([*kinds, ""], [*weights, max(100 - sum(weights), 0)])[0]
        done = self._done(self._random.randrange(20_000))
        if kind == "hang":
            await reader.read()
        elif kind == "close before answering":
            request.hang_up()
        elif kind == "close in the middle":
            await self._tell(request)
            request.hang_up()
        elif kind.startswith("status"):
            await request.reply(int(kind.split()[1]))
        elif kind == "garbage":
            await request.reply(200, b"<html>It works!</html>")
        elif kind == "half of it":
            await request.reply(200, request.answer(done)[:-20])
        elif kind == "another's id":
            await request.reply(200, request.answer(done, 987_654_321))
        else:
            if kind == "slow":
                await asyncio.sleep(self._random.random() / 2)
            await self._answer(request, done)

    async def _answer(self, request: Request, done: Any) -> None:
        if self._random.random() < 0.7:
            await request.result(done)
            return
        await self._tell(request)
        await request.frame(request.answer(done))
        await request.end_stream()

    async def _tell(self, request: Request) -> None:
        """Begin a stream with progress, where the caller wants to hear of it."""
        await request.start_stream()
        token = request.message["params"].get("_meta", {}).get("progressToken")
        if token is not None:
            params = {"progressToken": token, "progress": 1}
            note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
            await request.frame(json.dumps(note).encode())

    async def _ask_modern(self, request: Request, _reader: asyncio.StreamReader) -> None:
        if "inputResponses" in request.message["params"]:
            await request.result(self._done(10))
            return
        question = {"method": "elicitation/create", "params": {"mode": "form", **QUESTION}}
        await request.result({
            "resultType": "input_required",
            "inputRequests": {"on": question},
            "requestState": "x" * 200,
        })

    async def _ask_legacy(self, request: Request, reader: asyncio.StreamReader) -> None:
        number = f"question-{next(self._numbers)}"
        question = {"jsonrpc": "2.0", "id": number, "method": "elicitation/create"}
        await request.start_stream()
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        await request.frame(json.dumps({**question, "params": QUESTION}).encode())
        gone = asyncio.ensure_future(reader.read())
        try:
            await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                await request.frame(request.answer(self._done(10)))
                await request.end_stream()
        finally:
            del self._asked[number]
            gone.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await gone

    def _done(self, size: int) -> Any:
        text = {"type": "text", "text": "x" * size}
        return {"resultType": "complete", "content": [text]}


async def main(seed: int, trouble: float) -> None:
    """Serve on a free port until ended."""
    server = await asyncio.start_server(Upstream(seed, trouble).serve, "127.0.0.1", 0, limit=2**22)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trouble", type=float, default=1.0, help="0: everything is answered")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.seed, arguments.trouble))
