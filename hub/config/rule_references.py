"""What rules have to agree about with the rest: names that are used must exist, and be used once."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hub.config.section_checks import Finding
from hub.config.suggestions import Suggestions
from hub.domain.call import DEFAULT_TENANT, DEFAULT_VIRTUAL_SERVER

NAMED_SECTIONS: Final = ("guardrails", "limits", "budgets")
"""Lists whose items have a name of their own."""

_ATTACHED: Final = (
    ("group", "group", "groups"),
    ("principal", "principal", "principals"),
    ("virtual_server", "virtual server", "virtual_servers"),
)


def check_rules(
    document: Any, names: Mapping[str, frozenset[str]], suggestions: Suggestions
) -> Iterator[Finding]:
    """Everything in the sections of rules that names what does not exist, or is there twice.

    ``names`` are those that exist, by section. Takes values of any type.
    """
    servers = names["virtual_servers"] | {DEFAULT_VIRTUAL_SERVER}
    known = {**names, "virtual_servers": servers}
    tenant = document.get("tenant", DEFAULT_TENANT) if isinstance(document, Mapping) else ""
    for section in NAMED_SECTIONS:
        yield from _names(section, _items(document, section))
        for index, rule in enumerate(_items(document, section)):
            attach = rule.get("attach")
            if isinstance(attach, Mapping):
                path = (section, index, "attach")
                yield from _attached(path, attach, tenant, known, suggestions)
    yield from _prices(document, names["upstreams"], suggestions)
    yield from _currencies(document)


def _names(section: str, items: list[Mapping[str, Any]]) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, rule in enumerate(items):
        name = rule.get("name")
        if isinstance(name, str) and name in seen:
            yield Finding((section, index, "name"), f"'{name}' stands above already")
        elif isinstance(name, str):
            seen.add(name)


def _attached(
    path: tuple[str, int, str],
    attach: Mapping[str, Any],
    tenant: object,
    known: Mapping[str, frozenset[str]],
    suggestions: Suggestions,
) -> Iterator[Finding]:
    if attach.get("tenant") not in (None, tenant):
        yield Finding((*path, "tenant"), f"this file is about the tenant '{tenant}'")
    for key, noun, section in _ATTACHED:
        name = attach.get(key)
        if isinstance(name, str) and name not in known[section]:
            hint = suggestions.of(name, known[section])
            yield Finding((*path, key), f"unknown {noun} '{name}'{hint}")
    tool = attach.get("tool")
    server = tool.partition("/")[0] if isinstance(tool, str) else ""
    if server and server not in known["virtual_servers"]:
        hint = suggestions.of(server, known["virtual_servers"])
        yield Finding((*path, "tool"), f"unknown virtual server '{server}'{hint}")


def _prices(
    document: Any, upstreams: frozenset[str], suggestions: Suggestions
) -> Iterator[Finding]:
    seen: set[tuple[object, object]] = set()
    for index, price in enumerate(_items(document, "prices")):
        upstream, tool = price.get("upstream"), price.get("tool")
        if not isinstance(upstream, str) or not isinstance(tool, str | None):
            continue
        if upstream not in upstreams:
            hint = suggestions.of(upstream, upstreams)
            yield Finding(("prices", index, "upstream"), f"unknown upstream '{upstream}'{hint}")
        if (upstream, tool) in seen:
            yield Finding(("prices", index), "its price stands above already")
        seen.add((upstream, tool))


def _currencies(document: Any) -> Iterator[Finding]:
    """A tenant pays in one currency: a budget in another would never be spent."""
    first = ""
    for section, key in (("prices", "per_call"), ("budgets", "amount")):
        for index, item in enumerate(_items(document, section)):
            amount = item.get(key)
            currency = amount.rpartition(" ")[2] if isinstance(amount, str) else ""
            first = first or currency
            if currency and currency != first:
                message = f"is in {currency}, others in {first}; one tenant pays in one currency"
                yield Finding((section, index, key), message)


def _items(document: Any, key: str) -> list[Mapping[str, Any]]:
    """The mappings in a list; what is no mapping keeps its place as an empty one."""
    value = document.get(key) if isinstance(document, Mapping) else None
    items = value if isinstance(value, list | tuple) else ()
    return [item if isinstance(item, Mapping) else {} for item in items]
