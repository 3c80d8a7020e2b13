"""The command line as people and programs use it."""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from inspect import signature
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from hub.cli.main import app
from hub.data_directory import held
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


@pytest.mark.parametrize("verb", ["refresh", "test"])
async def test_an_upstream_that_cannot_be_listed_is_an_error_that_says_why(
    hub: Portico, free_port: Callable[[], int], verb: str
) -> None:
    dead = f"http://127.0.0.1:{free_port()}/mcp"
    await portico("add", "--json", "--name", "dead", dead, data=hub.data)
    for options in ((), ("--json",)):
        done = await outcome(verb, "dead", "--data", str(hub.data), *options)
        assert done.returncode == 1
        said = done.stderr.decode()
        assert said.startswith("portico: The upstream 'dead' could not be listed: ")
        if options:
            status = json.loads(done.stdout)
            assert (status["upstream"], status["state"]) == ("dead", "down")
            assert status["error"]
            assert status["error"] in said
        else:
            assert done.stdout == b""
    await portico("disable", "dead", data=hub.data)
    disabled = await outcome(verb, "dead", "--data", str(hub.data))
    assert (disabled.returncode, disabled.stdout) == (1, b"")
    assert "it is disabled" in disabled.stderr.decode()
    states = {one["upstream"]: one for one in (await portico("list", data=hub.data))["upstreams"]}
    (living,) = states.keys() - {"dead"}
    assert (await portico(verb, living, data=hub.data))["state"] == "live"


async def test_adding_one_never_replaces_another(tmp_path: Path) -> None:
    data = tmp_path / "data"
    add = ("add", "--json")
    for port in (9001, 9002):
        (name,) = (await portico(*add, f"http://127.0.0.1:{port}/mcp", data=data))["added"]
        assert name == f"127-0-0-1-{port}"
    assert (await portico(*add, "https://mcp.shop.example/mcp", data=data))["added"] == ["shop"]
    other = await outcome("add", "--data", str(data), "https://shop.other.example/mcp")
    assert other.returncode == 3
    assert "--name" in other.stderr.decode()
    assert (await portico(*add, "https://mcp.shop.example/mcp", data=data))["added"] == ["shop"]
    upstreams = (await portico("list", data=data))["upstreams"]
    assert len(upstreams) == 3


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


async def test_without_a_running_hub_upstreams_run_for_as_long_as_a_command_needs_them(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with modern_server() as upstream, anyio.fail_after(30):
        await portico("add", "--json", "--name", "other", upstream.url, data=data)
        assert (await portico("test", "other", data=data))["state"] == "live"
        called = await portico("call", "echo", '{"text": "hello"}', data=data)
    assert called["result"]["content"][0]["text"] == "hello"
    no_url = await outcome("connect", "claude-code", "--data", str(data))
    assert no_url.returncode == 1
    assert "portico up" in no_url.stderr.decode()


async def test_a_command_waits_for_who_holds_the_data_until_it_serves_or_is_done(
    tmp_path: Path,
) -> None:
    words = [PORTICO, "key", "list", "--json", "--data", str(tmp_path)]
    with held(tmp_path, now="a moment ago"):
        process = await anyio.open_process(words, stdin=subprocess.DEVNULL)
        with anyio.move_on_after(3) as waiting:
            await process.wait()
        assert waiting.cancelled_caught
    async with process:
        with anyio.fail_after(20):
            assert await process.wait() == 0


async def test_the_command_line_goes_on_with_the_key_that_followed_its_own(
    tmp_path: Path,
) -> None:
    data, file = tmp_path / "data", tmp_path / "data" / "admin.key"
    (first,) = (await portico("key", "list", data=data))["keys"]
    made = await portico("key", "rotate", "--json", "--overlap", "0", first["id"], data=data)
    words = ("key", "list", "--data", str(data))
    for status in (3, 1):
        refused = await outcome(*words)
        assert refused.returncode == status
        assert str(file) in refused.stderr.decode()
        assert "Put an administrator's key" in refused.stderr.decode().replace("put", "Put")
        file.unlink(missing_ok=True)
    file.write_text(made["key"], encoding="utf-8")
    assert (await outcome(*words)).returncode == 0


async def test_without_a_running_hub_commands_work_on_the_store_that_it_had(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    config = "version: 1\nstore: {url: 'env:STORE'}\n"
    env = {"STORE": f"sqlite:///{tmp_path / 'elsewhere.db'}"}
    async with running_portico(data, config=config, env=env):
        made = await portico("key", "create", "--principal", "ann", data=data)
    words = [PORTICO, "key", "list", "--json", "--data", str(data)]
    listed = await anyio.run_process(words, env={**os.environ, **env})
    assert made["id"] in {key["id"] for key in json.loads(listed.stdout)["keys"]}
    for command in (words[1:], ["stdio", "--data", str(data)]):
        unset = await outcome(*command)
        assert unset.returncode == 1
        assert "STORE is not set" in unset.stderr.decode()
    assert not (data / "portico.db").exists()
    async with running_portico(data):
        pass
    assert len((await portico("key", "list", data=data))["keys"]) == 1


async def test_commands_reach_a_hub_whatever_its_public_url_is(tmp_path: Path) -> None:
    config = 'version: 1\nserver: {public_url: "https://portico.invalid"}\n'
    async with running_portico(tmp_path / "data", config=config) as hub:
        assert hub.url == "https://portico.invalid/mcp"
        assert (await portico("list", data=hub.data))["items"] == []
        connected_by = await portico("connect", "claude-code", data=hub.data)
        assert "https://portico.invalid/mcp" in connected_by["command"]


async def test_the_files_log_level_holds_unless_another_is_named(tmp_path: Path) -> None:
    unsafe = "upstreams: {u: {enabled: false, command: [x], env: {API_TOKEN: not-a-reference}}}\n"
    for number, level in enumerate(("warning", "error")):
        data = tmp_path / str(number)
        config = f"version: 1\ntelemetry: {{log_level: {level}}}\n{unsafe}"
        async with running_portico(data, config=config):
            pass
        logged = data.with_name(f"{data.name}.log").read_text(encoding="utf-8")
        assert logged.count("looks like a secret") == 1 - number


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["list", "--data", "{file}"], 1, "{file} cannot be used"),
        (["stdio", "--data", "{file}"], 1, "{file} cannot be used"),
        (["validate", "{file}"], 1, "{file}:2: is not UTF-8"),
        (["add", "{file}"], 1, "{file}:2: is not UTF-8"),
        (["up", "--config", "{folder}"], 1, "{folder} cannot be read: Is a directory"),
        (["up", "--bind", "192.0.2.1", "--port", "0"], 1, "Cannot listen on 192.0.2.1, port 0"),
        (["up", "--log-level", "loud"], 2, "loud"),
        (["audit", "verify"], 1, "There is no record in {data}"),
        (["audit", "export"], 1, "There is no record in {data}"),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_sentence(
    tmp_path: Path, words: list[str], status: int, told: str
) -> None:
    places = {"file": tmp_path / "odd.json", "folder": tmp_path, "data": tmp_path / "data"}
    places["file"].write_bytes(b"{\n\xff}")
    env = {**os.environ, "PORTICO_DATA": str(places["data"])}
    done = await anyio.run_process(
        [PORTICO, *(word.format(**places) for word in words)],
        check=False,
        stdin=subprocess.DEVNULL,
        env=env,
    )
    said = done.stderr.decode()
    assert done.returncode == status
    assert told.format(**places) in said
    assert "Traceback" not in said
    if words[0] == "audit":
        assert not places["data"].exists()


async def test_a_record_is_never_called_intact_against_what_is_no_checkpoint(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    await portico("key", "list", data=data)
    checkpoint = tmp_path / "checkpoint.json"
    last = (data / "record" / "checkpoints.jsonl").read_bytes().splitlines()[-1]
    for content, status in ((last, 0), (last + b"\n", 0), (last[:-1], 2), (b"", 2), (b"{}\n", 2)):
        checkpoint.write_bytes(content)
        words = ("audit", "verify", "--against", str(checkpoint), "--data", str(data))
        assert (await outcome(*words)).returncode == status
    no_keys = await outcome("audit", "verify", "--public-key", str(checkpoint), "--data", str(data))
    assert no_keys.returncode == 2
    (data / "keys.json").unlink()
    assert (await outcome("audit", "verify", "--data", str(data))).returncode == 1
    assert not (data / "keys.json").exists()
    no_time = await outcome("audit", "export", "--since", "2026-11-01", "--data", str(data))
    assert no_time.returncode == 2


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
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    for group in groups:
        assert group is not None
        if "portico " not in (group.info.epilog or ""):
            missing.append(str(group.info.help))
    assert missing == []


def test_every_command_answers_in_json() -> None:
    """But those whose output is for programs already."""
    without = {
        name
        for name, command in commands(app).items()
        if "json" not in signature(command.callback).parameters
    }
    assert without == {"stdio", "audit export"}
