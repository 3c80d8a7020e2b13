"""Going away without losing anything: what ends at once, and what is told meanwhile."""

from hub.live.parked import ParkedCalls
from hub.pipeline import Pipeline
from hub.surfaces.health import Readiness
from hub.surfaces.mcp.surface import McpSurface


class Draining:
    """Whether the hub is on its way out."""

    def __init__(self, pipeline: Pipeline, mcp: McpSurface, parked: ParkedCalls) -> None:
        self._pipeline = pipeline
        self._mcp = mcp
        self._parked = parked
        self._begun = False

    def begin(self) -> None:
        """From now on it is not ready, and takes no calls.

        Streams that would never end, and parked calls, are ended.
        """
        self._begun = True
        self._pipeline.close()
        self._mcp.end_streams()
        self._parked.close()

    def readiness(self) -> Readiness:
        """What ``/readyz`` says."""
        return Readiness(False, "shutting down") if self._begun else Readiness(True)
