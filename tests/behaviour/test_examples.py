"""Each example folder is a program that asserts what it shows."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/run.py"))


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_runs_and_its_assertions_hold(program: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (program.parent / "README.md").exists()
