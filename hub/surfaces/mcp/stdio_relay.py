"""Standard streams in front of a running hub: each line becomes a request, each answer a line.

Both eras pass as they are; only what HTTP adds to them is added here: routing headers, the session
id, mirrored parameters, and the stream for server messages.
"""

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import UNSET, Raw, Struct, UnsetType

from hub.surfaces.mcp.answering import Cancellation
from hub.surfaces.mcp.inbound import Inbound, Malformed, is_batch, parse, text_of
from hub.surfaces.mcp.running_hub import Answered, HttpAnswer, Hub
from hub.surfaces.mcp.stdio import GRACE_S, ByteSink, ByteSource, Lines, LineWriter
from mcp_wire import codes
from mcp_wire.headers import (
    ANNOTATION,
    LAST_EVENT_HEADER,
    METHOD_HEADER,
    NAME_HEADER,
    NAME_PARAMS,
    REVISION_HEADER,
    SESSION_HEADER,
    ParamHeaders,
    build_param_headers,
    encode_header_value,
    find_invalid_param_header,
    param_header_map,
)
from mcp_wire.jsonrpc import decode_members, encode_error, encode_request, members_of
from mcp_wire.sse import SseError

__all__ = ["Hub", "StdioRelay"]

RECONNECT_S: Final = 1.0
"""How long after its end the stream for server messages is opened again."""
MAX_RESUMPTIONS: Final = 5
"""How often in a row an answer is taken up again that brings nothing new."""
MAX_PAUSE_S: Final = 30.0
_MAX_PAGES: Final = 1000
_HEADER_MISMATCH: Final = b'"code":%d' % codes.HEADER_MISMATCH


class _ListedTool(Struct, gc=False):
    name: str
    inputSchema: Raw = Raw(b"{}")  # noqa: N815 -- the wire's own spelling


class _ListedTools(Struct, gc=False):
    tools: list[_ListedTool] = []
    nextCursor: str | None = None  # noqa: N815 -- the wire's own spelling


class _Head(Struct, gc=False):
    id: Raw | UnsetType = UNSET
    method: Raw | UnsetType = UNSET


_head: Final = msgspec.json.Decoder(_Head)
_listed: Final = msgspec.json.Decoder(_ListedTools)


class StdioRelay:
    """One client on standard streams, served by a hub elsewhere. Use once."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._failures: tuple[type[Exception], ...] = (*hub.failures, SseError)
        self._session: dict[str, str] = {}
        self._params: dict[str, ParamHeaders] = {}
        self._in_flight: dict[bytes, Callable[[], None]] = {}
        self._modern: set[bytes] = set()
        self._done = anyio.Event()
        self._listening = False

    async def run(self, source: ByteSource, sink: ByteSink) -> None:
        """Relay until ``source`` ends; then the session, if there is one, is ended."""
        self._writer = LineWriter(sink)
        reading = anyio.CancelScope()

        async def write() -> None:
            await self._writer.run()
            reading.cancel()  # nobody would hear of what is read from now on

        async with anyio.create_task_group() as writing:
            writing.start_soon(write)
            async with anyio.create_task_group() as requests:
                with reading:
                    await self._read(source, requests)
                with anyio.move_on_after(GRACE_S):
                    await self._idle()
                requests.cancel_scope.cancel()
            await self._end_session()
            self._writer.end()

    async def _read(self, source: ByteSource, requests: TaskGroup) -> None:
        async for line in Lines(source):
            if line is None:
                self._writer.offer(
                    encode_error(None, codes.INVALID_REQUEST, "The line is too long.")
                )
            elif is_batch(line):
                requests.start_soon(self._send, line, self._session)
            elif line.strip():
                self._take(line, requests)

    def _take(self, line: bytes, requests: TaskGroup) -> None:
        try:
            message = parse(line)
        except Malformed as error:
            self._writer.offer(
                encode_error(error.request_id, error.code, error.message, error.data)
            )
            return
        if message.is_request:
            self._in_flight[bytes(message.id or b"")] = lambda: None
            requests.start_soon(self._request, message, line)
        elif not self._cancels(message):
            requests.start_soon(self._notify, message, line, requests)

    def _cancels(self, message: Inbound) -> bool:
        """Whether a notification cancels a modern request: over HTTP that is hanging up (S14)."""
        key = bytes(message.params.get("requestId", b""))
        if message.method != "notifications/cancelled" or key not in self._modern:
            return False
        self._in_flight[key]()
        return True

    async def _notify(self, message: Inbound, line: bytes, requests: TaskGroup) -> None:
        await self._send(line, self._session)
        opens = message.method == "notifications/initialized" and bool(self._session)
        if opens and not self._listening:
            self._listening = True
            requests.start_soon(self._listen)

    async def _request(self, message: Inbound, line: bytes) -> None:
        key = bytes(message.id or b"")
        cancellation = Cancellation()
        self._in_flight[key] = cancellation.cancel
        if message.is_modern:
            self._modern.add(key)
        try:
            with cancellation:
                await self._exchange(message, line)
        finally:
            self._in_flight.pop(key, None)
            self._modern.discard(key)
            self._done.set()

    async def _exchange(self, message: Inbound, line: bytes) -> None:
        """One request and everything that comes before its answer."""
        refused = await self._send(line, self._headers_for(message), message)
        if refused:
            await self._learn(message)
            await self._send(line, self._headers_for(message), message, retried=True)

    async def _send(
        self,
        line: bytes,
        headers: Mapping[str, str],
        message: Inbound | None = None,
        *,
        retried: bool = False,
    ) -> bool:
        """Post one line and write what comes; True when its mirrored parameters were missed."""
        answered, read = message is None, Answered()
        try:
            async with self._hub.client.stream(
                "POST", self._hub.url, headers=self._with_own(headers), content=line
            ) as answer:
                if message is not None and message.method == "initialize":
                    self._begin_session(answer)
                problem = f"The hub answered with HTTP status {answer.status_code}."
                async with aclosing(read.messages(answer)) as texts:
                    async for text in texts:
                        if not retried and _misses_params(message, answer, text):
                            return True
                        answered = answered or _answers(message, text)
                        self._note(message, text)
                        self._writer.offer(text)
                        await self._writer.room()
        except self._failures:
            problem = f"The hub at {self._hub.url} cannot be reached, or hung up."
        if message is not None and not answered and not await self._resume(message, read):
            self._writer.offer(encode_error(message.id, codes.INTERNAL_ERROR, problem))
        return False

    async def _resume(self, message: Inbound, read: Answered) -> bool:
        """Take a stream up again that ended before its answer (2025-11-25); whether that came."""
        resumptions = 0
        while read.last_id and resumptions < MAX_RESUMPTIONS:
            resumptions, last_id = resumptions + 1, read.last_id
            pause_s = RECONNECT_S if read.retry_ms is None else read.retry_ms / 1000
            await anyio.sleep(min(pause_s, MAX_PAUSE_S))
            headers = {**self._hub.headers, **self._session, LAST_EVENT_HEADER: last_id}
            try:
                async with self._hub.client.stream(
                    "GET",
                    self._hub.url,
                    headers={**headers, "Accept": "text/event-stream"},
                    content=b"",
                ) as answer:
                    if answer.status_code != 200:
                        return False
                    async with aclosing(read.messages(answer)) as texts:
                        async for text in texts:
                            resumptions = 0
                            self._writer.offer(text)
                            await self._writer.room()
                            if _answers(message, text):
                                return True
            except self._failures:
                continue
        return False

    def _with_own(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **self._hub.headers,
            **headers,
        }

    def _headers_for(self, message: Inbound) -> Mapping[str, str]:
        if not message.is_modern:
            return {} if message.method == "initialize" else self._session
        headers = {
            REVISION_HEADER: text_of(message.meta[codes.META_REVISION]) or "",
            METHOD_HEADER: encode_header_value(message.method),
        }
        name = text_of(message.params.get(NAME_PARAMS.get(message.method, "")))
        if name is not None:
            headers[NAME_HEADER] = encode_header_value(name)
            mirrored = self._params.get(name) if message.method == "tools/call" else None
            if mirrored:
                headers |= build_param_headers(mirrored, message.params.get("arguments"))
        return headers

    def _begin_session(self, answer: HttpAnswer) -> None:
        session = answer.headers.get(SESSION_HEADER.lower())
        if session is not None:
            self._session = {SESSION_HEADER: session}

    def _note(self, message: Inbound | None, text: bytes) -> None:
        """Look at answers that later requests depend on."""
        if message is None or message.method not in {"tools/list", "initialize"}:
            return
        try:
            result = decode_members(text).get("result")
            if result is None:
                return
            if message.method == "tools/list":
                self._note_tools(_listed.decode(result))
            elif self._session:
                revision = text_of(members_of(result).get("protocolVersion"))
                self._session[REVISION_HEADER] = revision or ""
        except (msgspec.DecodeError, RecursionError):
            return

    def _note_tools(self, listed: _ListedTools) -> None:
        for tool in listed.tools:
            self._params.pop(tool.name, None)
            if ANNOTATION.encode() in bytes(tool.inputSchema):
                schema: Any = msgspec.json.decode(tool.inputSchema)
                if find_invalid_param_header(schema) is None:
                    self._params[tool.name] = param_header_map(schema)

    async def _learn(self, message: Inbound) -> None:
        """List tools on behalf of a client that never did, for the parameters they want mirrored."""
        params: dict[str, Any] = {"_meta": message.meta}
        headers = {**self._headers_for(message), METHOD_HEADER: "tools/list"}
        headers.pop(NAME_HEADER, None)
        for _ in range(_MAX_PAGES):
            body = encode_request("portico", "tools/list", params)
            async with self._hub.client.stream(
                "POST", self._hub.url, headers=self._with_own(headers), content=body
            ) as answer:
                texts = [text async for text in Answered().messages(answer)]
            try:
                result = decode_members(texts[-1]).get("result") if texts else None
                listed = _listed.decode(result or b"{}")
            except (msgspec.DecodeError, RecursionError):
                return
            self._note_tools(listed)
            if listed.nextCursor is None:
                return
            params["cursor"] = listed.nextCursor

    async def _listen(self) -> None:
        """Keep the session's stream for server messages open, for as long as the hub has one."""
        while True:
            headers = {**self._hub.headers, **self._session, "Accept": "text/event-stream"}
            try:
                async with self._hub.client.stream(
                    "GET", self._hub.url, headers=headers, content=b""
                ) as answer:
                    if 400 <= answer.status_code < 500:
                        return
                    async with aclosing(Answered().messages(answer)) as texts:
                        async for text in texts:
                            self._writer.offer(text)
            except self._failures:
                pass
            await anyio.sleep(RECONNECT_S)

    async def _end_session(self) -> None:
        if not self._session:
            return
        headers = {**self._hub.headers, **self._session}
        try:
            with anyio.move_on_after(GRACE_S):
                async with self._hub.client.stream(
                    "DELETE", self._hub.url, headers=headers, content=b""
                ):
                    return
        except self._hub.failures:
            return

    async def _idle(self) -> None:
        while self._in_flight:
            self._done = anyio.Event()
            await self._done.wait()


def _answers(message: Inbound | None, text: bytes) -> bool:
    """Whether a message is the answer of this request."""
    try:
        head = _head.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    is_answer = head.method is UNSET and isinstance(head.id, Raw)
    return message is not None and is_answer and head.id == message.id


def _misses_params(message: Inbound | None, answer: HttpAnswer, text: bytes) -> bool:
    """Whether a call was refused for parameters that should have been mirrored in headers."""
    is_call = message is not None and message.is_modern and message.method == "tools/call"
    return is_call and answer.status_code == 400 and _HEADER_MISMATCH in text
