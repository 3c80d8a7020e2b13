"""Clients that send what they should not: each gets its answer, and nothing reaches an upstream."""

import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from tests.peers.broken_bench import Bench, bench
from tests.peers.broken_upstreams import Said, said_by
from tests.peers.clients import ERAS, Era
from tests.peers.portico import portico
from tests.peers.raw_client import RawSession, raw_connection, raw_session
from tests.peers.tiny_hub import tiny_hub

pytestmark = pytest.mark.anyio

MEBIBYTE = 1024 * 1024
CONFIG = """
version: 1
principals: {alice: {}, mallory: {}}
grants:
  - {principal: alice, virtual_server: default}
  - {principal: mallory, virtual_server: default}
"""


class Hub(NamedTuple):
    """A running Portico in front of one upstream that counts."""

    bench: Bench
    said: Said
    url: str


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    folder = tmp_path_factory.mktemp("hostile")
    async with bench(folder / "data", CONFIG) as running, said_by("modern", folder) as said:
        yield Hub(running, said, await running.put("modern", **said.spec))
    assert "Traceback" not in (folder / "data.log").read_text(encoding="utf-8")


@pytest.fixture
async def caller(hub: Hub, era: Era) -> AsyncIterator[RawSession]:
    async with raw_session(hub.url, era) as session:
        yield session


in_both_eras = pytest.mark.parametrize("era", ERAS)


async def untouched(hub: Hub, caller: RawSession, sent: int) -> None:
    """The upstream got nothing, and the next call of the same caller is answered."""
    assert len(hub.said.calls()) == sent
    assert (await caller.call("say")).result["content"] == []


def call_with(caller: RawSession, body: bytes) -> tuple[bytes, dict[str, str]]:
    """A body with the headers of a call of ``say``."""
    _, headers = caller.message("tools/call", b'{"name":"say"}')
    return body, headers


DEEP = b"[" * 100_000 + b"]" * 100_000
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"say","arguments":%b}}'


@in_both_eras
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"   ", -32700),
        (b"{", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call"', -32700),
        (b"\x00" * 1000, -32700),
        (b"\xef\xbb\xbf{}", -32700),
        (CALL % b'{"a":NaN}', -32700),
        (CALL % b"{'a':1}", -32700),
        (CALL % b'{"a":1,}', -32700),
        (CALL % b'{"a":"\xff"}', -32700),
        (CALL % b'{"\xc3\x28":1}', -32700),
        (CALL.decode().encode("utf-16"), -32700),
        (CALL % DEEP, -32700),
        (gzip.compress(CALL % b"{}", mtime=0), -32700),
        (b"7", -32600),
        (b"null", -32600),
        (b'"text"', -32600),
        (b"{}", -32600),
        (b"[]", -32600),
        (DEEP, -32600),
        (b"[%b]" % (CALL % b"{}"), -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"tools/call"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"tools/call"}', -32600),
        (b'{"jsonrpc":"2.0","id":"%b","method":"tools/call"}' % (b"x" * 1023), -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":["tools/call"]}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"x"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":7}}', -32602),
    ],
)
async def test_what_is_no_message_is_refused_before_it_is_a_call(
    hub: Hub, caller: RawSession, body: bytes, code: int
) -> None:
    sent = len(hub.said.calls())
    answered = await caller.post(*call_with(caller, body))
    assert (answered.status, answered.error["code"], answered.call) == (400, code, "")
    await untouched(hub, caller, sent)


@in_both_eras
async def test_nesting_is_taken_as_deep_as_it_can_be_read_and_refused_beyond(
    hub: Hub, caller: RawSession
) -> None:
    for depth in (10, 100, 500, 900, 940, 960, 970, 980, 1000, 1100, 10_000):
        nested = b'{"a":' * depth + b"1" + b"}" * depth
        sent = len(hub.said.calls())
        answered = await caller.call("say", nested)
        if answered.status == 200:
            assert nested in hub.said.calls()[-1]
        else:
            assert answered.error["code"] in {-32700, -32600}
            await untouched(hub, caller, sent)
        assert (answered.status == 200) if depth <= 500 else (answered.status in {200, 400})
        assert (answered.status == 400) or depth < 1100


@in_both_eras
async def test_unknown_methods_are_said_in_each_eras_way(hub: Hub, caller: RawSession) -> None:
    sent = len(hub.said.calls())
    for method in ("no/such", "TOOLS/CALL", "rpc.discover", "x" * 5000, "__init__"):
        answered = await caller.ask(method)
        assert answered.error["code"] == -32601
        assert answered.status == (404 if caller.era == "modern" else 200)
        assert len(answered.body) < 500
    await untouched(hub, caller, sent)


@pytest.mark.parametrize("era", ["modern"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Mcp-Method": "tools/list"},
        {"Mcp-Method": ""},
        {"Mcp-Method": "TOOLS/CALL"},
        {"Mcp-Name": "another"},
        {"Mcp-Name": ""},
        {"Mcp-Name": "=?base64?YW5vdGhlcg==?="},
        {"Mcp-Name": "=?base64?not base64?="},
        {"MCP-Protocol-Version": "2025-11-25"},
        {"MCP-Protocol-Version": ""},
        {"MCP-Protocol-Version": "2026-07-28, 2026-07-28"},
    ],
)
async def test_headers_that_contradict_the_body_are_refused(
    hub: Hub, caller: RawSession, headers: Mapping[str, str]
) -> None:
    sent = len(hub.said.calls())
    answered = await caller.ask("tools/call", b'{"name":"say"}', id=b'"an id"', headers=headers)
    assert (answered.status, answered.error["code"]) == (400, -32020)
    assert answered.json["id"] == "an id"
    await untouched(hub, caller, sent)


@in_both_eras
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Encoding": "gzip", "Content-Type": "application/gzip"}, 415),
        ({"Accept": "text/html"}, 406),
        ({"Authorization": "Bearer ptk_wrong"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"X-API-Key": "ptk_wrong"}, 401),
        ({"X-Tenant-ID": "another"}, 401),
        ({"Via": "1.1 proxy"}, 401),
    ],
)
async def test_who_may_not_come_in_is_told_at_the_door(
    hub: Hub, caller: RawSession, headers: Mapping[str, str], status: int
) -> None:
    sent = len(hub.said.calls())
    answered = await caller.ask("tools/call", b'{"name":"say"}', headers=headers)
    assert answered.status == status
    assert not answered.call or await hub.bench.entries(answered.call) == []
    assert ("www-authenticate" in answered.headers) == (status == 401)
    await untouched(hub, caller, sent)


@in_both_eras
async def test_a_body_beyond_the_limit_is_not_read(hub: Hub, caller: RawSession) -> None:
    sent = len(hub.said.calls())
    async with raw_connection(hub.url) as connection:
        body, headers = caller.message("tools/call", b'{"name":"say"}')
        announced = {**headers, "Content-Length": str(4 * MEBIBYTE + 1)}
        await connection.send(caller.request(b" " * (MEBIBYTE + 1), announced))
        with anyio.fail_after(5):
            assert (await connection.answer()).status == 413
            await connection.closed()
    async with raw_connection(hub.url) as connection:
        chunked = {**headers, "Content-Length": "", "Transfer-Encoding": "chunked"}
        await connection.send(caller.request(b"", chunked))
        for _ in range(5):
            await connection.send(b"%x\r\n%b\r\n" % (MEBIBYTE, b" " * MEBIBYTE))
        assert (await connection.answer()).status == 413
    at_the_limit = body[:-1] + b" " * (4 * MEBIBYTE - len(body)) + b"}"
    assert (await caller.post(at_the_limit, headers)).status == 200
    await untouched(hub, caller, sent + 1)


@in_both_eras
@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\x00b\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_hung_up_on(hub: Hub, caller: RawSession, request_: bytes) -> None:
    sent = len(hub.said.calls())
    async with raw_connection(hub.url) as connection:
        await connection.send(request_)
        with anyio.fail_after(5):
            said = await connection.closed()
    assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 4")) or said == b""
    assert said.count(b"HTTP/1.1") <= 1
    await untouched(hub, caller, sent)


@in_both_eras
async def test_a_head_beyond_the_limit_is_not_read_to_its_end(hub: Hub, caller: RawSession) -> None:
    sent = len(hub.said.calls())
    body, headers = caller.message("tools/call", b'{"name":"say"}')
    for more in ({"X-Large": "x" * 66_000}, {f"X-{number}": "x" * 50 for number in range(1200)}):
        async with raw_connection(hub.url) as connection:
            await connection.send(caller.request(body, {**headers, **more}))
            with anyio.fail_after(5):
                assert (await connection.answer()).status == 431
                await connection.closed()
    assert (await caller.post(body, {**headers, "X-Large": "x" * 60_000})).status == 200
    await untouched(hub, caller, sent + 1)


async def test_a_session_is_asked_for_known_and_ones_own(hub: Hub) -> None:
    data, url = hub.bench.portico.data, hub.bench.portico.url
    keys = [
        (await portico("key", "create", "--principal", name, data=data))["key"]
        for name in ("alice", "mallory")
    ]
    own_key, foreign_key = ({"Authorization": f"Bearer {key}"} for key in keys)
    async with raw_session(url, "legacy", headers=own_key) as caller:
        own = caller.headers["Mcp-Session-Id"]
        for headers, status in (
            ({"Mcp-Session-Id": ""}, 400),
            ({"Mcp-Session-Id": "no-such-session"}, 404),
            ({"Mcp-Session-Id": own[:-2] + ("AA" if own[-2:] != "AA" else "BB")}, 404),
            (foreign_key, 404),
            ({"MCP-Protocol-Version": "1999-01-01"}, 400),
        ):
            answered = await caller.ask("tools/list", id=b'"an id"', headers=headers)
            assert (answered.status, answered.json["id"]) == (status, "an id")
        elsewhere = RawSession(
            hub.url, "legacy", {**caller.headers, **hub.bench.portico.admin_headers}
        )
        assert (await elsewhere.ask("tools/list")).status == 404
        assert (await caller.ask("tools/list")).status == 200


async def test_only_the_revision_with_batches_takes_them_and_not_too_many(hub: Hub) -> None:
    one = CALL % b"{}"
    for revision in ("2025-11-25", "2025-06-18", "2024-11-05"):
        async with raw_session(hub.url, "legacy", revision=revision) as caller:
            answered = await caller.post(b"[%b]" % one)
            assert (answered.status, answered.error["code"]) == (400, -32600)
    sent = len(hub.said.calls())
    async with raw_session(hub.url, "legacy", revision="2025-03-26") as caller:
        for body in (b"[]", b"[%b]" % b",".join([one] * 51), b'[{"a":"\xff"}]', b"[" * 5000):
            assert (await caller.post(body)).status == 400
        assert len(hub.said.calls()) == sent
        mixed = b'[7,null,{},{"jsonrpc":"2.0","id":"b","method":"no/such"},%b]' % one
        found = json.loads((await caller.post(mixed)).body)
        codes = sorted(item["error"]["code"] for item in found if "error" in item)
        assert codes == [-32601, -32600, -32600, -32600]
        assert len(hub.said.calls()) == sent + 1


async def test_refusals_before_a_call_are_recorded_as_one_entry_for_each_reason(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path / "data") as running, said_by("modern", tmp_path) as said:
        url = await running.put("modern", **said.spec)
        legacy = RawSession(url, "legacy")
        tenants = {"X-Tenant-ID": "another", "Connection": "close"}
        async with raw_session(url, "modern") as caller:
            for _ in range(3):
                await caller.post(*call_with(caller, b"{"))
                await caller.ask("tools/list", headers={"Host": "evil.example"})
                await caller.ask("tools/list", headers={"Origin": "https://evil.example"})
                await caller.ask("tools/list", headers={"Content-Type": "text/plain"})
                large = {"Content-Length": str(5 * MEBIBYTE)}
                await caller.post(b" " * (MEBIBYTE + 1), large)
                await caller.ask("tools/list", headers={"X-Large": "x" * 70_000})
                await caller.ask("tools/list", headers={"Accept": "text/html"})
                await legacy.ask("tools/list")
                await legacy.ask("tools/list", headers={"Mcp-Session-Id": "another"})
                for request in (
                    b"no HTTP\r\n\r\n",
                    caller.request(b"", {"Connection": "close"}, verb="PUT"),
                    caller.request(b"", {"Connection": "close"}, path="/nowhere"),
                    caller.request(b"", tenants, path="/t/default/mcp"),
                ):
                    async with raw_connection(url) as connection:
                        await connection.send(request)
                        await connection.closed()
                await caller.ask("tools/list", headers={"X-API-Key": "ptk_wrong"})
                await caller.ask("tools/list", headers={"Mcp-Method": "tools/call"})
        await running.portico.stop()
    found = await portico("audit", "search", "--outcome", "aggregate", data=tmp_path / "data")
    counted: Counter[str] = Counter()
    for item in found["items"]:
        counted[item["reason"]] += item.get("count", 1)
    assert counted == {
        "malformed": 6,
        "host": 3,
        "origin": 3,
        "content type": 3,
        "body too large": 3,
        "header fields too large": 3,
        "bad http": 3,
        "accept": 3,
        "session": 6,
        "method": 3,
        "path": 3,
        "tenant": 3,
        "unauthenticated": 3,
    }
    assert {item["peer"] for item in found["items"]} == {"127.0.0.1"}


async def test_over_http_and_sse_what_is_no_message_is_answered_and_counted(tmp_path: Path) -> None:
    async with tiny_hub(tmp_path) as hub, raw_connection(hub.origin) as stream:
        caller = RawSession(f"{hub.origin}/v/default/sse", "legacy", hub.headers())
        fields = {"Accept": "text/event-stream", "Content-Length": ""}
        await stream.send(caller.request(b"", fields, verb="GET"))
        path = (await stream.message()).decode()
        for body, code in ((b"{", -32700), (b"[]", -32600), (b'{"jsonrpc":"2.0"}', -32600)):
            async with raw_connection(hub.origin) as connection:
                await connection.send(caller.request(body, path=path))
                answered = await connection.answer()
            assert (answered.status, answered.error["code"]) == (400, code)
        early = b'{"jsonrpc":"2.0","id":"an id","method":"tools/list"}'
        async with raw_connection(hub.origin) as connection:
            await connection.send(caller.request(early, path=path))
            assert (await connection.answer()).status == 202
        with anyio.fail_after(5):
            told = json.loads(await stream.message())
        assert (told["id"], told["error"]["code"]) == ("an id", -32600)
        assert hub.seen.refused == [("127.0.0.1", "malformed")] * 4
        assert hub.seen.entries == []
