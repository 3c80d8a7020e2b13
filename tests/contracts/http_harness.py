"""A connector in front of an HTTP upstream, with what it needs around it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from connectors.address_guard import AddressGuard
from connectors.mcp_http import HttpSettings, McpHttpConnector
from tests.contracts.connector_suite import Changes, Harness

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"


@asynccontextmanager
async def connected(url: str, revision: str = LEGACY, **settings: Any) -> AsyncIterator[Harness]:
    """Closed, and nothing left of it, when the block is left."""
    port = int(url.split(":")[2].split("/")[0])
    changes = Changes()
    async with anyio.create_task_group() as tasks:
        connector = McpHttpConnector(
            HttpSettings(url=url, **settings),
            resolve=AddressGuard(frozenset({("127.0.0.1", port)})),
            tasks=tasks,
            on_change=changes,
        )
        try:
            yield Harness(connector, changes, revision)
        finally:
            with anyio.CancelScope(shield=True):
                await connector.close()
            tasks.cancel_scope.cancel()
