"""What operators see: metrics, traces and log lines. The record is elsewhere, in ``hub.audit``.

``metrics`` is the pipeline's observer; ``traces`` wraps it and is loaded by :func:`open_traces` alone,
so that its SDK costs nothing where no traces are wanted; ``logs`` sets logging up once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from hub.errors import ConfigurationError

if TYPE_CHECKING:
    from hub.telemetry.metrics import Metrics
    from hub.telemetry.traces import Traces


def open_traces(
    metrics: "Metrics", *, otlp_endpoint: str, sample_ratio: float, version: str
) -> "Traces":
    """An observer that also makes spans and exports them, with ``metrics`` inside.

    ``otlp_endpoint`` is the collector's base URL; ``sample_ratio`` (0 to 1) holds for calls that
    bring no ``traceparent``, the others keep their caller's choice. Raises ConfigurationError when
    the extra 'telemetry' is not installed.
    """
    try:
        traces = import_module("hub.telemetry.traces")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"'telemetry.otlp_endpoint' needs {error.name}: install portico[telemetry]."
        ) from error
    opened: Traces = traces.Traces(
        metrics, otlp_endpoint=otlp_endpoint, sample_ratio=sample_ratio, version=version
    )
    return opened
