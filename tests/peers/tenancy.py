"""Tenants made over the admin API of a running Portico, each with an upstream that asks back."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import httpx2
from msgspec import Struct

from hub.audit.reading import tail
from hub.domain.record import Entry
from tests.peers.asking_server import asking_server
from tests.peers.portico import Portico, running_portico

MODERN: Final = "2026-07-28"


class Tenancy(Struct, frozen=True):
    """A running Portico with the platform's administrator at its admin API."""

    portico: Portico
    http: httpx2.AsyncClient
    """Sends the platform administrator's key."""
    upstream: str
    """URL of an upstream that asks back."""

    async def ask(
        self, method: str, path: str, body: Any = None, *, tenant: str = "", key: str = ""
    ) -> httpx2.Response:
        """A request to the admin API, about a tenant, with another key."""
        headers = {"X-Tenant-ID": tenant} if tenant else {}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return await self.http.request(method, f"/api{path}", json=body, headers=headers)

    async def done(self, method: str, path: str, body: Any = None, *, tenant: str = "") -> Any:
        """The answer to one that succeeds."""
        answer = await self.ask(method, path, body, tenant=tenant)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def key(self, principal: str, *, tenant: str = "", **more: Any) -> dict[str, Any]:
        """A new key."""
        made: dict[str, Any] = await self.done(
            "POST", "/keys", {"principal": principal, **more}, tenant=tenant
        )
        return made

    async def furnish(self, tenant: str, server: str = "dev", principal: str = "ann") -> None:
        """A tenant with one upstream, virtual server, person, group and grant."""
        await self.done("PUT", f"/tenants/{tenant}", {})
        upstream = f"{tenant}-asks"
        for path, body in (
            (f"/upstreams/{upstream}", {"url": self.upstream}),
            (f"/virtual-servers/{server}", {"include": [{"upstream": upstream}]}),
            (f"/principals/{principal}", {}),
            ("/groups/team", {"members": [principal]}),
        ):
            await self.done("PUT", path, body, tenant=tenant)
        await self.done("POST", f"/upstreams/{upstream}/refresh", tenant=tenant)
        grant = {"group": "team", "virtual_server": server}
        await self.done("POST", "/grants", grant, tenant=tenant)

    def entries(self) -> list[Entry]:
        """What is recorded, oldest first."""
        found = tail(self.portico.data / "record", 10_000)
        return [item.entry for item in reversed(list(found))]

    async def recorded(self, outcome: str, reason: str) -> Entry:
        """The first entry with this outcome and reason, once there is one."""
        with anyio.fail_after(5):
            while True:
                for entry in self.entries():
                    if (entry.outcome, entry.reason) == (outcome, reason):
                        return entry
                await anyio.lowlevel.checkpoint()


_CALL_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_HINT: Final = re.compile(r"; (did you mean|known are)[^\"]*")
"""What callers' own names are like the one that was asked for."""
_OWN: Final = frozenset(("date", "x-portico-call", "content-length"))


def masked(answer: httpx2.Response, *names: str) -> tuple[int, dict[str, str], str]:
    """Everything an answer tells but the call's id, the time, hints, and the names that were asked for."""
    text = _HINT.sub("", _MOMENT.sub("MOMENT", _CALL_ID.sub("CALL", answer.text)))
    for name in names:
        text = text.replace(name, "NAME")
    headers = {key: value for key, value in answer.headers.items() if key not in _OWN}
    return answer.status_code, headers, text


@asynccontextmanager
async def tenancy(data: Path) -> AsyncIterator[Tenancy]:
    """A running Portico with nothing in it yet."""
    with asking_server("legacy") as (upstream, _):
        async with (
            running_portico(data) as portico,
            httpx2.AsyncClient(
                base_url=portico.origin,
                headers=portico.admin_headers,
                timeout=20,
                trust_env=False,
            ) as http,
        ):
            yield Tenancy(portico, http, upstream.url)


def modern(
    method: str,
    params: dict[str, Any] | None = None,
    *,
    key: str,
    capabilities: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Keyword arguments of an HTTP client for one modern request."""
    given = params or {}
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities or {},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**given, "_meta": meta}}
    name = given.get("name") or given.get("uri")
    return {
        "content": json.dumps(body),
        "headers": {
            "Authorization": f"Bearer {key}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": method,
            **({"Mcp-Name": name} if name else {}),
        },
    }


def legacy(method: str, params: dict[str, Any] | None = None, *, key: str) -> dict[str, Any]:
    """The same for the era with sessions; ``initialize`` needs no parameters here."""
    if method == "initialize":
        info = {"name": "test", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    return {
        "content": json.dumps(body),
        "headers": {
            "Authorization": f"Bearer {key}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        },
    }
