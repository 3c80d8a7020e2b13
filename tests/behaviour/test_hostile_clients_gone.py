"""Clients that leave before their answer, or never read it."""

from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.peers import raw_stdio
from tests.peers.broken_answers import hang_before, hang_in_stream
from tests.peers.broken_bench import Bench, bench
from tests.peers.broken_upstreams import TOOL, said_by
from tests.peers.clients import ERAS, Era
from tests.peers.raw_client import RawSession, raw_connection, raw_session
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

CALL = b'{"name":"say"}'
PROGRESS = b'"progressToken":"mine"'
_numbers = count(1)


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with bench(tmp_path_factory.mktemp("gone") / "data") as found:
        yield found


async def tools(_: Received, wire: Wire) -> None:
    await wire.result({"resultType": "complete", "ttlMs": 0, "tools": [TOOL]})


async def progress_then_hang(received: Received, wire: Wire) -> None:
    await wire.start_stream()
    params = {"progressToken": received.json["id"], "progress": 1}
    await wire.frame({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
    await wire.client_left()


def upstream_of(speaks: str, script: Script) -> Any:
    made = ModernScript if speaks == "modern" else LegacyScript
    return made({"tools/list": tools, "tools/call": script})


async def put(running: Bench, **spec: Any) -> tuple[str, str]:
    name = f"upstream{next(_numbers)}"
    return name, await running.put(name, **spec)


async def entry_of(running: Bench, name: str, outcome: str) -> dict[str, Any]:
    """The one tool call through an upstream, once it is recorded."""
    with anyio.fail_after(10):
        while True:
            found = [one for one in await running.entries(name) if one["operation"] == "tools/call"]
            if found:
                (entry,) = found
                assert entry["outcome"] == outcome
                return entry


async def leave(caller: RawSession, until: Callable[[], Any], *, events: int = 0) -> None:
    """Send a call, and hang up once ``until`` came true and that many events were read."""
    async with raw_connection(caller.url) as connection:
        meta = PROGRESS if events else b""
        await connection.send(caller.request(*caller.message("tools/call", CALL, meta=meta)))
        with anyio.fail_after(5):
            await until()
            for _ in range(events):
                await connection.message()


def called(raw: RawServer) -> Callable[[], Any]:
    return lambda: raw.until(lambda: bool(raw.of("tools/call")))


@pytest.mark.parametrize("speaks", ["modern", "legacy"])
@pytest.mark.parametrize(
    ("script", "events"), [(hang_before, 0), (hang_in_stream, 0), (progress_then_hang, 1)]
)
async def test_a_modern_caller_that_leaves_cancels_upstream(
    running: Bench, speaks: str, script: Script, events: int
) -> None:
    async with raw_server(upstream_of(speaks, script)) as raw:
        name, url = await put(running, url=raw.url)
        async with raw_session(url, "modern") as caller:
            await leave(caller, called(raw), events=events)
        busy = raw.of("tools/call")[0].connection
        with anyio.fail_after(5):
            await raw.until(lambda: busy not in raw.standing)
            if speaks == "legacy":
                await raw.until(lambda: bool(raw.of("notifications/cancelled")))
        await entry_of(running, name, "cancelled")
        assert len(raw.of("tools/call")) == 1
        await running.drop(name)


@pytest.mark.parametrize("speaks", ["modern", "legacy"])
@pytest.mark.parametrize("events", [0, 1])
async def test_a_legacy_caller_that_leaves_cancels_nothing_and_its_call_is_recorded(
    running: Bench, speaks: str, events: int
) -> None:
    left, watched = anyio.Event(), anyio.Event()

    async def answer_later(received: Received, wire: Wire) -> None:
        await wire.start_stream()
        params = {"progressToken": received.json["id"], "progress": 1}
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        await wire.frame(note)
        watched.set()
        await left.wait()
        await wire.frame({**note, "params": {**params, "progress": 2}})
        await wire.frame(wire.envelope(b"result", b'{"content":[],"resultType":"complete"}'))
        await wire.end_stream()

    async with raw_server(upstream_of(speaks, answer_later)) as raw:
        name, url = await put(running, url=raw.url)
        async with raw_session(url, "legacy") as caller:
            await leave(caller, watched.wait, events=events)
        left.set()
        await entry_of(running, name, "ok")
        assert not raw.of("notifications/cancelled")
        assert len(raw.of("tools/call")) == 1
        await running.drop(name)


@pytest.mark.parametrize("discover", ["modern", "error"])
async def test_a_child_is_told_when_a_modern_caller_leaves(
    running: Bench, tmp_path: Path, discover: str
) -> None:
    seen = tmp_path / "seen"
    command = raw_stdio.command("--discover", discover, "--seen", str(seen))
    name, url = await put(running, command=list(command))

    async def until(text: bytes) -> None:
        while text not in await anyio.Path(seen).read_bytes():
            await running.http.get("/healthz")

    async with raw_session(url, "modern") as caller, raw_connection(url) as connection:
        await connection.send(
            caller.request(*caller.message("tools/call", b'{"name":"wait","arguments":{}}'))
        )
        with anyio.fail_after(5):
            await until(b'"wait"')
    with anyio.fail_after(5):
        await until(b"notifications/cancelled")
    await entry_of(running, name, "cancelled")
    await running.drop(name)


@pytest.mark.parametrize("era", ERAS)
async def test_a_request_that_is_never_whole_is_no_call(
    running: Bench, tmp_path: Path, era: Era
) -> None:
    async with said_by("modern", tmp_path) as said:
        name, url = await put(running, **said.spec)
        async with raw_session(url, era) as caller:
            request = caller.request(*caller.message("tools/call", CALL))
            for size in (1, 20, len(request) // 2, len(request) - 1):
                async with raw_connection(url) as connection:
                    await connection.send(request[:size])
            answered = await caller.call("say")
        assert answered.result["content"] == []
        assert len(said.calls()) == 1
        (entry,) = [one for one in await running.entries(name) if one["operation"] == "tools/call"]
        assert entry["call"] == answered.call
        await running.drop(name)


@pytest.mark.parametrize("era", ERAS)
async def test_a_caller_that_reads_nothing_holds_nobody_else_up(
    running: Bench, tmp_path: Path, era: Era
) -> None:
    async with said_by("modern", tmp_path) as said:
        name, url = await put(running, **said.spec)
        said.answers(b'{"content":[],"x":"%b"}' % (b"x" * 8_000_000))
        async with raw_session(url, era) as caller, raw_connection(url) as deaf:
            await deaf.send(caller.request(*caller.message("tools/call", CALL)))
            entry = await entry_of(running, name, "ok")
            assert entry["bytes_out"] > 8_000_000
            said.answers()
            assert (await caller.call("say")).result["content"] == []
        await running.drop(name)


@pytest.mark.parametrize("era", ERAS)
async def test_requests_sent_without_waiting_are_answered_in_their_order(
    running: Bench, tmp_path: Path, era: Era
) -> None:
    async with said_by("modern", tmp_path) as said:
        name, url = await put(running, **said.spec)
        async with raw_session(url, era) as caller, raw_connection(url) as connection:
            ids = [b'"%d"' % number for number in range(20)]
            await connection.send(
                b"".join(caller.request(*caller.message("tools/call", CALL, id=one)) for one in ids)
            )
            with anyio.fail_after(5):
                found = [(await connection.answer()).json["id"] for _ in ids]
        assert found == [str(number) for number in range(20)]
        assert len(said.calls()) == 20
        await running.drop(name)
