"""The command line as people and programs use it."""

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from hub.cli.main import app
from tests.peers.clients import ERAS, Era, connected, text_of, tool_names
from tests.peers.portico import PORTICO, Portico, portico, running_portico
from tests.peers.running import modern_server

pytestmark = pytest.mark.anyio


async def outcome(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return await anyio.run_process([PORTICO, *arguments], check=False, stdin=subprocess.DEVNULL)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Portico]:
    with modern_server() as upstream:
        async with running_portico(tmp_path / "data", upstream.url) as running:
            yield running


async def test_up_registers_what_it_was_given_and_says_where_it_serves(hub: Portico) -> None:
    async with connected(hub.url, "modern") as client:
        assert "echo" in await tool_names(client)
    assert (hub.data / "admin.key").stat().st_mode & 0o777 == 0o600


async def test_a_second_up_on_a_data_directory_says_who_holds_it(hub: Portico) -> None:
    second = await outcome("up", "--data", str(hub.data), "--port", "0")
    assert second.returncode == 1
    assert str(hub.process.pid) in second.stderr.decode()


async def test_other_addresses_are_refused_while_nobody_can_prove_who_they_are(
    tmp_path: Path,
) -> None:
    anywhere = "0.0.0.0"  # noqa: S104 -- that it is refused is the point
    refused = await outcome("up", "--data", str(tmp_path), "--bind", anywhere, "--port", "0")
    assert refused.returncode == 1
    assert "portico key create" in refused.stderr.decode()


async def test_a_tool_is_called_and_its_failure_is_the_exit_status(hub: Portico) -> None:
    called = await portico("call", "echo", '{"text": "hello"}', data=hub.data)
    assert called["result"]["content"][0]["text"] == "hello"
    failed = await outcome("call", "fail", "--data", str(hub.data))
    assert failed.returncode == 1
    absent = await outcome("call", "ecko", "--data", str(hub.data))
    assert absent.returncode == 1
    assert "Unknown tool: ecko" in absent.stderr.decode()


async def test_capabilities_are_listed_with_what_they_cost(hub: Portico) -> None:
    found = await portico("list", data=hub.data)
    (echo,) = [item for item in found["items"] if item["name"] == "echo"]
    assert echo["kind"] == "tool"
    assert echo["tokens"] > 10
    assert [upstream["state"] for upstream in found["upstreams"]] == ["live"]


async def test_upstreams_are_added_disabled_enabled_and_removed(hub: Portico) -> None:
    with modern_server() as other:
        added = await portico("add", "--json", "--name", "other", other.url, data=hub.data)
        assert added["added"] == ["other"]
        assert (await portico("test", "other", data=hub.data))["state"] == "live"
        assert (await portico("disable", "other", data=hub.data))["state"] == "disabled"
        await portico("enable", "other", data=hub.data)
        removed = await outcome("remove", "other", "--data", str(hub.data))
        assert removed.returncode == 0
    status = await portico("list", data=hub.data)
    assert "other" not in {upstream["upstream"] for upstream in status["upstreams"]}


async def test_a_clients_file_is_imported(hub: Portico, tmp_path: Path) -> None:
    file = tmp_path / "mcpServers.json"
    servers = {"mcpServers": {"memory": {"command": "npx", "args": ["-y", "memory-server"]}}}
    file.write_text(json.dumps(servers), encoding="utf-8")
    assert (await portico("add", "--json", str(file), data=hub.data))["added"] == ["memory"]


async def test_words_after_an_address_are_not_taken_for_a_command(hub: Portico) -> None:
    done = await outcome("add", "https://orders.example/mcp", "--json", "--data", str(hub.data))
    assert done.returncode == 2
    assert "Options go before the target" in done.stderr.decode()


async def test_plan_and_apply_and_export_agree(hub: Portico, tmp_path: Path) -> None:
    file = tmp_path / "portico.yaml"
    file.write_text(
        "version: 1\nprincipals: {ann: {}}\ngroups: {all: {members: [ann]}}\n"
        "grants: [{group: all, virtual_server: default}]\n",
        encoding="utf-8",
    )
    planned = await outcome("plan", str(file), "--data", str(hub.data), "--json")
    assert planned.returncode == 3
    gained = json.loads(planned.stdout)["access"][0]
    assert gained["principal"] == "ann"
    assert {"virtual_server": "default", "name": "echo"} in gained["gained"]
    await portico("apply", str(file), data=hub.data)
    assert (await portico("plan", str(file), data=hub.data))["is_empty"]
    explained = await portico("explain", "ann", "echo", data=hub.data)
    assert explained["allowed"]
    assert explained["layer"] == "grant"


async def test_administration_works_the_same_without_a_running_hub(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = await portico("key", "create", "--principal", "ann", data=data)
    assert made["key"].startswith("ptk_")
    keys = await portico("key", "list", data=data)
    assert {key["principal"] for key in keys["keys"]} == {"admin", "ann"}
    report = await portico("audit", "verify", data=data)
    assert report["intact"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("running", [True, False], ids=["bridge", "in process"])
async def test_clients_that_start_their_servers_reach_everything(
    hub: Portico, era: Era, running: bool
) -> None:
    if not running:
        await hub.stop()
    words = StdioServerParameters(command=PORTICO, args=["stdio", "--data", str(hub.data)])
    async with Client(words, mode="legacy" if era == "legacy" else "2026-07-28") as client:
        assert "echo" in await tool_names(client)
        assert text_of(await client.call_tool("echo", {"text": "hi"})) == "hi"


def commands(group: Any) -> dict[str, Any]:
    found = {
        command.name or command.callback.__name__: command for command in group.registered_commands
    }
    for sub in group.registered_groups:
        found |= {f"{sub.name} {name}": item for name, item in commands(sub.typer_instance).items()}
    return found


def test_every_command_has_an_example() -> None:
    missing = [
        name
        for name, command in commands(app).items()
        if "Example: portico " not in (command.callback.__doc__ or "")
    ]
    assert missing == []
