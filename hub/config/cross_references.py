"""What has to agree between sections: names that are used must exist, and be used once.

Works on plain values and tolerates every wrong type in them, so that these problems are found in
the same run as those of the sections themselves.
"""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from hub.config.rule_references import check_rules
from hub.config.section_checks import Finding
from hub.config.suggestions import Suggestions
from hub.domain.call import DEFAULT_VIRTUAL_SERVER
from hub.domain.principal import ANONYMOUS

RESERVED: Final = "portico"

Known = Mapping[str, frozenset[str]]
"""Names that exist beside the document, by section: ``{"upstreams": {"files"}}``."""

NOTHING: Final[Known] = {}
MAX_WILD: Final = 200
"""In includes with more patterns than these, overrides are not looked for."""
_WILD: Final = re.compile(r"[*?\[]")


def check_references(document: Any, known: Known = NOTHING) -> Iterator[Finding]:
    """Everything in ``document`` that names what does not exist, or is there twice."""
    names = {
        section: frozenset(_mapping(document, section)) | known.get(section, frozenset())
        for section in ("upstreams", "principals", "groups", "virtual_servers")
    }
    suggestions = Suggestions()
    yield from _reserved(document)
    yield from _memberships(document, names, suggestions)
    for server, section in _mapping(document, "virtual_servers").items():
        path = ("virtual_servers", server, "include")
        yield from _includes(path, section, names["upstreams"], suggestions)
    yield from _grants(document, names, suggestions)
    yield from check_rules(document, names, suggestions)


def unmatched_overrides(document: Any) -> Iterator[Finding]:
    """Overrides of what their include does not take: allowed, and without effect."""
    suggestions = Suggestions()
    for server, section in _mapping(document, "virtual_servers").items():
        for index, include in enumerate(_items(section, "include")):
            patterns = {
                pattern
                for kind in ("tools", "resources", "prompts")
                for pattern in _words(include, kind)
            }
            wild = [pattern for pattern in patterns if _WILD.search(pattern)]
            if not patterns or len(wild) > MAX_WILD:
                continue
            for key in _mapping(include, "override"):
                if key not in patterns and not any(fnmatchcase(key, one) for one in wild):
                    path = ("virtual_servers", server, "include", index, "override", key)
                    hint = suggestions.of(key, patterns)
                    yield Finding(path, f"is not among what is included{hint}")


def _reserved(document: Any) -> Iterator[Finding]:
    if RESERVED in _mapping(document, "upstreams"):
        message = "the name is reserved for what Portico answers itself"
        yield Finding(("upstreams", RESERVED), message)
    if RESERVED in _mapping(document, "virtual_servers"):
        message = "the name is reserved for Portico's own tools"
        yield Finding(("virtual_servers", RESERVED), message)
    if ANONYMOUS in _mapping(document, "principals"):
        message = "the name is reserved for callers without a credential"
        yield Finding(("principals", ANONYMOUS), message)
    default = _mapping(document, "virtual_servers").get(DEFAULT_VIRTUAL_SERVER)
    if _items(default, "include"):
        path = ("virtual_servers", DEFAULT_VIRTUAL_SERVER, "include")
        yield Finding(path, "'default' is /mcp and holds every exposure; include belongs elsewhere")


def _memberships(document: Any, names: Known, suggestions: Suggestions) -> Iterator[Finding]:
    for group, section in _mapping(document, "groups").items():
        path = ("groups", group, "members")
        yield from _listed(path, section, "principal", names["principals"], suggestions)
    for principal, section in _mapping(document, "principals").items():
        path = ("principals", principal, "groups")
        yield from _listed(path, section, "group", names["groups"], suggestions)


def _listed(
    path: tuple[str, str, str],
    section: Any,
    noun: str,
    known: frozenset[str],
    suggestions: Suggestions,
) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, name in enumerate(_items(section, path[-1])):
        if not isinstance(name, str):
            continue
        if name in seen:
            yield Finding((*path, index), f"{noun} '{name}' is listed twice")
        elif name not in known:
            hint = suggestions.of(name, known)
            yield Finding((*path, index), f"unknown {noun} '{name}'{hint}")
        seen.add(name)


def _includes(
    path: tuple[str, str, str], section: Any, upstreams: frozenset[str], suggestions: Suggestions
) -> Iterator[Finding]:
    exposed: dict[str, tuple[str | int, ...]] = {}
    for index, include in enumerate(_items(section, "include")):
        upstream = include.get("upstream") if isinstance(include, Mapping) else None
        if isinstance(upstream, str) and upstream not in upstreams:
            hint = suggestions.of(upstream, upstreams)
            yield Finding((*path, index, "upstream"), f"unknown upstream '{upstream}'{hint}")
        for key, override in _mapping(include, "override").items():
            name = override.get("name") if isinstance(override, Mapping) else None
            if not isinstance(name, str):
                continue
            here = (*path, index, "override", key, "name")
            if name.lower() in exposed:
                yield Finding(here, f"'{name}' is already the name of another exposure here")
            exposed.setdefault(name.lower(), here)


def _grants(document: Any, names: Known, suggestions: Suggestions) -> Iterator[Finding]:
    servers = names["virtual_servers"] | {DEFAULT_VIRTUAL_SERVER}
    seen: set[str] = set()
    for index, grant in enumerate(_items(document, "grants")):
        if not isinstance(grant, Mapping):
            continue
        for key, noun, known in (
            ("virtual_server", "virtual server", servers),
            ("group", "group", names["groups"]),
            ("principal", "principal", names["principals"]),
        ):
            name = grant.get(key)
            if isinstance(name, str) and name not in known:
                hint = suggestions.of(name, known)
                yield Finding(("grants", index, key), f"unknown {noun} '{name}'{hint}")
        identity = _identity(grant)
        if identity in seen:
            yield Finding(("grants", index), "the same grant stands above")
        seen.add(identity)


def _identity(grant: Mapping[str, Any]) -> str:
    lists = {
        kind: sorted(_words(grant, kind))
        for kind in ("tools", "resources", "prompts")
        if grant.get(kind) is not None
    }
    who = (grant.get("group"), grant.get("principal"), grant.get("virtual_server"))
    return repr((who, lists))


def _mapping(section: Any, key: str) -> Mapping[str, Any]:
    value = section.get(key) if isinstance(section, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _items(section: Any, key: str) -> list[Any]:
    value = section.get(key) if isinstance(section, Mapping) else None
    return list(value) if isinstance(value, list | tuple) else []


def _words(section: Any, key: str) -> list[str]:
    return [item for item in _items(section, key) if isinstance(item, str)]
