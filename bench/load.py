"""Driving load: ``wrk`` where it is installed, else our own generator once it proved itself.

Streams are read by a generator of our own in any case.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from bench.errors import LoadFailed
from bench.processes import ROOT, module, pinned

NULL_RUN_FACTOR: Final = 3.0
"""How much faster than what is measured a generator has to be."""

GeneratorName = Literal["wrk", "own"]


class Errors(Struct, frozen=True):
    """What went wrong in a run, counted."""

    connect: int = 0
    read: int = 0
    write: int = 0
    timeout: int = 0
    status: int = 0
    """Answers that were neither 2xx nor 3xx."""
    incomplete: int = 0
    """Streams with a chunk missing, twice, out of turn or another's, or without their result."""

    @property
    def total(self) -> int:
        failed = self.connect + self.read + self.write + self.timeout
        return failed + self.status + self.incomplete


class Load(Struct, frozen=True):
    """One run, as the generator saw it."""

    requests: int
    """Answered ones."""
    duration_us: int
    bytes: int
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float
    errors: Errors
    chunks: int = 0
    """Of complete streams."""
    first_p50_us: float = 0.0
    """To the first event of a stream."""
    fault: str = ""
    """The first thing that went wrong, where the generator tells."""

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return self.requests / self.duration_us * 1e6


class Generator(Struct, frozen=True):
    """A load generator on its core."""

    name: GeneratorName
    core: int | None

    def drive(
        self, url: str, requests: Path, *, connections: int, seconds: int, chunks: int = 0
    ) -> Load:
        """Keep ``connections`` requests of the file under way for ``seconds``.

        With ``chunks`` each answer is a stream of as many before its result, which wrk cannot check;
        our own generator does. Raises LoadFailed.
        """
        if chunks:
            command = _own("bench.streams", url, requests, connections, seconds)
            command += ["--chunks", str(chunks)]
        else:
            command = self._command(url, requests, connections, seconds)
        done = subprocess.run(
            pinned(command, self.core), cwd=ROOT, capture_output=True, check=False, encoding="utf-8"
        )
        summary = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not summary:
            raise LoadFailed(f"{command[0]}: {(done.stderr or done.stdout).strip()[-1000:]}")
        return msgspec.json.decode(summary[-1], type=Load)

    def _command(self, url: str, requests: Path, connections: int, seconds: int) -> list[str]:
        if self.name == "wrk":
            return [
                *("wrk", "--threads", "1", "--timeout", "30s", "--script", "bench/wrk.lua"),
                *("--connections", str(connections), "--duration", f"{seconds}s"),
                *(url, "--", str(requests)),
            ]
        return _own("bench.generator", url, requests, connections, seconds)


def _own(name: str, url: str, requests: Path, connections: int, seconds: int) -> list[str]:
    address = urlsplit(url)
    return module(
        name,
        *(str(address.hostname), str(address.port), str(requests)),
        *("--connections", str(connections), "--seconds", str(seconds)),
    )


def choose() -> GeneratorName:
    """The best generator this machine has."""
    return "wrk" if shutil.which("wrk") else "own"


def is_fast_enough(null_run: Load, measured: Load) -> bool:
    """Whether a generator that reached ``null_run`` without a gateway can tell ``measured``'s rate.

    Where it cannot, calls per second are a lower bound; CPU per call stands all the same.
    """
    return null_run.rate >= NULL_RUN_FACTOR * measured.rate
