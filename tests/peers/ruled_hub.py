"""A hub under rules, composed in this process, in front of upstreams that do what a test asks."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from hub.administration.authority import local_administrator
from hub.administration.configuration import ApplyRequest, apply
from hub.administration.keys import KeyCreate, create_key
from hub.app import Hub, Settings, composed
from hub.audit.reading import tail
from hub.config.models import PorticoFile, RedisSection, ServerSection
from hub.domain.record import Entry
from tests.peers.served_hub import served

ADMINISTRATOR = local_administrator("default")


@dataclass
class Ruled:
    """The hub, and what a test asks of it."""

    hub: Hub
    port: int
    file: Path

    def url(self, virtual_server: str = "") -> str:
        """The MCP URL of a virtual server, or of everything."""
        path = f"/v/{virtual_server}/mcp" if virtual_server else "/mcp"
        return f"http://127.0.0.1:{self.port}{path}"

    async def apply(self, document: Mapping[str, Any]) -> None:
        """Have a configuration serve, with every upstream listed."""
        request = ApplyRequest(text=json.dumps(document), path=str(self.file))
        await apply(self.hub.desk, ADMINISTRATOR, "default", request)
        await self.hub.control.refresh()
        with anyio.fail_after(20):
            for upstream in document.get("upstreams", {}):
                await self.hub.upstreams.refresh("default", upstream)
        await self.hub.control.refresh()

    async def key(self, principal: str) -> str:
        """A new key of a principal."""
        wanted = KeyCreate(principal=principal)
        return (await create_key(self.hub.desk, ADMINISTRATOR, "default", wanted)).key

    def entries(self, operation: str = "tools/call", count: int = 50) -> list[Entry]:
        """The last entries of an operation, newest first."""
        found = [item.entry for item in tail(self.hub.directory.record, count)]
        return [entry for entry in found if entry.operation == operation]

    def entry(self, operation: str = "tools/call") -> Entry:
        """The last entry of an operation."""
        return self.entries(operation)[0]


@asynccontextmanager
async def ruled_hub(
    data: Path, document: Mapping[str, Any], *, fast: bool = True, redis: str | None = None
) -> AsyncIterator[Ruled]:
    """A serving hub with this configuration; ``redis``: where it counts with others."""
    file = PorticoFile(
        version=1, server=ServerSection(fast_lane=fast), redis=RedisSection(url=redis)
    )
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(composed(Settings(data=data, file=file)))
        await stack.enter_async_context(hub.control.running())
        await stack.enter_async_context(hub.upstreams.running())
        await stack.enter_async_context(hub.background())
        port = await stack.enter_async_context(served(hub))
        ruled = Ruled(hub, port, data.with_name(f"{data.name}.yaml"))
        await ruled.apply(document)
        yield ruled
