"""What applying a file would change: objects, their fields, and who gains or loses what."""

from collections.abc import Iterator, Mapping, Set
from typing import Any, Literal

import msgspec
from msgspec.structs import replace
from pydantic import Field, JsonValue

from hub.administration.desk import Shape
from hub.administration.objects import SECTIONS
from hub.administration.upstreams import shown_section
from hub.config.conversion import section_of
from hub.domain.desired import Desired, UpstreamSpec
from hub.domain.principal import Principal
from hub.domain.rules import BudgetSpec, GuardrailSpec
from hub.stores.documents import NOUNS, Noun, Spec
from hub.stores.objects import ObjectKey, Stored

ACTIONS = ("add", "change", "remove", "adopt")


class FieldChange(Shape):
    """One field of an object; an absent side is null."""

    path: str
    before: JsonValue = None
    after: JsonValue = None


class ObjectChange(Shape):
    """One object that applying would touch."""

    action: Literal["add", "change", "remove", "adopt"] = Field(
        description="adopt: the file takes over an object of the API."
    )
    noun: Noun
    name: str
    drifted: bool = Field(False, description="It is no longer what was last applied from a file.")
    fields: tuple[FieldChange, ...] = ()


class Reach(Shape):
    """One capability of one virtual server."""

    virtual_server: str
    name: str = Field(description="Exposed name.")


class AccessChange(Shape):
    """What one principal gains and loses."""

    principal: str
    gained: tuple[Reach, ...] = ()
    lost: tuple[Reach, ...] = ()


def objects_of(desired: Desired) -> dict[ObjectKey, Spec]:
    """The objects of a desired state by kind and name."""
    return {(noun, spec.name): spec for noun in NOUNS for spec in getattr(desired, SECTIONS[noun])}


def changes_to(
    stored: Stored, wanted: Desired, principal: Principal, *, adopt: bool = False
) -> tuple[ObjectChange, ...]:
    """What makes the file-owned part of ``stored`` be ``wanted``; conflicting objects left out.

    An object of the API that is the same is left to the API, or taken over with ``adopt``.
    """
    found = list(_changes(stored, objects_of(wanted), principal, adopt=adopt))
    order = {noun: index for index, noun in enumerate(NOUNS)}
    return tuple(sorted(found, key=lambda change: (order[change.noun], change.name)))


def conflicts_with(stored: Stored, wanted: Desired) -> tuple[ObjectKey, ...]:
    """Objects that the file describes, that the API owns, and that are not the same."""
    return tuple(
        key
        for key, spec in objects_of(wanted).items()
        if key in stored.objects
        and stored.objects[key].spec.source == "api"
        and not is_same(stored.objects[key].spec, spec)
    )


def is_same(one: Spec, other: Spec) -> bool:
    """Whether two objects say the same, whoever owns them."""
    return _essence(one) == _essence(other)


def access_changes(
    before: Mapping[str, Set[tuple[str, str]]], after: Mapping[str, Set[tuple[str, str]]]
) -> tuple[AccessChange, ...]:
    """Who gains and loses what between two compiled states, sorted by principal."""
    nothing: Set[tuple[str, str]] = frozenset()
    found = [
        AccessChange(
            principal=name,
            gained=_reaches(after.get(name, nothing) - before.get(name, nothing)),
            lost=_reaches(before.get(name, nothing) - after.get(name, nothing)),
        )
        for name in sorted({*before, *after})
    ]
    return tuple(change for change in found if change.gained or change.lost)


def _changes(
    stored: Stored, wanted: Mapping[ObjectKey, Spec], principal: Principal, *, adopt: bool
) -> Iterator[ObjectChange]:
    for (noun, name), spec in wanted.items():
        item = stored.objects.get((noun, name))
        if item is None:
            fields = _field_changes(None, spec, principal)
            yield ObjectChange(action="add", noun=noun, name=name, fields=fields)
        elif item.spec.source == "api":
            if adopt:
                fields = _field_changes(item.spec, spec, principal)
                yield ObjectChange(action="adopt", noun=noun, name=name, fields=fields)
        elif not is_same(item.spec, spec):
            fields = _field_changes(item.spec, spec, principal)
            yield ObjectChange(
                action="change", noun=noun, name=name, drifted=item.drifted, fields=fields
            )
    for (noun, name), item in stored.objects.items():
        if item.spec.source == "file" and (noun, name) not in wanted:
            yield ObjectChange(action="remove", noun=noun, name=name, drifted=item.drifted)


def _essence(spec: Spec) -> bytes:
    if isinstance(spec, UpstreamSpec | GuardrailSpec | BudgetSpec):
        spec = replace(spec, guarded=False)
    return msgspec.json.encode(replace(spec, source="file"), order="deterministic")


def _field_changes(
    before: Spec | None, after: Spec, principal: Principal
) -> tuple[FieldChange, ...]:
    old = section_of(before) if before is not None else {}
    new = section_of(after)
    hidden_old, hidden_new = shown_section(old, principal), shown_section(new, principal)
    return tuple(
        FieldChange(path=path, before=_at(hidden_old, keys), after=_at(hidden_new, keys))
        for path, keys in _paths(old, new)
    )


def _paths(
    old: Any, new: Any, path: str = "", keys: tuple[str | int, ...] = ()
) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Where two sections differ, as deep as both have the same shape."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            absent: Any = {} if isinstance(old.get(key, new.get(key)), dict) else None
            one, other = old.get(key, absent), new.get(key, absent)
            yield from _paths(one, other, f"{path}.{key}" if path else key, (*keys, key))
    elif _is_sections(old) and _is_sections(new) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _paths(one, other, f"{path}[{index}]", (*keys, index))
    elif old != new:
        yield path, keys


def _is_sections(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _at(section: Any, keys: tuple[str | int, ...]) -> Any:
    for key in keys:
        if isinstance(section, dict) and key not in section:
            return None
        section = section[key]
    return section


def _reaches(pairs: Set[tuple[str, str]]) -> tuple[Reach, ...]:
    return tuple(Reach(virtual_server=server, name=name) for server, name in sorted(pairs))
