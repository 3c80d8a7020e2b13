"""Upstreams: list, get, put, delete, enable, disable."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec.structs import replace
from pydantic import Field

from hub.administration import objects
from hub.administration.authority import check_upstream, is_platform, reads_values
from hub.administration.desk import Desk, Named, Nothing, Owned, Shape
from hub.config.conversion import upstream_spec
from hub.config.models import UpstreamSection
from hub.config.references import looks_secret, parse_reference
from hub.config.section import Name
from hub.domain.desired import UpstreamSpec
from hub.domain.principal import Principal
from hub.errors import ConfigurationError
from hub.stores.objects import Change, Stored, StoredObject

HIDDEN: Final = "(hidden)"
"""Stands for a value that is not shown; put back, it keeps the value that is there."""

_VALUES: Final = ("env", "headers")


class UpstreamPut(UpstreamSection):
    """An upstream to add or replace."""

    name: Name


class UpstreamObject(UpstreamSection, Owned):
    """An upstream as it is configured; keys that are absent have their defaults."""


class UpstreamState(Shape):
    """How an upstream is doing."""

    upstream: str
    state: Literal["pending", "live", "stale", "down", "disabled"]
    since: str = ""
    error: str = ""


class UpstreamList(Shape):
    """Upstreams, sorted by name."""

    upstreams: tuple[UpstreamObject, ...] = Field(description="Sorted by name.")


async def list_upstreams(desk: Desk, principal: Principal, tenant: str, _: Nothing) -> UpstreamList:
    """Every upstream of the tenant."""
    stored = await desk.objects.load(tenant)
    items = objects.of_noun(stored, "upstream")
    return UpstreamList(upstreams=tuple(_shown(item, principal) for item in items))


async def get_upstream(
    desk: Desk, principal: Principal, tenant: str, request: Named
) -> UpstreamObject:
    """One upstream. Raises NotFoundError."""
    stored = await desk.objects.load(tenant)
    return _shown(objects.find(stored, "upstream", request.name), principal)


async def put_upstream(
    desk: Desk, principal: Principal, tenant: str, request: UpstreamPut
) -> UpstreamObject:
    """Add or replace an upstream; hidden values stay what they are.

    Raises ForbiddenError, ConfigurationError, ConflictError.
    """
    section = UpstreamSection(**request.model_dump(exclude={"name"}, exclude_unset=True))
    spec = replace(upstream_spec(request.name, section, "api"), guarded=not is_platform(principal))
    if _hides(spec):
        stored = await desk.objects.load(tenant)
        spec = _revealed(spec, stored)
    check_upstream(principal, spec)
    return _shown(await objects.put(desk, tenant, spec), principal)


async def delete_upstream(desk: Desk, _: Principal, tenant: str, request: Named) -> Nothing:
    """Remove an upstream. Raises NotFoundError, ConflictError."""
    await objects.delete(desk, tenant, "upstream", request.name)
    return Nothing()


async def enable_upstream(
    desk: Desk, principal: Principal, tenant: str, request: Named
) -> UpstreamState:
    """Use an upstream again. Raises NotFoundError, ConflictError, ForbiddenError."""
    return await _set_enabled(desk, principal, tenant, request.name, enabled=True)


async def disable_upstream(
    desk: Desk, principal: Principal, tenant: str, request: Named
) -> UpstreamState:
    """Leave an upstream alone; its capabilities are absent. Raises NotFoundError, ConflictError."""
    return await _set_enabled(desk, principal, tenant, request.name, enabled=False)


def shown_section(section: Mapping[str, Any], principal: Principal) -> dict[str, Any]:
    """A section of the file without the values that this principal may not see."""
    shown = dict(section)
    for key in _VALUES:
        if key in shown:
            values: Mapping[str, str] = shown[key]
            shown[key] = {name: _shown_value(name, values[name], principal) for name in values}
    if "command" in shown:
        shown["command"] = shown_command(shown["command"], principal)
    return shown


def shown_command(command: Sequence[str], principal: Principal) -> list[str]:
    """The program, and its arguments for those who may read values: they may hold secrets."""
    if reads_values(principal):
        return list(command)
    return _without_arguments(command)


async def _set_enabled(
    desk: Desk, principal: Principal, tenant: str, name: str, *, enabled: bool
) -> UpstreamState:
    at = desk.timestamp()

    def decide(stored: Stored) -> Change:
        item = objects.find(stored, "upstream", name)
        if not isinstance(item.spec, UpstreamSpec) or item.spec.enabled == enabled:
            return Change(at=at)
        objects.refuse_file_owned(("upstream", name), item)
        if enabled:
            check_upstream(principal, item.spec)
        return Change(put=(replace(item.spec, enabled=enabled),), at=at)

    before = (await objects.edit(desk, tenant, decide)).objects["upstream", name].spec
    serving = desk.running.tenant(tenant) if desk.running is not None else None
    status = serving.statuses.get(name) if serving is not None else None
    if status is not None and isinstance(before, UpstreamSpec) and before.enabled == enabled:
        return UpstreamState(
            upstream=name, state=status.state, since=status.since, error=status.error
        )
    return UpstreamState(upstream=name, state="pending" if enabled else "disabled")


def _shown(item: StoredObject, principal: Principal) -> UpstreamObject:
    return UpstreamObject.model_validate(shown_section(objects.owned_document(item), principal))


def _without_arguments(command: Sequence[str]) -> list[str]:
    return [*command[:1], *([HIDDEN] if len(command) > 1 else [])]


def _shown_value(name: str, value: str, principal: Principal) -> str:
    if parse_reference(value) is not None:
        return value
    return HIDDEN if looks_secret(name, value) or not reads_values(principal) else value


def _hides(spec: UpstreamSpec) -> bool:
    return any(
        HIDDEN in given for given in (spec.env.values(), spec.headers.values(), spec.command)
    )


def _revealed(spec: UpstreamSpec, stored: Stored) -> UpstreamSpec:
    """The spec with the stored values where it says that they are hidden."""
    known = stored.objects.get(("upstream", spec.name))
    before = known.spec if known is not None and isinstance(known.spec, UpstreamSpec) else None
    values: dict[str, dict[str, str]] = {}
    for key in _VALUES:
        old: Mapping[str, str] = getattr(before, key, {})
        new: Mapping[str, str] = getattr(spec, key)
        for name, value in new.items():
            if value == HIDDEN and name not in old:
                raise ConfigurationError(f"{key}.{name}: there is no hidden value to keep.")
        values[key] = {name: old[name] if value == HIDDEN else value for name, value in new.items()}
    command = spec.command
    if HIDDEN in command:
        if before is None or list(command) != _without_arguments(before.command):
            raise ConfigurationError("command: there are no hidden arguments to keep.")
        command = before.command
    return replace(spec, command=command, env=values["env"], headers=values["headers"])
