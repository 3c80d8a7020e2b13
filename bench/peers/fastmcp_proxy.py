"""FastMCP's proxy: as ``create_proxy(URL)`` makes it, or around one connected client.

The default proxy takes the caller's era for its upstream; a shared client has one, ``--mode``.

    python -m bench.peers.fastmcp_proxy UPSTREAM_URL [--client default|shared] [--mode auto|legacy]
"""

import argparse

import anyio
from fastmcp import Client
from fastmcp.server import create_proxy

from bench.peers.serving import serve


async def main() -> None:
    parser = argparse.ArgumentParser(description="FastMCP's proxy.")
    parser.add_argument("upstream_url")
    parser.add_argument("--client", choices=("default", "shared"), default="default")
    parser.add_argument("--mode", default="auto", help="auto: modern where the upstream is")
    given = parser.parse_args()
    if given.client == "default":
        await serve(create_proxy(given.upstream_url).http_app(json_response=True))
        return
    async with Client(given.upstream_url, mode=given.mode) as client:
        await serve(create_proxy(client).http_app(json_response=True))


if __name__ == "__main__":
    anyio.run(main, backend_options={"use_uvloop": True})
