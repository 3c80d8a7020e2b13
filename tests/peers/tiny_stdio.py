"""The tiny hub over standard streams, as a program: data directory as its only argument."""

import sys
from pathlib import Path

import anyio

from hub.domain.principal import Evidence
from hub.surfaces.mcp.standard_streams import standard_streams
from hub.surfaces.mcp.stdio import serve_stdio
from tests.peers.tiny_hub import collaborating


async def main(data: Path) -> None:
    async with (
        collaborating(data, anonymous=True) as (given, _, _),
        standard_streams() as (source, sink),
    ):
        await serve_stdio(given, source, sink, evidence=Evidence(direct=True))


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
