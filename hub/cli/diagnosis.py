"""``portico doctor``: what could be wrong here, and how it is mended."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from msgspec import Struct, to_builtins

from hub.cli.administration import administration
from hub.cli.options import Data, Json, data_of, run
from hub.cli.printing import EXIT_ERROR, say, show_json

_MIN_FREE_BYTES = 256 * 1024 * 1024


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    ok: bool
    fix: str = ""


def doctor(data: Data = None, json: Json = False) -> None:
    """Look at the data directory, the programs upstreams need, and every upstream; exit 1 on trouble.

    Example: portico doctor
    """
    directory = data_of(data)

    async def work() -> Any:
        async with administration(directory) as admin:
            return await admin.get("/status"), admin.in_process

    status, in_process = run(work)
    findings = [
        *_directory(directory),
        *_programs(status["upstreams"]),
        *(() if in_process else _upstreams(status["upstreams"])),
    ]
    if json:
        show_json(to_builtins(findings))
    else:
        for finding in findings:
            say(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what}")
            if not finding.ok:
                say(f"     {finding.fix}")
        if in_process:
            say("No hub is running here, so upstreams were not tried: portico up")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(EXIT_ERROR)


def _directory(directory: Path) -> Iterator[Finding]:
    for path, mode in ((directory, 0o700), (directory / "admin.key", 0o600)):
        found = stat.S_IMODE(path.stat().st_mode)
        yield Finding(
            f"{path} is private", found & 0o077 == 0, f"chmod {mode:o} {path} (it is {found:o})"
        )
    free = shutil.disk_usage(directory).free
    yield Finding(
        f"{free // 2**20} MiB are free for the record",
        free >= _MIN_FREE_BYTES,
        "Make room, or move the data directory (--data): a full disk refuses calls.",
    )


def _programs(upstreams: list[Any]) -> Iterator[Finding]:
    programs = {status["command"][0] for status in upstreams if status.get("command")}
    for program in sorted(programs):
        found = shutil.which(program, path=os.environ.get("PATH"))
        yield Finding(
            f"program '{program}' is there", found is not None, f"Install {program} or mend PATH."
        )


def _upstreams(upstreams: list[Any]) -> Iterator[Finding]:
    for status in upstreams:
        if status["state"] == "disabled":
            continue
        name = status["upstream"]
        yield Finding(
            f"upstream {name} is {status['state']}",
            status["state"] == "live",
            f"{status.get('error') or 'It does not answer.'} See: portico logs {name}",
        )
