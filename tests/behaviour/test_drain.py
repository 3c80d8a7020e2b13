"""Going away: what is under way ends well, what comes anew is told to go elsewhere."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.peers.portico import running_portico
from tests.peers.raw_server import ModernScript, Received, Wire, raw_server

pytestmark = pytest.mark.anyio

MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


def head(method: str, name: str = "") -> dict[str, str]:
    named = {"Mcp-Name": name} if name else {}
    return {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": method,
        **named,
    }


def body(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}


@pytest.mark.parametrize("streamed", [False, True], ids=["silent", "streamed"])
async def test_a_call_under_way_is_answered_and_new_ones_are_turned_away(
    tmp_path: Path, streamed: bool
) -> None:
    release, called = asyncio.Event(), asyncio.Event()

    async def echo(received: Received, wire: Wire) -> None:
        called.set()
        if streamed:
            params = {"progressToken": int(wire.request_id), "progress": 1}
            note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
            await wire.start_stream()
            await wire.frame(note)
        await release.wait()
        if streamed:
            await wire.frame(wire.envelope(b"result", b'{"content":[]}'))
            await wire.end_stream()
        else:
            await wire.result({"content": []})

    tool = {"name": "echo", "inputSchema": {"type": "object"}}
    async with (
        raw_server(ModernScript({"tools/call": echo}, tools=(tool,))) as upstream,
        running_portico(tmp_path / "data", upstream.url) as portico,
        httpx2.AsyncClient(timeout=20, trust_env=False) as client,
        anyio.create_task_group() as tasks,
    ):
        answers: list[httpx2.Response] = []

        async def call() -> None:
            asked = body("tools/call", name="echo", arguments={})
            asked["params"]["_meta"] = {**META, "progressToken": 1}
            answers.append(
                await client.post(portico.url, json=asked, headers=head("tools/call", "echo"))
            )

        tasks.start_soon(call)
        with anyio.fail_after(20):
            await called.wait()
            portico.process.send_signal(signal.SIGTERM)
            while True:
                ready = await client.get(f"{portico.origin}/readyz")
                if ready.status_code != 200:
                    break
            assert ready.status_code == 503
            assert ready.headers["connection"] == "close"
            refused = await client.post(
                portico.url, json=body("tools/list"), headers=head("tools/list")
            )
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            assert refused.headers["connection"] == "close"
            assert refused.json()["error"]["code"] == -31503
            assert refused.json()["id"] == 1
            release.set()
            assert await portico.process.wait() == 0
    assert b'"content":[]' in answers[0].content
    assert streamed or answers[0].headers["connection"] == "close"


async def test_with_nothing_under_way_it_ends_at_once(tmp_path: Path) -> None:
    async with (
        running_portico(tmp_path / "data") as portico,
        httpx2.AsyncClient(trust_env=False) as idle,
    ):
        assert (await idle.get(f"{portico.origin}/healthz")).status_code == 200
        with anyio.fail_after(5):
            assert await portico.stop() == 0
