"""What administration works with, and the shapes that all nouns share."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from hub.domain.catalog import UpstreamStatus
from hub.domain.desired import Desired, KeySpec
from hub.domain.source import Source
from hub.errors import PorticoError
from hub.snapshot import TenantSnapshot
from hub.stores.ledger import UseField, UseFilter, UseSum
from hub.stores.objects import Change, Stored

_log = logging.getLogger(__name__)

Views = Callable[[Desired], Awaitable[Mapping[str, Set[tuple[str, str]]]]]
"""Compiles desired state: principal -> (virtual server, exposed name) of all that it may use."""


class Objects(Protocol):
    """Where desired state is kept."""

    async def tenants(self) -> Sequence[str]:
        """Tenants that have any object."""
        ...

    async def load(self, tenant: str) -> Stored:
        """Everything of a tenant."""
        ...

    async def change(self, tenant: str, change: Change, *, expected: int | None = None) -> int:
        """Carry out a change in one transaction. Raises ConflictError when ``expected`` is stale."""
        ...


class Keys(Protocol):
    """Where keys are kept."""

    async def list(self, tenant: str | None = None) -> Sequence[KeySpec]:
        """Keys of one tenant, or of all."""
        ...

    async def get(self, tenant: str, key_id: str) -> KeySpec:
        """One key. Raises NotFoundError."""
        ...

    async def add(self, key: KeySpec) -> None:
        """Keep a new key."""
        ...

    async def limit(
        self, tenant: str, key_id: str, *, expires_at: str | None, revoked_at: str | None
    ) -> None:
        """Set when a key ends. Raises NotFoundError."""
        ...


class Running(Protocol):
    """The hub under way, as far as administrators look into it."""

    @property
    def url(self) -> str:
        """Where it serves, without a path; empty when it does not."""
        ...

    def tenant(self, name: str) -> TenantSnapshot | None:
        """What serves for a tenant now."""
        ...

    async def refresh(self, tenant: str, upstream: str) -> UpstreamStatus:
        """Connect where needed, list anew, and say how it went."""
        ...

    def logs(self, tenant: str, upstream: str) -> Sequence[str]:
        """What its children wrote to standard error lately, oldest first."""
        ...


class Ledger(Protocol):
    """Where uses are summed up."""

    @property
    def lag_s(self) -> float:
        """Seconds since all that was in the record was in the ledger as well."""
        ...

    async def catch_up(self, within_s: float) -> bool:
        """Take in what is in the record now; whether that was done in time."""
        ...

    async def sums(self, wanted: UseFilter, by: Sequence[UseField]) -> Sequence[UseSum]:
        """Exact sums of uses. Raises StoreUnavailableError."""
        ...


async def _nothing_to_refresh() -> None:
    """No hub is running."""


def _nobody_to_tell(_: str) -> None:
    """No hub is running."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Desk(Struct, frozen=True, kw_only=True):
    """What every administrative function is given."""

    objects: Objects
    keys: Keys
    now: Callable[[], datetime] = _utc_now
    views: Views | None = None
    """None: plans do not say who gains and loses what."""
    refresh: Callable[[], Awaitable[None]] = _nothing_to_refresh
    """Lets the running hub serve what was written, and returns when it does. Raises PorticoError."""
    revoked: Callable[[str], None] = _nobody_to_tell
    """Called with the id of each key that was withdrawn, before the answer is given."""
    running: Running | None = None
    """None: nothing serves, as when the command line works on the stores alone."""
    record: Path | None = None
    """Where the audit record is kept."""
    ledger: Ledger | None = None
    """What was used; None where there is no record to take it from."""
    settings: Mapping[str, Any] = {}
    """Sections of the file in force that are no objects (``server``, ``store``, …); for export."""

    async def written(self) -> None:
        """What was written is to serve; where that fails it is kept all the same, and logged."""
        try:
            await self.refresh()
        except PorticoError as error:
            _log.warning("kept, but it cannot serve yet: %s", error)

    def timestamp(self) -> str:
        """Now, as RFC 3339 in UTC to the millisecond."""
        return rfc3339(self.now())


def rfc3339(moment: datetime) -> str:
    """A moment as the stores keep it: UTC, milliseconds, ``Z``; sorts by time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Shape(BaseModel):
    """A request or an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Shape):
    """A request without parameters, or an answer without content."""


class Named(Shape):
    """A request about one object."""

    name: str


class Owned(BaseModel):
    """What answers say of an object beside its section of the file."""

    name: str
    source: Source = Field(description="Who owns it: a file, or the API.")
    file: str = Field("", description="The file that owns it.")
    drifted: bool = Field(False, description="It is no longer what was applied from its file.")
    changed_at: str = ""
