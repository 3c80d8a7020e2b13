"""One target, fuzzed in a process: ``python -m tests.fuzz.worker TARGET SECONDS FOLDER guided|alone``.

``guided``: by coverage, with atheris; ``alone``: blows to the corpus, which are far more in the same
time. FOLDER keeps what led to new code, for the next run; a finding is written there as ``crash-…``
and ends the process with a status that is not 0. The output says how many inputs were tried.
"""

import importlib
import sys
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import named

PACKAGES: Final = ["hub", "connectors", "mcp_wire"]
"""What is watched for new code; the rest is not ours."""
SLOW_S: Final = 20
MEMORY_MB: Final = 1024


def guided(name: str, seconds: int, folder: Path) -> None:
    """Fuzz until the time is up or something is found. Ends the process."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=PACKAGES, enable_loader_override=False):
        target = named(name)
    seeds = [path.read_bytes() for path in target.corpus]

    def blow(data: bytes, max_size: int, seed: int) -> bytes:
        draw = _drawing(seed)
        if draw.random() < 0.4:
            return bytes(atheris.Mutate(data, max_size))
        return mutated(data, draw, target.words, seeds)[:max_size]

    options = [
        f"-max_total_time={seconds}",
        f"-max_len={target.max_bytes}",
        f"-timeout={SLOW_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        "-close_fd_mask=0",
        str(folder),
        str(target.corpus[0].parent),
    ]
    with target.opened() as check:
        atheris.Setup([sys.argv[0], *options], _told(check), custom_mutator=blow)
        atheris.Fuzz()


def _told(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The same check; where it fails, the reason is printed before the fuzzer ends the process."""

    def told(data: bytes) -> None:
        try:
            check(bytes(data))
        except Exception:
            traceback.print_exc()
            raise

    return told


def alone(name: str, seconds: int, folder: Path) -> None:
    """The same without looking at coverage. Raises what was found."""
    target = named(name)
    seeds = [path.read_bytes() for path in target.corpus]
    draw = _drawing(int(monotonic() * 1000))
    until, executions = monotonic() + seconds, 0
    with target.opened() as check:
        while monotonic() < until:
            data = mutated(draw.choice(seeds), draw, target.words, seeds)[: target.max_bytes]
            executions += 1
            began = monotonic()
            try:
                check(data)
                assert monotonic() - began < SLOW_S, "too slow"
            except Exception:
                traceback.print_exc()
                (folder / f"crash-{sha256(data).hexdigest()}").write_bytes(data)
                raise
    sys.stdout.write(f"stat::number_of_executed_units: {executions}\n")


def _drawing(seed: int) -> Random:
    return Random(seed)  # noqa: S311 -- inputs of a fuzzer need no secrecy


if __name__ == "__main__":
    {"guided": guided, "alone": alone}[sys.argv[4]](
        sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    )
