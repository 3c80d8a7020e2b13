"""What the MCP surface turns down, at its door and in the pipeline, and in which words."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hub.surfaces.front_door import FrontDoor
from tests.peers.clients import ERAS, Era
from tests.peers.tiny_hub import TinyHub, exchanged, tiny_hub

pytestmark = pytest.mark.anyio

REVISION = "2026-07-28"
PORTICO_CALL = "io.portico/call"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[TinyHub]:
    async with tiny_hub(tmp_path) as running:
        yield running


class Caller:
    """One principal in one era, asking one thing after another."""

    def __init__(self, hub: TinyHub, era: Era, name: str = "alice", path: str = "/mcp") -> None:
        self.http = httpx2.AsyncClient(trust_env=False, timeout=5, headers=hub.headers(name))
        self.url = hub.origin + path
        self.era = era
        self.session: dict[str, str] = {}

    async def __aenter__(self) -> "Caller":
        if self.era == "legacy":
            info = {"name": "test", "version": "1"}
            params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
            answer = await self.ask("initialize", params)
            self.session = {"Mcp-Session-Id": answer.headers.get("mcp-session-id", "")}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def ask(self, method: str, params: Mapping[str, Any]) -> httpx2.Response:
        headers = dict(self.session)
        if self.era == "modern":
            meta = {
                "io.modelcontextprotocol/protocolVersion": REVISION,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            params = {**params, "_meta": meta}
            headers = {"MCP-Protocol-Version": REVISION, "Mcp-Method": method}
            name = params.get("name") or params.get("uri")
            headers |= {"Mcp-Name": name} if name else {}
        body = {"jsonrpc": "2.0", "id": "one", "method": method, "params": params}
        return await self.http.post(self.url, json=body, headers=headers)

    async def fail(self, **arguments: Any) -> dict[str, Any]:
        answer = await self.ask("tools/call", {"name": "fail", "arguments": arguments})
        message: dict[str, Any] = answer.json()
        return {**message, "status": answer.status_code, "headers": answer.headers}


def without_call(response: httpx2.Response) -> Any:
    """An answer's body, its call id taken out after looking that it is there.

    A missing resource is known to clients by its URI and nothing else; there the header has the id.
    """
    body = response.json()
    data = body["error"]["data"]
    call = response.headers["x-portico-call"]
    assert call
    if data.keys() != {"uri"}:
        assert data.pop(PORTICO_CALL) == call
    return response.status_code, body


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("method", "param", "denied", "absent"),
    [
        ("tools/call", "name", "secret", "terces"),
        ("prompts/get", "name", "greet", "teerg"),
        ("resources/read", "uri", "memo://secret", "memo://terces"),
    ],
)
async def test_denied_and_absent_are_the_same_bytes(
    hub: TinyHub, era: Era, method: str, param: str, denied: str, absent: str
) -> None:
    async with Caller(hub, era, "bob") as bob:
        status, one = without_call(await bob.ask(method, {param: denied}))
        _, other = without_call(await bob.ask(method, {param: absent}))
    assert json.dumps(one).replace(denied, absent) == json.dumps(other)
    resource = method == "resources/read"
    code = -32002 if resource and era == "legacy" else -32602
    assert one["error"]["code"] == code
    assert one["id"] == "one"
    assert status == (400 if era == "modern" else 200)
    if resource:
        assert one["error"]["data"] == {"uri": denied}
    assert [entry.outcome for entry in hub.seen.entries[-2:]] == ["refused", "refused"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_virtual_server_that_is_denied_looks_like_one_that_does_not_exist(
    hub: TinyHub, era: Era
) -> None:
    method = "tools/list" if era == "modern" else "initialize"
    answers = []
    for path in ("/v/dev/mcp", "/v/nothing/mcp"):
        caller = Caller(hub, era, "bob", path)
        params = {"protocolVersion": "2025-11-25"} if era == "legacy" else {}
        answers.append(without_call(await caller.ask(method, params)))
        await caller.http.aclose()
    assert answers[0] == answers[1]
    status, body = answers[0]
    assert (status, body["error"]["code"], body["id"]) == (403, -31403, "one")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("reason", ["limit", "budget", "guardrail"])
async def test_limits_budgets_and_guardrails_are_results_that_models_can_read(
    hub: TinyHub, era: Era, reason: str
) -> None:
    async with Caller(hub, era) as alice:
        answer = await alice.fail(refuse=reason)
    result = answer["result"]
    assert result["isError"]
    assert result["content"] == [{"type": "text", "text": "Refused as asked."}]
    note = result["_meta"]["io.portico/refusal"]
    assert note["reason"] == reason
    assert ("remaining" in note) == (reason == "limit")
    assert result["_meta"][PORTICO_CALL] == hub.seen.entries[-1].call
    assert ("resultType" in result) == (era == "modern")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ({"kind": "unreachable"}, "Upstream 'upstream' cannot be reached; nothing was executed."),
        ({"kind": "timeout"}, "did not answer in time; the call may have been executed."),
        ({"kind": "disconnected"}, "hung up before it answered"),
        ({"kind": "violation"}, "its protocol does not allow"),
        ({"kind": "status", "status": 429, "retry": 30}, "HTTP status 429; it asks to be left"),
        ({"kind": "unsupported"}, "cannot do this: as asked."),
    ],
)
async def test_a_failing_upstream_is_a_result_with_its_label_and_the_call_id(
    hub: TinyHub, era: Era, failure: dict[str, Any], said: str
) -> None:
    async with Caller(hub, era) as alice:
        result = (await alice.fail(**failure))["result"]
    assert result["isError"]
    assert said in result["content"][0]["text"]
    note = result["_meta"]["io.portico/failure"]
    assert (note["upstream"], note["kind"]) == ("upstream", failure["kind"])
    assert note.get("retryAfterS") == failure.get("retry")
    assert result["_meta"][PORTICO_CALL] == hub.seen.entries[-1].call
    assert (hub.seen.entries[-1].outcome, hub.seen.entries[-1].reason) == (
        "failed",
        failure["kind"],
    )


@pytest.mark.parametrize(
    ("era", "code", "data", "shown"),
    [
        ("modern", -32603, {"a": 1}, -32603),
        ("modern", 1234, "text", 1234),
        ("modern", -32002, None, -32602),
        ("modern", -32042, None, -32603),
        ("modern", -32020, None, -32603),
        ("modern", -32022, None, -32603),
        ("modern", -32050, None, -32603),
        ("modern", -32021, {"requiredCapabilities": {"sampling": {}}}, -32021),
        ("legacy", -32603, {"a": 1}, -32603),
        ("legacy", -32042, {"elicitations": []}, -32042),
        ("legacy", -32002, None, -32002),
        ("legacy", -32020, None, -32603),
        ("legacy", -32021, None, -32603),
        ("legacy", -32022, None, -32603),
        ("legacy", -32050, None, -32050),
    ],
)
async def test_an_upstreams_own_error_keeps_its_words_where_they_mean_the_same(
    hub: TinyHub, era: Era, code: int, data: Any, shown: int
) -> None:
    more = {} if data is None else {"data": data}
    async with Caller(hub, era) as alice:
        answer = await alice.fail(kind="error", code=code, **more)
    error = answer["error"]
    assert (error["code"], error["message"]) == (shown, "as asked")
    if isinstance(data, str):
        assert error["data"] == data
    else:
        assert {**error["data"]}.pop(PORTICO_CALL) == hub.seen.entries[-1].call
        assert error["data"].items() >= (data or {}).items()
    if era == "legacy":
        assert answer["status"] == 200


@pytest.mark.parametrize("era", ERAS)
async def test_a_missing_resource_is_said_in_the_callers_era(hub: TinyHub, era: Era) -> None:
    async with Caller(hub, era) as alice:
        error = (await alice.ask("resources/read", {"uri": "memo://gone"})).json()["error"]
    assert error["code"] == (-32602 if era == "modern" else -32002)
    assert error["data"]["uri"] == "memo://gone"


@pytest.mark.parametrize("era", ERAS)
async def test_a_crash_says_nothing_but_the_call_id(
    hub: TinyHub, era: Era, caplog: pytest.LogCaptureFixture
) -> None:
    async with Caller(hub, era) as alice:
        answer = await alice.ask("tools/call", {"name": "crash", "arguments": {}})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (200, -32603)
    assert "as asked" not in answer.text
    assert error["data"][PORTICO_CALL] in caplog.text
    assert (hub.seen.entries[-1].outcome, hub.seen.entries[-1].reason) == ("failed", "internal")


@pytest.mark.parametrize("era", ERAS)
async def test_what_cannot_be_kept_is_not_done(hub: TinyHub, era: Era) -> None:
    async with Caller(hub, era) as alice:
        answer = await alice.fail(refuse="unavailable")
    assert (answer["status"], answer["error"]["code"]) == (503, -31503)
    assert int(answer["headers"]["retry-after"]) > 0
    assert answer["id"] == "one"


async def test_a_destructive_tool_is_recorded_before_it_runs(hub: TinyHub) -> None:
    async with Caller(hub, "modern") as alice:
        await alice.ask("tools/call", {"name": "wipe", "arguments": {}})
    assert [entry.outcome for entry in hub.seen.entries] == ["intent", "ok"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "credential",
    [
        {},
        {"Authorization": "Bearer ptk_wrong"},
        {"Authorization": "Basic YTpi"},
        {"X-API-Key": "ptk_wrong"},
    ],
)
async def test_whoever_proves_nothing_is_told_how_to(
    hub: TinyHub, era: Era, credential: dict[str, str]
) -> None:
    caller = Caller(hub, era)
    caller.http.headers.pop("Authorization")
    caller.http.headers.update(credential)
    method = "tools/list" if era == "modern" else "initialize"
    answer = await caller.ask(method, {"protocolVersion": "2025-11-25"})
    await caller.http.aclose()
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (answer.json()["id"], answer.json()["error"]["code"]) == ("one", -31401)
    assert ("127.0.0.1", "unauthenticated") in hub.seen.refused


async def test_whoever_proves_nothing_is_told_that_before_anything_else(hub: TinyHub) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        for body in (
            {"jsonrpc": "2.0", "id": 7, "method": "ping"},
            {"jsonrpc": "2.0", "id": 7, "method": "no/such"},
            {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": []},
        ):
            answer = await http.post(hub.url, json=body)
            assert (answer.status_code, answer.json()["id"]) == (401, 7)
    assert hub.seen.entries == []


@pytest.mark.parametrize(
    "header", [{"Authorization": "bearer {}"}, {"X-API-Key": "{}"}, {"X-Tenant-ID": "default"}]
)
async def test_a_key_may_be_presented_in_either_header(
    hub: TinyHub, header: dict[str, str]
) -> None:
    caller = Caller(hub, "modern")
    if "X-Tenant-ID" not in header:
        caller.http.headers.pop("Authorization")
    caller.http.headers.update({
        name: value.format(hub.grown.keys["alice"]) for name, value in header.items()
    })
    answer = await caller.ask("tools/list", {})
    await caller.http.aclose()
    assert answer.status_code == 200


async def test_the_tenant_named_must_be_the_credentials_own(hub: TinyHub) -> None:
    for path, more, status in (
        ("/t/default/mcp", {}, 200),
        ("/t/other/mcp", {}, 401),
        ("/mcp", {"X-Tenant-ID": "other"}, 401),
        ("/t/default/mcp", {"X-Tenant-ID": "other"}, 400),
        ("/t//mcp", {}, 404),
        ("/v//mcp", {}, 404),
        ("/sse", {}, 404),
        ("/nothing", {}, 404),
    ):
        caller = Caller(hub, "modern", path=path)
        caller.http.headers.update(more)
        answer = await caller.ask("tools/list", {})
        await caller.http.aclose()
        assert answer.status_code == status, (path, more)


PING = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
JSON = {"Content-Type": "application/json"}


async def test_foreign_hosts_and_origins_are_turned_away_at_the_door(hub: TinyHub) -> None:
    own = f"127.0.0.1:{hub.port}"
    for headers, status in (
        ({"Host": "evil.example"}, b"421"),
        ({"Host": f"evil.example:{hub.port}"}, b"421"),
        ({"Host": "127.0.0.1.evil.example"}, b"421"),
        ({"Host": "localhost@evil.example"}, b"421"),
        ({"Host": own, "Origin": "http://evil.example"}, b"403"),
        ({"Host": own, "Origin": "null"}, b"403"),
        ({"Host": own, "Origin": "file://"}, b"403"),
        ({"Host": own, "Origin": "http://localhost:6274"}, b"401"),
        ({"Host": own, "Origin": f"http://{own}"}, b"401"),
        ({"Host": "localhost"}, b"401"),
        ({"Host": "[::1]:80"}, b"401"),
        ({"Host": "192.0.2.7:8080"}, b"401"),
        ({"Host": "[2001:db8::7]"}, b"401"),
    ):
        answer = await exchanged(hub, "POST", "/mcp", JSON | headers, PING)
        assert answer.split(b" ", 2)[1] == status, headers
    assert {reason for _, reason in hub.seen.refused} == {"host", "origin", "unauthenticated"}


async def test_configured_hosts_and_origins_come_in_and_browsers_may_read_the_answer(
    tmp_path: Path,
) -> None:
    door = FrontDoor(allowed_hosts=["gw.example"], allowed_origins=["https://app.example"])
    async with tiny_hub(tmp_path, front_door=door) as hub:
        headers = {"Host": "gw.example:8443", "Origin": "https://app.example", **hub.headers()}
        preflight = await exchanged(
            hub,
            "OPTIONS",
            "/mcp",
            {**headers, "Access-Control-Request-Headers": "mcp-param-region, content-type"},
        )
        assert b"204" in preflight.split(b"\r\n")[0]
        assert b"access-control-allow-origin: https://app.example\r\n" in preflight
        assert b"access-control-allow-headers: mcp-param-region, content-type\r\n" in preflight
        answer = await exchanged(hub, "POST", "/mcp", JSON | headers, PING)
        assert b"access-control-allow-origin: https://app.example\r\n" in answer
        assert b"mcp-session-id" in answer.split(b"access-control-expose-headers: ")[1]
        other = await exchanged(hub, "POST", "/mcp", {**JSON, **hub.headers()}, PING)
        assert b"access-control" not in other


async def test_only_direct_loopback_callers_are_anonymous(tmp_path: Path) -> None:
    async with tiny_hub(tmp_path, anonymous=True) as hub:
        own = {"Host": f"localhost:{hub.port}"}
        direct = await exchanged(hub, "POST", "/mcp", JSON | own, PING)
        assert b" 400 " in direct.split(b"\r\n")[0] + b" "  # known, and without a session
        for header in ("Forwarded", "X-Forwarded-For", "X-Forwarded-Anything", "Via"):
            answer = await exchanged(hub, "POST", "/mcp", {**JSON, **own, header: "x"}, PING)
            assert answer.startswith(b"HTTP/1.1 401"), header


async def test_a_trusted_proxy_says_whom_it_forwards_for(tmp_path: Path) -> None:
    async with tiny_hub(tmp_path, trusted=["127.0.0.0/8", "10.0.0.0/8"]) as hub:
        chain = {"X-Forwarded-For": "1.2.3.4, 203.0.113.9, 10.1.2.3"}
        await exchanged(hub, "POST", "/mcp", JSON | chain, PING)
        await exchanged(hub, "POST", "/mcp", JSON | {"X-Forwarded-For": "nonsense"}, PING)
    assert [source for source, _ in hub.seen.refused] == ["203.0.113.9", "127.0.0.1"]


async def test_bodies_must_be_json_and_within_bounds(hub: TinyHub) -> None:
    async with httpx2.AsyncClient(trust_env=False, headers=hub.headers()) as http:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = await http.post(hub.url, content=PING, headers={"Content-Type": content_type})
            assert answer.status_code == 415, content_type
        answer = await http.post(
            hub.url, content=PING, headers={"Content-Type": "application/json; charset=utf-8"}
        )
        assert answer.status_code == 400

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b" " * 1024 * 1024

        answer = await http.post(hub.url, content=chunks(), headers=JSON)
        assert answer.status_code == 413
        answer = await http.post(hub.url, json=json.loads(PING), headers={"Accept": "text/html"})
        assert answer.status_code == 406
        assert (await http.put(hub.url)).status_code == 405
    announced = {**JSON, "Content-Length": str(5 * 1024 * 1024)}
    refused = await exchanged(hub, "POST", "/mcp", announced)
    assert refused.startswith(b"HTTP/1.1 413")
    assert ("127.0.0.1", "body too large") in hub.seen.refused
