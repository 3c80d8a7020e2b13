"""The configuration file as desired state: validate, plan, apply, export."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace
from pydantic import Field

from hub.administration import objects
from hub.administration.authority import (
    check_guardrail,
    check_principal,
    check_tenant,
    check_upstream,
    is_platform,
)
from hub.administration.desk import Desk, Shape
from hub.administration.differences import (
    AccessChange,
    ObjectChange,
    access_changes,
    changes_to,
    conflicts_with,
    objects_of,
)
from hub.administration.principals import principal_named
from hub.config.conversion import desired_of, document_of
from hub.config.loading import Loaded, load
from hub.config.models import PorticoFile
from hub.config.problems import Problem, path_text
from hub.config.rule_conversion import guardrail_spec
from hub.config.yaml_text import to_yaml
from hub.domain.desired import Desired, PrincipalSpec, UpstreamSpec
from hub.domain.principal import Principal
from hub.domain.rules import GuardrailSpec
from hub.domain.source import Source
from hub.errors import ConfigurationError, ConflictError
from hub.guard.checks import check_options
from hub.stores.documents import Spec
from hub.stores.objects import Change, ObjectKey, Stored, desired_from

SETTINGS: Final = ("server", "store", "redis", "record", "telemetry")
"""Sections that are no objects: the process reads them at start."""


class Document(Shape):
    """A configuration file."""

    text: str = Field(description="Its text, YAML 1.2.")
    path: str = Field(
        "portico.yaml",
        description="Where it lies: named in messages; relative paths inside are taken from there.",
    )


class PlanRequest(Document):
    """A file to compare with what is configured."""

    adopt: bool = Field(
        False, description="Let the file take over objects of the API it describes."
    )


class ApplyRequest(PlanRequest):
    """A file to apply."""

    revision: int | None = Field(
        None, description="The revision of the plan; refused when others changed something since."
    )


class Validation(Shape):
    """What is wrong with a file."""

    valid: bool
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


class Plan(Shape):
    """What applying a file changes, or changed."""

    tenant: str
    revision: int = Field(description="Revision of the configuration that this is about.")
    is_empty: bool = Field(description="Nothing differs: the file is in force.")
    changes: tuple[ObjectChange, ...] = ()
    conflicts: tuple[str, ...] = Field(
        (), description="Objects of the API that the file describes otherwise; refused by apply."
    )
    access: tuple[AccessChange, ...] | None = Field(
        None, description="Who gains and loses what; null where it was not worked out."
    )
    warnings: tuple[str, ...] = ()


class ExportRequest(Shape):
    """What to export."""

    source: Literal["all", "file", "api"] = Field("all", description="Whose objects.")


class Exported(Shape):
    """Desired state as a file."""

    text: str


class _Compared(Struct, frozen=True, kw_only=True):
    """A file next to what is stored."""

    stored: Stored
    wanted: Desired
    plan: Plan


async def validate(desk: Desk, _: Principal, tenant: str, request: Document) -> Validation:
    """Every problem and warning of a file; what the API owns may be referred to."""
    loaded = await _load(request, await desk.objects.load(tenant))
    return Validation(valid=not loaded.problems, problems=loaded.problems, warnings=loaded.warnings)


async def plan(desk: Desk, principal: Principal, tenant: str, request: PlanRequest) -> Plan:
    """What applying the file would do. Raises ConfigurationError, ForbiddenError."""
    return (await _compare(desk, principal, tenant, request)).plan


async def apply(desk: Desk, principal: Principal, tenant: str, request: ApplyRequest) -> Plan:
    """Make the file's objects be what the file says, in one transaction; returns what was done.

    Objects of the API are left alone. Raises ConfigurationError, ForbiddenError, and ConflictError
    when the API owns an object that the file describes otherwise, or when others changed
    something since ``revision``.
    """
    compared = await _compare(desk, principal, tenant, request)
    done = compared.plan
    if request.revision is not None and request.revision != done.revision:
        raise ConflictError("The configuration was changed since the plan; plan again.")
    if done.conflicts:
        names = ", ".join(done.conflicts)
        raise ConflictError(
            f"Owned by the API and described otherwise in {request.path}: {names}. "
            "Delete them there, take them out of the file, or apply with 'adopt'."
        )
    if done.is_empty:
        return done
    wanted = objects_of(compared.wanted)
    put = [wanted[change.noun, change.name] for change in done.changes if change.action != "remove"]
    remove = [(item.noun, item.name) for item in done.changes if item.action == "remove"]
    _check_authority(principal, compared.stored, put, remove)
    change = Change(
        put=put,
        remove=remove,
        origin=request.path,
        at=desk.timestamp(),
    )
    revision = await desk.objects.change(done.tenant, change, expected=done.revision)
    await desk.written()
    return done.model_copy(update={"revision": revision})


async def export(desk: Desk, _: Principal, tenant: str, request: ExportRequest) -> Exported:
    """Desired state as the text of a file; applying it to where it comes from changes nothing.

    Literal values of headers and environments stand in it as they are.
    """
    stored = await desk.objects.load(tenant)
    specs = [
        item.spec for item in stored.objects.values() if request.source in ("all", item.spec.source)
    ]
    document = document_of(desired_from(tenant, specs))
    settings = {name: desk.settings[name] for name in SETTINGS if desk.settings.get(name)}
    head = {key: document.pop(key) for key in ("version", "tenant")}
    whole = {**head, **settings, **document}
    return Exported(text=await anyio.to_thread.run_sync(to_yaml, whole))


def settings_of(file: PorticoFile) -> dict[str, Any]:
    """The sections of a file that are no objects, defaults left out: what a desk keeps."""
    sections = {name: getattr(file, name).model_dump(exclude_defaults=True) for name in SETTINGS}
    return {name: section for name, section in sections.items() if section}


async def _load(request: Document, stored: Stored) -> Loaded:
    known = {
        section: frozenset(
            name
            for (kind, name), item in stored.objects.items()
            if kind == noun and item.spec.source == "api"
        )
        for noun, section in objects.SECTIONS.items()
    }
    # Reading YAML takes 5 s per megabyte, which calls under way should not notice.
    loaded = await anyio.to_thread.run_sync(load, request.text, Path(request.path).name, known)
    return await anyio.to_thread.run_sync(_with_guardrails_tried, loaded)


def _with_guardrails_tried(loaded: Loaded) -> Loaded:
    """What is read, unless a check cannot be made of what it is told."""
    if loaded.file is None:
        return loaded
    problems: list[Problem] = []
    for index, section in enumerate(loaded.file.guardrails):
        try:
            check_options(guardrail_spec(section, "file"))
        except ConfigurationError as error:
            problems.append(Problem(path=f"guardrails[{index}]", message=str(error)))
    return replace(loaded, file=None, problems=tuple(problems)) if problems else loaded


async def _compare(
    desk: Desk, principal: Principal, tenant: str, request: PlanRequest
) -> _Compared:
    loaded = await _load(request, await desk.objects.load(tenant))
    file = loaded.file
    if file is None:
        problems = [str(problem) for problem in loaded.problems]
        raise ConfigurationError("\n".join(problems), problems)
    owner = file.tenant if "tenant" in file.model_fields_set else tenant
    check_tenant(principal, owner)
    stored = await desk.objects.load(owner)
    base = Path(request.path).parent if is_platform(principal) else None
    wanted = _guarded(desired_of(file.model_copy(update={"tenant": owner}), base), principal)
    changes = changes_to(stored, wanted, principal, adopt=request.adopt)
    conflicts = () if request.adopt else conflicts_with(stored, wanted)
    after = _after(stored, wanted)
    warnings = [str(warning) for warning in loaded.warnings]
    warnings += _dangling(stored, after)
    warnings += await _idle_keys(desk, owner, changes)
    settings = settings_of(file)
    if desk.settings and settings and settings != desk.settings:
        warnings.append(f"{', '.join(SETTINGS)}: changes take effect at the next start")
    outcome = Plan(
        tenant=owner,
        revision=stored.revision,
        is_empty=not changes and not conflicts,
        changes=changes,
        conflicts=tuple(f"{objects.noun_text(noun)} '{name}'" for noun, name in conflicts),
        access=await _access(desk, stored.desired, after, changes),
        warnings=tuple(warnings),
    )
    return _Compared(stored=stored, wanted=wanted, plan=outcome)


def _guarded(wanted: Desired, principal: Principal) -> Desired:
    """With the address guard on whatever a tenant's administrator writes."""
    if is_platform(principal):
        return wanted
    return replace(
        wanted,
        upstreams=tuple(replace(spec, guarded=True) for spec in wanted.upstreams),
        guardrails=tuple(replace(spec, guarded=True) for spec in wanted.guardrails),
        budgets=tuple(replace(spec, guarded=True) for spec in wanted.budgets),
    )


def _after(stored: Stored, wanted: Desired) -> Desired:
    """Everything of the tenant once the file is applied."""
    kept = {key: item.spec for key, item in stored.objects.items() if item.spec.source == "api"}
    return desired_from(wanted.tenant, {**kept, **objects_of(wanted)}.values())


def _dangling(stored: Stored, after: Desired) -> list[str]:
    """What objects of the API will refer to in vain."""
    sources: dict[tuple[str, str], Source] = {
        key: item.spec.source for key, item in stored.objects.items()
    }
    return [
        f"{objects.noun_text(owner[0])} '{owner[1]}' (API): "
        f"{path_text(finding.path[2:])}: {finding.message.partition(';')[0]}"
        for owner, finding in objects.owned_findings(after)
        if sources.get(owner) == "api"
    ]


async def _idle_keys(desk: Desk, tenant: str, changes: Sequence[ObjectChange]) -> list[str]:
    removed = {
        item.name for item in changes if item.noun == "principal" and item.action == "remove"
    }
    if not removed:
        return []
    counts: dict[str, int] = {}
    for key in await desk.keys.list(tenant):
        if key.principal in removed and key.revoked_at is None:
            counts[key.principal] = counts.get(key.principal, 0) + 1
    return [
        f"the keys of principal '{name}' ({count}) stop working" for name, count in counts.items()
    ]


async def _access(
    desk: Desk, before: Desired, after: Desired, changes: Sequence[ObjectChange]
) -> tuple[AccessChange, ...] | None:
    if desk.views is None:
        return None
    if not changes:
        return ()
    return access_changes(await desk.views(before), await desk.views(after))


def _check_authority(
    principal: Principal, stored: Stored, put: Sequence[Spec], remove: Sequence[ObjectKey]
) -> None:
    """Raises ForbiddenError for what this administrator may not set up or take away."""
    for spec in put:
        if isinstance(spec, UpstreamSpec):
            check_upstream(principal, spec)
        elif isinstance(spec, PrincipalSpec):
            check_principal(principal, spec, principal_named(stored, spec.name))
        elif isinstance(spec, GuardrailSpec):
            check_guardrail(principal, spec)
    for noun, name in remove:
        if noun == "principal":
            check_principal(principal, principal_named(stored, name))
