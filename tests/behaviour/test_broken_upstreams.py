"""Upstreams that break: what the caller sees, what is recorded, and that nothing is sent twice."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import anyio
import pytest

from tests.peers.broken_answers import CUT_OFF, FLOODED, GARBAGE, TIMED_OUT, Broken
from tests.peers.broken_bench import Bench, bench
from tests.peers.broken_upstreams import TOOL, SseScript
from tests.peers.clients import ERAS
from tests.peers.raw_client import raw_session
from tests.peers.raw_server import (
    LegacyScript,
    ModernScript,
    RawServer,
    Received,
    Script,
    Wire,
    raw_server,
)

pytestmark = pytest.mark.anyio

Speaks = Literal["modern", "legacy"]
SPEAKS: Final[tuple[Speaks, ...]] = ("modern", "legacy")
_numbers = count(1)

MAY_HAVE_RUN: Final = "the call may have been executed"


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with bench(tmp_path_factory.mktemp("broken") / "data") as found:
        yield found


async def fine(_: Received, wire: Wire) -> None:
    await wire.result({"resultType": "complete", "content": [{"type": "text", "text": "fine"}]})


async def tools(_: Received, wire: Wire) -> None:
    await wire.result({"resultType": "complete", "ttlMs": 0, "tools": [TOOL]})


class Upstream:
    """One upstream of a running Portico; ``call`` is how it answers tool calls from now on."""

    def __init__(
        self, running: Bench, raw: RawServer, methods: dict[str, Script], speaks: Speaks
    ) -> None:
        self.running = running
        self.speaks = speaks
        self.raw = raw
        self.name = f"upstream{next(_numbers)}"
        self.methods = methods
        self.url = ""

    @property
    def calls(self) -> int:
        """How many tool calls came."""
        return len(self.raw.of("tools/call"))

    async def put(self, **spec: Any) -> None:
        spec = {"timeout_s": 5.0, "timeout_cap_s": 10.0, **spec}
        self.url = await self.running.put(self.name, url=self.raw.url, **spec)

    async def failing(self, era: Any, broken: Script) -> tuple[Any, dict[str, Any]]:
        """One call that fails in this way: its result, and its entry in the record."""
        self.methods["tools/call"] = broken
        async with raw_session(self.url, era) as caller:
            answered = await caller.call("say", id=b'"an id"', meta=b'"progressToken":1')
        assert answered.status == 200
        assert answered.json["id"] == "an id"
        return answered.result, await self.running.entry(answered.call)

    async def works(self) -> None:
        """The next call is answered as if nothing had been."""
        self.methods["tools/call"] = fine
        for era in ERAS:
            async with raw_session(self.url, era) as caller:
                answered = await caller.call("say")
            assert answered.result["content"] == [{"type": "text", "text": "fine"}]


@asynccontextmanager
async def serving(running: Bench, speaks: Speaks, **spec: Any) -> AsyncIterator[Upstream]:
    """An upstream that works, until told otherwise."""
    methods: dict[str, Script] = {"tools/call": fine, "tools/list": tools}
    script = ModernScript() if speaks == "modern" else LegacyScript()
    script.methods = methods
    async with raw_server(script) as raw:
        upstream = Upstream(running, raw, methods, speaks)
        await upstream.put(**spec)
        yield upstream
        await running.drop(upstream.name)


@pytest.fixture(scope="module", params=SPEAKS)
async def upstream(running: Bench, request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    async with serving(running, request.param) as found:
        yield found


@pytest.fixture(scope="module", params=SPEAKS)
async def impatient(running: Bench, request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    """One that Portico waits for half a second, and a second at the most."""
    async with serving(running, request.param, timeout_s=0.5, timeout_cap_s=1.0) as found:
        yield found


def note_of(result: Any) -> dict[str, Any]:
    """What a result that failed says of the failure, for programs."""
    assert result["isError"]
    note: dict[str, Any] = result["_meta"]["io.portico/failure"]
    return note


async def fails_once_each(upstream: Upstream, broken: Broken) -> None:
    """In both eras: the failure is said and recorded, and the upstream was asked once."""
    for era in ERAS:
        before = upstream.calls
        result, entry = await upstream.failing(era, broken.script)
        assert note_of(result) == {"upstream": upstream.name, "kind": broken.kind} | (
            {"status": note_of(result)["status"]} if "status" in note_of(result) else {}
        )
        assert f"Upstream '{upstream.name}'" in result["content"][0]["text"]
        assert (entry["outcome"], entry["reason"]) == ("failed", broken.kind)
        assert upstream.calls == before + 1
    await upstream.works()


@pytest.mark.parametrize("how", TIMED_OUT)
async def test_silence_is_a_timeout_and_the_upstream_is_told(impatient: Upstream, how: str) -> None:
    cancelled = len(impatient.raw.of("notifications/cancelled"))
    await fails_once_each(impatient, TIMED_OUT[how])
    result, _ = await impatient.failing("modern", TIMED_OUT[how].script)
    assert MAY_HAVE_RUN in result["content"][0]["text"]
    busy = impatient.raw.of("tools/call")[-1].connection
    with anyio.fail_after(5):
        await impatient.raw.until(lambda: busy not in impatient.raw.standing)
        if impatient.speaks == "legacy":
            await impatient.raw.until(
                lambda: len(impatient.raw.of("notifications/cancelled")) == cancelled + 3
            )


@pytest.mark.parametrize("how", FLOODED)
async def test_a_flood_is_cut_off(upstream: Upstream, how: str) -> None:
    await fails_once_each(upstream, FLOODED[how])


@pytest.mark.parametrize("how", CUT_OFF)
async def test_an_answer_cut_off_is_said_and_not_asked_for_again(
    upstream: Upstream, how: str
) -> None:
    await fails_once_each(upstream, CUT_OFF[how])
    result, _ = await upstream.failing("legacy", CUT_OFF[how].script)
    assert MAY_HAVE_RUN in result["content"][0]["text"]


@pytest.mark.parametrize("how", GARBAGE)
async def test_garbage_is_a_violation_of_that_call(upstream: Upstream, how: str) -> None:
    await fails_once_each(upstream, GARBAGE[how])


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "x"])
async def test_what_an_answer_is_called_does_not_matter(
    upstream: Upstream, content_type: str
) -> None:
    async def unlabelled(_: Received, wire: Wire) -> None:
        message = wire.envelope(b"result", b'{"content":[],"resultType":"complete"}')
        await wire.reply(200, message, content_type=content_type)

    upstream.methods["tools/call"] = unlabelled
    for era in ERAS:
        async with raw_session(upstream.url, era) as caller:
            assert (await caller.call("say")).result["content"] == []


def status(code: int, headers: dict[str, str]) -> Script:
    async def answer(_: Received, wire: Wire) -> None:
        await wire.reply(code, b"no", headers, content_type="text/plain")

    return answer


@pytest.mark.parametrize(
    ("code", "headers"),
    [
        (401, {"WWW-Authenticate": 'Bearer realm="secret place"'}),
        (403, {}),
        (407, {}),
        (408, {}),
        (418, {}),
        (429, {"Retry-After": "7"}),
        (500, {}),
        (502, {}),
        (503, {"Retry-After": "7"}),
        (504, {}),
    ],
)
async def test_a_status_is_told_and_not_tried_again(
    upstream: Upstream, code: int, headers: dict[str, str]
) -> None:
    for era in ERAS:
        before = upstream.calls
        result, entry = await upstream.failing(era, status(code, headers))
        note = note_of(result)
        assert (note["kind"], note["status"]) == ("status", code)
        assert note.get("retryAfterS") == (7 if "Retry-After" in headers else None)
        assert f"HTTP status {code}" in result["content"][0]["text"]
        assert "secret place" not in str(result)
        assert (entry["outcome"], entry["reason"], entry["status"]) == ("failed", "status", code)
        assert upstream.calls == before + 1
    await upstream.works()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirected_call_goes_nowhere(upstream: Upstream, code: int) -> None:
    async with raw_server(ModernScript({"tools/call": fine})) as other:
        for location in (other.url, "/elsewhere"):
            redirect = status(code, {"Location": location})
            result, entry = await upstream.failing("modern", redirect)
            assert (note_of(result)["status"], entry["status"]) == (code, code)
            assert other.url not in str(result)
        assert {request.path for request in upstream.raw.requests} == {"/mcp"}
        await upstream.works()
    assert other.connections == 0


@pytest.mark.parametrize("speaks", SPEAKS)
async def test_what_is_no_tool_call_fails_with_an_error(running: Bench, speaks: Speaks) -> None:
    async def prompts(_: Received, wire: Wire) -> None:
        await wire.result({"resultType": "complete", "ttlMs": 0, "prompts": [{"name": "greet"}]})

    made: Any = ModernScript if speaks == "modern" else LegacyScript
    script = made({"prompts/list": prompts}, capabilities={"prompts": {}})
    async with raw_server(script) as raw:
        name = f"upstream{next(_numbers)}"
        url = await running.put(name, url=raw.url, timeout_s=5.0)
        for case in [case for how, case in CUT_OFF.items() if "before" in how]:
            script.methods["prompts/get"] = case.script
            for era in ERAS:
                before = len(raw.of("prompts/get"))
                async with raw_session(url, era) as caller:
                    answered = await caller.ask("prompts/get", b'{"name":"greet"}', id=b'"an id"')
                assert (answered.status, answered.json["id"]) == (200, "an id")
                assert answered.error["code"] == -32603
                assert answered.error["data"]["io.portico/failure"]["kind"] == case.kind
                entry = await running.entry(answered.call)
                assert (entry["outcome"], entry["reason"]) == ("failed", case.kind)
                assert len(raw.of("prompts/get")) == before + 1
        await running.drop(name)


@pytest.mark.parametrize("era", ERAS)
async def test_an_http_sse_stream_that_breaks_takes_its_calls_along(
    running: Bench, era: Any
) -> None:
    async def cut(_: Received, stream: Wire) -> None:
        await stream.abort()

    async def garbage(_: Received, stream: Wire) -> None:
        await stream.frame(b'{"jsonrpc":"2.0","method":"\xff"}')

    async def say(received: Received, stream: Wire) -> None:
        await stream.frame({"jsonrpc": "2.0", "id": received.json["id"], "result": {"content": []}})

    methods: dict[str, Script] = {"tools/call": cut}
    async with raw_server(SseScript(methods, [TOOL])) as raw:
        name = f"upstream{next(_numbers)}"
        url = await running.put(name, url=raw.url, timeout_s=5.0)
        broken: tuple[Script, ...] = (cut, garbage)
        for script in broken:
            methods["tools/call"] = script
            before = len(raw.of("tools/call"))
            async with raw_session(url, era) as caller:
                answered = await caller.call("say")
            assert note_of(answered.result)["kind"] == "disconnected"
            assert (await running.entry(answered.call))["reason"] == "disconnected"
            assert len(raw.of("tools/call")) == before + 1
        methods["tools/call"] = say
        async with raw_session(url, era) as caller:
            assert (await caller.call("say")).result["content"] == []
        await running.drop(name)


@pytest.mark.parametrize(
    "how",
    [
        "hangs before its answer",
        "hangs in the body",
        "sends a body without end",
        "sends headers without end",
        "closes before its answer",
        "resets before its answer",
        "closes within the body",
        "speaks no HTTP",
        "gives two lengths",
    ],
)
async def test_an_openapi_service_that_breaks_fails_that_call(
    running: Bench, tmp_path: Path, how: str
) -> None:
    operation = {"operationId": "say", "responses": {"200": {"description": "said"}}}
    document = tmp_path / "service.json"
    document.write_text(
        json.dumps({
            "openapi": "3.1.0",
            "info": {"title": "raw", "version": "0"},
            "paths": {"/say": {"post": operation}},
        }),
        encoding="utf-8",
    )
    broken = (TIMED_OUT | FLOODED | CUT_OFF | GARBAGE)[how]
    scripts = [broken.script]

    async def script(received: Received, wire: Wire) -> None:
        await scripts[-1](received, wire)

    async def well(_: Received, wire: Wire) -> None:
        await wire.reply(200, b'{"said":1e400}')

    async with raw_server(script) as raw:
        name = f"upstream{next(_numbers)}"
        base_url = raw.url.removesuffix("/mcp")
        spec = {"openapi": str(document), "base_url": base_url, "timeout_s": 0.6}
        url = await running.put(name, **spec, timeout_cap_s=2.0)
        for era in ERAS:
            before = len(raw.requests)
            async with raw_session(url, era) as caller:
                answered = await caller.call("say")
            assert note_of(answered.result)["kind"] == broken.kind
            entry = await running.entry(answered.call)
            assert (entry["outcome"], entry["reason"]) == ("failed", broken.kind)
            assert len(raw.requests) == before + 1
        scripts.append(well)
        async with raw_session(url, "modern") as caller:
            assert b'"said":1e400' in (await caller.call("say")).last
        await running.drop(name)
