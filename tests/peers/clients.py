"""The SDK's clients as tests use them: either era, with a key or without."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

Era = Literal["legacy", "modern"]
ERAS: tuple[Era, ...] = ("legacy", "modern")


@asynccontextmanager
async def connected(
    url: str, era: Era, *, key: str | None = None, **options: Any
) -> AsyncIterator[Client]:
    """An SDK client of one era, connected."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    mode = "legacy" if era == "legacy" else "2026-07-28"
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, **options) as client,
    ):
        yield client


async def tool_names(client: Client) -> list[str]:
    """Every exposed tool, over all pages, in the order listed."""
    names: list[str] = []
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor)
        names += [tool.name for tool in page.tools]
        cursor = page.next_cursor
        if cursor is None:
            return names


def text_of(result: CallToolResult) -> str:
    """The text of a result's first block."""
    block = result.content[0]
    assert block.type == "text"
    return block.text
