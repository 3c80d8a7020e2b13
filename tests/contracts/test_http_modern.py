"""Calls to a modern upstream: what goes on the wire, and what is made of each answer."""

import json
from typing import Any

import anyio
import msgspec
import pytest
from msgspec import Raw

from connectors.outcome import Failure, Progress, Result
from connectors.protocol import Change, Credential
from tests.contracts.http_harness import MODERN, connected
from tests.peers.raw_server import ModernScript, RawServer, Received, Script, Wire, raw_server

CAPABILITIES = {"tools": {"listChanged": False}}


async def answer(received: Received, wire: Wire) -> None:
    await wire.result(b'{"resultType":"complete","content":[]}')


def ended(end: Result | Failure) -> Failure:
    assert isinstance(end, Failure), end
    return end


async def call(script: Script, **options: Any) -> tuple[Result | Failure, RawServer]:
    """One tool call answered by ``script``."""
    async with (
        raw_server(ModernScript({"tools/call": script})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        return await harness.end(harness.tool("any", **options)), raw


async def test_a_warm_call_is_one_request_on_the_same_connection() -> None:
    async with (
        raw_server(ModernScript({"tools/call": answer})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        await harness.connector.open()
        before = len(raw.requests)
        for _ in range(20):
            assert isinstance(await harness.end(harness.tool("any")), Result)
        assert len(raw.requests) == before + 20
        assert raw.connections == 1


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream; charset=utf-8"])
async def test_a_whole_event_stream_is_read_as_one_however_often_its_head_comes(kind: str) -> None:
    async def streamed(_: Received, wire: Wire) -> None:
        result = wire.envelope(b"result", b'{"resultType":"complete","content":[]}')
        await wire.reply(200, b"data: %b\n\n" % result, content_type=kind)

    async with (
        raw_server(ModernScript({"tools/call": streamed})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        for _ in range(3):
            assert isinstance(await harness.end(harness.tool("any")), Result)


async def test_a_request_says_in_headers_what_it_says_in_its_body() -> None:
    async with (
        raw_server(ModernScript({"tools/call": answer})) as raw,
        connected(raw.url, MODERN, headers={"X-Key": "k", "X-Other": "o"}) as harness,
    ):
        harness.credential = Credential("user", 3, {"x-key": "theirs"})
        request = harness.tool(
            "größe",
            {"region": "eu", "count": 7, "secret": None},
            client_capabilities=Raw(b'{"elicitation":{}}'),
            client_info=Raw(b'{"name":"claude-code","version":"2"}'),
            wants_progress=True,
            log_level="info",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            param_headers={("region",): "Region", ("count",): "Count", ("secret",): "Secret"},
            meta={"example.com/a": Raw(b"[1]")},
        )
        await harness.end(request)
        sent = raw.of("tools/call")[0]
    names = [name for name, _ in sent.headers]
    assert len(names) == len(set(names))
    fixed = {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": "=?base64?Z3LDtsOfZQ==?=",
        "mcp-param-region": "eu",
        "mcp-param-count": "7",
        "x-key": "theirs",
        "x-other": "o",
    }
    assert {name: sent.header(name) for name in fixed} == fixed
    assert sent.header("mcp-param-secret") is None
    assert sent.header("mcp-session-id") is None
    body = sent.json
    assert body["params"]["_meta"] == {
        "example.com/a": [1],
        "progressToken": body["id"],
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
        "io.modelcontextprotocol/clientInfo": {"name": "claude-code", "version": "2"},
        "io.modelcontextprotocol/logLevel": "info",
    }


async def test_arguments_arrive_byte_for_byte() -> None:
    async with (
        raw_server(ModernScript({"tools/call": answer})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        arguments = Raw(b'{"n":1152921504606846977, "x":1e400,"nul":null,"t":"\\u00e9"}')
        request = harness.request("tools/call", {"name": Raw(b'"any"'), "arguments": arguments})
        await harness.end(request)
        assert bytes(arguments) in raw.of("tools/call")[0].body


async def test_a_name_that_headers_contradict_is_never_sent() -> None:
    async with (
        raw_server(ModernScript({"tools/call": answer})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        await harness.end(harness.tool("any\r\nX-Injected: yes"))
        sent = raw.of("tools/call")[0]
        assert sent.header("x-injected") is None
        assert (sent.header("mcp-name") or "").startswith("=?base64?")


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (b'{"resultType":"task","taskId":"1"}', "violation"),
        (b'{"resultType":7}', "violation"),
        (b"[]", "violation"),
        (b"null", "violation"),
    ],
)
async def test_a_result_of_unknown_type_breaks_the_protocol(result: bytes, kind: str) -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.result(result)

    end, _ = await call(script)
    assert ended(end).kind == kind


async def test_input_required_is_told_apart() -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.result(b'{"resultType":"input_required","requestState":"x"}')

    end, _ = await call(script)
    assert isinstance(end, Result)
    assert end.input_required
    assert bytes(end.body) == b'{"resultType":"input_required","requestState":"x"}'


@pytest.mark.parametrize("code", [401, 403, 407, 408, 429, 500, 502, 503, 504, 409, 418])
async def test_a_status_is_passed_on_with_what_it_says(code: int) -> None:
    async def script(received: Received, wire: Wire) -> None:
        headers = {"Retry-After": "7", "WWW-Authenticate": 'Bearer realm="x"'}
        await wire.reply(code, b"<html>secret stack trace</html>", headers, "text/html")

    end, raw = await call(script)
    failure = ended(end)
    assert (failure.kind, failure.status) == ("status", code)
    assert (failure.retry_after_s, failure.challenge) == (7.0, 'Bearer realm="x"')
    assert "secret" not in failure.message
    assert len(raw.of("tools/call")) == 1


async def test_an_overload_in_the_words_of_the_protocol_is_still_an_overload() -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.error(503, -31503, "draining")

    failure = ended((await call(script))[0])
    assert (failure.kind, failure.status, failure.code) == ("status", 503, -31503)
    assert failure.message == "draining"


@pytest.mark.parametrize(("status", "code"), [(200, -32603), (400, -32602), (404, -32601)])
async def test_an_error_is_passed_on_in_the_upstreams_words(status: int, code: int) -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.error(status, code, "it is so", {"why": 1})

    failure = ended((await call(script))[0])
    assert (failure.kind, failure.code, failure.message) == ("error", code, "it is so")
    assert failure.data is not None
    assert msgspec.json.decode(failure.data) == {"why": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b'{"jsonrpc":"2.0","id":999999,"result":{}}',
        b'{"jsonrpc":"2.0","method":"notifications/message"}',
        b"",
        b"[1,2]",
    ],
)
async def test_an_answer_that_is_none_breaks_the_protocol(body: bytes) -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.reply(200, body)

    assert ended((await call(script))[0]).kind == "violation"


async def test_frames_that_are_no_messages_break_the_protocol() -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.frame(b"hello")

    assert ended((await call(script))[0]).kind == "violation"


async def test_a_frame_beyond_the_limit_breaks_the_protocol() -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.chunk(b"data: " + b"x" * (8 * 1024 * 1024 + 1))
        await wire.client_left()

    assert ended((await call(script))[0]).kind == "violation"


async def test_a_lost_connection_is_said_and_nothing_is_sent_again() -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.abort()

    end, raw = await call(script)
    assert ended(end).kind == "disconnected"
    assert len(raw.of("tools/call")) == 1


async def test_a_stream_that_ends_without_an_answer_is_a_disconnection() -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.end_stream()

    end, raw = await call(script)
    assert ended(end).kind == "disconnected"
    assert len(raw.of("tools/call")) == 1


async def test_giving_up_closes_the_stream() -> None:
    left = anyio.Event()

    async def script(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        token = received.json["params"]["_meta"]["progressToken"]
        params = {"progressToken": token, "progress": 1}
        await wire.frame({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        await wire.client_left()
        left.set()

    async with (
        raw_server(ModernScript({"tools/call": script})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        request = harness.tool("any", wants_progress=True)
        outcome = harness.connector.invoke(request, harness.credential)
        with anyio.fail_after(5):
            assert isinstance(await outcome.__anext__(), Progress)
            await outcome.aclose()
            await left.wait()
        assert [event async for event in outcome] == []


async def test_a_revision_that_is_refused_is_tried_once_more() -> None:
    refusals = [True, True]

    async def script(received: Received, wire: Wire) -> None:
        if refusals and refusals.pop():
            await wire.error(400, -32022, data={"supported": [MODERN], "requested": "x"})
        else:
            await answer(received, wire)

    refusals.pop()
    end, raw = await call(script)
    assert isinstance(end, Result)
    assert len(raw.of("tools/call")) == 2
    refusals[:] = [True] * 5
    end, raw = await call(script)
    assert ended(end).code == -32022
    assert len(raw.of("tools/call")) == 2


def annotated(token: str) -> object:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": token}}}
    return {"name": "any", "inputSchema": schema}


async def test_a_changed_header_map_is_fetched_once_and_followed() -> None:
    script = ModernScript(tools=({"name": "other"}, annotated("Zone")))

    async def wants_zone(received: Received, wire: Wire) -> None:
        if received.header("mcp-param-zone") != "eu":
            await wire.error(400, -32020, "header mismatch")
        else:
            await answer(received, wire)

    script.methods["tools/call"] = wants_zone
    async with raw_server(script) as raw, connected(raw.url, MODERN) as harness:
        arguments = {"region": "eu"}
        request = harness.tool("any", arguments, param_headers={("region",): "Region"})
        assert isinstance(await harness.end(request), Result)
        assert [sent.header("mcp-param-region") for sent in raw.of("tools/call")] == ["eu", None]
        assert harness.changes.seen == [Change("tools")]
        script.tools = (annotated("Elsewhere"),)
        failure = ended(await harness.end(request))
        assert (failure.code, len(raw.of("tools/call"))) == (-32020, 4)
        script.tools = ()
        failure = ended(await harness.end(request))
        assert (failure.code, failure.message) == (-32020, "header mismatch")
        assert len(raw.of("tools/call")) == 5


async def test_no_more_calls_than_allowed_are_in_flight() -> None:
    gate = anyio.Event()

    async def gated(received: Received, wire: Wire) -> None:
        await gate.wait()
        await answer(received, wire)

    async with (
        raw_server(ModernScript({"tools/call": gated})) as raw,
        connected(raw.url, MODERN, max_in_flight=2) as harness,
    ):
        await harness.connector.open()
        ends: list[Result | Failure] = []

        async def one() -> None:
            ends.append(await harness.end(harness.tool("any")))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(one)
                await raw.until(lambda: len(raw.of("tools/call")) == 2)
                late = ended(await harness.end(harness.tool("any", timeout_s=0.1)))
                assert late.kind == "unreachable"
                await harness.connector.list()
                assert len(raw.of("tools/call")) == 2
                gate.set()
        assert [type(end) for end in ends] == [Result] * 5


async def test_progress_does_not_keep_a_call_alive_beyond_its_cap() -> None:
    async def endless(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        token = received.json["params"]["_meta"].get("progressToken")
        for step in range(1000):
            params = {"progressToken": token, "progress": step}
            await wire.frame({
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": params,
            })
            await anyio.sleep(0.02)

    async with (
        raw_server(ModernScript({"tools/call": endless})) as raw,
        connected(raw.url, MODERN, timeout_cap_s=0.5) as harness,
    ):
        await harness.connector.open()
        with anyio.fail_after(3):
            request = harness.tool("any", wants_progress=True, timeout_s=0.3)
            events = await harness.events(request)
        assert ended(events[-1]).kind == "timeout"  # type: ignore[arg-type]  # the last is an end
        assert len(events) > 15


async def test_an_upstream_is_read_no_faster_than_its_caller_takes() -> None:
    written = 0
    frame_bytes = 100_000

    async def torrent(received: Received, wire: Wire) -> None:
        nonlocal written
        await wire.start_stream()
        token = received.json["params"]["_meta"]["progressToken"]
        message = "x" * frame_bytes
        for step in range(1000):
            params = {"progressToken": token, "progress": step, "message": message}
            await wire.frame({
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": params,
            })
            written += frame_bytes
        await wire.frame(wire.envelope(b"result", b'{"content":[]}'))
        await wire.end_stream()

    async with (
        raw_server(ModernScript({"tools/call": torrent})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        request = harness.tool("any", wants_progress=True)
        outcome = harness.connector.invoke(request, harness.credential)
        await outcome.__anext__()
        with anyio.move_on_after(0.5):
            await raw.until(lambda: written >= 50_000_000)
        assert written < 50_000_000
        rest = [event async for event in outcome]
        assert len(rest) == 1000
        assert isinstance(rest[-1], Result)


async def test_messages_that_belong_to_nobody_are_passed_over() -> None:
    async def script(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        await wire.chunk(b": ping\r\n\r\n")
        for method, params in (
            ("notifications/progress", {"progressToken": "not ours", "progress": 1}),
            ("notifications/progress", {"progress": 1}),
            ("notifications/unheard", {}),
            ("notifications/message", []),
        ):
            await wire.frame({"jsonrpc": "2.0", "method": method, "params": params})
        await wire.frame({"jsonrpc": "2.0", "id": 1, "method": "roots/list", "params": {}})
        await wire.frame(b'{"jsonrpc":"2.0"}', prefix=b"event: other\r\n")
        await wire.frame(wire.envelope(b"result", b'{"content":[]}'))
        await wire.end_stream()

    async with (
        raw_server(ModernScript({"tools/call": script})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        events = await harness.events(harness.tool("any", wants_progress=True, log_level="debug"))
        assert [type(event) for event in events] == [Result]
        assert len(raw.of("tools/call")) == 1


async def test_lists_keep_the_shortest_life_and_the_narrowest_scope() -> None:
    pages = {
        "": {"tools": [{"name": "a"}], "nextCursor": "", "ttlMs": 500, "cacheScope": "public"},
        '""': {"tools": [{"name": "b"}], "nextCursor": "2", "ttlMs": 90, "cacheScope": "public"},
        '"2"': {
            "tools": [7, {"name": "a"}],
            "nextCursor": "2",
            "ttlMs": 9e9,
            "cacheScope": "public",
        },
    }

    async def paged(received: Received, wire: Wire) -> None:
        cursor = received.json["params"].get("cursor")
        await wire.result(pages["" if cursor is None else json.dumps(cursor)])

    script = ModernScript({"tools/list": paged})
    async with raw_server(script) as raw, connected(raw.url, MODERN) as harness:
        listing = await harness.connector.list()
        assert [bytes(tool) for tool in listing.tools] == [b'{"name": "a"}', b'{"name": "b"}', b"7"]
        assert (listing.ttl_ms, listing.public) == (90, True)
        assert len(raw.of("tools/list")) == 3
        pages[""]["cacheScope"] = "private"
        pages["2"] = {}
        pages['""']["ttlMs"] = -5
        listing = await harness.connector.list()
        assert (listing.ttl_ms, listing.public) == (0, False)


async def test_a_subscription_is_opened_again_and_what_was_missed_counts_as_changed() -> None:
    capabilities = {"tools": {"listChanged": True}, "resources": {"subscribe": True}}
    kept: list[Wire] = []

    async def listen(received: Received, wire: Wire) -> None:
        kept.append(wire)
        await wire.start_stream()
        params = {"notifications": received.json["params"]["notifications"]}
        await wire.frame({
            "jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            "params": params,
        })
        await wire.client_left()

    script = ModernScript({"subscriptions/listen": listen}, capabilities=capabilities)
    async with raw_server(script) as raw, connected(raw.url, MODERN) as harness:
        await harness.connector.open()
        asked = raw.of("subscriptions/listen")[0].json["params"]["notifications"]
        assert asked == {"toolsListChanged": True}
        assert await harness.connector.watch(frozenset({"a://b"})) == {"a://b"}
        asked = raw.of("subscriptions/listen")[1].json["params"]["notifications"]
        assert asked == {"toolsListChanged": True, "resourceSubscriptions": ["a://b"]}
        await raw.until(lambda: raw.open_connections <= 2)
        assert harness.changes.seen == []
        await kept[1].abort()
        await harness.changes.until(Change("tools"))
        await harness.changes.until(Change("resource", "a://b"))
        assert len(raw.of("subscriptions/listen")) == 3


async def test_an_upstream_without_subscriptions_is_left_alone() -> None:
    async def refuse(received: Received, wire: Wire) -> None:
        await wire.error(404, -32601)

    capabilities = {"tools": {"listChanged": True}}
    script = ModernScript({"subscriptions/listen": refuse}, capabilities=capabilities)
    async with raw_server(script) as raw, connected(raw.url, MODERN) as harness:
        await harness.connector.open()
        assert await harness.connector.watch(frozenset({"a://b"})) == frozenset()
        assert len(raw.of("subscriptions/listen")) == 1


async def test_an_upstream_that_goes_away_is_said_once() -> None:
    capabilities = {"tools": {"listChanged": True}}

    async def listen(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        method = "notifications/subscriptions/acknowledged"
        await wire.frame({"jsonrpc": "2.0", "method": method, "params": {"notifications": {}}})
        await wire.client_left()

    script = ModernScript({"subscriptions/listen": listen}, capabilities=capabilities)
    async with raw_server(script) as raw, connected(raw.url, MODERN) as harness:
        await harness.connector.open()
        await raw.stop()
        await harness.changes.until(Change("closed"))
        end = await harness.end(harness.tool("any"))
        assert ended(end).kind == "unreachable"
        assert harness.changes.seen == [Change("closed")]


async def test_credentials_of_two_callers_never_share_a_connection() -> None:
    async with (
        raw_server(ModernScript({"tools/call": answer})) as raw,
        connected(raw.url, MODERN) as harness,
    ):
        for version, key in ((1, "a"), (2, "b"), (1, "a"), (2, "b")):
            harness.credential = Credential("user", version, {"Authorization": f"Bearer {key}"})
            await harness.end(harness.tool("any"))
        used: dict[str, set[int]] = {}
        for sent in raw.of("tools/call"):
            used.setdefault(sent.header("authorization") or "", set()).add(sent.connection)
        assert [len(connections) for connections in used.values()] == [1, 1]
        assert len(set.union(*used.values())) == 2


async def test_a_credential_that_would_break_the_message_is_not_sent() -> None:
    async with raw_server(ModernScript()) as raw, connected(raw.url, MODERN) as harness:
        await harness.connector.open()
        harness.credential = Credential("user", 1, {"Authorization": "a\r\nX-Evil: b"})
        assert ended(await harness.end(harness.tool("any"))).kind == "unreachable"
        assert raw.of("tools/call") == []
