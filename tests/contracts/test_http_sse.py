"""The oldest HTTP transport: one stream carries everything, and is what a session lasts for."""

import anyio
import pytest

from connectors.errors import ConnectorError, ProtocolViolation
from connectors.outcome import Failure, Result
from connectors.protocol import Change
from tests.contracts.connector_suite import ASKABLE
from tests.contracts.http_harness import connected
from tests.peers.raw_server import Received, Wire, raw_server


class SseScript:
    """An HTTP+SSE upstream; tool calls are answered by ``answers``, one a name."""

    def __init__(self, endpoint: str = "/post?session={number}") -> None:
        self.endpoint = endpoint
        self.streams: list[Wire] = []
        self.capabilities: object = {"tools": {"listChanged": True}}

    async def __call__(self, received: Received, wire: Wire) -> None:
        if received.method == "GET":
            await self.stream(wire)
        elif received.path == "/mcp":
            await wire.reply(405)
        else:
            await self.take(received, wire, self.streams[int(received.path.split("=")[1])])

    async def stream(self, wire: Wire) -> None:
        await wire.start_stream()
        endpoint = self.endpoint.format(number=len(self.streams)).encode()
        self.streams.append(wire)
        await wire.chunk(b"event: endpoint\r\ndata: %b\r\n\r\n" % endpoint)
        await wire.client_left()

    async def take(self, received: Received, wire: Wire, stream: Wire) -> None:
        name = received.json.get("params", {}).get("name")
        if name == "refused":
            await wire.reply(503, headers={"Retry-After": "3"})
            return
        await wire.reply(202, b"Accepted", content_type="text/plain")
        if received.rpc_method == "initialize":
            await self.say(
                stream,
                received,
                {
                    "protocolVersion": "2024-11-05",
                    "capabilities": self.capabilities,
                },
            )
        elif received.rpc_method == "tools/list":
            await self.say(stream, received, {"tools": []})
        elif name == "cut":
            await stream.abort()
        elif name == "echo":
            await self.say(stream, received, {"content": []})

    async def say(self, stream: Wire, received: Received, result: object) -> None:
        await stream.frame({"jsonrpc": "2.0", "id": received.json["id"], "result": result})


async def test_it_is_found_behind_a_refused_handshake() -> None:
    async with raw_server(SseScript()) as raw, connected(raw.url) as harness:
        identity = await harness.connector.open()
        assert (identity.transport, identity.revisions) == ("sse", ("2024-11-05",))
        assert isinstance(await harness.end(harness.tool("echo")), Result)
        assert raw.of("tools/call")[0].path == "/post?session=1"


async def test_it_is_used_at_once_where_it_is_configured() -> None:
    async with (
        raw_server(SseScript()) as raw,
        connected(raw.url, transport="sse", headers={"X-Key": "k"}) as harness,
    ):
        await harness.connector.open()
        assert raw.requests[0].method == "GET"
        assert {sent.header("x-key") for sent in raw.requests} == {"k"}


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.2/post", "//elsewhere.example/post", "https:///x", "http://[/"]
)
async def test_another_origin_is_not_posted_to(endpoint: str) -> None:
    async with (
        raw_server(SseScript(endpoint)) as raw,
        connected(raw.url, transport="sse") as harness,
    ):
        with pytest.raises(ProtocolViolation):
            await harness.connector.open()
        assert [sent.method for sent in raw.requests] == ["GET"]


async def test_an_absolute_endpoint_of_the_same_origin_is_taken() -> None:
    script = SseScript()
    async with raw_server(script) as raw, connected(raw.url, transport="sse") as harness:
        script.endpoint = raw.url.removesuffix("/mcp") + "/deep/post?session={number}"
        await harness.connector.open()
        assert raw.requests[1].path == "/deep/post?session=0"


async def test_a_stream_that_breaks_fails_its_calls_and_the_next_call_opens_another() -> None:
    script = SseScript()
    async with raw_server(script) as raw, connected(raw.url) as harness:
        await harness.connector.open()
        end = await harness.end(harness.tool("cut"))
        assert isinstance(end, Failure)
        assert end.kind == "disconnected"
        assert isinstance(await harness.end(harness.tool("echo")), Result)
        assert len(script.streams) == 3
        assert len(raw.of("tools/call")) == 2


async def test_the_listing_session_is_opened_again_and_everything_counts_as_changed() -> None:
    script = SseScript()
    async with raw_server(script) as raw, connected(raw.url) as harness:
        await harness.connector.open()
        await script.streams[0].abort()
        await harness.changes.until(Change("tools"))
        assert (await harness.connector.list()).tools == ()
        assert raw.of("tools/list")[0].path == "/post?session=1"


async def test_a_refused_post_is_passed_on() -> None:
    async with raw_server(SseScript()) as raw, connected(raw.url) as harness:
        end = await harness.end(harness.tool("refused"))
        assert isinstance(end, Failure)
        assert (end.kind, end.status, end.retry_after_s) == ("status", 503, 3.0)


async def test_an_acknowledged_call_without_an_answer_times_out_and_is_cancelled() -> None:
    async with raw_server(SseScript()) as raw, connected(raw.url) as harness:
        end = await harness.end(harness.tool("silent", timeout_s=0.2))
        assert isinstance(end, Failure)
        assert end.kind == "timeout"
        with anyio.fail_after(5):
            await raw.until(lambda: len(raw.of("notifications/cancelled")) == 1)
        sent = raw.of("notifications/cancelled")[0].json["params"]["requestId"]
        assert sent == raw.of("tools/call")[0].json["id"]


async def test_a_place_is_kept_until_the_answer_comes() -> None:
    async with raw_server(SseScript()) as raw, connected(raw.url, max_in_flight=1) as harness:
        await harness.connector.open()
        async with anyio.create_task_group() as group:
            group.start_soon(harness.end, harness.tool("silent", timeout_s=1.0))
            await raw.until(lambda: len(raw.of("tools/call")) == 1)
            end = await harness.end(harness.tool("echo", timeout_s=0.1))
            assert isinstance(end, Failure)
            assert end.kind == "unreachable"
            assert len(raw.of("tools/call")) == 1
            group.cancel_scope.cancel()
        assert isinstance(await harness.end(harness.tool("echo")), Result)


async def test_callers_that_may_be_asked_take_turns() -> None:
    async with raw_server(SseScript()) as raw, connected(raw.url) as harness:
        await harness.connector.open()
        async with anyio.create_task_group() as group:
            group.start_soon(
                harness.end, harness.tool("silent", timeout_s=1.0, client_capabilities=ASKABLE)
            )
            await raw.until(lambda: len(raw.of("tools/call")) == 1)
            waiting = harness.tool("echo", timeout_s=0.1, client_capabilities=ASKABLE)
            end = await harness.end(waiting)
            assert isinstance(end, Failure)
            assert end.kind == "unreachable"
            group.cancel_scope.cancel()
        request = harness.tool("echo", client_capabilities=ASKABLE)
        assert isinstance(await harness.end(request), Result)


async def test_garbage_on_the_stream_ends_the_session() -> None:
    script = SseScript()
    async with raw_server(script) as raw, connected(raw.url) as harness:
        await harness.connector.open()
        async with anyio.create_task_group() as group:

            async def garble() -> None:
                await raw.until(lambda: len(raw.of("tools/call")) == 1)
                await script.streams[1].frame(b"garbage")

            group.start_soon(garble)
            end = await harness.end(harness.tool("silent"))
        assert isinstance(end, Failure)
        assert end.kind == "disconnected"


@pytest.mark.parametrize("status", [404, 401, 503])
async def test_no_stream_is_no_upstream(status: int) -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.reply(status)

    async with raw_server(script) as raw, connected(raw.url, transport="sse") as harness:
        with pytest.raises(ConnectorError):
            await harness.connector.open()
        assert len(raw.requests) == 1
