"""What is withdrawn is withdrawn within a second, for what is open as well."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp.shared.exceptions import MCPError

from tests.peers.clients import ERAS, Era, connected, tool_names
from tests.peers.tenancy import Tenancy, legacy, modern, tenancy

pytestmark = pytest.mark.anyio

WITHIN_S = 1.0
GRANT = "group:team@dev"
FORMS: dict[str, Any] = {"elicitation": {"form": {}}}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Tenancy]:
    async with tenancy(tmp_path / "data") as running:
        await running.furnish("acme")
        yield running


async def revoke_key(hub: Tenancy, made: dict[str, Any]) -> None:
    await hub.done("DELETE", f"/keys/{made['id']}", tenant="acme")


async def revoke_grant(hub: Tenancy, made: dict[str, Any]) -> None:
    answer = await hub.http.delete(
        "/api/grants", params={"name": GRANT}, headers={"X-Tenant-ID": made["tenant"]}
    )
    assert answer.status_code == 204


async def revoke_member(hub: Tenancy, made: dict[str, Any]) -> None:
    await hub.done("DELETE", f"/groups/team/members/{made['principal']}", tenant="acme")


async def disable_tenant(hub: Tenancy, made: dict[str, Any]) -> None:
    await hub.done("PUT", f"/tenants/{made['tenant']}", {"enabled": False})


async def remove_tenant(hub: Tenancy, made: dict[str, Any]) -> None:
    await hub.done("DELETE", f"/tenants/{made['tenant']}")


WAYS = [revoke_key, revoke_grant, revoke_member, disable_tenant, remove_tenant]
Revoke = Callable[[Tenancy, dict[str, Any]], Awaitable[None]]


class Open:
    """Streams of one caller, and when each has ended."""

    def __init__(self, hub: Tenancy, key: str) -> None:
        self._http = httpx2.AsyncClient(base_url=hub.portico.origin, timeout=20, trust_env=False)
        self._key = key
        self._stack = AsyncExitStack()
        self.ended: dict[str, anyio.Event] = {}

    async def __aenter__(self) -> "Open":
        await self._stack.enter_async_context(self._http)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._tasks.cancel_scope.cancel()
        await self._stack.aclose()

    async def stream(self, name: str, method: str, url: str, **request: Any) -> None:
        """Open one and follow it to its end."""
        ready, ended = anyio.Event(), anyio.Event()
        self.ended[name] = ended

        async def follow() -> None:
            async with self._http.stream(method, url, **request) as response:
                assert response.status_code == 200, await response.aread()
                ready.set()
                async for _ in response.aiter_bytes():
                    pass
            ended.set()

        self._tasks.start_soon(follow)
        with anyio.fail_after(5):
            await ready.wait()

    async def all(self) -> None:
        """Every kind of stream there is."""
        wanted = {"notifications": {"toolsListChanged": True}}
        listen = modern("subscriptions/listen", wanted, key=self._key)
        await self.stream("listen", "POST", "/v/dev/mcp", **listen)
        hello = await self._http.post("/v/dev/mcp", **legacy("initialize", key=self._key))
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Accept": "text/event-stream",
        }
        session = {**headers, "Mcp-Session-Id": hello.headers["mcp-session-id"]}
        await self.stream("get", "GET", "/v/dev/mcp", headers=session)
        await self.stream("sse", "GET", "/v/dev/sse", headers=headers)


@pytest.mark.parametrize("revoke", WAYS)
async def test_open_streams_of_every_kind_end_within_a_second(hub: Tenancy, revoke: Revoke) -> None:
    made = await hub.key("ann", tenant="acme")
    async with Open(hub, made["key"]) as caller:
        await caller.all()
        assert not any(ended.is_set() for ended in caller.ended.values())
        await revoke(hub, made)
        with anyio.move_on_after(WITHIN_S):
            for ended in caller.ended.values():
                await ended.wait()
        assert {name: ended.is_set() for name, ended in caller.ended.items()} == {
            "listen": True,
            "get": True,
            "sse": True,
        }


@pytest.mark.parametrize("revoke", WAYS)
async def test_a_parked_call_is_given_up_within_a_second(hub: Tenancy, revoke: Revoke) -> None:
    made = await hub.key("ann", tenant="acme")
    params = {"name": "colour", "arguments": {}}
    ask = modern("tools/call", params, key=made["key"], capabilities=FORMS)
    async with httpx2.AsyncClient(base_url=hub.portico.origin, timeout=20, trust_env=False) as http:
        first = (await http.post("/v/dev/mcp", **ask)).json()
    assert first.get("result", first).get("resultType") == "input_required", first
    await revoke(hub, made)
    with anyio.fail_after(WITHIN_S):
        abandoned = await hub.recorded("abandoned", "revoked")
    assert (abandoned.tenant, abandoned.principal) == ("acme", "ann")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("revoke", WAYS)
async def test_a_connected_client_may_do_nothing_more_at_once(
    hub: Tenancy, revoke: Revoke, era: Era
) -> None:
    made = await hub.key("ann", tenant="acme")
    async with connected(f"{hub.portico.origin}/v/dev/mcp", era, key=made["key"]) as client:
        assert "colour" in await tool_names(client)
        await revoke(hub, made)
        with pytest.raises(MCPError):
            await client.call_tool("note_visit", {"name": "ann"})
        with pytest.raises(MCPError):
            await client.read_resource("ask://colour/hall")


async def test_a_grant_that_goes_in_part_leaves_the_stream_and_says_what_changed(
    hub: Tenancy,
) -> None:
    """Only what the grant gave is gone: the caller may still be here."""
    more = {"principal": "ann", "virtual_server": "dev", "tools": ["places"]}
    await hub.done("POST", "/grants", more, tenant="acme")
    made = await hub.key("ann", tenant="acme")
    told = anyio.Event()
    wanted = {"notifications": {"toolsListChanged": True}}
    listen = modern("subscriptions/listen", wanted, key=made["key"])
    async with (
        httpx2.AsyncClient(base_url=hub.portico.origin, timeout=20, trust_env=False) as http,
        http.stream("POST", "/v/dev/mcp", **listen) as response,
        anyio.create_task_group() as tasks,
    ):
        lines = response.aiter_lines()
        assert any([line async for line in _first(lines, "acknowledged")])

        async def follow() -> None:
            async for line in lines:
                if "tools/list_changed" in line:
                    told.set()

        tasks.start_soon(follow)
        await revoke_grant(hub, made)
        with anyio.fail_after(WITHIN_S):
            await told.wait()
        tasks.cancel_scope.cancel()
    async with connected(f"{hub.portico.origin}/v/dev/mcp", "modern", key=made["key"]) as client:
        assert await tool_names(client) == ["places"]


async def _first(lines: AsyncIterator[str], text: str) -> AsyncIterator[str]:
    async for line in lines:
        if text in line:
            yield line
            return
