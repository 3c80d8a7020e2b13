"""The programs of scripts/node-tools.txt, and what they are given."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import anyio
from msgspec import Struct

PROGRAMS = Path(__file__).parents[2] / ".tools" / "node_modules" / ".bin"


class Connected(Struct, frozen=True):
    """What clients are given: two addresses, and a key that the second one needs."""

    open_url: str
    dev_url: str
    key: str


class Program(Struct, frozen=True):
    """One program of scripts/node-tools.txt, run in a home of its own."""

    name: str
    home: Path

    async def run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        executable = PROGRAMS / self.name
        assert executable.exists(), f"{self.name} is not installed: run 'make tools'"
        with anyio.fail_after(60):
            return await anyio.run_process(
                [str(executable), *words],
                check=False,
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
            )

    def _environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "CLAUDE_CONFIG_DIR": str(self.home / "claude"),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
