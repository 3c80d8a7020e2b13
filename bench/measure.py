"""One measured run: load for a while, and what it cost in front of the upstream."""

import math
import time
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
EXPORT_S: Final = 10.0
"""Within which spans come to the collector, however few there are."""
STREAMS_S: Final = 2
"""They cost little at their pace, and CPU time is told in hundredths of a second."""
ENOUGH_PER_CONNECTION: Final = 20
"""Answers a connection should get: what is under way at the end is paid for and not counted."""


class Run(Struct, frozen=True, kw_only=True):
    """One repetition of one variant through one gateway."""

    gateway: str
    variant: str
    load: Load
    cpu_us: float
    """User and system time of the gateway's processes per answered request, or per chunk."""
    reach: float
    """Upstream requests per answered request."""
    upstream_connections: int
    """New ones during the run."""
    resident_bytes: int
    spans: float
    """Spans that reached the collector, per answered request."""


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
        self._url = gateway.url_for(variant)
        self._credentials = gateway.credentials_for(variant)
        self._upstream_url = upstream_url
        self._file = directory / f"{variant.name}-{gateway.name}.requests"
        self._seconds: int | None = None
        self._sessions = self._verified_sessions()

    def repeat(self, generator: Generator, seconds: int) -> Run:
        """Measure once. Raises Unsound where the run proves nothing, and LoadFailed."""
        if self._seconds is None:
            self._seconds = self._warm_up(generator, seconds)
        before, spans_before = stats(self._upstream_url), self._spans()
        cpu_before = self.gateway.program.cpu_s()
        load = self._drive(generator, self._seconds)
        cpu_s = self.gateway.program.cpu_s() - cpu_before
        after, spans_after = stats(self._upstream_url), self._exported(spans_before)
        answers = max(load.requests, 1)
        run = Run(
            gateway=self.gateway.name,
            variant=self.variant.name,
            load=load,
            cpu_us=cpu_s / max(load.chunks, answers) * 1e6,
            reach=(after.total - before.total) / answers,
            upstream_connections=after.connections - before.connections,
            resident_bytes=self.gateway.program.resident_bytes(),
            spans=(spans_after - spans_before) / answers,
        )
        self._check(run)
        return run

    def _drive(self, generator: Generator, seconds: int) -> Load:
        return generator.drive(
            self._url,
            self._file,
            connections=self.variant.connections,
            seconds=seconds,
            chunks=self.variant.chunks,
        )

    def _verified_sessions(self) -> list[str | None]:
        """A session for each caller, each of which got one right answer; the requests are written.

        Streams take their time and are looked into one by one later on: here it is the first alone.
        """
        sessions: list[str | None] = []
        for number in range(self.variant.connections):
            session = open_session(self._url, self.variant, self._credentials)
            if not number or not self.variant.chunks:
                verify(self._url, self.variant, session, self._credentials)
            sessions.append(session)
        write_requests(
            self._file,
            [request_of(self._url, self.variant, one, self._credentials) for one in sessions],
        )
        return sessions

    def _spans(self) -> int:
        """What the collector of the gateway's traces has counted so far; 0 without one."""
        if not self.gateway.collector_url:
            return 0
        answer = exchange("GET", f"{self.gateway.collector_url}/stats", {})
        return int(answer.message["spans"])

    def _exported(self, before: int) -> int:
        """The same after a run: few spans wait for each other in the exporter for a while."""
        deadline = time.perf_counter() + EXPORT_S
        while (spans := self._spans()) == before and self.variant.tracing:
            if not self.gateway.collector_url or time.perf_counter() > deadline:
                break
            time.sleep(0.05)
        return spans

    def _warm_up(self, generator: Generator, seconds: int) -> int:
        """Fill pools and caches; how long a run must be for what is under way not to matter.

        Streams under way are read to their end.
        """
        rate = self._drive(generator, WARM_UP_S).rate
        if self.variant.chunks:
            return seconds if self.variant.first_event else max(seconds, STREAMS_S)
        needed = ENOUGH_PER_CONNECTION * self.variant.connections / max(rate, 1)
        return min(LONGEST_S, max(seconds, math.ceil(needed)))

    def _check(self, run: Run) -> None:
        where = f"{run.variant} through {run.gateway}"
        load, variant = run.load, self.variant
        if load.errors.total or not load.requests:
            raise Unsound(f"{where}: {load.requests} answers, {load.errors} {load.fault}")
        if variant.method == "tools/call" and run.reach < 1:
            raise Unsound(f"{where}: only {run.reach:.3f} of the answers came from the upstream")
        if load.chunks != load.requests * variant.chunks:
            raise Unsound(f"{where}: {load.chunks} chunks in {load.requests} streams")
        if self.gateway.collector_url and bool(variant.tracing) != bool(run.spans):
            raise Unsound(f"{where}: {run.spans:.3f} spans for each answer, of {variant.tracing}")
        if not variant.chunks:
            verify(self._url, variant, self._sessions[0], self._credentials)


def stats(upstream_url: str) -> Seen:
    """What the upstream has counted so far."""
    answer = exchange("GET", upstream_url.replace("/mcp", "/stats"), {})
    return msgspec.convert(answer.message, Seen)
