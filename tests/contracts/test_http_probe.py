"""Finding out what an HTTP upstream speaks, and never from what says nothing about it."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from connectors import mcp_http
from connectors.address_guard import AddressGuard
from connectors.errors import (
    AddressRefused,
    ConnectorError,
    Inconclusive,
    Misconfigured,
    ProtocolViolation,
)
from connectors.mcp_http import HttpSettings, McpHttpConnector
from connectors.outcome import Failure, Result
from tests.contracts.http_harness import LEGACY, MODERN, connected
from tests.peers.raw_server import LegacyScript, ModernScript, Received, Script, Wire, raw_server


class Weather:
    """Answers with ``first`` once, then as ``then`` does."""

    def __init__(self, first: Script, then: Script) -> None:
        self._scripts = [first]
        self._then = then

    async def __call__(self, received: Received, wire: Wire) -> None:
        script = self._scripts.pop() if self._scripts else self._then
        await script(received, wire)


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Script:
    async def answer(received: Received, wire: Wire) -> None:
        await wire.reply(code, body, headers, "text/plain")

    return answer


async def leave(received: Received, wire: Wire) -> None:
    await wire.abort()


async def say_nothing(received: Received, wire: Wire) -> None:
    await wire.client_left()


async def echo(received: Received, wire: Wire) -> None:
    await wire.result(b'{"content":[]}')


@pytest.mark.parametrize("code", [401, 403, 407, 408, 429, 500, 502, 503, 504])
async def test_a_status_about_access_or_load_pins_nothing(code: int) -> None:
    script = Weather(status(code), ModernScript())
    async with raw_server(script) as raw, connected(raw.url) as harness:
        with pytest.raises(Inconclusive) as raised:
            await harness.connector.open()
        assert raised.value.status == code
        assert len(raw.requests) == 1
        assert (await harness.connector.open()).revisions == (MODERN,)


async def test_a_lost_connection_pins_nothing() -> None:
    async with raw_server(Weather(leave, ModernScript())) as raw, connected(raw.url) as harness:
        with pytest.raises(Inconclusive):
            await harness.connector.open()
        assert (await harness.connector.open()).revisions == (MODERN,)


async def test_an_outage_during_the_handshake_pins_nothing() -> None:
    legacy = LegacyScript()
    outage = [status(503)]

    async def script(received: Received, wire: Wire) -> None:
        if received.rpc_method == "initialize" and outage:
            await outage.pop()(received, wire)
        else:
            await legacy(received, wire)

    async with raw_server(script) as raw, connected(raw.url) as harness:
        with pytest.raises(Inconclusive):
            await harness.connector.open()
        assert (await harness.connector.open()).revisions == (LEGACY,)


async def test_who_asks_for_credentials_is_quoted_to_the_caller() -> None:
    script = status(401, {"WWW-Authenticate": 'Bearer scope="a"'})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        end = await harness.end(harness.tool("echo"))
        assert isinstance(end, Failure)
        assert (end.kind, end.status, end.challenge) == ("status", 401, 'Bearer scope="a"')


async def test_only_a_listed_modern_revision_proves_the_modern_era() -> None:
    legacy = LegacyScript()

    async def discovers(received: Received, wire: Wire) -> None:
        await wire.result({"supportedVersions": [LEGACY], "capabilities": {}})

    async def script(received: Received, wire: Wire) -> None:
        if received.rpc_method == "server/discover":
            await discovers(received, wire)
        else:
            await legacy(received, wire)

    async with raw_server(script) as raw, connected(raw.url) as harness:
        assert (await harness.connector.open()).revisions == (LEGACY,)


async def test_an_unknown_method_in_the_modern_way_stays_modern() -> None:
    async def unknown(received: Received, wire: Wire) -> None:
        await wire.error(404, -32601)

    script = ModernScript({"server/discover": unknown, "initialize": unknown, "tools/call": echo})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        assert (await harness.connector.open()).revisions == (MODERN,)
        assert isinstance(await harness.end(harness.tool("any")), Result)
        assert raw.of("tools/call")[0].header("mcp-protocol-version") == MODERN


async def test_a_legacy_server_that_knows_no_such_method_is_legacy() -> None:
    legacy = LegacyScript()

    async def script(received: Received, wire: Wire) -> None:
        if received.rpc_method == "server/discover":
            await wire.error(404, -32601)
        else:
            await legacy(received, wire)

    async with raw_server(script) as raw, connected(raw.url) as harness:
        assert (await harness.connector.open()).revisions == (LEGACY,)


async def test_revisions_that_do_not_meet_are_said() -> None:
    async def future(received: Received, wire: Wire) -> None:
        await wire.error(400, -32022, data={"supported": ["2031-01-01"], "requested": MODERN})

    async with raw_server(future) as raw, connected(raw.url) as harness:
        with pytest.raises(ProtocolViolation, match="2031-01-01"):
            await harness.connector.open()


async def test_a_refusal_of_the_revision_that_names_a_legacy_one_leads_there() -> None:
    legacy = LegacyScript()

    async def script(received: Received, wire: Wire) -> None:
        if received.rpc_method == "server/discover":
            await wire.error(400, -32022, data={"supported": [LEGACY]})
        else:
            await legacy(received, wire)

    async with raw_server(script) as raw, connected(raw.url) as harness:
        assert (await harness.connector.open()).revisions == (LEGACY,)


async def test_a_modern_upstream_is_asked_for_the_other_era_by_its_first_caller() -> None:
    modern, legacy = ModernScript({"tools/call": echo}), LegacyScript({"tools/call": echo})

    async def script(received: Received, wire: Wire) -> None:
        is_modern = received.header("mcp-protocol-version") == MODERN
        await (modern if is_modern else legacy)(received, wire)

    async with raw_server(script) as raw, connected(raw.url, MODERN) as harness:
        assert (await harness.connector.open()).revisions == (MODERN,)
        await harness.end(harness.tool("any"))
        assert raw.of("tools/call")[0].header("mcp-session-id") is None
        assert raw.of("initialize") == []
        harness.revision = LEGACY
        await harness.end(harness.tool("any"))
        assert raw.of("tools/call")[1].header("mcp-session-id") is not None
        assert (await harness.connector.open()).revisions == (MODERN, LEGACY)


async def test_a_session_that_only_showed_the_other_era_is_ended_again() -> None:
    modern, legacy = ModernScript(), LegacyScript({"tools/call": echo})

    async def script(received: Received, wire: Wire) -> None:
        is_modern = received.header("mcp-protocol-version") == MODERN
        await (modern if is_modern else legacy)(received, wire)

    async with raw_server(script) as raw, connected(raw.url, LEGACY) as harness:
        await harness.connector.open()
        async with anyio.create_task_group() as callers:
            for _ in range(5):
                callers.start_soon(harness.end, harness.tool("any"))
        assert len(raw.of("tools/call")) == 5
        assert [request.method for request in raw.requests].count("DELETE") == 1
        assert (legacy.opened, len(legacy.sessions)) == (2, 1)


async def test_nobody_waits_longer_than_their_call_may_take_to_learn_of_the_other_era() -> None:
    modern = ModernScript({"tools/call": echo, "initialize": say_nothing})
    async with raw_server(modern) as raw, connected(raw.url, LEGACY) as harness:
        await harness.connector.open()
        with anyio.fail_after(5):
            end = await harness.end(harness.tool("any", timeout_s=0.2))
        assert isinstance(end, Result)
        assert raw.of("tools/call")[0].header("mcp-protocol-version") == MODERN
        await harness.end(harness.tool("any"))
        assert len(raw.of("initialize")) == 1


@pytest.mark.parametrize("transport", ["auto", "sse"])
async def test_nobody_waits_longer_than_their_call_may_take_for_an_upstream_to_open(
    transport: str,
) -> None:
    async with raw_server(say_nothing) as raw, connected(raw.url, transport=transport) as harness:
        with anyio.fail_after(5):
            end = await harness.end(harness.tool("any", timeout_s=0.2))
        assert isinstance(end, Failure)
        assert (end.kind, end.message) == ("unreachable", "The upstream was not opened in time.")


@pytest.mark.parametrize("code", [200, 400, 404, 405, 410])
async def test_what_is_no_mcp_server_is_said_to_be_none(code: int) -> None:
    script = status(code, body=b"<html>hello</html>")
    async with raw_server(script) as raw, connected(raw.url) as harness:
        with pytest.raises(ProtocolViolation, match="does not answer as an MCP server"):
            await harness.connector.open()
        with pytest.raises(ConnectorError):
            await harness.connector.list()


async def test_a_redirect_within_the_origin_is_followed_and_kept() -> None:
    modern = ModernScript({"tools/call": echo})

    async def script(received: Received, wire: Wire) -> None:
        if received.path == "/mcp":
            await wire.reply(307, headers={"Location": "/mcp/"})
        else:
            await modern(received, wire)

    async with raw_server(script) as raw, connected(raw.url, headers={"X-Key": "k"}) as harness:
        await harness.connector.open()
        await harness.end(harness.tool("any"))
        assert [request.path for request in raw.requests].count("/mcp") == 1
        assert {request.header("x-key") for request in raw.requests} == {"k"}


async def test_a_redirect_to_another_origin_is_not_followed() -> None:
    async with raw_server(ModernScript()) as other:
        script = status(308, {"Location": other.url})
        async with raw_server(script) as raw, connected(raw.url) as harness:
            with pytest.raises(Misconfigured, match=other.url):
                await harness.connector.open()
        assert other.connections == 0


async def test_circles_end() -> None:
    script = status(307, {"Location": "/mcp"})
    async with raw_server(script) as raw, connected(raw.url) as harness:
        with pytest.raises(Misconfigured, match="circles"):
            await harness.connector.open()


async def test_an_upstream_that_changed_its_era_is_asked_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mcp_http, "DOUBT_AFTER_S", 0.0)
    modern, legacy = ModernScript({"tools/call": echo}), LegacyScript({"tools/call": echo})
    serving: list[Callable[[Received, Wire], Awaitable[None]]] = [modern]

    async def script(received: Received, wire: Wire) -> None:
        if serving[0] is modern and received.header("mcp-protocol-version") != MODERN:
            await wire.error(400, -32022, data={"supported": [MODERN]})
        else:
            await serving[0](received, wire)

    async with raw_server(script) as raw, connected(raw.url, MODERN) as harness:
        assert (await harness.connector.open()).revisions == (MODERN,)
        for now, found in ((legacy, LEGACY), (modern, MODERN)):
            serving[0] = now
            assert isinstance(await harness.end(harness.tool("any")), Failure)
            assert isinstance(await harness.end(harness.tool("any")), Result)
            assert (await harness.connector.open()).revisions == (found,)


@pytest.mark.parametrize(
    "settings", [{"url": "http://a b/"}, {"url": "http://127.0.0.1/", "headers": {"Host": "x"}}]
)
async def test_settings_that_cannot_work_are_said_when_opening(settings: dict[str, object]) -> None:
    async with anyio.create_task_group() as tasks:
        connector = McpHttpConnector(
            HttpSettings(**settings),  # type: ignore[arg-type]  # keyword arguments of a test case
            resolve=AddressGuard(),
            tasks=tasks,
            on_change=lambda _: None,
        )
        with pytest.raises(Misconfigured):
            await connector.open()
        await connector.close()


async def test_a_private_address_nobody_wrote_is_refused() -> None:
    async with raw_server(ModernScript()) as raw, anyio.create_task_group() as tasks:
        connector = McpHttpConnector(
            HttpSettings(url=raw.url),
            resolve=AddressGuard(),
            tasks=tasks,
            on_change=lambda _: None,
        )
        with pytest.raises((AddressRefused, ConnectorError), match="no public address"):
            await connector.open()
        await connector.close()
        assert raw.connections == 0


async def test_http_plus_sse_is_not_tried_where_it_was_not_asked_for() -> None:
    script = status(405)
    async with raw_server(script) as raw, connected(raw.url, transport="http") as harness:
        with pytest.raises(ProtocolViolation):
            await harness.connector.open()
        assert {request.method for request in raw.requests} == {"POST"}
