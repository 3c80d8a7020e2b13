"""A short soak; `make soak` is the long one."""

import json
import sys
from pathlib import Path

import anyio
import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.anyio, pytest.mark.alone]


async def test_clients_and_upstreams_that_fail_at_random_leave_nothing_behind() -> None:
    words = [sys.executable, "-m", "tests.soak.soak", "--clients", "30", "--minutes", "0.2"]
    with anyio.fail_after(120):
        done = await anyio.run_process([*words, "--json"], check=False, cwd=ROOT)
    assert done.stdout, done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["calls"]["ok"] > 100
    assert report["entries"]["ok"] > 100
