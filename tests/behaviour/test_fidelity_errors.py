"""An upstream's own error in all four cells of eras, and the id of the request on every error."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from tests.peers.broken_bench import Bench, bench
from tests.peers.broken_upstreams import ERA_OF, URI, Kind, Said, said_by
from tests.peers.clients import ERAS, Era
from tests.peers.raw_client import Answered, RawSession, raw_session

pytestmark = pytest.mark.anyio

UPSTREAMS: Final[tuple[Kind, ...]] = ("modern", "modern_stream", "legacy", "stdio", "stdio_legacy")
Cells = tuple[Bench, Mapping[Kind, Said]]

STATUS_OF: Final = {-32700: 400, -32600: 400, -32602: 400, -32601: 404, -32021: 400}
"""On the modern wire; every other error of an upstream travels with 200, as all do on the legacy one."""


@pytest.fixture(scope="module")
async def cells(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cells]:
    folder = tmp_path_factory.mktemp("errors")
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(bench(folder / "data"))
        said = {}
        for kind in UPSTREAMS:
            said[kind] = await stack.enter_async_context(said_by(kind, folder))
            await running.put(kind, **said[kind].spec)
        yield running, said


def error(code: int, data: Any = None) -> bytes:
    more = {} if data is None else {"data": data}
    return json.dumps({"code": code, "message": "as the upstream says", **more}).encode()


def without_call(answered: Answered) -> Any:
    """The error without our own call id, which joins data that is absent or an object.

    A missing resource is known to clients by its URI and nothing else; there the header has the id.
    """
    found = answered.error
    assert answered.call
    if isinstance(found.get("data"), dict) and found["data"].keys() != {"uri"}:
        assert found["data"].pop("io.portico/call") == answered.call
    return found


@pytest.mark.parametrize("kind", UPSTREAMS)
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("code", "data"),
    [
        (-32603, {"a": 1}),
        (-32602, {"field": "x"}),
        (-32600, None),
        (-32601, None),
        (-32700, None),
        (-32000, ["a", None]),
        (-32001, "text"),
        (1234, {"vendor": {"n": 12345678901234567890}}),
        (0, None),
    ],
)
async def test_what_means_the_same_in_both_eras_crosses_as_it_is(
    cells: Cells, kind: Kind, era: Era, code: int, data: Any
) -> None:
    running, said = cells
    said[kind].answers(error=error(code, data))
    async with raw_session(running.url(kind), era) as caller:
        answered = await caller.call("say", id=b'"an id"')
    found = without_call(answered)
    assert (found["code"], found["message"]) == (code, "as the upstream says")
    assert found.get("data") == (data if data is not None else {})
    assert answered.json["id"] == "an id"
    assert answered.status == (STATUS_OF.get(code, 200) if era == "modern" else 200)
    entry = await running.entry(answered.call)
    assert (entry["outcome"], entry["reason"], entry["code"]) == ("failed", "error", code)


@pytest.mark.parametrize("kind", UPSTREAMS)
@pytest.mark.parametrize(
    ("era", "code", "shown"),
    [
        ("modern", -32002, -32602),
        ("modern", -32020, -32603),
        ("modern", -32022, -32603),
        ("modern", -32050, -32603),
        ("modern", -32099, -32603),
        ("legacy", -32002, -32002),
        ("legacy", -32020, -32603),
        ("legacy", -32021, -32603),
        ("legacy", -32022, -32603),
    ],
)
async def test_what_means_nothing_in_the_callers_era_is_said_otherwise(
    cells: Cells, kind: Kind, era: Era, code: int, shown: int
) -> None:
    running, said = cells
    said[kind].answers(error=error(code))
    before = len(said[kind].calls())
    async with raw_session(running.url(kind), era) as caller:
        answered = await caller.call("say", id=b'"an id"')
    assert without_call(answered)["code"] == shown
    assert answered.json["id"] == "an id"
    refused_before_execution = code == -32020 and kind in {"modern", "modern_stream"}
    assert len(said[kind].calls()) - before == (2 if refused_before_execution else 1)


async def test_a_capability_the_caller_did_not_declare_is_named_to_it(cells: Cells) -> None:
    running, said = cells
    needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
    for kind in ("modern", "stdio"):
        said[kind].answers(error=error(-32021, needed))
        async with raw_session(running.url(kind), "modern") as caller:
            answered = await caller.call("say")
        assert answered.status == 400
        assert without_call(answered) == {
            "code": -32021,
            "message": "as the upstream says",
            "data": needed,
        }


@pytest.mark.parametrize("kind", ["modern", "legacy"])
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("code", "data", "shown"),
    [
        (-32002, None, {"modern": -32602, "legacy": -32002}),
        (-32002, {"uri": URI}, {"modern": -32602, "legacy": -32002}),
        (-32602, {"uri": URI}, {"modern": -32602, "legacy": -32002}),
        (-32602, {"uri": "memo://other"}, {"modern": -32602, "legacy": -32602}),
        (-32602, None, {"modern": -32602, "legacy": -32602}),
        (-32603, {"uri": URI}, {"modern": -32603, "legacy": -32603}),
    ],
)
async def test_a_missing_resource_is_missing_in_the_callers_words(
    cells: Cells, kind: Kind, era: Era, code: int, data: Any, shown: dict[str, int]
) -> None:
    running, said = cells
    said[kind].answers(error=error(code, data))
    async with raw_session(running.url(kind), era) as caller:
        answered = await caller.ask("resources/read", b'{"uri":"%b"}' % URI.encode())
    found = without_call(answered)
    assert found["code"] == shown[era]
    if data is not None:
        assert found["data"] == data
    elif code == -32002 and era == "modern":
        assert found["data"] == {"uri": URI}
    assert ERA_OF[kind] in ERAS


def asking(method: str, params: bytes = b"{}", **more: Any) -> tuple[str, bytes, dict[str, Any]]:
    return method, params, more


@pytest.mark.parametrize(
    ("era", "asked", "status"),
    [
        ("modern", asking("no/such"), 404),
        ("modern", asking("initialize"), 404),
        ("modern", asking("ping"), 404),
        ("modern", asking("tools/call"), 400),
        ("modern", asking("tools/call", b'{"name":7}'), 400),
        ("modern", asking("tools/call", b'{"name":"unknown"}'), 400),
        ("modern", asking("tools/list", b'{"cursor":"forged"}'), 400),
        ("modern", asking("resources/read", b'{"uri":"memo://none"}'), 400),
        ("modern", asking("tools/list", headers={"Mcp-Method": "tools/call"}), 400),
        ("modern", asking("tools/list", headers={"MCP-Protocol-Version": "2025-11-25"}), 400),
        ("modern", asking("tools/list", headers={"MCP-Protocol-Version": ""}), 400),
        ("modern", asking("tools/list", headers={"Accept": "text/html"}), 406),
        ("modern", asking("tools/list", headers={"Content-Type": "text/plain"}), 415),
        ("legacy", asking("tools/list", headers={"Content-Type": "text/plain"}), 415),
        ("modern", asking("subscriptions/listen", headers={"Accept": "application/json"}), 406),
        ("modern", asking("tools/list", headers={"X-API-Key": "ptk_wrong"}), 401),
        ("modern", asking("tools/list", meta=b'"io.modelcontextprotocol/logLevel":"loud"'), 400),
        ("legacy", asking("tools/list", headers={"Mcp-Session-Id": ""}), 400),
        ("legacy", asking("tools/list", headers={"Mcp-Session-Id": "another"}), 404),
        ("legacy", asking("ping", headers={"Mcp-Session-Id": "another"}), 404),
        ("legacy", asking("tools/list", headers={"MCP-Protocol-Version": "1999-01-01"}), 400),
        ("legacy", asking("tools/list", headers={"Accept": "text/html"}), 406),
        ("legacy", asking("tools/list", headers={"Authorization": "Bearer ptk_wrong"}), 401),
        ("legacy", asking("initialize", b'{"protocolVersion":7}'), 200),
    ],
)
async def test_an_error_carries_the_id_of_its_request_whatever_its_status(
    cells: Cells, era: Era, asked: tuple[str, bytes, dict[str, Any]], status: int
) -> None:
    running, _ = cells
    method, params, more = asked
    for request_id in (b'"an id"', b"0", b'""', b"-1.5e3"):
        async with raw_session(running.url("modern"), era) as caller:
            answered = await caller.ask(method, params, id=request_id, **more)
        assert answered.status == status, answered
        assert b'"id":%b,"error":' % request_id in answered.last


@pytest.mark.parametrize("era", ERAS)
async def test_an_error_about_a_misshapen_message_carries_its_id_where_there_is_one(
    cells: Cells, era: Era
) -> None:
    running, _ = cells
    async with raw_session(running.url("modern"), era) as caller:
        for body in (
            b'{"jsonrpc":"2.0","id":"an id","method":7}',
            b'{"jsonrpc":"2.0","id":"an id","method":"tools/call","params":[1]}',
            b'{"jsonrpc":"2.0","id":"an id","method":"tools/call","params":null}',
            b'{"jsonrpc":"2.0","id":"an id","method":"tools/call","params":{"_meta":[]}}',
            b'{"jsonrpc":"1.0","id":"an id","method":"tools/list"}',
            b'{"id":"an id","method":"tools/list"}',
            b'{"jsonrpc":"2.0","id":"an id"}',
        ):
            answered = await post(caller, body)
            assert (answered.status, answered.json["id"]) == (400, "an id"), body
        for body in (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', b"[]", b"{", b"7", b""):
            answered = await post(caller, body)
            assert (answered.status, answered.json["id"]) == (400, None), body


async def post(caller: RawSession, body: bytes) -> Answered:
    _, headers = caller.message("tools/call", b'{"name":"say"}')
    return await caller.post(body, headers)
