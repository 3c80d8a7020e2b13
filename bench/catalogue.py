"""A large catalogue for many principals: how long lists take, when changes show, what it weighs.

    .venv/bin/python bench/catalogue.py --json

Everything runs in this process and through the pipeline with all its stages, the record on disk
included; upstreams are synthetic, so that nothing but the catalogue is measured. Exit status: 0
within the limits, 3 when one is exceeded.
"""

import argparse
import gc
import random
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from time import monotonic, perf_counter, thread_time
from typing import Any, Final

import anyio
import anyio.lowlevel
import msgspec
import psutil
from msgspec import Raw, Struct

from bench.document import write_section
from bench.synthetic import (
    GRANT_SETS,
    NOUNS,
    PRINCIPALS,
    TOOLS_EACH,
    UPSTREAMS,
    VERBS,
    NoStore,
    Synthetic,
    definitions,
    desired_state,
    upstream_names,
)
from connectors.protocol import (
    Change,
    OnChange,
)
from hub.audit.recorder import Recorder
from hub.cache import PageCache
from hub.catalog.names import MemoryLedger
from hub.catalog.refresh import Surroundings
from hub.catalog.search import ToolSearch
from hub.catalog.upstreams import Upstreams
from hub.compile import Compiler, Source, TenantSource
from hub.domain.call import Action, Call, Target
from hub.domain.desired import KeySpec, UpstreamSpec
from hub.domain.outcome import Result
from hub.domain.principal import Evidence
from hub.identity.api_keys import digest_of, new_key
from hub.live.leases import Leases
from hub.live.revocation import Revocations
from hub.metering.local import LocalCounting
from hub.metering.meter import Meter
from hub.pipeline import Pipeline, Stages
from hub.providers.catalogue import Catalogue
from hub.providers.self_description import SelfDescription
from hub.snapshot import Snapshot, SnapshotHolder
from hub.telemetry.metrics import Metrics
from hub.vault.key_ring import load_or_create
from hub.vault.sealed import Sealer
from mcp_wire.jsonrpc import raw

CHANGES: Final = 20

LIST_P50_MS: Final = 5.0
CHANGE_MS: Final = 1000.0
RESIDENT_MB: Final = 400.0
EXIT_OVER: Final = 3


class Measured(Struct, frozen=True, rename="camel"):
    """What one run found; times are milliseconds, memory is megabytes (10**6 bytes)."""

    compile_ms: float
    """From nothing to the first snapshot."""
    longest_turn_ms: float
    """The longest that compiling kept the event loop from anything else."""
    recompile_ms: float
    """After one definition of one upstream changed."""
    first_list_p50_ms: float
    """The first list of a view, which is joined then."""
    first_list_max_ms: float
    list_p50_ms: float
    list_p99_ms: float
    list_bytes: int
    """Size of a page, on average."""
    all_pages_ms: float
    """Every page of all tools, from the cache."""
    search_p50_ms: float
    first_search_ms: float
    change_visible_p50_ms: float
    change_visible_max_ms: float
    imports_mb: float
    """Resident before anything was made."""
    resident_mb: float


class _Page(Struct, rename="camel"):
    tools: list[Raw]
    next_cursor: str | None = None


class Hub:
    """The catalogue of an application, driven as the application does."""

    def __init__(self, recorder: Recorder, sealer: Sealer) -> None:
        self.synthetic = {name: Synthetic(name, definitions(name)) for name in upstream_names()}
        self.desired = desired = desired_state()
        self.secrets = {principal.name: new_key() for principal in desired.principals}
        self.snapshots = SnapshotHolder(Snapshot(tenants={}))
        self.compile_ms: list[float] = []
        self._stale = anyio.Event()
        self._keys = tuple(
            KeySpec(id=name, tenant="default", principal=name, digest=digest_of(secret))
            for name, secret in self.secrets.items()
        )
        around = Surroundings(
            connect=self._connect,
            store=NoStore(),
            leases=Leases(monotonic),
            holder="bench",
            now=_now,
            clock=monotonic,
            jitter=lambda: 0.5,
        )
        self.upstreams = Upstreams(
            around,
            self.snapshots,
            listings_changed=lambda: self._stale.set(),
            resource_updated=lambda *_: None,
        )
        self._compiler = Compiler(MemoryLedger(), statuses=self.upstreams.statuses)
        search = ToolSearch()
        self._pipeline = Pipeline(
            Stages(
                snapshots=self.snapshots,
                revoked=Revocations(),
                catalogue=self.upstreams,
                recorder=recorder,
                meter=Meter(LocalCounting(_now), _now),
                observer=Metrics(version="0"),
                providers={
                    "catalogue": Catalogue(sealer, search, PageCache()),
                    "self_description": SelfDescription(search),
                },
                now=_now,
            )
        )
        self._ids = count()

    async def compile(self) -> None:
        began = perf_counter()
        source = TenantSource(
            desired=self.desired, listings=dict(self.upstreams.listings("default"))
        )
        self.snapshots.swap(
            await self._compiler.compile(Source(tenants=(source,), keys=self._keys))
        )
        self.compile_ms.append((perf_counter() - began) * 1000)

    async def follow(self) -> None:
        while True:
            await self._stale.wait()
            self._stale = anyio.Event()
            await self.compile()

    async def ask(self, principal: str, server: str, action: Action = "list", **params: Any) -> Raw:
        """The body of the answer to a list, or to a search."""
        call = Call(
            id=str(next(self._ids)),
            surface="mcp",
            operation="tools/list",
            action=action,
            target=Target("tool"),
            evidence=Evidence(secret=self.secrets[principal]),
            virtual_server=server,
            params={name: raw(value) for name, value in params.items()},
        )
        async with self._pipeline.run(call) as running:
            end = await running.answer()
        if not isinstance(end, Result):
            raise RuntimeError(f"{server} was not listed: {end.message}")
        return end.body

    def _connect(self, spec: UpstreamSpec, on_change: OnChange) -> Synthetic:
        self.synthetic[spec.name].announce = on_change
        return self.synthetic[spec.name]


async def measure() -> Measured:
    """One run from nothing."""
    imports_mb = _resident_mb()
    # What programs hold from their start need not be looked through again: a process that serves
    # does this once everything is imported.
    gc.collect()
    gc.freeze()
    async with AsyncExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-bench-")))
        ring = load_or_create(data, _now())
        recorder = Recorder(
            data / "record", signer=ring.signer(), digest_key=ring.digest_key, now=_now
        )
        await stack.enter_async_context(recorder.running())
        hub = Hub(recorder, Sealer(ring.sealing, lambda: _now().timestamp()))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        await stack.enter_async_context(hub.upstreams.running())
        await hub.upstreams.apply("default", hub.desired.upstreams)
        await _until_listed(hub)
        longest_turn_ms = await _longest_turn(hub.compile)
        tasks.start_soon(hub.follow)
        found = await _measure_lists(hub)
        found |= await _measure_search(hub)
        found |= await _measure_changes(hub)
        tasks.cancel_scope.cancel()
        return Measured(
            compile_ms=hub.compile_ms[0],
            recompile_ms=statistics.median(hub.compile_ms[1:]),
            longest_turn_ms=longest_turn_ms,
            imports_mb=imports_mb,
            resident_mb=_resident_mb(),
            **found,
        )


async def _measure_lists(hub: Hub) -> dict[str, Any]:
    tenant = hub.snapshots.current.tenants["default"]
    callers = [entry.principal for entry in hub.snapshots.current.keys.values()]
    first = [
        await _timed(hub.ask, caller.name, server)
        for caller in callers[:GRANT_SETS]
        for server in sorted(tenant.tables.view_of(caller).virtual_servers)
    ]
    choose = random.Random(7)  # noqa: S311 -- a measurement that can be repeated
    principals = list(hub.secrets)
    warm: list[float] = []
    sizes: list[int] = []
    for _ in range(2000):
        began = perf_counter()
        body = await hub.ask(choose.choice(principals), "default")
        warm.append((perf_counter() - began) * 1000)
        sizes.append(len(body))
    await _all_pages(hub)
    return {
        "first_list_p50_ms": statistics.median(first),
        "first_list_max_ms": max(first),
        "list_p50_ms": statistics.median(warm),
        "list_p99_ms": statistics.quantiles(warm, n=100)[98],
        "list_bytes": round(statistics.mean(sizes)),
        "all_pages_ms": await _timed(_all_pages, hub),
    }


async def _all_pages(hub: Hub) -> None:
    """Every tool there is, as a client of someone who may use them all would ask."""
    body, seen = await hub.ask("p0", "default"), 0
    while True:
        page = msgspec.json.decode(body, type=_Page)
        seen += len(page.tools)
        if page.next_cursor is None:
            break
        body = await hub.ask("p0", "default", cursor=page.next_cursor)
    if seen != UPSTREAMS * TOOLS_EACH:
        raise RuntimeError(f"{seen} tools were listed")


async def _measure_search(hub: Hub) -> dict[str, float]:
    choose = random.Random(7)  # noqa: S311 -- a measurement that can be repeated
    principals = list(hub.secrets)

    async def search() -> None:
        query = f"{choose.choice(VERBS)} {choose.choice(NOUNS)}"
        await hub.ask(choose.choice(principals), "default", "search", query=query, limit=10)

    first = await _timed(search)
    return {
        "first_search_ms": first,
        "search_p50_ms": statistics.median([await _timed(search) for _ in range(200)]),
    }


async def _measure_changes(hub: Hub) -> dict[str, float]:
    took: list[float] = []
    for number in range(CHANGES):
        upstream = hub.synthetic[f"up{number % UPSTREAMS:02}"]
        mark = f"changed for the {number}th time".encode()
        changed = msgspec.json.decode(upstream.definitions[0])
        upstream.definitions[0] = raw({**changed, "description": mark.decode()})
        began = perf_counter()
        upstream.announce(Change("tools"))
        revision = hub.snapshots.current.revision
        while hub.snapshots.current.revision == revision:  # noqa: ASYNC110 -- as a client would look
            await anyio.sleep(0.001)
        server = hub.snapshots.current.tenants["default"].virtual_servers["default"]
        if not any(mark in tool.fragment for tool in server.tools.values()):
            raise RuntimeError("the change is not to be seen")
        await hub.ask("p0", "default")
        took.append((perf_counter() - began) * 1000)
    return {"change_visible_p50_ms": statistics.median(took), "change_visible_max_ms": max(took)}


async def _until_listed(hub: Hub) -> None:
    with anyio.fail_after(30):
        while len(hub.upstreams.listings("default")) < UPSTREAMS:  # noqa: ASYNC110 -- once, at the start
            await anyio.sleep(0.01)


async def _longest_turn(work: Callable[[], Any]) -> float:
    """How long ``work`` keeps the event loop from anything else, at most, in milliseconds.

    In CPU time of this thread: a busy machine's other programs do not count.
    """
    longest_s = 0.0

    async def turn() -> None:
        nonlocal longest_s
        last = thread_time()
        while True:
            await anyio.lowlevel.checkpoint()
            now = thread_time()
            longest_s, last = max(longest_s, now - last), now

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await anyio.lowlevel.checkpoint()
        await work()
        tasks.cancel_scope.cancel()
    return longest_s * 1000


async def _timed(work: Callable[..., Awaitable[Any]], *arguments: Any) -> float:
    began = perf_counter()
    await work(*arguments)
    return (perf_counter() - began) * 1000


def table(measured: Measured) -> str:
    """The figures as a Markdown table, with their limits."""
    limits = {
        "list_p50_ms": LIST_P50_MS,
        "change_visible_max_ms": CHANGE_MS,
        "resident_mb": RESIDENT_MB,
    }
    lines = ["| Figure | Measured | Limit |", "|---|---:|---:|"]
    for name in Measured.__struct_fields__:
        value = getattr(measured, name)
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
        limit = f"{limits[name]:,.0f}" if name in limits else ""
        lines.append(f"| {name.replace('_', ' ')} | {shown} | {limit} |")
    return "\n".join(lines)


def is_over(measured: Measured) -> bool:
    """Whether a limit is exceeded."""
    return (
        measured.list_p50_ms > LIST_P50_MS
        or measured.change_visible_max_ms > CHANGE_MS
        or measured.resident_mb > RESIDENT_MB
    )


def main() -> int:
    """Measure once, tell, and say with the exit status whether it is within the limits."""
    parser = argparse.ArgumentParser(description="A large catalogue for many principals.")
    parser.add_argument("--json", action="store_true", help="one line of JSON, and no table")
    parser.add_argument("--publish", action="store_true", help="write docs/PERFORMANCE.md")
    given = parser.parse_args()
    measured = anyio.run(measure, backend_options={"use_uvloop": True})
    how = (
        f"{UPSTREAMS * TOOLS_EACH:,} tools in {UPSTREAMS} upstreams, {PRINCIPALS:,} principals in "
        f"{GRANT_SETS} grant sets; in one process, through the pipeline with its record."
    )
    if given.json:
        sys.stdout.write(msgspec.json.encode(measured).decode() + "\n")
    else:
        sys.stdout.write(f"{how}\n\n{table(measured)}\n")
    if given.publish:
        write_section("catalogue", f"{how}\n\n{table(measured)}")
    return EXIT_OVER if is_over(measured) else 0


def _now() -> datetime:
    return datetime.now(UTC)


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


if __name__ == "__main__":
    sys.exit(main())
