"""What nobody inspects arrives as it was sent: every kind of upstream, callers of both eras."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from mcp_wire.jsonrpc import decode_batch, decode_members
from tests.peers.broken_bench import Bench, bench
from tests.peers.broken_upstreams import EMPTY, KINDS, URI, Kind, Said, said_by
from tests.peers.clients import ERAS, Era
from tests.peers.raw_client import Answered, RawSession, raw_session

pytestmark = pytest.mark.anyio

OWN_META = {"io.portico/call", "io.modelcontextprotocol/serverInfo"}
MEGABYTE = 1_000_000

NUMBERS = (
    b'"big":123456789012345678901234567890,"edge":9007199254740993,"huge":1e400,"tiny":-1E-400,'
    b'"zero":-0.0,"minus":-0,"point":1.10,"exponent":1e+05,"long":%b.%b' % (b"7" * 5000, b"3" * 500)
)
TEXTS = (
    '"plain":"ü 😀 \u2028","escaped":"\\u00fc\\ud83d\\ude00\\u0000\\/\\"\\\\","empty":"","":"no name",'
    '"\\u006bey":1,"spaced" : [ 1 , 2 ]'
).encode()
NULLS = b'"structuredContent":null,"isError":false,"nothing":null,"nested":{"a":null,"b":[null]}'
BLOCKS = (
    b'"content":[{"type":"hologram","payload":{"vendor/x":[1e400]}},'
    b'{"type":"text","text":"hi","annotations":{"audience":["user"],"vendor/rank":-0.0,"x":null},'
    b'"vendorField":{"a":12345678901234567890},"_meta":{"vendor/block":true}},'
    b'{"type":"resource_link","uri":"memo://said","name":"l","icons":[{"src":"data:,"}],"new":1}]'
)
RICH = b"{%b,%b,%b,%b}" % (BLOCKS, NULLS, NUMBERS, TEXTS)
VENDOR_META = b'"vendor.example/a":{"n":1e400,"deep":[[[{}]]]},"plain":null,"x/y":-0.0'


@dataclass
class Cells:
    """One Portico in front of one upstream of each kind."""

    bench: Bench
    said: dict[Kind, Said]

    def session(self, kind: Kind, era: Era) -> Any:
        return raw_session(self.bench.url(kind), era)


@pytest.fixture(scope="module")
async def cells(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cells]:
    folder = tmp_path_factory.mktemp("fidelity")
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(bench(folder / "data"))
        found = Cells(running, {})
        for kind in KINDS:
            found.said[kind] = said = await stack.enter_async_context(said_by(kind, folder))
            await running.put(kind, **said.spec)
        yield found


@pytest.fixture
def said(cells: Cells, kind: Kind) -> Said:
    upstream = cells.said[kind]
    upstream.answers()
    return upstream


@pytest.fixture
async def caller(cells: Cells, kind: Kind, era: Era) -> AsyncIterator[RawSession]:
    async with cells.session(kind, era) as session:
        yield session


def members_of_result(answered: Answered) -> dict[str, Raw]:
    return decode_members(decode_members(answered.last)["result"])


def as_bytes(members: dict[str, Raw]) -> dict[str, bytes]:
    return {name: bytes(value) for name, value in members.items()}


every_cell = [pytest.mark.parametrize("kind", KINDS), pytest.mark.parametrize("era", ERAS)]


def in_every_cell(test: Any) -> Any:
    for mark in every_cell:
        test = mark(test)
    return test


@in_every_cell
@pytest.mark.parametrize("result", [RICH, EMPTY, b"{%b}" % BLOCKS])
async def test_a_result_arrives_member_by_member_as_the_upstream_wrote_it(
    said: Said, caller: RawSession, result: bytes
) -> None:
    said.answers(result)
    answered = await caller.call("say")
    found = as_bytes(members_of_result(answered))
    meta = decode_members(found.pop("_meta"))
    assert set(meta) <= OWN_META
    if caller.era == "modern":
        assert found.pop("resultType") == b'"complete"'
    assert found == as_bytes(decode_members(result))


@pytest.mark.parametrize("era", ["modern"])
@pytest.mark.parametrize("kind", ["legacy", "sse", "stdio_legacy"])
async def test_a_legacy_result_without_content_says_it_in_text(
    said: Said, caller: RawSession
) -> None:
    for result, content in (
        (b'{"structuredContent":{"a":1e400,"b":"\xc3\xbc"}}', '{"a":1e400,"b":"ü"}'),
        (b'{"structuredContent":null}', None),
        (b"{}", None),
    ):
        said.answers(result)
        wanted = [] if content is None else [{"type": "text", "text": content}]
        assert (await caller.call("say")).result["content"] == wanted


@pytest.mark.parametrize("kind", ["modern", "modern_stream", "legacy", "legacy_stream"])
@pytest.mark.parametrize("era", ERAS)
async def test_a_resource_arrives_member_by_member_as_the_upstream_wrote_it(
    said: Said, caller: RawSession
) -> None:
    contents = (
        b'"contents":[{"uri":"memo://said","text":"\xc3\xbc","vendor/x":1e400,"mimeType":null}]'
    )
    result = b"{%b,%b,%b}" % (contents, NUMBERS, TEXTS)
    said.answers(result)
    answered = await caller.ask("resources/read", b'{"uri":"%b"}' % URI.encode())
    found = as_bytes(members_of_result(answered))
    del found["_meta"]
    if caller.era == "modern":
        assert found.pop("resultType") == b'"complete"'
        assert (found.pop("ttlMs"), found.pop("cacheScope")) == (b"0", b'"private"')
    assert found == as_bytes(decode_members(result))


@in_every_cell
async def test_arguments_reach_the_upstream_as_the_caller_wrote_them(
    said: Said, caller: RawSession
) -> None:
    for arguments in (RICH, b"{}", b'{"a":{"x":1,"x":2},"b":[{"y":1,"y":[]}]}'):
        assert (await caller.call("say", arguments)).status == 200
        assert bytes(said.params["arguments"]) == arguments


@in_every_cell
async def test_vendors_meta_keys_pass_both_ways_as_they_are(said: Said, caller: RawSession) -> None:
    said.answers(b'{"content":[],"_meta":{%b}}' % VENDOR_META)
    answered = await caller.call("say", meta=VENDOR_META)
    wanted = as_bytes(decode_members(b"{%b}" % VENDOR_META))
    came = as_bytes(decode_members(members_of_result(answered)["_meta"]))
    assert {name: came[name] for name in came.keys() - OWN_META} == wanted
    went = as_bytes(decode_members(said.params["_meta"]))
    reserved = {name for name in went if name.startswith("io.modelcontextprotocol/")}
    assert {name: went[name] for name in went.keys() - reserved} == wanted


@in_every_cell
async def test_a_result_of_eight_megabytes_passes_whole(said: Said, caller: RawSession) -> None:
    text = b"0123456789abcdef" * (MEGABYTE // 2)
    said.answers(b'{"content":[{"type":"text","text":"%b"}]}' % text)
    answered = await caller.call("say")
    assert b'[{"type":"text","text":"%b"}]' % text == bytes(members_of_result(answered)["content"])


@pytest.mark.parametrize("kind", ["modern_stream", "legacy_stream", "sse"])
@pytest.mark.parametrize("era", ERAS)
async def test_an_event_of_more_than_a_megabyte_passes_on_streams_of_both_sides(
    said: Said, caller: RawSession
) -> None:
    text = "ü".encode() * (6 * MEGABYTE // 10)
    said.answers(b'{"content":[{"type":"text","text":"%b"}]}' % text)
    said.with_progress = True
    answered = await caller.call("say", meta=b'"progressToken":"mine"')
    assert answered.headers["content-type"] == "text/event-stream"
    progress, last = answered.messages
    assert b'"progressToken":"mine"' in progress
    assert len(last) > 1_200_000
    assert text in last


@in_every_cell
async def test_half_a_character_in_an_escape_costs_that_character_and_nothing_else(
    said: Said, caller: RawSession
) -> None:
    said.answers(rb'{"content":[],"cut":"a\ud83d","kept":"\ud83d\ude00\\ud83d"}')
    answered = await caller.call("say", rb'{"cut":"\udc00z","kept":"\\udc00"}')
    found = members_of_result(answered)
    assert bytes(found["cut"]) == rb'"a\ufffd"'
    assert bytes(found["kept"]) == rb'"\ud83d\ude00\\ud83d"'
    assert bytes(said.params["arguments"]) == rb'{"cut":"\ufffdz","kept":"\\udc00"}'


@pytest.mark.parametrize("kind", ["modern", "legacy"])
async def test_definitions_are_listed_with_all_their_vendors_wrote(
    cells: Cells, kind: Kind, tmp_path: Path
) -> None:
    definition = (
        b'{"name":"say","inputSchema":{"type":"object","x-vendor":1e400,"properties":'
        b'{"n":{"type":"integer","maximum":123456789012345678901234567890,"default":-0.0}}},'
        b'"annotations":{"readOnlyHint":true,"vendorHint":{"a":null}},"execution":{"new":[]},'
        b'"_meta":{"vendor/size":9007199254740993},"vendorField":"\xc3\xbc","other":null,"icons":[]}'
    )
    async with said_by(kind, tmp_path) as said:
        said.tools = b"[%b]" % definition
        url = await cells.bench.put(f"defining_{kind}", **said.spec)
        for era in ERAS:
            async with raw_session(url, era) as caller:
                answered = await caller.ask("tools/list")
            (listed,) = decode_batch(members_of_result(answered)["tools"])
            assert as_bytes(decode_members(listed)) == as_bytes(decode_members(definition))
        await cells.bench.drop(f"defining_{kind}")


ODD_IDS = (
    b"0", b"-7", b"1.50", b"1e3", b"-0.0", b"1e400", b"9007199254740993", b"9" * 400, b'""', b'"0"',
    b'"null"', b'"a\\"b\\\\"', '"ü\\u00e9😀\\ud83d\\ude00"'.encode(), b'"%b"' % (b"x" * 1022),
)  # fmt: skip


@pytest.mark.parametrize("kind", ["modern", "stdio_legacy"])
@pytest.mark.parametrize("era", ERAS)
async def test_any_id_comes_back_as_it_was_with_results_and_with_errors(
    said: Said, caller: RawSession
) -> None:
    for request_id in ODD_IDS:
        for tool, member in (("say", "result"), ("unknown", "error")):
            answered = await caller.call(tool, id=request_id)
            message = decode_members(answered.last)
            assert bytes(message["id"]) == request_id
            assert member in message


@in_every_cell
async def test_of_repeated_keys_the_last_is_decided_on_and_sent_alone(
    said: Said, caller: RawSession
) -> None:
    answered = await caller.ask(
        "tools/call", b'{"name":"unknown","name":"say","arguments":{"a":1},"arguments":{"b":2}}'
    )
    assert "error" not in answered.json
    sent = said.calls()[-1]
    assert sent.count(b'"name":"say"') == sent.count(b'"arguments"') == 1
    assert bytes(said.params["arguments"]) == b'{"b":2}'
    refused = await caller.ask("tools/call", b'{"name":"say","n\\u0061me":"unknown"}')
    assert refused.error["code"] == -32602
    assert said.calls()[-1] == sent


async def test_a_rule_on_an_argument_holds_for_every_way_to_write_its_name(cells: Cells) -> None:
    said = cells.said["modern"]
    said.answers()
    rules = {"say": {"arguments": {"mode": {"fix": "safe"}}}}
    include = {"upstream": "modern", "override": rules}
    answer = await cells.bench.http.put(
        "/api/virtual-servers/ruled", json={"anonymous": True, "include": [include]}
    )
    assert answer.status_code < 300, answer.text
    for era in ERAS:
        async with raw_session(cells.bench.url("ruled"), era) as caller:
            await caller.call("say", b'{"mode":1,"m\\u006fde":"evil","n":1e400,"mode":"worse"}')
            assert as_bytes(decode_members(said.params["arguments"])) == {
                "mode": b'"safe"',
                "n": b"1e400",
            }
            assert said.calls()[-1].count(b'"mode"') == 1
