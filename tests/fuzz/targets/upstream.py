"""What upstreams say: whole HTTP answers to calls, frames of children, lists and descriptions."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import anyio
import msgspec
from msgspec import Raw

from connectors.address_guard import AddressGuard
from connectors.envelope import end_of
from connectors.errors import ConnectorError
from connectors.handshake import identity_of_discovery, identity_of_initialization
from connectors.http_settings import HttpSettings
from connectors.jsonrpc_peer import Peer
from connectors.listing import fetch_listing
from connectors.mcp_http import McpHttpConnector
from connectors.outcome import Ask, Failure, Log, Outcome, Progress, Result
from connectors.protocol import Credential, Request
from hub.catalog.search import ToolSearch
from hub.catalog.views import instructions_for, listed, protocol_capabilities_for
from hub.domain.catalog import Kind, ServerIdentity, UpstreamListing
from hub.domain.desired import ArgumentRule, Include, Override, VirtualServerSpec
from hub.domain.grant import View
from mcp_wire.jsonrpc import decode_message, raw
from tests.fuzz.serving import served
from tests.fuzz.target import Check, Target, tried
from tests.fuzz.targets.wire import MESSAGE_WORDS, loads
from tests.listings import compiled
from tests.peers.raw_server import LegacyScript, ModernScript, Received, Wire, raw_server

CALL_S: Final = 0.15
ERAS: Final = ("2026-07-28", "2025-11-25")
LISTED_AT: Final = "2026-01-01T00:00:00.000Z"
KINDS: Final[tuple[Kind, ...]] = ("tool", "resource", "template", "prompt")
EVERYTHING: Final = View(id="everything", bits=b"\xff" * 200)


def request_of(revision: str) -> Request:
    return Request(
        method="tools/call",
        params={"name": raw("echo"), "arguments": raw({})},
        name="echo",
        revision=revision,
        wants_progress=True,
        log_level="debug",
        client_capabilities=raw({"elicitation": {}, "sampling": {}, "roots": {}}),
        timeout_s=CALL_S,
    )


async def ended(outcome: Outcome) -> None:
    """Take every event: readable ones, and exactly one end, after which nothing comes."""
    ends: list[Result | Failure] = []
    async for event in outcome:
        assert not ends
        if isinstance(event, Result | Failure):
            ends.append(event)
        elif isinstance(event, Progress | Log):
            loads(b"{%b}" % b",".join(b'"":' + bytes(value) for value in event.params.values()))
        elif isinstance(event, Ask):
            loads(bytes(event.params))
            await event.answer(raw({"action": "decline"}))
    await outcome.aclose()
    (end,) = ends
    if isinstance(end, Result):
        assert isinstance(loads(bytes(end.body)), dict)
        return
    end.message.encode()
    assert end.data is None or loads(bytes(end.data)) is not ...


class _Answering:
    """Upstreams of both eras that answer calls with the very bytes they are given."""

    def __init__(self) -> None:
        self.answer = b""
        self.connectors: list[McpHttpConnector] = []

    async def call(self, received: Received, wire: Wire) -> None:
        request_id = str(received.json.get("id")).encode()
        with anyio.CancelScope(shield=True):
            await wire.send(self.answer.replace(b"ID", request_id))
            await wire.hang_up()

    async def refuse(self, _: Received, wire: Wire) -> None:
        await wire.reply(405)

    async def check(self, answer: bytes) -> None:
        self.answer = answer
        for connector, revision in zip(self.connectors, ERAS, strict=True):
            await ended(connector.invoke(request_of(revision), Credential()))


@asynccontextmanager
async def _answering() -> AsyncIterator[_Answering]:
    answering = _Answering()
    modern = ModernScript({"tools/call": answering.call})
    legacy = LegacyScript({"tools/call": answering.call, "GET": answering.refuse})
    async with (
        raw_server(modern) as first,
        raw_server(legacy) as second,
        anyio.create_task_group() as tasks,
    ):
        for upstream in (first, second):
            connector = McpHttpConnector(
                HttpSettings(url=upstream.url, timeout_s=5),
                resolve=AddressGuard(frozenset({("127.0.0.1", upstream.port)})),
                tasks=tasks,
                on_change=lambda _: None,
            )
            await connector.open()
            answering.connectors.append(connector)
        yield answering
        for connector in answering.connectors:
            await connector.close()
        tasks.cancel_scope.cancel()


@contextmanager
def http_answer() -> Iterator[Check]:
    """Whatever bytes an HTTP upstream answers a call with, the call ends once, in readable words."""
    with served(_answering()) as running:
        yield lambda data: running.run(running.service.check(data))


async def _frames(data: bytes) -> None:
    for revision in ERAS:
        sent: list[bytes] = []
        peer = Peer(sent.append, on_change=lambda _: None, cap_s=5)
        peer.revision = revision
        exchange = peer.exchange(request_of(revision), interactive=True)
        exchange.begin()
        for frame in data.split(b"\n"):
            peer.receive(frame.replace(b"ID", b"%d" % exchange.request_id))
        peer.disconnect("The upstream has ended.")
        await ended(exchange)
        assert all(isinstance(loads(message), dict) for message in sent)


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


@contextmanager
def frames() -> Iterator[Check]:
    """Whatever lines a child writes, its call ends once, and what it is told is JSON."""
    with served(_nothing()) as running:
        yield lambda data: running.run(_frames(data))


async def _listing(result: Raw) -> None:
    async def request(method: str, params: Mapping[str, Raw]) -> Raw:
        assert method.endswith("/list")
        assert len(params) <= 1
        return result

    identities: list[ServerIdentity] = []
    for read, transport in ((identity_of_discovery, "http"), (identity_of_initialization, "stdio")):
        found = tried(partial(read, result, transport), ConnectorError)
        if isinstance(found, ServerIdentity):
            identities.append(found)
    every = raw({"tools": {}, "resources": {}, "prompts": {}})
    plain = ServerIdentity(revisions=("2025-11-25",), protocol_capabilities=every, transport="http")
    for identity in (*identities, plain):
        try:
            listing = await fetch_listing(request, identity.protocol_capabilities)
        except ConnectorError:
            continue
        await _compiled(
            UpstreamListing(upstream="u", identity=identity, listing=listing, listed_at=LISTED_AT)
        )


async def _compiled(listing: UpstreamListing) -> None:
    include = Include(
        upstream="u",
        override={
            "a": Override(name="renamed", description="d", annotations={"title": raw("t")}),
            "b": Override(arguments={"x": ArgumentRule(fix=raw(1), hide=True)}),
        },
    )
    specs = [
        VirtualServerSpec(name="dev", include=(include,)),
        VirtualServerSpec(name="find", include=(include,), presentation="search"),
    ]
    snapshot = await compiled([listing], specs, anonymous=True)
    for server in snapshot.tenants["default"].virtual_servers.values():
        instructions_for(server, EVERYTHING).encode()
        raw(protocol_capabilities_for(server, EVERYTHING, {}))
        for kind in KINDS:
            for exposure in listed(server, EVERYTHING, kind):
                assert isinstance(loads(exposure.fragment), dict)
                exposure.name.encode()
        await ToolSearch().find(server, EVERYTHING, "a search", 5)


@contextmanager
def listing() -> Iterator[Check]:
    """Whatever an upstream lists and says of itself, it is refused, or compiled, listed and found."""
    with served(_nothing()) as running:

        def check(data: bytes) -> None:
            try:
                answer = decode_message(b'{"id":1,"result":%b}' % data)
            except msgspec.DecodeError:
                return
            if isinstance(end_of(answer, modern=False), Result):
                running.run(_listing(Raw(data)))

        yield check


TARGETS: Final = (
    Target(
        "http_answer",
        http_answer,
        (
            *MESSAGE_WORDS, b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404 No\r\n", b"HTTP/1.1 503 No\r\n",
            b"HTTP/1.1 307 Go\r\n", b"Location: http://x/\r\n", b"\r\n\r\n", b"Retry-After: 1\r\n",
            b"Content-Type: application/json\r\n", b"Content-Type: text/event-stream\r\n",
            b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"data: ",
            b"event: message\n", b"id: 1\n", b'"id":ID', b"notifications/progress", b"Connection: close",
            b"notifications/message", b"elicitation/create", b"resultType", b"input_required", b"-32020",
            b"-32022", b"-32042", b"Content-Encoding: gzip\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
        ),
    ),
    Target(
        "child_frames",
        frames,
        (
            *MESSAGE_WORDS, b'"id":ID', b"\n", b"notifications/progress", b"notifications/message",
            b"notifications/cancelled", b"notifications/tools/list_changed", b"elicitation/create",
            b"sampling/createMessage", b"roots/list", b"ping", b"resultType", b"input_required",
            b"level", b"progressToken",
        ),
    ),
    Target(
        "listing",
        listing,
        (
            *MESSAGE_WORDS, b"tools", b"resources", b"resourceTemplates", b"prompts", b"nextCursor",
            b"ttlMs", b"inputSchema", b"outputSchema", b"annotations", b"icons", b"uriTemplate",
            b"x-mcp-header", b"properties", b"required", b"supportedVersions", b"protocolVersion",
            b"capabilities", b"serverInfo", b"instructions", b"description", b"$ref", b"data:x",
        ),
    ),
)  # fmt: skip
