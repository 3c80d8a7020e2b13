"""Being told to stop with calls under way and clients that keep coming."""

import signal
from pathlib import Path

import anyio
import pytest

from tests.peers.broken_bench import bench
from tests.peers.broken_upstreams import TOOL
from tests.peers.clients import ERAS, Era
from tests.peers.portico import portico
from tests.peers.raw_client import Answered, RawSession, raw_connection, raw_session
from tests.peers.raw_server import LegacyScript, ModernScript, Received, Wire, raw_server

pytestmark = pytest.mark.anyio

CALL = b'{"name":"say"}'


async def ready(caller: RawSession) -> Answered:
    async with raw_connection(caller.url) as connection:
        await connection.send(
            caller.request(b"", {"Content-Length": ""}, verb="GET", path="/readyz")
        )
        return await connection.answer()


@pytest.mark.parametrize("era", ERAS)
async def test_calls_under_way_end_and_new_ones_are_refused_while_portico_stops(
    tmp_path: Path, era: Era
) -> None:
    told = anyio.Event()

    async def tools(_: Received, wire: Wire) -> None:
        await wire.result({"resultType": "complete", "ttlMs": 0, "tools": [TOOL]})

    async def answer_when_told(_: Received, wire: Wire) -> None:
        await told.wait()
        await wire.result({"resultType": "complete", "content": []})

    made = ModernScript if era == "modern" else LegacyScript
    script = made({"tools/list": tools, "tools/call": answer_when_told})
    data = tmp_path / "data"
    async with bench(data) as running, raw_server(script) as raw:
        url = await running.put("slow", url=raw.url)
        async with raw_session(url, era) as caller, raw_connection(url) as under_way:
            assert (await ready(caller)).status == 200
            await under_way.send(caller.request(*caller.message("tools/call", CALL)))
            with anyio.fail_after(10):
                await raw.until(lambda: len(raw.of("tools/call")) == 1)
                running.portico.process.send_signal(signal.SIGTERM)
                while (await ready(caller)).status == 200:
                    pass
                refused = await caller.call("say", id=b'"late"')
                told.set()
                answered = await under_way.answer()
                assert await under_way.closed() == b""
                assert await running.portico.process.wait() == 0
            assert len(raw.of("tools/call")) == 1
    assert (refused.status, refused.error["code"], refused.json["id"]) == (503, -31503, "late")
    assert int(refused.headers["retry-after"]) > 0
    assert answered.result["content"] == []
    for call, outcome in ((answered.call, "ok"), (refused.call, "refused")):
        (entry,) = (await portico("audit", "search", "--text", call, data=data))["items"]
        assert entry["outcome"] == outcome
