"""Running the protocol's own conformance kit, and reading what it found."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import anyio
import msgspec
from msgspec import Struct

from mcp_wire.revisions import Era

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = ROOT / ".tools" / "node_modules" / ".bin"
EXPECTED_FAILURES: Final = Path(__file__).with_name("expected-failures.yml")
SUITE_S: Final = 90.0
"""How long one run of the kit may take; a whole suite takes about 5 s."""
TIMED_OUT: Final = 124
SCENARIO_MS: Final = 60_000
"""How long the client under test may take for one scenario."""

FAILURE: Final = "FAILURE"
WARNING: Final = "WARNING"


class Check(Struct, frozen=True, rename="camel"):
    """One thing the kit looked at."""

    id: str
    name: str
    status: str
    error_message: str | None = None
    scenario: str = ""

    def __str__(self) -> str:
        message = (self.error_message or "").strip().partition("\n")[0]
        return f"{self.scenario}: {self.name} ({self.id}) {self.status.lower()} {message}".strip()


class Found(Struct, frozen=True):
    """What one run of the kit came to."""

    checks: tuple[Check, ...]
    exit_status: int
    """Not 0 when something failed that expected-failures.yml does not name, or did not fail."""
    output: str

    @property
    def passed(self) -> Counter[str]:
        """How many checks were passed, by scenario."""
        return Counter(check.scenario for check in self.checks if check.status == "SUCCESS")

    def only(self, scenarios: Collection[str], *, without: Collection[str] = ()) -> "Found":
        """What was found by some scenarios, less some checks; the others are not minded at all."""
        checks = (check for check in self.checks if check.scenario in scenarios)
        return Found(tuple(check for check in checks if check.id not in without), 0, self.output)

    @property
    def failed(self) -> tuple[Check, ...]:
        """What went wrong; a warning is a failed check of what ought to be rather than must."""
        return tuple(check for check in self.checks if check.status in {FAILURE, WARNING})


async def server_suite(url: str, revision: str, folder: Path) -> Found:
    """Every server scenario there is at a revision, against ``url``."""
    return await _server(url, revision, folder, "--suite", "all")


async def server_scenario(url: str, revision: str, folder: Path, scenario: str) -> Found:
    """One server scenario against ``url``."""
    return await _server(url, revision, folder, "--scenario", scenario)


async def client_scenario(scenario: str, revision: str, era: Era, folder: Path) -> Found:
    """One client scenario, for a client of ``era`` behind Portico; see ``drive.py``.

    That this program fails is a failure as well.
    """
    command = f"{sys.executable} -m tests.conformance.drive {era}"
    return await _run(
        folder, "client", "--command", command, "--scenario", scenario,
        "--spec-version", revision, "--timeout", str(SCENARIO_MS),
    )  # fmt: skip


async def client_scenarios(revision: str) -> frozenset[str]:
    """The client scenarios the kit has at a revision, those of authorization left out."""
    _, output = await _execute("list", "--spec-version", revision)
    section = output.partition("Client scenarios")[2].partition("Authorization server")[0]
    names = (line.split()[1] for line in section.splitlines() if line.startswith("  - "))
    return frozenset(name for name in names if not name.startswith("auth/"))


async def _server(url: str, revision: str, folder: Path, *which: str) -> Found:
    return await _run(
        folder, "server", "--url", url, *which, "--spec-version", revision,
        "--expected-failures", str(EXPECTED_FAILURES),
    )  # fmt: skip


async def _run(folder: Path, *words: str) -> Found:
    status, output = await _execute(*words, "--output-dir", str(folder))
    return Found((*_results(folder), *_unfinished(output, folder)), status, output)


async def _execute(*words: str) -> tuple[int, str]:
    """Exit status and output of the kit. Whatever it started is gone when it is done."""
    executable = PROGRAMS / "conformance"
    if not executable.exists():
        raise FileNotFoundError("The conformance kit is not installed: run 'make tools'.")
    process = await anyio.open_process(
        [str(executable), *words],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    output = b""
    async with process:
        try:
            assert process.stdout is not None
            with anyio.move_on_after(SUITE_S):
                async for chunk in process.stdout:
                    output += chunk
                return await process.wait(), output.decode()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return TIMED_OUT, output.decode(errors="replace")


def _results(folder: Path) -> Iterator[Check]:
    """What the kit wrote down: one folder for each scenario, named after it and the time."""
    for file in sorted(folder.glob("*/checks.json")):
        scenario = _scenario_of(file.parent)
        for check in msgspec.json.decode(file.read_bytes(), type=list[Check]):
            yield msgspec.structs.replace(check, scenario=scenario)


def _scenario_of(folder: Path) -> str:
    name = folder.name.removeprefix("server-")
    return name[: -len("-2026-01-01T00-00-00-000Z")]


def _unfinished(output: str, folder: Path) -> Iterator[Check]:
    """Scenarios that were begun and have no result: the kit did not survive them."""
    done = {_scenario_of(file.parent) for file in folder.glob("*/checks.json")}
    for line in output.splitlines():
        if line.startswith("=== Running scenario: ") and line.split()[3] not in done:
            yield Check("unfinished", "Unfinished", FAILURE, "It did not end.", line.split()[3])
