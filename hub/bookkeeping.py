"""What counts, watches and keeps books beside the calls."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from importlib.metadata import version as installed_version

from msgspec import Struct

from connectors.http_client import HttpClient
from hub.administration.nouns import OPERATIONS
from hub.audit.retention import Retention
from hub.background import Loop, background
from hub.catalog.upstreams import Upstreams
from hub.counted import counting_of, terms_of
from hub.domain.record import Entry
from hub.ground import Ground, Settings
from hub.identity.uses import KeyUses
from hub.ledger.alerts import Alerts
from hub.metering.meter import Meter
from hub.pipeline import Observer
from hub.snapshot import SnapshotHolder
from hub.stores.chain_lines import ChainLineStore
from hub.stores.keys import KeyStore
from hub.stores.ledger import LedgerStore
from hub.surfaces.call_ids import CallIds
from hub.telemetry import open_metric_export, open_traces
from hub.telemetry.metrics import Metrics


class Books(Struct, frozen=True, kw_only=True):
    """What the pipeline tells of each call, and what goes on in the background."""

    metrics: Metrics
    observer: Observer
    meter: Meter
    uses: KeyUses
    background: Callable[[], AbstractAsyncContextManager[None]]
    """What a serving process does beside answering calls."""


def books_of(
    stack: AsyncExitStack,
    ground: Ground,
    snapshots: SnapshotHolder,
    upstreams: Upstreams,
    client: HttpClient,
    settings: Settings,
) -> Books:
    """The books of a process; ``client`` posts alerts. Raises ConfigurationError."""
    version = installed_version("portico")
    metrics = Metrics(
        version=version, operations=[f"{item.method} /api{item.path}" for item in OPERATIONS]
    )
    _watch(metrics, ground, snapshots, upstreams)
    terms = terms_of(snapshots)
    redis = settings.file.redis
    redis_url = redis.url or os.environ.get("PORTICO_REDIS_URL")
    counting = counting_of(ground, terms, redis_url, redis.processes, ground.now)
    metrics.watch_counting(lambda: counting.state)
    store = LedgerStore(ground.database)

    async def append(entry: Entry) -> None:
        metrics.noted(entry)
        await ground.recorder.append(entry)

    alerts = Alerts(
        store, terms=terms, append=append, client=client, now=ground.now, new_id=CallIds()
    )
    ground.ledger.on_charged(alerts.charged)
    uses = KeyUses(KeyStore(ground.database), now=ground.now, clock=time.monotonic)
    loops = _loops(metrics, ground, store, settings)
    return Books(
        metrics=metrics,
        observer=_observer(stack, metrics, settings),
        meter=Meter(counting, ground.now),
        uses=uses,
        background=partial(background, (counting.running, alerts.running, uses.running), loops),
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


def _loops(
    metrics: Metrics, ground: Ground, store: LedgerStore, settings: Settings
) -> tuple[Loop, ...]:
    """Pushing metrics and removing what is old, where that is configured."""
    loops: list[Loop] = []
    endpoint, days = settings.file.telemetry.otlp_endpoint, settings.file.record.retention_days
    if endpoint is not None:
        version = installed_version("portico")
        export = open_metric_export(
            metrics, otlp_endpoint=endpoint, version=version, now=ground.now
        )
        loops.append(export.run)
    if days is not None:
        retention = Retention(
            ground.directory.record,
            days=days,
            signer=ground.ring.signer(),
            now=ground.now,
            passed=store.cursors,
            forget=ChainLineStore(ground.database).forget,
        )
        loops.append(retention.run)
    return tuple(loops)


def _watch(
    metrics: Metrics, ground: Ground, snapshots: SnapshotHolder, upstreams: Upstreams
) -> None:
    metrics.watch_rules(
        lambda: {
            name: kind
            for tenant in snapshots.current.tenants.values()
            for name, kind in tenant.rules.kinds.items()
        }
    )
    metrics.watch("portico_ledger_lag_seconds", lambda: ground.ledger.lag_s)
    metrics.watch("portico_record_obstructed", lambda: bool(ground.recorder.obstacle))
    metrics.watch("portico_record_uncovered_seconds", lambda: ground.recorder.uncovered_s)
    metrics.watch("portico_snapshot", lambda: snapshots.current.revision)
    metrics.watch_upstreams(
        lambda: [
            (name, status.state)
            for tenant in snapshots.current.tenants
            for name, status in upstreams.statuses(tenant).items()
        ]
    )
