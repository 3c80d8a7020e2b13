"""A running Portico in front of one upstream of each era, and the programs that connect to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clients.programs import Connected, Program
from tests.peers.portico import Portico, portico, running_portico
from tests.peers.running import legacy_server, modern_server

CONFIG = """
version: 1
upstreams:
  modern: {{url: "{modern}"}}
  legacy: {{url: "{legacy}"}}
principals: {{ci-bot: {{kind: service}}}}
groups: {{engineers: {{members: [ci-bot]}}}}
virtual_servers:
  open: {{anonymous: true, include: [{{upstream: modern}}, {{upstream: legacy}}], prefix: always}}
  dev: {{include: [{{upstream: modern}}]}}
grants:
  - {{group: engineers, virtual_server: dev}}
"""


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Portico]:
    """Nothing has a key yet."""
    data = tmp_path_factory.mktemp("hub") / "data"
    with modern_server() as modern, legacy_server() as legacy:
        config = CONFIG.format(modern=modern.url, legacy=legacy.url)
        async with running_portico(data, config=config) as hub:
            yield hub


@pytest.fixture(scope="module")
async def connected(hub: Portico) -> Connected:
    created = await portico("key", "create", "--principal", "ci-bot", data=hub.data)
    return Connected(f"{hub.origin}/v/open/mcp", f"{hub.origin}/v/dev/mcp", created["key"])


@pytest.fixture
def claude(tmp_path: Path) -> Program:
    return Program("claude", tmp_path)


@pytest.fixture
def inspector(tmp_path: Path) -> Program:
    return Program("mcp-inspector", tmp_path)
