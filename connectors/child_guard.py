"""The watchdog program: ends the process groups of a process that is gone, ``kill -9`` included.

Started once per hub by :mod:`connectors.child_groups` as ``python -I -S child_guard.py``, with a pipe
as standard input that nobody else holds. Lines ``+PGID`` and ``-PGID`` add and remove a group; at
the end of input every group left gets SIGTERM, those still there after two seconds SIGKILL. It
imports the standard library only, ignores the signals a terminal or an init sends to the hub, says
``ready`` when it does, and ends with its work.
"""

import os
import signal
import sys
import time
from contextlib import suppress

GRACE_S = 2.0
_LOOK_AGAIN_S = 0.02
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def watch(descriptor: int) -> set[int]:
    """Read lines until the other end is closed; the groups that were not removed."""
    groups: set[int] = set()
    rest = b""
    while chunk := os.read(descriptor, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            group = int(line[1:])
            if line.startswith(b"+"):
                groups.add(group)
            else:
                groups.discard(group)
    return groups


def end(groups: set[int]) -> None:
    """Ask the groups to go, then make them."""
    left = {group for group in groups if _signal(group, signal.SIGTERM)}
    for group in left:
        _signal(group, signal.SIGCONT)
    give_up = time.monotonic() + GRACE_S
    while left and time.monotonic() < give_up:
        time.sleep(_LOOK_AGAIN_S)
        left = {group for group in left if _signal(group, 0)}
    for group in left:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Signal a group; False when none of it is left, or it is not ours."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    with suppress(BrokenPipeError):  # the hub may be gone already, and its children not
        os.write(sys.stdout.fileno(), b"ready\n")
    end(watch(sys.stdin.fileno()))
