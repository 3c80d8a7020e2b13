"""The real Claude Code, told of Portico by the command that Portico prints."""

import shlex

from tests.clients.programs import Connected, Program
from tests.peers.portico import Portico, portico


async def status(claude: Program, name: str) -> str:
    """What ``claude mcp list`` says of a server."""
    listed = await claude.run("mcp", "list")
    lines = listed.stdout.decode().splitlines()
    return next(line for line in lines if line.startswith(f"{name}:")).rpartition(" - ")[2]


async def add(claude: Program, name: str, url: str, *options: str) -> None:
    await run(claude, "mcp", "add", "--transport", "http", name, url, *options)


async def run(claude: Program, *words: str) -> None:
    done = await claude.run(*words)
    assert done.returncode == 0, done.stderr.decode()


async def test_claude_code_connects_without_a_key_before_the_first_one_exists(
    claude: Program, hub: Portico
) -> None:
    command = (await portico("connect", "claude-code", data=hub.data))["command"]
    program, *words = shlex.split(command)
    assert program == "claude"
    await run(claude, *words)
    assert await status(claude, "portico") == "✔ Connected"


async def test_claude_code_connects_anonymously_where_that_is_allowed(
    claude: Program, connected: Connected
) -> None:
    await add(claude, "open", connected.open_url)
    assert await status(claude, "open") == "✔ Connected"


async def test_claude_code_connects_with_a_key_and_not_without(
    claude: Program, connected: Connected
) -> None:
    header = f"Authorization: Bearer {connected.key}"
    await add(claude, "dev", connected.dev_url, "--header", header)
    await add(claude, "keyless", connected.dev_url)
    assert await status(claude, "dev") == "✔ Connected"
    assert "Connected" not in await status(claude, "keyless")
