"""What `portico connect` prints is what each client reads."""

import json
import shlex
import tomllib
from collections.abc import Mapping
from io import StringIO
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


def expected(client: str, url: str) -> Any:
    """Each client's own words for: this URL, with this key."""
    files: Mapping[str, Any] = {
        "goose": {"extensions": {"portico": {
            "enabled": True, "type": "streamable_http", "name": "portico", "uri": url,
            "timeout": 300, "headers": HEADER,
        }}},
        "cursor": {"mcpServers": {"portico": {"url": url, "headers": HEADER}}},
        "vscode": {"servers": {"portico": {"type": "http", "url": url, "headers": HEADER}}},
        "codex": {"mcp_servers": {"portico": {"url": url, "bearer_token_env_var": "PORTICO_KEY"}}},
        "gemini": {"mcpServers": {"portico": {"httpUrl": url, "headers": HEADER}}},
    }  # fmt: skip
    return files[client]


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
