"""What `portico connect` prints is what each client reads; what the file says is what is served."""

import json
import shlex
import tomllib
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from ruamel.yaml import YAML

from tests.peers.portico import PORTICO, Portico, portico, running_portico

KEY = "ptk_of-nobody"
HEADER = {"Authorization": f"Bearer {KEY}"}


def parsed(file: str, text: str) -> Any:
    """What a client makes of the text, by the kind of file it belongs into."""
    if file.endswith(".toml"):
        return tomllib.loads(text)
    return json.loads(text) if file.endswith(".json") else YAML(typ="safe").load(StringIO(text))


def expected(client: str, url: str) -> Mapping[str, Any]:
    """Each client's own words for: this URL, with this key."""
    return {
        "goose": {"extensions": {"portico": {
            "enabled": True, "type": "streamable_http", "name": "portico", "uri": url,
            "timeout": 300, "headers": HEADER,
        }}},
        "cursor": {"mcpServers": {"portico": {"url": url, "headers": HEADER}}},
        "vscode": {"servers": {"portico": {"type": "http", "url": url, "headers": HEADER}}},
        "codex": {"mcp_servers": {"portico": {"url": url, "bearer_token_env_var": "PORTICO_KEY"}}},
        "gemini": {"mcpServers": {"portico": {"httpUrl": url, "headers": HEADER}}},
    }[client]  # fmt: skip


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    async with running_portico(tmp_path_factory.mktemp("hub") / "data") as running:
        yield running


@pytest.mark.parametrize("client", ["goose", "cursor", "vscode", "codex", "gemini"])
async def test_a_clients_file_gets_the_url_and_the_key(hub: Portico, client: str) -> None:
    told = await portico("connect", client, "--key", KEY, data=hub.data)
    assert parsed(told["file"], told["text"]) == expected(client, hub.url)


async def test_claude_code_is_connected_by_one_command(hub: Portico) -> None:
    told = await portico("connect", "claude-code", "--key", KEY, data=hub.data)
    wanted = ["claude", "mcp", "add", "--transport", "http", "portico", hub.url]
    assert shlex.split(told["command"]) == [*wanted, "--header", f"Authorization: Bearer {KEY}"]


async def test_a_client_nobody_knows_is_wrong_usage(hub: Portico) -> None:
    words = [PORTICO, "connect", "emacs", "--data", str(hub.data)]
    done = await anyio.run_process(words, check=False)
    assert done.returncode == 2
    assert b"claude-code" in done.stderr


async def test_a_changed_file_is_applied_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    async with running_portico(tmp_path / "data", config="version: 1\n") as hub:
        file = tmp_path / "data.yaml"

        async def groups() -> set[str]:
            exported = (await portico("export", data=hub.data))["text"]
            return set(YAML(typ="safe").load(StringIO(exported)).get("groups", {}))

        async def until(wanted: set[str]) -> None:
            while await groups() != wanted:
                pass

        assert await groups() == set()
        file.write_text("version: 1\ngroups: {red: {}}\n", encoding="utf-8")
        with anyio.fail_after(20):
            await until({"red"})
        file.write_text("version: 1\ngroups: {blue: {membres: []}}\n", encoding="utf-8")
        with anyio.fail_after(20):
            while b"is not applied" not in (tmp_path / "data.log").read_bytes():
                await groups()
        assert await groups() == {"red"}
        file.write_text("version: 1\ngroups: {blue: {}}\n", encoding="utf-8")
        with anyio.fail_after(20):
            await until({"blue"})
