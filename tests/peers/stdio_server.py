"""An MCP server on the official SDK over standard input and output, of either era or of both.

``python -m tests.peers.stdio_server [--era dual|legacy|modern]``
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Final, Literal

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from tests.peers.offerings import build

ROOT: Final = Path(__file__).parents[2]
Era = Literal["dual", "legacy", "modern"]


def command(era: Era) -> tuple[str, ...]:
    """What starts this program, from any directory."""
    run = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['--era', {era!r}]; "
    return (sys.executable, "-c", run + "import tests.peers.stdio_server as peer; peer.main()")


async def serve(server: MCPServer[Any], era: Era, source: Any = None, sink: Any = None) -> None:
    """Serve one connection: on standard input and output, or on text streams like them."""
    wire = server._lowlevel_server
    if era == "modern":
        wire.middleware.append(_no_handshake)
    async with stdio_server(source, sink) as (read_stream, write_stream):
        options = wire.create_initialization_options()
        if era != "legacy":
            await wire.run(read_stream, write_stream, options)
            return
        async with wire.lifespan(wire) as state:
            await serve_loop(
                wire, read_stream, write_stream, lifespan_state=state, init_options=options
            )


async def _no_handshake(ctx: Any, call_next: Any) -> Any:
    if ctx.method == "initialize":
        data = {"supported": ["2026-07-28"], "requested": ctx.params.get("protocolVersion")}
        raise MCPError(code=-32022, message="Unsupported protocol version", data=data)
    return await call_next(ctx)


def _add_own_tools(server: MCPServer[Any]) -> None:
    @server.tool()
    def die(status: int = 3) -> str:
        """End without an answer."""
        print("last words", file=sys.stderr, flush=True)  # noqa: T201 -- what is looked for
        os._exit(status)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="A stdio peer for tests.")
    parser.add_argument("--era", choices=("dual", "legacy", "modern"), default="dual")
    server = build("stdio")
    _add_own_tools(server)
    anyio.run(serve, server, parser.parse_args().era)


if __name__ == "__main__":
    main()
