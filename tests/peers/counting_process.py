"""A process that counts in Redis as the hub does, told what to do line by line; it can be killed.

``python -m tests.peers.counting_process FOLDER SETTINGS`` keeps what calls were charged in a file of
FOLDER, which stands for the ledger, and reads one JSON object a line:

``{"do": "state"}``            how it stands with Redis
``{"do": "take", …}``          ``callers`` at once make ``calls`` each, or as many as there is room for,
                               with ``counters``, reserving and spending the ``micros`` in turn;
                               ``keep``: none of them ends
``{"do": "end"}``              all that were kept end
"""

import os
import sys
from collections import Counter as Tally
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count, cycle
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from hub.domain.metering import Counter, Hold, Spent
from hub.domain.outcome import Refusal
from hub.metering.meter import Meter
from hub.metering.shared import SharedCounting, SharedSettings

_PAUSE_S = 0.002


class Worker:
    def __init__(self, folder: Path, settings: SharedSettings) -> None:
        self._folder = folder
        self._charges = (folder / f"{os.getpid()}.charges").open("ab", buffering=0)
        self.counting = SharedCounting(settings, now, self.spent)
        self._meter = Meter(self.counting, now)
        self._kept: list[tuple[Hold, int]] = []
        self._numbers = count()

    async def spent(self) -> Mapping[str, Spent]:
        """What all processes have charged."""
        calls: Tally[str] = Tally()
        micros: Tally[str] = Tally()
        for path in self._folder.glob("*.charges"):
            for line in path.read_text(encoding="utf-8").splitlines():
                key, micro = line.rsplit(" ", 1)
                calls[key] += 1
                micros[key] += int(micro)
        return {key: Spent(calls=calls[key], micro=micros[key]) for key in calls}

    async def take(self, told: Mapping[str, Any]) -> dict[str, Any]:
        counters = msgspec.convert(told["counters"], tuple[Counter, ...])
        micros = cycle(told.get("micros", [0]))
        found: dict[str, Any] = {"allowed": 0, "spent": 0, "unreachable": 0, "slowest": 0.0}
        found["times"] = []

        async def caller() -> None:
            for _ in range(told["calls"]):
                if not await self._call(
                    counters, next(micros), found, keep=told.get("keep", False)
                ):
                    return

        async with anyio.create_task_group() as callers:
            for _ in range(told["callers"]):
                callers.start_soon(caller)
        return found

    def end(self) -> dict[str, Any]:
        for held, micro in self._kept:
            self._ended(held, micro)
        self._kept.clear()
        return {}

    async def _call(
        self, counters: tuple[Counter, ...], micro: int, found: dict[str, Any], *, keep: bool
    ) -> bool:
        """One call, tried again while somebody's end or Redis may make room; False: there is none."""
        while True:
            began = monotonic()
            try:
                call = f"{os.getpid()}-{next(self._numbers)}"
                held = await self._meter.reserved(call, counters, micro)
            except Refusal as refusal:
                found["slowest"] = max(found["slowest"], monotonic() - began)
                told = msgspec.json.decode(refusal.data or b"{}")
                is_away = "unreachable" in told
                found["unreachable"] += is_away
                if keep or not (is_away or "at the same time" in refusal.message):
                    return False
                await anyio.sleep(_PAUSE_S)
                continue
            break
        answered = monotonic()
        found["allowed"] += 1
        found["spent"] += micro
        if keep:
            self._kept.append((held, micro))
            return True
        await anyio.lowlevel.checkpoint()
        found["times"].append((answered, monotonic()))
        self._ended(held, micro)
        return True

    def _ended(self, held: Hold, micro: int) -> None:
        lines = [f"{one.key} {micro}\n" for one in held.counters if one.period is not None]
        self._charges.write("".join(lines).encode())
        self._meter.settle(held, micro)


def now() -> datetime:
    return datetime.now(UTC)


async def main(folder: Path, settings: SharedSettings) -> None:
    worker = Worker(folder, settings)
    async with worker.counting.running():
        async for line in anyio.wrap_file(sys.stdin):
            told = msgspec.json.decode(line)
            answer: dict[str, Any] = {}
            if told["do"] == "take":
                answer = await worker.take(told)
            elif told["do"] == "end":
                answer = worker.end()
            state = {"shared": worker.counting.is_shared, "processes": worker.counting.processes}
            sys.stdout.write(msgspec.json.encode({**answer, **state}).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=SharedSettings))
