"""What stands in front of the upstream: the floor, Portico, and the peers."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from msgspec import Struct

from bench.errors import NotStarted, Unsound
from bench.exchange import verify
from bench.floor import FloorName, running_floor
from bench.processes import Cores, Program, await_port, free_port, module, running
from bench.variants import VARIANTS, Variant
from mcp_wire.revisions import Era

PORTICO: Final = "portico"
PLAIN: Final = "portico-plain"
"""Portico with the fast lane closed."""
RULED: Final = "portico-rules"
"""Portico with limits, a budget and three guardrails on each call, counted in its process."""
SHARED: Final = "portico-redis"
"""The same, counted in Redis."""
PORTICOS: Final = (PORTICO, PLAIN, RULED, SHARED)
DIRECT: Final = "direct"
"""Nothing in front of the upstream."""
PEERS: Final[Mapping[str, tuple[str, ...]]] = {
    "sdk": ("bench.peers.sdk_gateway",),
    "fastmcp-shared": ("bench.peers.fastmcp_proxy", "--client", "shared"),
    "fastmcp": ("bench.peers.fastmcp_proxy", "--client", "default"),
}
"""By name: module and arguments."""
READY_S: Final = 20.0
_PORTICO: Final = str(Path(sys.executable).with_name("portico"))
# 'default' is open to callers without a key; those who send one are who it says, and need the grant.
_CONFIGURATION: Final = """\
version: 1
server: {{fast_lane: {fast}}}
record: {{level: written}}
telemetry: {telemetry}
redis: {redis}
upstreams:
  measured: {{url: "{upstream}"}}
virtual_servers: {{default: {{anonymous: true}}}}
principals: {{caller: {{kind: service}}}}
groups: {{callers: {{members: [caller]}}}}
grants:
  - {{group: callers, virtual_server: default}}
"""
# So much of everything that nothing is ever refused: what is measured is asking.
_RULES: Final = """\
guardrails:
  - {name: secrets, check: secrets, on: [request, response], action: redact, attach: {tenant: default}}
  - {name: people, check: personal_data, on: [request, response], action: redact, attach: {tenant: default}}
  - {name: shape, check: json_schema, on: [request], action: block, attach: {tenant: default}}
limits:
  - {name: burst, rate: "100000000/s", per: principal, attach: {tenant: default}}
  - {name: day, quota: "100000000000/day", per: group, attach: {group: callers}}
  - {name: width, concurrency: 10000, per: key, attach: {tenant: default}}
prices: [{upstream: measured, per_call: "0.000001 USD"}]
budgets:
  - {name: month, amount: "100000000.00 USD", period: month, per: group, attach: {group: callers}}
"""


class Gateway(Struct, frozen=True, kw_only=True):
    """One running program that is measured."""

    name: str
    url: str
    program: Program
    stream_url: str = ""
    """Where it passes on events as they come, if that is another place."""
    credentials: Mapping[str, str] = {}
    """Headers of each request with a key."""
    collector_url: str = ""
    """Who gets its traces; empty where it makes none."""

    def url_for(self, variant: Variant) -> str:
        """Where the variant's requests go."""
        return self.stream_url or self.url if variant.chunks else self.url

    def credentials_for(self, variant: Variant) -> Mapping[str, str]:
        """The headers that say who calls."""
        return self.credentials if variant.key else {}


class Start(Struct, frozen=True):
    """What a start of Portico takes; medians."""

    ready_s: float
    """From the start of the process, with a new data directory, until it says that it is ready."""
    idle_mb: float
    """Resident memory before the first call, in millions of bytes."""


class Gateways:
    """Starts what is asked for, once, and ends all of it when the block is left."""

    def __init__(self, upstream_url: str, *, cores: Cores, directory: Path) -> None:
        self._upstream_url = upstream_url
        self._cores = cores
        self._directory = directory
        self._running: dict[tuple[str, str], Gateway] = {}
        self._failed: set[tuple[str, str]] = set()
        self._collector: Program | None = None
        self._redis = ""
        self._starts = 0
        self._stack = ExitStack()

    def __enter__(self) -> "Gateways":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, name: str, variant: Variant) -> Gateway:
        """The gateway of that name, as the variant needs it. Raises NotStarted or Unsound.

        Peers that keep one upstream session run once for each era, so that the era is the same on
        both sides as it is for all others; Portico runs once for each share of calls it traces.
        What is not Portico gets the key of Portico's callers, as requests are the same to all.
        """
        key = (name, _needs(name, variant))
        if key in self._failed:
            raise NotStarted("it did not start before")
        if key not in self._running:
            self._failed.add(key)
            self._running[key] = self._stack.enter_context(self._start(name, variant))
            self._failed.discard(key)
        return self._running[key]

    def measured_start(self, count: int) -> Start:
        """Start Portico so many times, one after the other. Raises NotStarted."""
        seen: list[tuple[float, int]] = []
        for _ in range(count):
            with self._up(PORTICO, None) as (program, _data):
                seen.append((program.start_s, program.resident_bytes()))
        return Start(median(one[0] for one in seen), median(one[1] for one in seen) / 1e6)

    def _start(self, name: str, variant: Variant) -> AbstractContextManager[Gateway]:
        if name in PORTICOS:
            return self._portico(name, variant.tracing)
        credentials = self.get(PORTICO, variant).credentials
        if name in PEERS:
            return self._peer(name, variant.era, credentials)
        return self._floor(name, credentials)

    @contextmanager
    def _floor(self, name: str, credentials: Mapping[str, str]) -> Iterator[Gateway]:
        kind: FloorName = "nginx" if name == "nginx" else "null"
        started = running_floor(
            kind, self._upstream_url, core=self._cores.gateway, directory=self._directory
        )
        with started as floor:
            yield Gateway(
                name=name,
                url=floor.url,
                stream_url=floor.stream_url,
                program=floor.program,
                credentials=credentials,
            )

    @contextmanager
    def _peer(self, name: str, era: Era, credentials: Mapping[str, str]) -> Iterator[Gateway]:
        program_name, *arguments = PEERS[name]
        mode = "legacy" if era == "legacy" else "auto"
        command = module(program_name, self._upstream_url, "--mode", mode, *arguments)
        log = self._directory / f"{name}-{era}.log"
        with running(command, core=self._cores.gateway, log=log) as program:
            yield Gateway(
                name=name, url=program.ready["url"], program=program, credentials=credentials
            )

    @contextmanager
    def _portico(self, name: str, tracing: float | None) -> Iterator[Gateway]:
        with self._up(name, tracing) as (program, data):
            gateway = Gateway(
                name=name,
                url=program.ready["url"],
                program=program,
                credentials=_credentials(data),
                collector_url="" if tracing is None else self._collector_url(),
            )
            _await_answer(gateway, VARIANTS["modern-call"])
            yield gateway

    @contextmanager
    def _up(self, name: str, tracing: float | None) -> Iterator[tuple[Program, Path]]:
        """Portico with a data directory of its own, as an operator starts it."""
        self._starts += 1
        place = self._directory / f"{name}-{self._starts}"
        configuration, data = place.with_suffix(".yaml"), place.with_suffix(".data")
        telemetry = {}
        if tracing is not None:
            telemetry = {"otlp_endpoint": self._collector_url(), "sample_ratio": tracing}
        text = _CONFIGURATION.format(
            upstream=self._upstream_url,
            fast="false" if name == PLAIN else "true",
            telemetry=json.dumps(telemetry),
            redis=json.dumps({"url": self._redis_url()} if name == SHARED else {}),
        )
        if name in (RULED, SHARED):
            text += _RULES
        configuration.write_text(text, encoding="utf-8")
        command = [_PORTICO, "up", "--config", str(configuration), "--data", str(data)]
        command += ["--port", "0", "--json"]
        log = place.with_suffix(".log")
        with running(command, core=self._cores.gateway, log=log) as program:
            yield program, data

    def _redis_url(self) -> str:
        """Redis on the core of the upstream, started when it is needed first. Raises NotStarted."""
        if not self._redis:
            program = shutil.which("redis-server")
            if program is None:
                raise NotStarted("there is no redis-server; scripts/install_redis.sh installs it")
            port = free_port()
            command = [program, "--port", f"{port}", "--bind", "127.0.0.1", "--save", ""]
            log = self._directory / "redis.log"
            started = running(command, core=self._cores.load, log=log, announces=False)
            self._stack.enter_context(started)
            await_port(port)
            self._redis = f"redis://127.0.0.1:{port}/0"
        return self._redis

    def _collector_url(self) -> str:
        """Who takes traces; started when it is needed first, on the core of the upstream."""
        if self._collector is None:
            log = self._directory / "collector.log"
            started = running(module("bench.collector"), core=self._cores.load, log=log)
            self._collector = self._stack.enter_context(started)
        url: str = self._collector.ready["url"]
        return url


def _needs(name: str, variant: Variant) -> str:
    """What a gateway of that name has to be started with, apart from what they all have."""
    if name in PEERS:
        return variant.era
    return f"{variant.tracing}" if name in PORTICOS else ""


def _credentials(data: Path) -> dict[str, str]:
    """A key of the configured principal, made the way an operator makes it."""
    command = [_PORTICO, "key", "create", "--principal", "caller", "--data", str(data), "--json"]
    done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8")
    if done.returncode != 0:
        raise NotStarted(f"portico key create: {done.stderr.strip()}")
    return {"Authorization": f"Bearer {json.loads(done.stdout)['key']}"}


def _await_answer(gateway: Gateway, variant: Variant) -> None:
    """Wait until callers with the key and without it get an answer. Raises Unsound when it takes too long."""
    deadline = time.perf_counter() + READY_S
    while True:
        try:
            verify(gateway.url, variant, None, gateway.credentials)
            verify(gateway.url, variant, None, {})
        except Unsound:
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
