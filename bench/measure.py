"""One measured run: load for a while, and what it cost in front of the upstream."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from bench.calls import request_of, write_requests
from bench.errors import Unsound
from bench.exchange import exchange, open_session, verify
from bench.gateways import Gateway
from bench.load import Generator, Load
from bench.variants import Variant

WARM_UP_S: Final = 1
LONGEST_S: Final = 10
ENOUGH_PER_CONNECTION: Final = 20
"""Answers a connection should get: what is under way at the end is paid for and not counted."""


class Run(Struct, frozen=True, kw_only=True):
    """One repetition of one variant through one gateway."""

    gateway: str
    variant: str
    load: Load
    cpu_us: float
    """User and system time of the gateway's processes per answered request."""
    reach: float
    """Upstream requests per answered request."""
    upstream_connections: int
    """New ones during the run."""
    resident_bytes: int


class Seen(Struct, frozen=True):
    """The upstream's count."""

    requests: Mapping[str, int]
    connections: int

    @property
    def total(self) -> int:
        return sum(self.requests.values())


class Case:
    """A variant through a gateway, ready to be repeated: sessions open, answers verified."""

    def __init__(
        self, gateway: Gateway, variant: Variant, upstream_url: str, directory: Path
    ) -> None:
        self.gateway = gateway
        self.variant = variant
        self._upstream_url = upstream_url
        self._file = directory / f"{variant.name}-{gateway.name}.requests"
        self._seconds: int | None = None
        self._sessions = self._verified_sessions()

    def repeat(self, generator: Generator, seconds: int) -> Run:
        """Measure once. Raises Unsound where the run proves nothing, and LoadFailed."""
        if self._seconds is None:
            self._seconds = self._warm_up(generator, seconds)
        before, cpu_before = stats(self._upstream_url), self.gateway.program.cpu_s()
        load = self._drive(generator, self._seconds)
        cpu_s = self.gateway.program.cpu_s() - cpu_before
        after = stats(self._upstream_url)
        run = Run(
            gateway=self.gateway.name,
            variant=self.variant.name,
            load=load,
            cpu_us=cpu_s / max(load.requests, 1) * 1e6,
            reach=(after.total - before.total) / max(load.requests, 1),
            upstream_connections=after.connections - before.connections,
            resident_bytes=self.gateway.program.resident_bytes(),
        )
        self._check(run)
        return run

    def _drive(self, generator: Generator, seconds: int) -> Load:
        connections = self.variant.connections
        return generator.drive(
            self.gateway.url, self._file, connections=connections, seconds=seconds
        )

    def _verified_sessions(self) -> list[str | None]:
        """A session for each caller, each of which got one right answer; the requests are written."""
        gateway, variant = self.gateway, self.variant
        sessions = []
        for _ in range(variant.connections):
            session = open_session(gateway.url, variant, gateway.credentials)
            verify(gateway.url, variant, session, gateway.credentials)
            sessions.append(session)
        write_requests(
            self._file,
            [request_of(gateway.url, variant, one, gateway.credentials) for one in sessions],
        )
        return sessions

    def _warm_up(self, generator: Generator, seconds: int) -> int:
        """Fill pools and caches; how long a run must be for what is under way not to matter."""
        rate = self._drive(generator, WARM_UP_S).rate
        needed = ENOUGH_PER_CONNECTION * self.variant.connections / max(rate, 1)
        return min(LONGEST_S, max(seconds, math.ceil(needed)))

    def _check(self, run: Run) -> None:
        where = f"{run.variant} through {run.gateway}"
        if run.load.errors.total or not run.load.requests:
            raise Unsound(f"{where}: {run.load.requests} answers, {run.load.errors}")
        if self.variant.method == "tools/call" and run.reach < 1:
            raise Unsound(f"{where}: only {run.reach:.3f} of the answers came from the upstream")
        verify(self.gateway.url, self.variant, self._sessions[0], self.gateway.credentials)


def stats(upstream_url: str) -> Seen:
    """What the upstream has counted so far."""
    answer = exchange("GET", upstream_url.replace("/mcp", "/stats"), {})
    return msgspec.convert(answer.message, Seen)
