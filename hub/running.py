"""The hub under way, as administrators look into it."""

from collections.abc import Sequence

from hub.catalog.upstreams import Upstreams
from hub.domain.catalog import UpstreamStatus
from hub.snapshot import SnapshotHolder, TenantSnapshot
from hub.telemetry.logs import Redaction


class RunningHub:
    """See ``hub.administration.desk.Running``."""

    def __init__(
        self, snapshots: SnapshotHolder, upstreams: Upstreams, redaction: Redaction
    ) -> None:
        self.url = ""
        """Where it serves, without a path; empty until it does."""
        self._snapshots = snapshots
        self._upstreams = upstreams
        self._redaction = redaction

    def tenant(self, name: str) -> TenantSnapshot | None:
        """What serves for a tenant now."""
        return self._snapshots.current.tenants.get(name)

    async def refresh(self, tenant: str, upstream: str) -> UpstreamStatus:
        """Connect where needed, list anew, and say how it went. Raises NotFoundError."""
        return await self._upstreams.refresh(tenant, upstream)

    def logs(self, tenant: str, upstream: str) -> Sequence[str]:
        """What its children wrote to standard error lately, oldest first, without secrets."""
        return [self._redaction.clean(line) for line in self._upstreams.logs(tenant, upstream)]
