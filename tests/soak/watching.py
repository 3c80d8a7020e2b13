"""What a running Portico holds: memory, sockets, children, and calls that wait upstream."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final
from urllib.request import ProxyHandler, build_opener

import psutil
from msgspec import Struct

MIB: Final = 2**20
WARM_UP: Final = 0.34
"""Share of the run after which memory must be flat: caches are full, every path was taken."""
MAX_GROWTH: Final = 0.03
MAX_GROWTH_BYTES: Final = 6 * MIB
"""What the last quarter may be above the first one after the warm-up, beside three in a hundred."""
KEPT_S: Final = 300.0
"""How long Portico keeps answers that clients may fetch again; a shorter warm-up ends before that."""
STILL_FILLING_BYTES: Final = 12 * MIB
"""What it may grow on top of that meanwhile."""


class Sample(Struct, frozen=True):
    """One look."""

    at_s: float
    rss_bytes: int
    sockets: int
    children: int
    under_way: int
    """Calls the upstreams over HTTP are working on."""
    asking: int
    """Of those, how many wait for an answer to their question: parked, or asked in the legacy way."""


class Watch:
    """Looks at one process."""

    def __init__(self, pid: int, stats_url: str) -> None:
        self._process = psutil.Process(pid)
        self._stats_url = stats_url
        self._began = monotonic()
        self._opener = build_opener(ProxyHandler({}))

    @property
    def children(self) -> list[psutil.Process]:
        """Everything the process has started, and what that has started."""
        return self._process.children(recursive=True)

    def look(self) -> Sample:
        """How it is now. Blocks for a few milliseconds."""
        with self._opener.open(self._stats_url, timeout=5) as answer:
            stats = json.load(answer)
        return Sample(
            at_s=round(monotonic() - self._began, 1),
            rss_bytes=self._process.memory_info().rss,
            sockets=self._sockets(),
            children=len(self.children),
            under_way=stats["under_way"],
            asking=stats["asking"],
        )

    def _sockets(self) -> int:
        found = 0
        for link in Path(f"/proc/{self._process.pid}/fd").iterdir():
            try:
                found += str(link.readlink()).startswith("socket:")
            except FileNotFoundError:
                continue
        return found


class Growth(Struct, frozen=True):
    """Memory after the warm-up: medians of the first quarter and of the last."""

    first_bytes: int
    last_bytes: int
    is_short: bool
    """Whether the warm-up was too short for everything to be full."""

    @property
    def allowed_bytes(self) -> int:
        more = STILL_FILLING_BYTES if self.is_short else 0
        return int(self.first_bytes * (1 + MAX_GROWTH)) + MAX_GROWTH_BYTES + more

    @property
    def is_flat(self) -> bool:
        return self.last_bytes <= self.allowed_bytes


def growth(samples: Sequence[Sample]) -> Growth:
    """How memory grew once the run was warm."""
    warm = [sample.rss_bytes for sample in samples[int(len(samples) * WARM_UP) :]]
    quarter = max(len(warm) // 4, 1)
    first, last = statistics.median(warm[:quarter]), statistics.median(warm[-quarter:])
    lasted_s = samples[-1].at_s - samples[0].at_s
    return Growth(int(first), int(last), lasted_s * WARM_UP < KEPT_S)
