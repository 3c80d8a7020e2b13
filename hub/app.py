"""The composition root: settings -> stores, record, catalogue, pipeline, surfaces -> one application."""

import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct
from starlette.types import ASGIApp

from connectors.child_groups import ChildGroups
from connectors.http_client import HttpClient
from hub.administration.answering import Administration
from hub.administration.configuration import settings_of
from hub.administration.desk import Desk, rfc3339
from hub.administration.keys import ensure_admin_key
from hub.administration.nouns import OPERATIONS
from hub.administration.openapi_document import openapi_document
from hub.audit.recorder import Recorder, RecorderSettings
from hub.cache import PageCache
from hub.catalog.aggregate import list_changes
from hub.catalog.refresh import Surroundings
from hub.catalog.search import ToolSearch
from hub.catalog.upstreams import Upstreams
from hub.catalog.watching import Watching
from hub.compile import Compiler
from hub.config.models import PorticoFile, ServerSection
from hub.config.references import resolve
from hub.control import Control
from hub.data_directory import DataDirectory, held, is_ephemeral
from hub.domain.record import Level
from hub.draining import Draining
from hub.live.bus import Bus
from hub.live.leases import Leases
from hub.live.parked import ParkedCalls
from hub.live.revocation import Revocations
from hub.live.sessions import Sessions
from hub.live.subscriptions import Subscriptions
from hub.pipeline import Observer, Pipeline
from hub.providers.capabilities import Capabilities
from hub.providers.catalogue import Catalogue
from hub.providers.connecting import Connecting, StaticCredentials
from hub.providers.self_description import SelfDescription
from hub.running import RunningHub
from hub.snapshot import Snapshot, SnapshotHolder
from hub.stores.chain_lines import ChainLineStore
from hub.stores.database import Database, open_database, sqlite_url
from hub.stores.epochs import Epochs
from hub.stores.keys import KeyStore
from hub.stores.listings import ListingStore
from hub.stores.name_ledger import StoredNameLedger
from hub.stores.objects import ObjectStore
from hub.surfaces.admin import AdminSurface, admin_app
from hub.surfaces.asgi import Fields
from hub.surfaces.call_ids import CallIds
from hub.surfaces.credentials import Proxies, evidence_of
from hub.surfaces.front_door import FrontDoor
from hub.surfaces.health import HealthSurface, health_app
from hub.surfaces.mcp.collaborators import Collaborators
from hub.surfaces.mcp.fast_lane.lane import FastLane
from hub.surfaces.mcp.surface import McpSurface
from hub.surfaces.mcp.views import CallerViews
from hub.surfaces.paths import Paths
from hub.telemetry import open_traces
from hub.telemetry.logs import Redaction
from hub.telemetry.metrics import Metrics
from hub.vault.key_ring import KeyRing, load_or_create
from hub.vault.sealed import Sealer


class Settings(Struct, frozen=True, kw_only=True):
    """What a process is started with."""

    data: Path
    file: PorticoFile = PorticoFile(version=1)
    """The configuration file as it was at the start, or its defaults."""
    store_url: str | None = None
    """Where state is kept; None: ``PORTICO_STORE_URL``, else SQLite in the data directory."""


class Hub(Struct, frozen=True, kw_only=True):
    """A composed hub: its door, and what its process drives."""

    asgi: ASGIApp
    fast_lane: FastLane | None
    """Takes requests before ``asgi`` sees them."""
    desk: Desk
    control: Control
    upstreams: Upstreams
    snapshots: SnapshotHolder
    running: RunningHub
    directory: DataDirectory
    given: Collaborators
    """What MCP over other transports than HTTP is served with."""
    drain: Callable[[], None]
    """From now on the hub is not ready, and streams that would never end are ended."""


class _Ground(Struct, frozen=True, kw_only=True):
    """What everything stands on."""

    now: Callable[[], datetime]
    directory: DataDirectory
    database: Database
    ring: KeyRing
    recorder: Recorder
    tasks: TaskGroup
    """Runs what outlives a call; nothing in it raises."""
    secret: Callable[[str], str]


class _Catalogue(Struct, frozen=True, kw_only=True):
    """What is known of upstreams and may be used."""

    snapshots: SnapshotHolder
    upstreams: Upstreams
    control: Control
    revocations: Revocations
    bus: Bus
    subscriptions: Subscriptions


def utc_now() -> datetime:
    """The clock that everything is given."""
    return datetime.now(UTC)


@asynccontextmanager
async def composed(settings: Settings, redaction: Redaction | None = None) -> AsyncIterator[Hub]:
    """The hub on a data directory, everything but its listening socket and its upstreams running.

    Raises PorticoError for a data directory, store or record that cannot be used.
    """
    redaction = redaction or Redaction()
    async with AsyncExitStack() as stack:
        groups = ChildGroups()
        stack.push_async_callback(groups.close)
        ground = await _ground(stack, settings, redaction)
        client = await stack.enter_async_context(HttpClient())
        catalogue = _catalogue(ground, groups, client)
        metrics = Metrics(
            version=installed_version("portico"),
            operations=[f"{item.method} /api{item.path}" for item in OPERATIONS],
        )
        _watch(metrics, catalogue)
        observer = _observer(stack, metrics, settings)
        running = RunningHub(catalogue.snapshots, catalogue.upstreams, redaction)
        desk = _desk(ground, catalogue, running, settings)
        await ensure_admin_key(desk, ground.directory.admin_key)
        await catalogue.control.refresh()
        pipeline = _pipeline(ground, catalogue, observer, desk)
        yield _hub(ground, catalogue, running, desk, pipeline, metrics, settings)
        ground.tasks.cancel_scope.cancel()


async def _ground(stack: AsyncExitStack, settings: Settings, redaction: Redaction) -> _Ground:
    directory = stack.enter_context(held(settings.data, now=rfc3339(utc_now())))
    ring = load_or_create(directory.path, utc_now())
    given = settings.store_url or os.environ.get("PORTICO_STORE_URL")
    url = given or sqlite_url(directory.path)
    database = await stack.enter_async_context(open_database(url))
    level = settings.file.record.level or _level(database, directory)
    recorder = Recorder(
        directory.record,
        signer=ring.signer(),
        digest_key=ring.digest_key,
        now=utc_now,
        settings=RecorderSettings(level=level),
        store=ChainLineStore(database).keep if level == "stored" else None,
    )
    await stack.enter_async_context(recorder.running())
    tasks = await stack.enter_async_context(anyio.create_task_group())

    def secret(value: str) -> str:
        resolved = resolve(value, os.environ)
        if resolved != value:
            redaction.hide(resolved)
            redaction.hide(resolved.rpartition(" ")[2])  # of "Bearer x", the x alone as well
        return resolved

    return _Ground(
        now=utc_now,
        directory=directory,
        database=database,
        ring=ring,
        recorder=recorder,
        tasks=tasks,
        secret=secret,
    )


def _level(database: Database, directory: DataDirectory) -> Level:
    """Where the disk goes with the machine, the database is what keeps the record."""
    lost = database.dialect == "postgresql" and is_ephemeral(directory.path)
    return "stored" if lost else "written"


def _catalogue(ground: _Ground, groups: ChildGroups, client: HttpClient) -> _Catalogue:
    snapshots = SnapshotHolder(Snapshot(tenants={}))
    bus, revocations = Bus(), Revocations()
    connecting = Connecting(groups=groups, tasks=ground.tasks, client=client, secret=ground.secret)
    around = Surroundings(
        connect=connecting,
        store=ListingStore(ground.database),
        leases=Leases(time.monotonic),
        holder=f"{os.getpid()}",
        now=ground.now,
        clock=time.monotonic,
        jitter=random.SystemRandom().random,
    )
    upstreams = Upstreams(
        around,
        snapshots,
        listings_changed=lambda: control.listings_changed(),
        resource_updated=lambda tenant, upstream, uri: watching.updated(tenant, upstream, uri),
    )
    watching = Watching(snapshots, upstreams, bus.publish)

    def announce(old: Snapshot, new: Snapshot) -> None:
        for change in list_changes(old, new):
            bus.publish(change)

    snapshots.on_swap(announce)
    ledger = StoredNameLedger(ground.database)
    control = Control(
        objects=ObjectStore(ground.database),
        keys=KeyStore(ground.database),
        epochs=Epochs(ground.database),
        upstreams=upstreams,
        ledger=ledger,
        compiler=Compiler(ledger, statuses=upstreams.statuses),
        snapshots=snapshots,
        revocations=revocations,
    )
    return _Catalogue(
        snapshots=snapshots,
        upstreams=upstreams,
        control=control,
        revocations=revocations,
        bus=bus,
        subscriptions=Subscriptions(watching.changed),
    )


def _watch(metrics: Metrics, catalogue: _Catalogue) -> None:
    metrics.watch("portico_snapshot", lambda: catalogue.snapshots.current.revision)
    metrics.watch_upstreams(
        lambda: [
            (name, status.state)
            for tenant in catalogue.snapshots.current.tenants
            for name, status in catalogue.upstreams.statuses(tenant).items()
        ]
    )


def _observer(stack: AsyncExitStack, metrics: Metrics, settings: Settings) -> Observer:
    telemetry = settings.file.telemetry
    if telemetry.otlp_endpoint is None:
        return metrics
    traces = open_traces(
        metrics,
        otlp_endpoint=telemetry.otlp_endpoint,
        sample_ratio=telemetry.sample_ratio,
        version=installed_version("portico"),
    )
    stack.callback(traces.close)
    return traces


def _pipeline(ground: _Ground, catalogue: _Catalogue, observer: Observer, desk: Desk) -> Pipeline:
    search = ToolSearch()
    return Pipeline(
        snapshots=catalogue.snapshots,
        revoked=catalogue.revocations,
        catalogue=catalogue.upstreams,
        recorder=ground.recorder,
        observer=observer,
        providers={
            "administration": Administration(desk),
            "capabilities": Capabilities(catalogue.upstreams, StaticCredentials()),
            "catalogue": Catalogue(_sealer(ground), search, PageCache()),
            "self_description": SelfDescription(search),
        },
        now=ground.now,
    )


def _desk(ground: _Ground, catalogue: _Catalogue, running: RunningHub, settings: Settings) -> Desk:
    return Desk(
        objects=ObjectStore(ground.database),
        keys=KeyStore(ground.database),
        now=ground.now,
        views=catalogue.control.views,
        refresh=catalogue.control.refresh,
        revoked=catalogue.revocations.revoke,
        running=running,
        record=ground.directory.record,
        settings=settings_of(settings.file),
    )


def _sealer(ground: _Ground) -> Sealer:
    return Sealer(ground.ring.sealing, lambda: ground.now().timestamp())


def _hub(
    ground: _Ground,
    catalogue: _Catalogue,
    running: RunningHub,
    desk: Desk,
    pipeline: Pipeline,
    metrics: Metrics,
    settings: Settings,
) -> Hub:
    server = settings.file.server
    proxies = Proxies(server.trusted_proxies)
    front_door = FrontDoor(allowed_hosts=_hosts(server), allowed_origins=server.allowed_origins)
    new_call_id = CallIds()
    views = CallerViews(catalogue.snapshots, catalogue.revocations, ground.now)
    parked = ParkedCalls(views.admits)
    catalogue.revocations.on_change(parked.check)
    catalogue.snapshots.on_swap(lambda _old, _new: parked.check())
    given = Collaborators(
        pipeline=pipeline,
        views=views,
        sessions=Sessions(),
        bus=catalogue.bus,
        subscriptions=catalogue.subscriptions,
        roots_changed=catalogue.upstreams.roots_changed,
        session_left=catalogue.upstreams.left,
        revocations=catalogue.revocations,
        seal=_sealer(ground),
        parked=parked,
        tasks=ground.tasks,
        new_call_id=new_call_id,
        refused_before_identify=ground.recorder.refused_before_identify,
        front_door=front_door,
        proxies=proxies,
        version=installed_version("portico"),
    )
    mcp = McpSurface(given)
    admin = admin_app(
        AdminSurface(
            pipeline=pipeline,
            operations=OPERATIONS,
            evidence=lambda scope: evidence_of(scope, Fields(scope["headers"]), proxies, None),
            new_call_id=new_call_id,
            document=openapi_document(installed_version("portico")),
        )
    )
    metrics.watch("portico_parked_calls", lambda: len(parked))
    draining = Draining(pipeline, mcp, parked)
    health = health_app(HealthSurface(readiness=draining.readiness, metrics=metrics.exposition))
    return Hub(
        asgi=Paths(front_door, mcp=mcp, admin=admin, health=health),
        fast_lane=mcp.fast_lane() if server.fast_lane else None,
        desk=desk,
        control=catalogue.control,
        upstreams=catalogue.upstreams,
        snapshots=catalogue.snapshots,
        running=running,
        directory=ground.directory,
        given=given,
        drain=draining.begin,
    )


def _hosts(server: ServerSection) -> tuple[str, ...]:
    """Names under which clients may call: those configured, and where Portico says it is."""
    public = urlsplit(server.public_url).netloc if server.public_url else ""
    return (*server.allowed_hosts, public) if public else server.allowed_hosts
