"""Light clients of both eras over bare connections, who lose patience and leave at random."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from mcp_wire.codes import META_CALL

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
ANSWER_S: Final = 20.0
"""Longer than Portico may take; a client that waits this long has found a defect."""
WORK: Final = ("modern_work", "legacy_work", "stdio_work")
ASK: Final = ("modern_ask", "legacy_ask")


class Tally:
    """What the clients have seen, together."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Calls by how they ended."""
        self.answered: set[str] = set()
        """Call ids of all answers that came whole."""
        self.unmarked = 0
        """Answers to calls without a call id, which there must be none of."""
        self.overdue = 0

    def took(self, head: Mapping[str, str], answer: Any) -> None:
        """An answer came whole."""
        body = answer.get("result") or answer.get("error", {}).get("data") or {}
        meta = body.get("_meta", body)
        call = head.get("x-portico-call") or meta.get(META_CALL)
        if call is None:
            self.unmarked += 1
        else:
            self.answered.add(call)


class Wire:
    """One connection at a time to Portico, opened when needed."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url, key
        parts = urlsplit(url)
        self._host, self._port, self._path = str(parts.hostname), parts.port or 80, parts.path
        self._fixed = (
            f"Host: {self._host}:{self._port}\r\nAuthorization: Bearer {key}\r\n"
            "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
        )
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.head: dict[str, str] = {}
        self.status = 0

    async def send(self, verb: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send one request and read the head of its answer."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{verb} {self._path} HTTP/1.1\r\n{self._fixed}{lines}Content-Length: {len(body)}"
        if self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, limit=2**22
            )
        self._writer.write(f"{head}\r\n\r\n".encode("ascii") + body)
        assert self._reader is not None
        text = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines_of = text.rstrip("\r\n").split("\r\n")
        self.status = int(first.split(" ")[1])
        named = (line.partition(":") for line in lines_of)
        self.head = {name.lower(): value.strip() for name, _, value in named}

    async def messages(self) -> AsyncIterator[Any]:
        """Whatever the answer consists of, as it comes. The last one has come when this ends."""
        assert self._reader is not None
        if "chunked" not in self.head.get("transfer-encoding", ""):
            body = await self._reader.readexactly(int(self.head.get("content-length", 0)))
            if body.startswith(b"{"):
                yield json.loads(body)
            return
        text = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            text += (await self._reader.readexactly(size + 2))[:-2]
            *frames, text = text.split(b"\n\n")
            for frame in frames:
                lines = (line[6:] for line in frame.split(b"\n") if line.startswith(b"data: "))
                data = b"".join(lines)
                if data:
                    yield json.loads(data)
        await self._reader.readexactly(2)

    def another(self) -> "Wire":
        """A second connection of the same client."""
        return Wire(self._url, self._key)

    def leave(self) -> None:
        """Hang up, whatever is under way."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


class Client:
    """One client, until it is cancelled."""

    def __init__(
        self, wire: Wire, tally: Tally, chance: random.Random, *, pause_s: float, asks: bool
    ) -> None:
        self.wire = wire
        self.tally = tally
        self.chance = chance
        self.declares: dict[str, Any] = {"elicitation": {}} if asks else {}
        self._pause_s = pause_s
        self._asks = asks
        self._last_id = 0

    async def run(self) -> None:
        """Call, ask, list, leave; forever."""
        try:
            while True:
                await asyncio.sleep(self.chance.expovariate(1 / self._pause_s))
                try:
                    async with asyncio.timeout(ANSWER_S):
                        await self._act()
                except TimeoutError:
                    self.tally.overdue += 1
                    self.wire.leave()
                except (ConnectionError, asyncio.IncompleteReadError):
                    self.tally.counts["connection lost"] += 1
                    self.wire.leave()
        finally:
            self.wire.leave()

    async def _act(self) -> None:
        fate = self.chance.random()
        if fate < 0.05:
            await self.ended("tools/list", {})
        elif fate < 0.15 and self._asks:
            await self.ask(self.chance.choice(ASK))
        elif fate < 0.2:
            await self._leave_midway()
        elif fate < 0.22:
            await self.begin_anew()
        else:
            await self.ended("tools/call", {"name": self.chance.choice(WORK), "arguments": {}})

    async def _leave_midway(self) -> None:
        """Send a call, and be gone before it is answered, or while it is."""
        params: dict[str, Any] = {"name": self.chance.choice(WORK), "arguments": {}}
        try:
            async with asyncio.timeout(self.chance.random() / 50):
                await self.ended("tools/call", params)
        except TimeoutError:
            self.tally.counts["left midway"] += 1
            self.wire.leave()
            await self.give_up(self._last_id)

    async def give_up(self, number: int) -> None:
        """Say that an answer is not wanted any more, where hanging up does not say it."""

    async def ended(self, method: str, params: dict[str, Any]) -> Any:
        """The whole answer of one request; counted."""
        answer = None
        async for message in self.asked(method, params):
            answer = message
        return self.count(answer)

    def count(self, answer: Any) -> Any:
        """Note how a request ended."""
        if answer is None or "method" in answer:
            self.tally.counts["ended without an answer"] += 1
            return None
        self.tally.took(self.wire.head, answer)
        result = answer.get("result")
        if result is None:
            self.tally.counts[f"error {answer['error']['code']}"] += 1
        elif result.get("resultType") == "input_required":
            self.tally.counts["input required"] += 1
        else:
            self.tally.counts["failed" if result.get("isError") else "ok"] += 1
        return result

    def encoded(self, method: str, params: dict[str, Any], meta: dict[str, Any]) -> bytes:
        """A request with an id of its own, which is its progress token as well."""
        self._last_id += 1
        meta = {**meta, "progressToken": self._last_id}
        message = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        return json.dumps({**message, "params": {**params, "_meta": meta}}).encode()

    def asked(self, method: str, params: dict[str, Any]) -> AsyncIterator[Any]:
        """Send a request; what comes back."""
        raise NotImplementedError

    async def ask(self, tool: str) -> None:
        """Call a tool that asks; answer, or never come back."""
        raise NotImplementedError

    async def begin_anew(self) -> None:
        """What a client does that starts again."""
        raise NotImplementedError


class ModernClient(Client):
    """Requests that stand alone."""

    async def asked(self, method: str, params: dict[str, Any]) -> AsyncIterator[Any]:
        """See :meth:`Client.asked`."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": self.declares,
        }
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if "name" in params:
            headers["Mcp-Name"] = params["name"]
        await self.wire.send("POST", headers, self.encoded(method, params, meta))
        async for message in self.wire.messages():
            yield message

    async def ask(self, tool: str) -> None:
        """See :meth:`Client.ask`."""
        params: dict[str, Any] = {"name": tool, "arguments": {}}
        for _ in range(3):
            result = await self.ended("tools/call", params)
            if result is None or result.get("resultType") != "input_required":
                return
            if self.chance.random() < 0.3:
                self.tally.counts["never came back"] += 1
                return
            accepted = {"action": "accept", "content": {}}
            answers = dict.fromkeys(result["inputRequests"], accepted)
            params = {**params, "inputResponses": answers, "requestState": result["requestState"]}

    async def begin_anew(self) -> None:
        """See :meth:`Client.begin_anew`: listen for a moment."""
        await self.wire.send("POST", *self._listening())
        if self.wire.status == 200:
            async for _ in self.wire.messages():
                break
        self.tally.counts["listened"] += 1
        self.wire.leave()

    def _listening(self) -> tuple[dict[str, str], bytes]:
        method = "subscriptions/listen"
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        params = {"notifications": {"toolsListChanged": True}}
        return headers, self.encoded(method, params, meta)


class LegacyClient(Client):
    """A session, begun anew now and then."""

    def __init__(
        self, wire: Wire, tally: Tally, chance: random.Random, *, pause_s: float, asks: bool
    ) -> None:
        super().__init__(wire, tally, chance, pause_s=pause_s, asks=asks)
        self._headers: dict[str, str] = {}

    async def asked(self, method: str, params: dict[str, Any]) -> AsyncIterator[Any]:
        """See :meth:`Client.asked`; there is a session afterwards."""
        if not self._headers:
            await self._initialize()
        await self.wire.send("POST", self._headers, self.encoded(method, params, {}))
        async for message in self.wire.messages():
            yield message

    async def ask(self, tool: str) -> None:
        """See :meth:`Client.ask`."""
        answer = None
        async for message in self.asked("tools/call", {"name": tool, "arguments": {}}):
            answer = message
            if message.get("method") == "elicitation/create":
                if self.chance.random() < 0.3:
                    self.tally.counts["never came back"] += 1
                    self.wire.leave()
                    return
                accepted = {"action": "accept", "content": {}}
                await self._tell({"id": message["id"], "result": accepted})
        self.count(answer)

    async def give_up(self, number: int) -> None:
        """See :meth:`Client.give_up`; half of them just hang up."""
        if self._headers and self.chance.random() < 0.5:
            params = {"requestId": number}
            await self._tell({"method": "notifications/cancelled", "params": params})

    async def _tell(self, message: dict[str, Any]) -> None:
        """Send a message that gets no answer, on a connection of its own: the call's is busy."""
        other = self.wire.another()
        message = {"jsonrpc": "2.0", **message}
        try:
            await other.send("POST", self._headers, json.dumps(message).encode())
        finally:
            other.leave()

    async def begin_anew(self) -> None:
        """See :meth:`Client.begin_anew`: end the session, or open its stream for a moment."""
        if not self._headers:
            return
        if self.chance.random() < 0.5:
            await self.wire.send("GET", self._headers)
            self.tally.counts["listened"] += 1
            self.wire.leave()
            return
        await self.wire.send("DELETE", self._headers)
        async for _ in self.wire.messages():
            pass
        self.tally.counts["session ended"] += 1
        self._headers = {}

    async def _initialize(self) -> None:
        params = {
            "protocolVersion": LEGACY,
            "capabilities": self.declares,
            "clientInfo": {"name": "soak", "version": "0"},
        }
        await self.wire.send("POST", {}, self.encoded("initialize", params, {}))
        async for message in self.wire.messages():
            self.tally.took(self.wire.head, message)
        session = self.wire.head["mcp-session-id"]
        self._headers = {"Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await self.wire.send("POST", self._headers, json.dumps(ready).encode())
        async for _ in self.wire.messages():
            pass
