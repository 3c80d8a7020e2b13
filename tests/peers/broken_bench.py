"""A running Portico that upstreams can be put into and taken out of, and whose record can be read."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.peers.portico import Portico, running_portico


class Bench:
    """``/v/NAME/mcp`` serves the tools of the upstream NAME under their own names."""

    def __init__(self, portico: Portico, http: httpx2.AsyncClient) -> None:
        self.portico = portico
        self.http = http

    def url(self, name: str) -> str:
        return f"{self.portico.origin}/v/{name}/mcp"

    async def put(self, name: str, **spec: Any) -> str:
        """Add or replace an upstream, list it, and serve it alone; the URL."""
        await self._put(f"/api/upstreams/{name}", spec)
        await self.refresh(name)
        server = {"anonymous": True, "prefix": "never", "include": [{"upstream": name}]}
        await self._put(f"/api/virtual-servers/{name}", server)
        return self.url(name)

    async def refresh(self, name: str) -> dict[str, Any]:
        """Have an upstream listed now; how it is then."""
        answer = await self.http.post(f"/api/upstreams/{name}/refresh")
        status: dict[str, Any] = answer.json()
        return status

    async def drop(self, name: str) -> None:
        await self.http.delete(f"/api/virtual-servers/{name}")
        await self.http.delete(f"/api/upstreams/{name}")

    async def entry(self, call: str) -> dict[str, Any]:
        """The one entry of a call."""
        assert call
        (entry,) = await self.entries(call)
        return entry

    async def entries(self, text: str) -> list[dict[str, Any]]:
        """Entries in which a text occurs, newest first."""
        answer = await self.http.get("/api/audit/entries", params={"text": text})
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def _put(self, path: str, body: Any) -> None:
        answer = await self.http.put(path, content=json.dumps(body))
        assert answer.status_code in {200, 201}, answer.text


@asynccontextmanager
async def bench(data: Path, config: str = "version: 1\n") -> AsyncIterator[Bench]:
    """Portico on an own data directory, until the block is left."""
    async with (
        running_portico(data, config=config) as running,
        httpx2.AsyncClient(
            base_url=running.origin,
            headers={**running.admin_headers, "Content-Type": "application/json"},
            timeout=30,
            trust_env=False,
        ) as http,
    ):
        yield Bench(running, http)
