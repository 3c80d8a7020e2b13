"""The same hub with its state in PostgreSQL: nothing but one line of configuration differs."""

from pathlib import Path

import pytest

from tests.peers.clients import connected, tool_names
from tests.peers.portico import portico, running_portico
from tests.peers.postgresql import running_postgresql
from tests.peers.running import modern_server

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("level", ["written", "stored"])
async def test_state_and_record_are_where_the_configuration_says(
    tmp_path: Path, level: str
) -> None:
    with running_postgresql() as postgresql, modern_server() as upstream:
        config = (
            "version: 1\n"
            f'store: {{url: "{postgresql.new_database()}"}}\n'
            f"record: {{level: {level}}}\n"
            f'upstreams: {{peer: {{url: "{upstream.url}"}}}}\n'
            "groups: {all: {}}\n"
            "grants: [{group: all, virtual_server: default}]\n"
        )
        data = tmp_path / "data"
        async with running_portico(data, config=config) as hub:
            made = await portico("key", "create", "--principal", "ann", "--group", "all", data=data)
            async with connected(hub.url, "modern", key=made["key"]) as client:
                assert "echo" in await tool_names(client)
                assert not (await client.call_tool("echo", {"text": "hi"})).is_error
        assert not (data / "portico.db").exists()
        async with (
            running_portico(data, config=config) as again,
            connected(again.url, "legacy", key=made["key"]) as client,
        ):
            assert "echo" in await tool_names(client)
    report = await portico("audit", "verify", data=data)
    assert report["intact"]
