"""Reading and changing single objects of the desired state, the same way for every noun."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from hub.administration.desk import Desk
from hub.config.conversion import LISTS, document_of, section_of
from hub.config.cross_references import check_references
from hub.config.problems import path_text
from hub.config.section_checks import Finding
from hub.config.suggestions import did_you_mean
from hub.domain.desired import Desired
from hub.domain.source import Source
from hub.errors import ConfigurationError, ConflictError, NotFoundError
from hub.stores.documents import Noun, Spec, noun_of
from hub.stores.objects import Change, ObjectKey, Stored, StoredObject, desired_from

SECTIONS: Final[Mapping[Noun, str]] = {
    "upstream": "upstreams",
    "principal": "principals",
    "group": "groups",
    "virtual_server": "virtual_servers",
    "grant": "grants",
    "guardrail": "guardrails",
    "limit": "limits",
    "price": "prices",
    "budget": "budgets",
}

_ATTEMPTS: Final = 5

Edit = Callable[[Stored], Change]
"""Decides on a change, given what there is; may be asked again when others were faster."""


async def edit(desk: Desk, tenant: str, decide: Edit) -> Stored:
    """Load, decide, write, unless there is nothing to write; returns what there was.

    Raises what ``decide`` raises, and ConflictError when others keep being faster.
    """
    for attempt in range(_ATTEMPTS):
        stored = await desk.objects.load(tenant)
        change = decide(stored)
        if not change.put and not change.remove:
            return stored
        try:
            await desk.objects.change(tenant, change, expected=stored.revision)
        except ConflictError:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        break
    await desk.written()
    return stored


async def put(
    desk: Desk, tenant: str, spec: Spec, check: Callable[[Stored], None] = lambda _: None
) -> StoredObject:
    """Add an object or replace it; ``check`` may refuse, given what there is.

    Raises ConfigurationError when it names what does not exist, ConflictError when a file owns it.
    """
    at = desk.timestamp()

    def decide(stored: Stored) -> Change:
        check(stored)
        key = (noun_of(spec), spec.name)
        before = stored.objects.get(key)
        if before is not None:
            refuse_file_owned(key, before)
            if before.spec == spec:
                return Change(at=at)
        check_new(stored, spec)
        return Change(put=(spec,), at=at)

    await edit(desk, tenant, decide)
    return StoredObject(spec, changed_at=at)


async def delete(
    desk: Desk,
    tenant: str,
    noun: Noun,
    name: str,
    check: Callable[[Stored], None] = lambda _: None,
) -> StoredObject:
    """Remove an object, unless ``check`` refuses; returns what it was.

    Raises NotFoundError, and ConflictError when a file owns it or others refer to it.
    """
    at = desk.timestamp()

    def decide(stored: Stored) -> Change:
        check(stored)
        check_removable(stored, noun, name)
        return Change(remove=((noun, name),), at=at)

    stored = await edit(desk, tenant, decide)
    return stored.objects[noun, name]


def check_removable(stored: Stored, noun: Noun, name: str) -> None:
    """Raises NotFoundError, and ConflictError when a file owns it or others refer to it."""
    refuse_file_owned((noun, name), find(stored, noun, name))
    check_unused(stored, (noun, name))


def find(stored: Stored, noun: Noun, name: str) -> StoredObject:
    """One object. Raises NotFoundError with what was probably meant."""
    item = stored.objects.get((noun, name))
    if item is None:
        known = [other for kind, other in stored.objects if kind == noun]
        hint = did_you_mean(name, known)
        raise NotFoundError(f"There is no {noun_text(noun)} '{name}'{hint or '.'}")
    return item


def of_noun(stored: Stored, noun: Noun) -> Iterator[StoredObject]:
    """The objects of one kind, sorted by name."""
    for key in sorted(stored.objects):
        if key[0] == noun:
            yield stored.objects[key]


def noun_text(noun: Noun) -> str:
    """The noun in a sentence."""
    return noun.replace("_", " ")


def refuse_file_owned(key: ObjectKey, item: StoredObject) -> None:
    """Raises ConflictError, naming the file, for what only a file may change."""
    if item.spec.source == "file":
        where = item.origin or "a configuration file"
        raise ConflictError(
            f"The {noun_text(key[0])} '{key[1]}' is owned by {where}; "
            "change it there and apply the file."
        )


def check_new(stored: Stored, spec: Spec) -> None:
    """Raises ConfigurationError when ``spec`` would refer to what does not exist."""
    key = (noun_of(spec), spec.name)
    specs = {**{name: item.spec for name, item in stored.objects.items()}, key: spec}
    desired = desired_from(stored.tenant, specs.values())
    findings = [finding for owner, finding in owned_findings(desired) if owner == key]
    if findings:
        raise_findings(findings)


def check_unused(stored: Stored, key: ObjectKey) -> None:
    """Raises ConflictError, naming who refers to it, when an object is still in use."""
    before = {(owner, _essence(item)) for owner, item in owned_findings(stored.desired)}
    specs = {name: item.spec for name, item in stored.objects.items() if name != key}
    users = sorted({
        f"{noun_text(owner[0])} '{owner[1]}'"
        for owner, item in owned_findings(desired_from(stored.tenant, specs.values()))
        if (owner, _essence(item)) not in before
    })
    if users:
        shown = ", ".join(users[:5]) + (", …" if len(users) > 5 else "")
        raise ConflictError(f"The {noun_text(key[0])} '{key[1]}' is used by {shown}.")


def owned_findings(desired: Desired) -> list[tuple[ObjectKey, Finding]]:
    """Dangling names in a desired state, each with the object that holds it."""
    document = document_of(desired)
    listed = {section: sorted(spec.name for spec in getattr(desired, section)) for section in LISTS}
    nouns = {section: noun for noun, section in SECTIONS.items()}
    found: list[tuple[ObjectKey, Finding]] = []
    for finding in check_references(document):
        section, place = str(finding.path[0]), finding.path[1]
        name = listed[section][place] if isinstance(place, int) else place
        found.append(((nouns[section], name), finding))
    return found


def raise_findings(findings: list[Finding]) -> None:
    """Raises ConfigurationError with what was found."""
    problems = [f"{path_text(finding.path)}: {finding.message}" for finding in findings]
    raise ConfigurationError("; ".join(problems), problems)


def owned_document(item: StoredObject) -> dict[str, Any]:
    """An object as answers show it: its section, and who owns it."""
    source: Source = item.spec.source
    document: dict[str, Any] = {
        **section_of(item.spec),
        "name": item.spec.name,
        "source": source,
        "changed_at": item.changed_at,
    }
    if item.origin:
        document["file"] = item.origin
    if item.drifted:
        document["drifted"] = True
    return document


def _essence(finding: Finding) -> str:
    """A message without its suggestion, which depends on what else there is."""
    return finding.message.split(";")[0]
