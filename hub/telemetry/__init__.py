"""What operators see: metrics, traces and log lines. The record is elsewhere, in ``hub.audit``.

``metrics`` is the pipeline's observer; ``traces`` wraps it; ``otlp_metrics`` pushes what it counted.
The latter two are loaded by :func:`open_traces` and :func:`open_metric_export` alone, so that their SDK
costs nothing where nothing is exported; ``logs`` sets logging up once.
"""

from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from hub.errors import ConfigurationError

if TYPE_CHECKING:
    from hub.telemetry.metrics import Metrics
    from hub.telemetry.otlp_metrics import MetricExport
    from hub.telemetry.traces import Traces


def open_traces(
    metrics: "Metrics", *, otlp_endpoint: str, sample_ratio: float, version: str
) -> "Traces":
    """An observer that also makes spans and exports them, with ``metrics`` inside.

    ``otlp_endpoint`` is the collector's base URL; ``sample_ratio`` (0 to 1) holds for calls that
    bring no ``traceparent``, the others keep their caller's choice. Raises ConfigurationError when
    the extra 'telemetry' is not installed.
    """
    opened: Traces = _loaded("hub.telemetry.traces").Traces(
        metrics, otlp_endpoint=otlp_endpoint, sample_ratio=sample_ratio, version=version
    )
    return opened


def open_metric_export(
    metrics: "Metrics",
    *,
    otlp_endpoint: str,
    interval_s: float = 30.0,
    version: str,
    now: Callable[[], datetime],
) -> "MetricExport":
    """Pushes ``metrics`` to a collector while its ``run()`` does.

    ``otlp_endpoint`` is the collector's base URL. Raises ConfigurationError when the extra
    'telemetry' is not installed.
    """
    opened: MetricExport = _loaded("hub.telemetry.otlp_metrics").MetricExport(
        metrics, otlp_endpoint=otlp_endpoint, interval_s=interval_s, version=version, now=now
    )
    return opened


def _loaded(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"'telemetry.otlp_endpoint' needs {error.name}: install portico[telemetry]."
        ) from error
