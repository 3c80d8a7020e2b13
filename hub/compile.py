"""From desired state, listings and keys to the snapshot that requests read.

Compiling is incremental: what did not change since the last time, upstream by upstream and virtual
server by virtual server, is taken over as it is. It runs in slices, so that the event loop serves
calls in between, and what it has so far is kept only when all of it succeeded.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_network
from typing import Final

import anyio
import anyio.lowlevel
from msgspec import Struct
from msgspec.structs import replace

from hub.catalog.known_rules import MakeGuardrail
from hub.catalog.names import MemoryLedger, NameLedger, Names
from hub.catalog.steps import Steps, in_slices
from hub.catalog.tenant import Compiled, Draft, TenantSource
from hub.domain.catalog import KINDS, Kind, NameClaim, UpstreamStatus
from hub.domain.desired import Desired, KeySpec
from hub.domain.principal import ANONYMOUS, Principal
from hub.domain.rules import GuardrailSpec
from hub.errors import ConfigurationError
from hub.guard.callouts import Callouts
from hub.guard.chain import Guardrail
from hub.guard.checks import made
from hub.policy.authorize import may_enter
from hub.snapshot import KeyEntry, Snapshot, TenantSnapshot

__all__ = ["Compiler", "Source", "TenantSource", "principals_of", "reachable"]

_MAX_CLAIMS: Final = 8
"""How often names are claimed anew when other replicas claim the same ones at the same time."""

_CLAIMED_TOGETHER: Final = 500
"""Names in one transaction of the ledger."""


class Source(Struct, frozen=True, kw_only=True):
    """What a snapshot is compiled from."""

    tenants: tuple[TenantSource, ...]
    keys: tuple[KeySpec, ...] = ()
    anonymous: bool = False
    """No key was made yet: a direct loopback caller needs none."""


class Compiler:
    """Makes snapshots, each from what changed since the one before."""

    def __init__(
        self,
        ledger: NameLedger,
        *,
        statuses: Callable[[str], Mapping[str, UpstreamStatus]] = lambda _: {},
        make_guardrail: MakeGuardrail | None = None,
    ) -> None:
        """``statuses`` gives the live statuses of a tenant's upstreams, which snapshots refer to.

        Without ``make_guardrail`` guardrails that ask others know no secrets.
        """
        self._make_guardrail = make_guardrail or _without_secrets
        self._ledger = ledger
        self._statuses = statuses
        self._tenants: dict[str, Compiled] = {}
        self._revision = 0
        self._lock = anyio.Lock()

    async def compile(self, source: Source) -> Snapshot:
        """The snapshot for ``source``; nothing is taken over from a compile that failed.

        Raises ConfigurationError when names cannot be claimed; and what the ledger raises.
        """
        async with self._lock:
            revision = self._revision + 1
            compiled: dict[str, TenantSnapshot] = {}
            states: dict[str, Compiled] = {}
            for tenant in source.tenants:
                name = tenant.desired.tenant
                state = self._tenants.get(name)
                if state is None or state.is_wasteful:
                    names = Names(await self._ledger.load(name)) if state is None else state.names
                    state = Compiled(names)
                draft = Draft(
                    state,
                    tenant,
                    anonymous=source.anonymous,
                    revision=revision,
                    make=self._make_guardrail,
                )
                await self._name(draft)
                compiled[name] = await in_slices(draft.assembled(self._statuses(name)))
                states[name] = draft.kept()
            keys = await in_slices(_keys(source))
            self._tenants, self._revision = states, revision
        return Snapshot(revision=revision, tenants=compiled, keys=keys, anonymous=source.anonymous)

    async def _name(self, draft: Draft) -> None:
        """Build the parts with names that the ledger agrees to."""
        names = draft.names
        for _ in range(_MAX_CLAIMS):
            try:
                await in_slices(draft.build())
                claims, kept = names.drafts, True
                for start in range(0, len(claims), _CLAIMED_TOGETHER):
                    some = claims[start : start + _CLAIMED_TOGETHER]
                    kept = names.keep(await self._ledger.claim(draft.tenant, some)) and kept
                    await anyio.lowlevel.checkpoint()
                if kept:
                    return
            finally:
                names.discard()
        raise ConfigurationError("Names are being claimed by other replicas; try again.")


async def reachable(
    source: TenantSource, names: tuple[NameClaim, ...]
) -> Mapping[str, frozenset[tuple[str, Kind, str]]]:
    """What each principal could use: (virtual server, kind, exposed name), for comparing plans.

    Nothing is claimed. ``anonymous`` is a principal here when any virtual server is open to it.
    """
    desired = replace(source.desired, guardrails=(), limits=(), prices=(), budgets=())
    source = replace(source, desired=desired)
    snapshot = await Compiler(MemoryLedger(names)).compile(Source(tenants=(source,)))
    tenant = snapshot.tenants[source.desired.tenant]
    callers = [principal for _, principal in sorted(principals_of(source.desired).items())]
    if any(server.anonymous for server in tenant.virtual_servers.values()):
        callers.append(Principal(tenant=tenant.name, name=ANONYMOUS, kind="anonymous"))
    by_view: dict[str, frozenset[tuple[str, Kind, str]]] = {}
    found: dict[str, frozenset[tuple[str, Kind, str]]] = {}
    for caller in callers:
        view = tenant.tables.view_of(caller)
        if view.id not in by_view:
            await anyio.lowlevel.checkpoint()
            by_view[view.id] = frozenset(
                (server.name, kind, name)
                for server in tenant.virtual_servers.values()
                if may_enter(caller, view, server)
                for kind in KINDS
                for name, exposure in server.of_kind(kind).items()
                if view.allows(exposure.bit)
            )
        found[caller.name] = by_view[view.id]
    return found


def _without_secrets(spec: GuardrailSpec) -> Guardrail:
    return made(spec, Callouts(lambda value: value))


def _keys(source: Source) -> Steps[dict[bytes, KeyEntry]]:
    principals = {tenant.desired.tenant: principals_of(tenant.desired) for tenant in source.tenants}
    entries: dict[bytes, KeyEntry] = {}
    for key in source.keys:
        yield
        principal = principals.get(key.tenant, {}).get(key.principal)
        if principal is None or key.revoked_at is not None:
            continue
        reach = None if key.virtual_servers is None else frozenset(key.virtual_servers)
        proved = replace(principal, key_id=key.id, reach=reach)
        ends = (
            None if key.expires_at is None else datetime.fromisoformat(key.expires_at).timestamp()
        )
        networks = tuple(ip_network(cidr, strict=False) for cidr in key.cidrs)
        entries[key.digest] = KeyEntry(key.id, proved, ends, networks)
    return entries


def principals_of(desired: Desired) -> dict[str, Principal]:
    """The principals of a tenant by name, with their groups and roles, and no key yet."""
    groups = desired.memberships()
    return {
        spec.name: Principal(
            tenant=desired.tenant,
            name=spec.name,
            kind=spec.kind,
            groups=groups.get(spec.name, frozenset()),
            roles=frozenset(spec.roles),
        )
        for spec in desired.principals
    }
