"""The immutable state that requests read, and the one reference through which they read it."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network

from msgspec import Struct

from hub.domain.catalog import UpstreamStatus, VirtualServer
from hub.domain.principal import Principal
from hub.policy.rules import NO_RULES, Rules
from hub.policy.tables import Tables

Network = IPv4Network | IPv6Network


class KeyEntry(Struct, frozen=True, gc=False):
    """A key as requests meet it."""

    id: str
    principal: Principal
    expires_at: float | None = None
    """Seconds since the epoch."""
    networks: tuple[Network, ...] = ()
    """Where it may be used from; none: from anywhere."""


class TenantSnapshot(Struct, frozen=True, kw_only=True):
    """Everything of one tenant."""

    name: str
    virtual_servers: Mapping[str, VirtualServer]
    """By name; always holds ``default``."""
    tables: Tables
    rules: Rules = NO_RULES
    statuses: Mapping[str, UpstreamStatus] = {}
    """By upstream. Liveness is not part of what is compiled: this is the catalogue's live mapping."""
    problems: Mapping[str, tuple[str, ...]] = {}
    """By upstream: what was left out, shadowed or named in vain, one sentence each."""
    held: Mapping[str, tuple[str, ...]] = {}
    """By upstream: definitions that guardrails hold back, and why, one sentence each."""


class Snapshot(Struct, frozen=True, kw_only=True):
    """Compiled off the hot path; never changed once it serves."""

    revision: int = 0
    """Grows with each swap of this process; tags caches and ``list_changed``."""
    tenants: Mapping[str, TenantSnapshot]
    keys: Mapping[bytes, KeyEntry] = {}
    """By SHA-256 of the key."""
    anonymous: bool = False
    """No key was made yet: a direct loopback caller needs none."""


class SnapshotHolder:
    """The current snapshot, swapped by one assignment."""

    def __init__(self, first: Snapshot) -> None:
        self._current = first
        self._listeners: list[Callable[[Snapshot, Snapshot], None]] = []

    @property
    def current(self) -> Snapshot:
        """The snapshot in force; a call keeps the one it was admitted with."""
        return self._current

    def on_swap(self, listener: Callable[[Snapshot, Snapshot], None]) -> None:
        """Have ``listener(old, new)`` called after each swap, on the event loop."""
        self._listeners.append(listener)

    def swap(self, snapshot: Snapshot) -> None:
        """Let ``snapshot`` serve from now on."""
        old, self._current = self._current, snapshot
        for listener in self._listeners:
            listener(old, snapshot)
