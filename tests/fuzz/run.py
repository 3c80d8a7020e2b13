"""Long runs of every target, one after the other: ``python -m tests.fuzz.run --minutes 10``.

What led to new code is kept in ``.fuzz/`` and taken up again by the next run. A finding is put into
the corpus, where the tests see it from then on; its reproducer is printed, and the exit status is 1.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct

from tests.fuzz.target import CORPUS
from tests.fuzz.targets import WHERE
from tests.project import ROOT

FOUND_BEFORE: Final = ROOT / ".fuzz"
GRACE_S: Final = 120
"""How much longer than asked a worker may take: it begins by reading the corpus."""
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units: (\d+)")
_COVERED: Final = re.compile(r"cov: (\d+)")


class Outcome(Struct, frozen=True):
    """How one target did."""

    target: str
    executions: int
    covered: int
    """Places in the code that were reached; 0 where nobody looked."""
    findings: tuple[Path, ...]
    failed: bool


def main() -> int:
    """Fuzz, tell, and say by the exit status whether there is something to mend."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    given = parser.parse_args()
    targets = given.target or list(WHERE)
    if unknown := set(targets) - set(WHERE):
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(WHERE)}")
    modes = ["alone", "guided"] if importlib.util.find_spec("atheris") else ["alone"]
    seconds = max(1, round(given.minutes * 60 / len(targets) / len(modes)))
    outcomes = [_fuzzed(target, seconds, mode) for target in targets for mode in modes]
    for outcome in outcomes:
        reached = f", {outcome.covered} places reached" if outcome.covered else ""
        _say(f"{outcome.target:16} {outcome.executions:>10,} executions{reached}")
        for finding in outcome.findings:
            _say(f"  finding: {finding.relative_to(ROOT)}")
            _say(f"  again:   .venv/bin/pytest tests/fuzz -k '{finding.name}'")
    _say(f"{sum(outcome.executions for outcome in outcomes):,} executions in all")
    return int(any(outcome.failed for outcome in outcomes))


def _fuzzed(target: str, seconds: int, mode: str) -> Outcome:
    folder = FOUND_BEFORE / target
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.worker", target, str(seconds), str(folder), mode]
    _say(f"== {target}, {mode}: {seconds} s")
    # A worker that hangs in C code is past every alarm of its own.
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + GRACE_S,
            check=False,
        )
        output, status = done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as late:
        output, status = (late.stdout or b"").decode(errors="replace"), -1
    findings = tuple(_kept(target, path) for path in sorted(folder.iterdir()) if _is_finding(path))
    if status != 0 or findings:
        _say(output[-6000:])
    executed = _EXECUTED.findall(output)
    covered = _COVERED.findall(output)
    return Outcome(
        target,
        int(executed[-1]) if executed else 0,
        int(covered[-1]) if covered else 0,
        findings,
        failed=status != 0 or bool(findings),
    )


def _is_finding(path: Path) -> bool:
    kind, mark, _ = path.name.partition("-")
    return bool(mark) and kind in {"crash", "oom", "timeout", "leak"}


def _kept(target: str, finding: Path) -> Path:
    """The finding as a file of the corpus, named by what it holds."""
    name = f"found_{sha256(finding.read_bytes()).hexdigest()[:10]}"
    return Path(shutil.move(finding, CORPUS / target / name))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
