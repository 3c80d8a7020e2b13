"""A running Portico: the real command line in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from msgspec import Struct

PORTICO = str(Path(sys.executable).with_name("portico"))


class Portico(Struct, frozen=True, kw_only=True):
    """Where a running Portico is, and how to be let in."""

    url: str
    """The MCP URL of everything, ``http://127.0.0.1:PORT/mcp``."""
    data: Path
    process: anyio.abc.Process

    @property
    def origin(self) -> str:
        return self.url.removesuffix("/mcp")

    @property
    def admin_key(self) -> str:
        return (self.data / "admin.key").read_text(encoding="utf-8").strip()

    @property
    def admin_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.admin_key}"}

    async def stop(self) -> int:
        """End it as an operator would, and wait; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(40):
            return await self.process.wait()


@asynccontextmanager
async def running_portico(
    data: Path, *arguments: str, config: str | None = None, env: dict[str, str] | None = None
) -> AsyncIterator[Portico]:
    """``portico up`` on a free port with an own data directory, stopped at the end."""
    words = [PORTICO, "up", "--data", str(data), "--port", "0", "--json"]
    if config is not None:
        file = data.with_name(data.name + ".yaml")
        file.write_text(config, encoding="utf-8")
        words += ["--config", str(file)]
    log = data.with_name(data.name + ".log")
    with log.open("wb") as stderr:
        process = await anyio.open_process(
            [*words, *arguments],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, **(env or {})},
        )
    async with process:
        try:
            ready = await _first_line(process, log)
            yield Portico(url=ready["url"], data=data, process=process)
        finally:
            if process.returncode is None:
                process.terminate()
                with anyio.move_on_after(40, shield=True) as scope:
                    await process.wait()
                if scope.cancelled_caught:
                    process.kill()


async def portico(*arguments: str, data: Path) -> Any:
    """What a command prints with ``--json``. Fails when the command fails."""
    words = [PORTICO, *arguments] + ([] if "--json" in arguments else ["--json"])
    env = {**os.environ, "PORTICO_DATA": str(data)}
    done = await anyio.run_process(words, check=False, stdin=subprocess.DEVNULL, env=env)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


async def _first_line(process: anyio.abc.Process, log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    text = b""
    with anyio.fail_after(30):
        while b"\n" not in text:
            try:
                text += await process.stdout.receive()
            except anyio.EndOfStream:
                raise AssertionError(await anyio.Path(log).read_text("utf-8")) from None
    line: dict[str, Any] = json.loads(text.split(b"\n", 1)[0])
    return line
