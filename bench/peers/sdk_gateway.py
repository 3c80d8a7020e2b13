"""A gateway made of the official SDK alone: its Server in front, one shared Client behind.

With the settings that make it fastest: JSON answers, a schema look-up without listing, tools read
once, uvloop and httptools.

    python -m bench.peers.sdk_gateway UPSTREAM_URL --mode auto|legacy     prints {"url": …} when ready
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as types
from mcp import Client
from mcp.server.lowlevel import Server

from bench.peers.serving import serve


@asynccontextmanager
async def gateway(upstream_url: str, mode: str) -> AsyncIterator[Any]:
    """The ASGI application, as long as its upstream client is connected."""
    async with Client(upstream_url, mode=mode) as client:
        listed = await client.list_tools()
        schemas = {tool.name: tool.input_schema for tool in listed.tools}

        async def list_tools(
            _context: Any, _params: types.PaginatedRequestParams | None
        ) -> types.ListToolsResult:
            return listed

        async def call_tool(
            _context: Any, params: types.CallToolRequestParams
        ) -> types.CallToolResult:
            return await client.call_tool(params.name, params.arguments)

        server: Server[Any] = Server(
            "sdk-gateway",
            get_tool_input_schema=schemas.get,
            on_list_tools=list_tools,
            on_call_tool=call_tool,
        )
        yield server.streamable_http_app(json_response=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description="A gateway of the official SDK's parts.")
    parser.add_argument("upstream_url")
    parser.add_argument("--mode", default="auto", help="auto: modern where the upstream is")
    given = parser.parse_args()
    async with gateway(given.upstream_url, given.mode) as application:
        await serve(application)


if __name__ == "__main__":
    anyio.run(main, backend_options={"use_uvloop": True})
