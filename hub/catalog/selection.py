"""Which of an upstream's capabilities a virtual server takes, and with which override."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from hub.catalog.definitions import Definitions, Described
from hub.domain.catalog import KINDS, Kind
from hub.domain.desired import Include, Override
from hub.policy.patterns import patterns_of

_UNCHANGED: Final = Override()

_ASSUMED_HINTS: Final = {
    "readOnlyHint": False,
    "destructiveHint": True,
    "idempotentHint": False,
    "openWorldHint": True,
}
"""What a tool without the annotation is taken for (2025-11-25 schema, ToolAnnotations)."""


class Selected(Struct, frozen=True):
    """One capability that a virtual server takes, once for each name it gets there."""

    described: Described
    override: Override | None = None


def select(includes: Sequence[Include], definitions: Definitions) -> Iterator[Selected]:
    """What ``includes``, all of one virtual server and upstream, take from ``definitions``.

    A capability is taken once however many includes match it, and with its override if any of them
    has one; overrides that give different names take it once for each.
    """
    for kind in KINDS:
        for described in definitions.by_kind[kind]:
            taken_by = [include for include in includes if takes(include, kind, described)]
            if taken_by:
                yield from _appearances(described, taken_by)


def takes(include: Include, kind: Kind, described: Described) -> bool:
    """Whether an include means a capability. ``resources`` covers templates, ``where`` tools only."""
    items = lists_of(include)[kind]
    if items is None:
        if any(listed is not None for listed in lists_of(include).values()):
            return False
    elif not patterns_of(items).match(described.name):
        return False
    return kind != "tool" or all(
        _hint(described, hint) == wanted for hint, wanted in include.where.items()
    )


def unmatched(includes: Sequence[Include], definitions: Definitions) -> Iterator[str]:
    """Names written out in ``includes`` that the upstream does not list, one sentence each."""
    listed = {kind: {described.name for described in definitions.by_kind[kind]} for kind in KINDS}
    everything = {name for names in listed.values() for name in names}
    for include in includes:
        for kind, items in lists_of(include).items():
            known = listed[kind] | (listed["template"] if kind == "resource" else set())
            for item in items or ():
                if kind != "template" and item not in known and not _is_pattern(item):
                    yield f"{kind} {item!r} is included and not listed"
        for name in include.override.keys() - everything:
            yield f"{name!r} is overridden and not listed"


def lists_of(include: Include) -> Mapping[Kind, tuple[str, ...] | None]:
    """The names and patterns of an include by kind; None where it has no list."""
    return {
        "tool": include.tools,
        "resource": include.resources,
        "template": include.resources,
        "prompt": include.prompts,
    }


def _appearances(described: Described, taken_by: Sequence[Include]) -> Iterator[Selected]:
    overrides: dict[str | None, Override] = {}
    for include in taken_by:
        override = include.override.get(described.name, _UNCHANGED)
        if override != _UNCHANGED:
            overrides.setdefault(override.name, override)
    if not overrides:
        yield Selected(described)
    for override in overrides.values():
        yield Selected(described, override)


def _hint(described: Described, hint: str) -> bool:
    return described.hints.get(hint, _ASSUMED_HINTS.get(hint, False))


def _is_pattern(item: str) -> bool:
    return any(character in item for character in "*?[")
