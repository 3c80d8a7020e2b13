"""Whole requests to a composed hub: any method, path, header fields and body."""

import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import anyio
from msgspec import Struct
from starlette.types import ASGIApp

from hub.administration.authority import local_administrator
from hub.administration.configuration import ApplyRequest, apply
from hub.administration.keys import KeyCreate, create_key
from hub.app import Hub, Settings, composed
from hub.surfaces.mcp.inbound import Malformed, parse
from hub.wire_errors import CRASHED
from tests.fuzz.serving import served
from tests.fuzz.target import Check, Target
from tests.fuzz.targets.wire import MESSAGE_WORDS, loads
from tests.peers.raw_server import ModernScript, Received, Wire, raw_server

IDLE_S: Final = 0.02
"""How long a stream that stays open is listened to before the client hangs up."""
DOCUMENTED: Final = {
    503: (b"-31503", b'"status":503'),
    502: (b'"status":502',),
}
"""Statuses from 500 on that say something, and how their bodies say it."""
_METHOD: Final = re.compile(rb"[A-Z]{1,12}")
_GOING_OUT: Final = (b"/test", b"/refresh")
"""Operations of the admin API that connect to whatever an upstream's address names."""
_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "n": {"type": "integer"},
    },
}
_CONFIG: Final = """
version: 1
principals: {{ann: {{roles: [admin, auditor]}}}}
upstreams:
  up: {{url: "{url}"}}
virtual_servers:
  dev:
    include: [{{upstream: up, tools: [route], override: {{route: {{arguments: {{n: {{default: 3}}}}}}}}}}]
    anonymous: true
  find: {{presentation: search, anonymous: true, include: [{{upstream: up}}]}}
"""


class Sent(Struct):
    """One request, read off an input as a server reads it off the wire."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def scope(self) -> dict[str, Any]:
        path, _, query = self.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": self.method,
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
            "headers": self.headers,
        }


def read(data: bytes, places: dict[bytes, bytes]) -> Sent | None:
    """``METHOD TARGET``, header fields, an empty line, the body; None for what no server lets in."""
    for place, value in places.items():
        data = data.replace(place, value)
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    if not _METHOD.fullmatch(method) or not re.fullmatch(rb"/[!-~]*", target):
        return None
    if any(word in target for word in _GOING_OUT):
        return None
    headers = []
    for line in lines:
        name, mark, value = line.partition(b":")
        if not mark or not re.fullmatch(rb"[!#-'*+\-.0-9A-Z^-z|~]+", name):
            return None
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            return None
        headers.append((name.lower(), value.strip(b" \t")))
    return Sent(method.decode(), target, headers, body)


class Client:
    """One client as a server shows it to an application; it hangs up when all has come."""

    def __init__(self, body: bytes) -> None:
        middle = len(body) // 2
        self._pieces = [body[:middle], body[middle:]]
        self._over = anyio.Event()
        self.status = 0
        self.starts = self.ends = 0
        self.headers: dict[bytes, bytes] = {}
        self.answer = b""

    async def receive(self) -> dict[str, Any]:
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        if self.headers.get(b"content-type") == b"text/event-stream":
            with anyio.move_on_after(IDLE_S):
                await self._over.wait()
        else:
            await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Any) -> None:
        if event["type"] == "http.response.start":
            self.starts += 1
            self.status = event["status"]
            self.headers = dict(event.get("headers", ()))
            for name, value in event.get("headers", ()):
                assert name == name.lower()
                assert not re.search(rb"[\r\n\0]", value)
        else:
            assert self.starts == 1
            assert not self.ends
            self.answer += event.get("body", b"")
            if not event.get("more_body", False):
                self.ends += 1
                self._over.set()


class Composed:
    """A hub, and what stands for its secrets in inputs."""

    def __init__(self, hub: Hub, places: dict[bytes, bytes]) -> None:
        self.hub = hub
        self.places = places

    async def check(self, data: bytes) -> None:
        sent = read(data, self.places)
        if sent is None:
            return
        client = Client(sent.body)
        await self.hub.asgi(sent.scope(), client.receive, client.send)
        streaming = client.headers.get(b"content-type") == b"text/event-stream"
        assert client.starts == 1, "no answer"
        assert client.ends == 1 or streaming, "an answer without an end"
        assert 200 <= client.status < 600
        assert CRASHED.encode() not in client.answer
        if client.status >= 500:
            said = DOCUMENTED.get(client.status, ())
            assert any(words in client.answer for words in said), client.answer
        if not streaming and client.headers.get(b"content-type") == b"application/json":
            answer = loads(client.answer)
            if sent.target.split(b"?")[0].endswith(b"/mcp") and sent.method == "POST":
                _echoed(sent, client.status, answer)


def _echoed(sent: Sent, status: int, answer: Any) -> None:
    """The id that could be read is the id of the answer."""
    if not isinstance(answer, dict) or status in {413, 415}:
        return
    if answer.get("error", {}).get("code") == "-32700":
        assert answer["id"] is None
        return
    try:
        wanted = parse(sent.body).id
    except Malformed as error:
        wanted = error.request_id
    assert answer["id"] == (None if wanted is None else loads(bytes(wanted)))
    assert ("result" in answer) != ("error" in answer)


def _tool(name: str) -> dict[str, Any]:
    return {"name": name, "description": f"Does {name}.", "inputSchema": _SCHEMA}


_DESCRIBED: Final = ModernScript(tools=(_tool("echo"), _tool("route")))


async def _upstream(received: Received, wire: Wire) -> None:
    """Answers calls without reading their arguments, which may be beyond what Python takes."""
    call = re.match(rb'{"jsonrpc":"2.0","id":(\d+),"method":"tools/call"', received.body)
    if call is None:
        await _DESCRIBED(received, wire)
        return
    result = b'{"resultType":"complete","content":[{"type":"text","text":"done"}]}'
    await wire.reply(200, b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (call[1], result))


@asynccontextmanager
async def composed_hub(folder: Path) -> AsyncIterator[Composed]:
    """A hub in front of one upstream that is listed and answers."""
    async with _configured(folder) as hub, hub.upstreams.running():
        await hub.upstreams.refresh("default", "up")
        await hub.control.refresh()
        key = hub.directory.admin_key.read_text(encoding="utf-8").strip().encode()
        places = {b"ADMIN": b"Bearer " + key}
        for place, revision in ((b"SESSION1", "2025-11-25"), (b"SESSION2", "2025-03-26")):
            places[place] = await _session(hub.asgi, revision)
        yield Composed(hub, places)


@asynccontextmanager
async def _administered(folder: Path) -> AsyncIterator[Composed]:
    """A hub that connects to nothing, and the key of an administrator of its tenant."""
    async with _configured(folder) as hub:
        request = KeyCreate(principal="ann")
        made = await create_key(hub.desk, local_administrator("default"), "default", request)
        await hub.control.refresh()
        yield Composed(hub, {b"ADMIN": b"Bearer " + made.key.encode()})


@asynccontextmanager
async def _configured(folder: Path) -> AsyncIterator[Hub]:
    async with raw_server(_upstream) as upstream, composed(Settings(data=folder)) as hub:
        text = _CONFIG.format(url=upstream.url)
        request = ApplyRequest(text=text, path=str(folder / "portico.yaml"))
        await apply(hub.desk, local_administrator("default"), "default", request)
        await hub.control.refresh()
        yield hub


async def _session(app: ASGIApp, revision: str) -> bytes:
    body = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"%b"}}'
    client = Client(body % revision.encode())
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    sent = Sent("POST", b"/mcp", headers, b"")
    await app(sent.scope(), client.receive, client.send)
    return client.headers[b"mcp-session-id"]


@contextmanager
def hub() -> Iterator[Check]:
    """Any request gets exactly one answer, none of them an accident, under its own id."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(composed_hub(Path(folder))) as running,
    ):
        yield lambda data: running.run(running.service.check(data))


@contextmanager
def administered_hub() -> Iterator[Check]:
    """The same for the admin API, whose administrator can start no process and read no file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(_administered(Path(folder))) as running,
    ):
        yield lambda data: running.run(running.service.check(data))


WORDS: Final = (
    b"POST /mcp\n", b"GET /mcp\n", b"DELETE /mcp\n", b"OPTIONS /mcp\n", b"POST /v/dev/mcp\n",
    b"POST /v/find/mcp\n", b"GET /v/dev/sse\n", b"POST /v/dev/sse/messages?session_id=x\n",
    b"POST /t/default/mcp\n", b"host: localhost\n", b"content-type: application/json\n",
    b"accept: application/json, text/event-stream\n", b"accept: text/event-stream\n",
    b"mcp-protocol-version: 2026-07-28\n", b"mcp-protocol-version: 2025-11-25\n",
    b"mcp-method: tools/call\n", b"mcp-name: route\n", b"mcp-param-region: eu\n",
    b"mcp-session-id: SESSION1\n", b"mcp-session-id: SESSION2\n", b"authorization: ADMIN\n",
    b"authorization: Bearer x\n", b"origin: http://localhost\n", b"x-tenant-id: default\n",
    b"last-event-id: 1\n", b"traceparent: 00-1-2-01\n", b"content-length: 99999999\n", b"\n\n",
)  # fmt: skip
_ADMIN_WORDS: Final = (
    b"GET ", b"PUT ", b"POST ", b"DELETE ", b"PATCH ", b"/api/", b"/healthz", b"/readyz", b"/metrics",
    b"upstreams", b"keys", b"principals", b"groups", b"grants", b"virtual_servers", b"plan", b"apply",
    b"import", b"export", b"record", b"tenant=default", b"?", b"&", b"%ff", b"%00", b"text", b"name",
)  # fmt: skip
TARGETS: Final = (
    Target("mcp_request", hub, (*WORDS, *MESSAGE_WORDS, b"echo", b"route", b"search_tools",
                                b"call_tool", b"query", b"ref/prompt", b"subscriptions/listen",
                                b"server/discover", b"completion/complete", b"logging/setLevel",
                                b"resources/subscribe", b"ping", b"notifications/cancelled")),
    Target("admin_request", administered_hub, (*_ADMIN_WORDS, *WORDS[-14:], *MESSAGE_WORDS[:24])),
)  # fmt: skip
