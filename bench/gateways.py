"""What stands in front of the upstream: the floor, Portico, and the peers."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench.errors import NotStarted, Unsound
from bench.exchange import verify
from bench.floor import FloorName, running_floor
from bench.processes import Program, module, running
from bench.variants import VARIANTS, Variant
from mcp_wire.revisions import Era

PORTICO: Final = "portico"
PLAIN: Final = "portico-plain"
"""Portico with the fast lane closed."""
PEERS: Final[Mapping[str, tuple[str, ...]]] = {
    "sdk": ("bench.peers.sdk_gateway",),
    "fastmcp-shared": ("bench.peers.fastmcp_proxy", "--client", "shared"),
    "fastmcp": ("bench.peers.fastmcp_proxy", "--client", "default"),
}
"""By name: module and arguments."""
READY_S: Final = 20.0
_PORTICO: Final = str(Path(sys.executable).with_name("portico"))
_CONFIGURATION: Final = """\
version: 1
server: {{fast_lane: {fast}}}
upstreams:
  measured: {{url: "{upstream}"}}
principals: {{caller: {{kind: service}}}}
groups: {{callers: {{members: [caller]}}}}
grants:
  - {{group: callers, virtual_server: default}}
"""


class Gateway(Struct, frozen=True):
    """One running program that is measured."""

    name: str
    url: str
    program: Program
    credentials: Mapping[str, str] = {}
    """Headers of each request to it."""
    idle_bytes: int = 0
    """Resident memory before the first call."""


class Gateways:
    """Starts what is asked for, once, and ends all of it when the block is left."""

    def __init__(self, upstream_url: str, *, core: int | None, directory: Path) -> None:
        self._upstream_url = upstream_url
        self._core = core
        self._directory = directory
        self._running: dict[tuple[str, Era | None], Gateway] = {}
        self._failed: set[tuple[str, Era | None]] = set()
        self._stack = ExitStack()

    def __enter__(self) -> "Gateways":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, name: str, era: Era) -> Gateway:
        """The gateway of that name, for callers of that era. Raises NotStarted or Unsound.

        Peers that keep one upstream session run once for each era, so that the era is the same on
        both sides as it is for all others.
        """
        key = (name, era if name in PEERS else None)
        if key in self._failed:
            raise NotStarted("it did not start before")
        if key not in self._running:
            self._failed.add(key)
            self._running[key] = self._stack.enter_context(self._start(name, era))
            self._failed.discard(key)
        return self._running[key]

    def started(self, name: str) -> Gateway | None:
        """The gateway of that name that was started first, if any was."""
        return next((gateway for gateway in self._running.values() if gateway.name == name), None)

    def _start(self, name: str, era: Era) -> AbstractContextManager[Gateway]:
        if name in (PORTICO, PLAIN):
            return self._portico(name)
        return self._peer(name, era) if name in PEERS else self._floor(name)

    @contextmanager
    def _floor(self, name: str) -> Iterator[Gateway]:
        kind: FloorName = "nginx" if name == "nginx" else "null"
        floor = running_floor(kind, self._upstream_url, core=self._core, directory=self._directory)
        with floor as (url, program):
            yield Gateway(name, url, program)

    @contextmanager
    def _peer(self, name: str, era: Era) -> Iterator[Gateway]:
        program_name, *arguments = PEERS[name]
        mode = "legacy" if era == "legacy" else "auto"
        command = module(program_name, self._upstream_url, "--mode", mode, *arguments)
        log = self._directory / f"{name}-{era}.log"
        with running(command, core=self._core, log=log) as program:
            yield Gateway(name, program.ready["url"], program)

    @contextmanager
    def _portico(self, name: str) -> Iterator[Gateway]:
        configuration = self._directory / f"{name}.yaml"
        fast = "true" if name == PORTICO else "false"
        text = _CONFIGURATION.format(upstream=self._upstream_url, fast=fast)
        configuration.write_text(text, encoding="utf-8")
        data = str(self._directory / f"{name}-data")
        command = [_PORTICO, "up", "--config", str(configuration), "--data", data]
        command += ["--port", "0", "--json"]
        log = self._directory / f"{name}.log"
        with running(command, core=self._core, log=log) as program:
            idle = program.resident_bytes()
            gateway = Gateway(name, program.ready["url"], program, _credentials(data), idle)
            _await_answer(gateway, VARIANTS["modern-call"])
            yield gateway


def _credentials(data: str) -> dict[str, str]:
    """A key of the configured principal, made the way an operator makes it."""
    command = [_PORTICO, "key", "create", "--principal", "caller", "--data", data, "--json"]
    done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8")
    if done.returncode != 0:
        raise NotStarted(f"portico key create: {done.stderr.strip()}")
    return {"Authorization": f"Bearer {json.loads(done.stdout)['key']}"}


def _await_answer(gateway: Gateway, variant: Variant) -> None:
    """Wait until the key is known and the upstream listed. Raises Unsound when it takes too long."""
    deadline = time.perf_counter() + READY_S
    while True:
        try:
            verify(gateway.url, variant, None, gateway.credentials)
        except Unsound:
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
