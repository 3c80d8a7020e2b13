"""What runs: state of the hub and its upstreams, and what is exposed."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from hub.administration import objects
from hub.administration.desk import Desk, Named, Nothing, Running, Shape
from hub.administration.upstreams import shown_command
from hub.config.suggestions import did_you_mean
from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.catalog import KINDS, UpstreamStatus, VirtualServer
from hub.domain.desired import UpstreamSpec
from hub.domain.principal import Principal
from hub.errors import NotFoundError, StoreUnavailableError
from hub.snapshot import TenantSnapshot

_BYTES_PER_TOKEN = 4
"""A rule of thumb for JSON in English; models differ."""


class StatusOfUpstream(Shape):
    """How one upstream is doing."""

    upstream: str
    state: Literal["pending", "live", "stale", "down", "disabled"]
    since: str = ""
    error: str = ""
    problems: tuple[str, ...] = Field((), description="What was left out or shadowed, and why.")
    held: tuple[str, ...] = Field(
        (),
        description="Definitions that guardrails hold back, and why: neither listed nor callable.",
    )
    command: tuple[str, ...] = Field(
        (), description="The program; its arguments for those who may read them."
    )


class Status(Shape):
    """The hub and its upstreams."""

    url: str
    upstreams: tuple[StatusOfUpstream, ...]


class CapabilitiesRequest(Shape):
    """Which virtual server to list."""

    virtual_server: str = DEFAULT_VIRTUAL_SERVER


class ExposedCapability(Shape):
    """One capability as it is exposed."""

    name: str
    kind: Literal["tool", "resource", "template", "prompt"]
    upstream: str
    original: str
    tokens: int = Field(description="About what its definition costs a model.")


class Exposed(Shape):
    """Everything a virtual server exposes, before grants."""

    virtual_server: str
    items: tuple[ExposedCapability, ...]
    upstreams: tuple[StatusOfUpstream, ...]


class LogLines(Shape):
    """What an upstream's children said."""

    lines: tuple[str, ...]


async def status(desk: Desk, principal: Principal, tenant: str, request: Nothing) -> Status:
    """Where the hub serves, and how every upstream is doing."""
    del request
    specs = await _upstreams(desk, tenant)
    return Status(url=_running(desk).url, upstreams=_statuses(desk, principal, tenant, specs))


async def list_capabilities(
    desk: Desk, principal: Principal, tenant: str, request: CapabilitiesRequest
) -> Exposed:
    """What a virtual server exposes, before grants. Raises NotFoundError."""
    server = server_of(serving_of(desk, tenant), request.virtual_server)
    items = tuple(
        ExposedCapability(
            name=exposure.name,
            kind=exposure.kind,
            upstream=exposure.capability.upstream,
            original=exposure.capability.name,
            tokens=-(-len(exposure.fragment) // _BYTES_PER_TOKEN),
        )
        for kind in KINDS
        for exposure in server.of_kind(kind).values()
    )
    specs = {
        name: spec
        for name, spec in (await _upstreams(desk, tenant)).items()
        if name in server.upstreams
    }
    return Exposed(
        virtual_server=server.name,
        items=items,
        upstreams=_statuses(desk, principal, tenant, specs),
    )


async def refresh_upstream(
    desk: Desk, principal: Principal, tenant: str, request: Named
) -> StatusOfUpstream:
    """Connect to an upstream where needed and list it anew. Raises NotFoundError."""
    specs = await _upstreams(desk, tenant)
    spec = _named(specs, request.name)
    found = await _running(desk).refresh(tenant, spec.name)
    return _status(found, spec, principal, serving_of(desk, tenant))


async def upstream_logs(desk: Desk, _: Principal, tenant: str, request: Named) -> LogLines:
    """What an upstream's children wrote to standard error lately. Raises NotFoundError."""
    spec = _named(await _upstreams(desk, tenant), request.name)
    return LogLines(lines=tuple(_running(desk).logs(tenant, spec.name)))


def _running(desk: Desk) -> Running:
    if desk.running is None:
        raise StoreUnavailableError("No hub is running.")
    return desk.running


def serving_of(desk: Desk, tenant: str) -> TenantSnapshot:
    """What serves for a tenant. Raises NotFoundError where nothing does."""
    serving = _running(desk).tenant(tenant)
    if serving is None:
        raise NotFoundError(f"Nothing serves for the tenant '{tenant}': is it disabled?")
    return serving


def server_of(serving: TenantSnapshot, name: str) -> VirtualServer:
    """One of its virtual servers. Raises NotFoundError with what was probably meant."""
    server = serving.virtual_servers.get(name)
    if server is None:
        hint = did_you_mean(name, list(serving.virtual_servers))
        raise NotFoundError(f"There is no virtual server '{name}'{hint or '.'}")
    return server


async def _upstreams(desk: Desk, tenant: str) -> Mapping[str, UpstreamSpec]:
    stored = await desk.objects.load(tenant)
    return {
        item.spec.name: item.spec
        for item in objects.of_noun(stored, "upstream")
        if isinstance(item.spec, UpstreamSpec)
    }


def _named(specs: Mapping[str, UpstreamSpec], name: str) -> UpstreamSpec:
    if name not in specs:
        hint = did_you_mean(name, list(specs))
        raise NotFoundError(f"There is no upstream '{name}'{hint or '.'}")
    return specs[name]


def _statuses(
    desk: Desk, principal: Principal, tenant: str, specs: Mapping[str, UpstreamSpec]
) -> tuple[StatusOfUpstream, ...]:
    serving = serving_of(desk, tenant)
    found = []
    for name, spec in sorted(specs.items()):
        live = serving.statuses.get(name) or UpstreamStatus(upstream=name, state="pending")
        found.append(_status(live, spec, principal, serving))
    return tuple(found)


def _status(
    live: UpstreamStatus, spec: UpstreamSpec, principal: Principal, serving: TenantSnapshot
) -> StatusOfUpstream:
    return StatusOfUpstream(
        upstream=live.upstream,
        state=live.state,
        since=live.since,
        error=live.error,
        problems=(*live.problems, *serving.problems.get(spec.name, ())),
        held=serving.held.get(spec.name, ()),
        command=tuple(shown_command(spec.command, principal)),
    )
