"""Upstreams that go away: connections, sessions, children and eras that were there a moment ago."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.peers import raw_stdio
from tests.peers.broken_answers import close_before
from tests.peers.broken_bench import Bench, bench
from tests.peers.broken_upstreams import TOOL, said_by
from tests.peers.clients import ERAS, Era
from tests.peers.raw_client import Answered, raw_connection, raw_session
from tests.peers.raw_server import LegacyScript, ModernScript, Received, Script, Wire, raw_server

pytestmark = pytest.mark.anyio

NOTHING_RAN: Final = "cannot be reached; nothing was executed"
MAY_HAVE_RUN: Final = "the call may have been executed"
_numbers = count(1)


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with bench(tmp_path_factory.mktemp("lost") / "data") as found:
        yield found


async def fine(_: Received, wire: Wire) -> None:
    await wire.result({"resultType": "complete", "content": []})


async def tools(_: Received, wire: Wire) -> None:
    await wire.result({"resultType": "complete", "ttlMs": 0, "tools": [TOOL]})


def methods(**more: Script) -> dict[str, Script]:
    return {"tools/list": tools, "tools/call": fine, **more}


@asynccontextmanager
async def put(running: Bench, **spec: Any) -> AsyncIterator[str]:
    """The URL in front of an upstream, until the block is left."""
    name = f"upstream{next(_numbers)}"
    yield await running.put(name, **{"timeout_s": 5.0, **spec})
    await running.drop(name)


async def call(url: str, era: Era, tool: str = "say") -> Answered:
    async with raw_session(url, era) as caller:
        return await caller.call(tool)


async def failed(running: Bench, answered: Answered, kind: str, words: str) -> dict[str, Any]:
    """Look at an answer that failed and at its entry; what the answer says for programs."""
    result = answered.result
    assert result["isError"]
    assert words in result["content"][0]["text"]
    note: dict[str, Any] = result["_meta"]["io.portico/failure"]
    assert note["kind"] == kind
    entry = await running.entry(answered.call)
    assert (entry["outcome"], entry["reason"]) == ("failed", kind)
    return note


@pytest.mark.parametrize("era", ERAS)
async def test_where_nobody_listens_nothing_is_executed(running: Bench, era: Era) -> None:
    async with raw_server(ModernScript(methods())) as raw, put(running, url=raw.url) as url:
        assert (await call(url, era)).result["content"] == []
        await raw.stop()
        before = len(raw.requests)
        await failed(running, await call(url, era), "unreachable", NOTHING_RAN)
        assert len(raw.requests) == before


@pytest.mark.parametrize("era", ERAS)
async def test_an_idle_connection_that_was_closed_costs_nothing_and_one_closed_on_us_is_not_tried_again(
    running: Bench, era: Era
) -> None:
    script = ModernScript(methods())

    async def last_one(received: Received, wire: Wire) -> None:
        await fine(received, wire)
        await wire.hang_up()

    async with raw_server(script) as raw, put(running, url=raw.url) as url:
        script.methods["tools/call"] = last_one
        await call(url, era)
        with anyio.fail_after(5):
            closed = raw.of("tools/call")[-1].connection
            await raw.until(lambda: closed not in raw.standing)
        script.methods["tools/call"] = fine
        assert (await call(url, era)).result["content"] == []
        assert len(raw.of("tools/call")) == 2
        script.methods["tools/call"] = close_before
        await failed(running, await call(url, era), "disconnected", MAY_HAVE_RUN)
        assert len(raw.of("tools/call")) == 3


@pytest.mark.parametrize("era", ERAS)
async def test_a_session_the_upstream_lost_is_opened_anew_before_anything_ran(
    running: Bench, era: Era
) -> None:
    script = LegacyScript(methods())
    async with (
        raw_server(script) as raw,
        put(running, url=raw.url) as url,
        raw_session(url, era) as caller,
    ):
        await caller.call("say")
        script.sessions.clear()
        answered = await caller.call("say")
        assert answered.result["content"] == []
        assert (await running.entry(answered.call))["outcome"] == "ok"
        sessions = [one.header("mcp-session-id") for one in raw.of("tools/call")]
        assert len(sessions) == 3
        assert sessions[0] == sessions[1] != sessions[2]


@pytest.mark.parametrize("era", ERAS)
async def test_a_session_that_is_lost_again_is_not_opened_for_ever(
    running: Bench, era: Era
) -> None:
    script = LegacyScript(methods())
    async with raw_server(script) as raw, put(running, url=raw.url) as url:
        await call(url, era)

        async def unknown(_: Received, wire: Wire) -> None:
            await wire.error_to_nobody(404, -32001, "Session not found")

        script.methods["tools/call"] = unknown
        answered = await call(url, era)
        assert (answered.status, answered.error["code"]) == (200, -32001)
        entry = await running.entry(answered.call)
        assert (entry["outcome"], entry["reason"], entry["status"]) == ("failed", "error", 404)
        assert len(raw.of("tools/call")) == 3


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("before", ["modern", "legacy"])
async def test_an_upstream_of_another_era_than_a_moment_ago_refuses_and_nothing_is_executed(
    running: Bench, era: Era, before: str
) -> None:
    modern, legacy = ModernScript(methods()), LegacyScript(methods())
    serving: list[Any] = [modern if before == "modern" else legacy]

    async def refuse(_: Received, wire: Wire) -> None:
        await wire.error_to_nobody(400, -32020, "Header mismatch")

    async def script(received: Received, wire: Wire) -> None:
        await serving[-1](received, wire)

    async with raw_server(script) as raw, put(running, url=raw.url) as url:
        await call(url, era)
        modern.methods["tools/call"] = refuse
        serving.append(legacy if before == "modern" else modern)
        sent = len(raw.of("tools/call"))
        answered = await call(url, era)
        entry = await running.entry(answered.call)
        assert entry["outcome"] == "failed"
        assert entry["reason"] in {"status", "error"}
        assert 400 <= entry["status"] < 500
        assert len(raw.of("tools/call")) - sent <= 2


async def busy(_: Received, wire: Wire) -> None:
    """Work that shows signs of life, until the client leaves."""
    await wire.start_stream()
    note = {"jsonrpc": "2.0", "method": "notifications/progress"}
    for progress in count(1):
        params = {"progressToken": json.loads(wire.request_id), "progress": progress}
        await wire.frame({**note, "params": params})
        await anyio.sleep(0.02)


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_found_no_room_was_not_sent(running: Bench, era: Era) -> None:
    script = ModernScript(methods())
    async with (
        raw_server(script) as raw,
        put(running, url=raw.url, max_in_flight=1, timeout_s=0.4, timeout_cap_s=60.0) as url,
        raw_session(url, "modern") as caller,
        raw_connection(url) as first,
    ):
        script.methods["tools/call"] = busy
        await first.send(caller.request(*caller.message("tools/call", b'{"name":"say"}')))
        with anyio.fail_after(5):
            await raw.until(lambda: len(raw.of("tools/call")) == 1)
        await failed(running, await call(url, era), "unreachable", NOTHING_RAN)
        assert len(raw.of("tools/call")) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_an_upstream_that_keeps_failing_is_left_alone(running: Bench, era: Era) -> None:
    script = ModernScript(methods())
    async with raw_server(script) as raw, put(running, url=raw.url) as url:
        script.methods["tools/call"] = close_before
        for _ in range(5):
            await failed(running, await call(url, era), "disconnected", MAY_HAVE_RUN)
        note = await failed(running, await call(url, era), "unreachable", NOTHING_RAN)
        assert 0 < note["retryAfterS"] <= 1
        assert len(raw.of("tools/call")) == 5


def child(folder: Path, *more: str) -> dict[str, Any]:
    """A stdio upstream that writes down what it gets."""
    return {"command": list(raw_stdio.command("--seen", str(folder / "seen"), *more))}


def seen(folder: Path, tool: str) -> int:
    text = (folder / "seen").read_bytes()
    return sum(b"tools/call" in line and tool.encode() in line for line in text.splitlines())


@pytest.mark.parametrize("discover", ["modern", "error"])
@pytest.mark.parametrize("era", ERAS)
async def test_a_child_that_dies_takes_its_call_along_and_the_next_one_gets_another(
    running: Bench, tmp_path: Path, era: Era, discover: str
) -> None:
    async with put(running, **child(tmp_path, "--discover", discover)) as url:
        await failed(running, await call(url, era, "die"), "disconnected", MAY_HAVE_RUN)
        assert seen(tmp_path, "die") == 1
        assert not (await call(url, era, "pid")).result.get("isError", False)


@pytest.mark.parametrize("era", ERAS)
async def test_a_child_that_is_killed_under_a_call_is_a_disconnection(
    running: Bench, tmp_path: Path, era: Era
) -> None:
    spec = child(tmp_path, "--discover", "modern")
    async with put(running, max_children=1, timeout_s=20.0, **spec) as url:
        pid = int((await call(url, era, "pid")).result["content"][0]["text"].split()[0])
        answers: list[Answered] = []

        async def wait() -> None:
            answers.append(await call(url, era, "wait"))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                async with raw_session(url, era) as caller:
                    while not seen(tmp_path, "wait"):
                        await caller.call("pid")
                os.kill(pid, signal.SIGKILL)
        await failed(running, answers[0], "disconnected", MAY_HAVE_RUN)
        assert seen(tmp_path, "wait") == 1
        assert not (await call(url, era, "pid")).result.get("isError", False)


@pytest.mark.parametrize("discover", ["modern", "error"])
async def test_lines_of_a_child_that_are_no_messages_harm_no_call(
    running: Bench, tmp_path: Path, discover: str
) -> None:
    async with put(running, **child(tmp_path, "--discover", discover)) as url:
        for era in ERAS:
            for _ in range(2):
                assert (await call(url, era, "noise")).result["content"] == []


async def test_a_child_whose_answer_is_no_message_is_silent_to_its_caller(
    running: Bench, tmp_path: Path
) -> None:
    async with said_by("stdio", tmp_path) as said, put(running, **said.spec, timeout_s=0.5) as url:
        said.answers(b'{"content":["\xff"]}')
        for era in ERAS:
            await failed(running, await call(url, era), "timeout", MAY_HAVE_RUN)
        assert len(said.calls()) == 2
        said.answers()
        assert (await call(url, "modern")).result["content"] == []


async def test_a_line_without_end_ends_the_child(running: Bench, tmp_path: Path) -> None:
    async with said_by("stdio", tmp_path) as said, put(running, **said.spec) as url:
        said.answers(b'{"content":"%b"}' % (b"x" * 33 * 1024 * 1024))
        await failed(running, await call(url, "modern"), "disconnected", MAY_HAVE_RUN)
        assert len(said.calls()) == 1
        said.answers()
        assert (await call(url, "modern")).result["content"] == []
