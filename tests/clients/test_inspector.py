"""The MCP Inspector's command line, which speaks the era it is told to."""

import json
from typing import Any, Literal

import pytest

from tests.clients.programs import Connected, Program

Era = Literal["legacy", "modern"]
ERAS = ("legacy", "modern")


async def ask(inspector: Program, url: str, era: Era, method: str, *options: str) -> Any:
    """The result of one request in ``era``."""
    done = await inspector.run(
        "--cli", url, "--transport", "http", "--protocol-era", era,
        "--format", "json", "--method", method, *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return json.loads(done.stdout)["result"]


@pytest.mark.parametrize("era", ERAS)
async def test_the_inspector_lists_the_tools_of_upstreams_of_both_eras(
    inspector: Program, connected: Connected, era: Era
) -> None:
    listed = await ask(inspector, connected.open_url, era, "tools/list")
    names = {tool["name"] for tool in listed["tools"]}
    assert {"modern_echo", "legacy_echo"} <= names


@pytest.mark.parametrize("upstream", ERAS)
@pytest.mark.parametrize("era", ERAS)
async def test_the_inspector_calls_a_tool_of_an_upstream_of_either_era(
    inspector: Program, connected: Connected, era: Era, upstream: Era
) -> None:
    answer = await ask(
        inspector, connected.open_url, era, "tools/call",
        "--tool-name", f"{upstream}_echo", "--tool-arg", "text=over here",
    )  # fmt: skip
    assert "over here" in json.dumps(answer["content"])


@pytest.mark.parametrize("era", ERAS)
async def test_the_inspector_calls_with_a_key(
    inspector: Program, connected: Connected, era: Era
) -> None:
    header = f"Authorization: Bearer {connected.key}"
    listed = await ask(inspector, connected.dev_url, era, "tools/list", "--header", header)
    assert "echo" in {tool["name"] for tool in listed["tools"]}
