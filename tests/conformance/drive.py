"""The client under test of the conformance kit: a Portico in front of the kit's server.

The kit adds the address of its server to the command line. A Portico is put in front of it, a client
on the official SDK does what the scenario wants against Portico, and the kit judges what reaches its
server.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Final

import anyio

from tests.conformance.scenarios import act
from tests.peers.clients import ERAS, Era
from tests.peers.portico import running_portico

CONFIG: Final = """
version: 1
upstreams:
  kit: {{url: "{url}"}}
virtual_servers:
  conformance: {{anonymous: true, include: [{{upstream: kit}}], prefix: never}}
"""


async def drive(era: Era, upstream: str) -> None:
    """Run the scenario that the environment names, with a client of ``era``."""
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        async with running_portico(data, config=CONFIG.format(url=upstream)) as hub:
            await act(f"{hub.origin}/v/conformance/mcp", era, scenario, context)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("era", choices=ERAS)
    parser.add_argument("url")
    arguments = parser.parse_args()
    anyio.run(drive, arguments.era, arguments.url)
