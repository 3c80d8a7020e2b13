"""What can be wrong inside one section, beyond the types of its keys."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from hub.config.references import holds_credentials, reference_fault
from hub.config.texts import header_name_fault, variable_name_fault

EXPOSED_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,48}")
EXPOSED_NAME_RULE: Final = "an exposed name has letters, digits, '_' and '-', at most 48 of them"

_BEARABLE: Final = 1e15
_KINDS: Final = ("command", "url", "openapi")
_ONLY_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "env": ("command",),
    "cwd": ("command",),
    "isolation": ("command",),
    "max_children": ("command",),
    "idle_stop_s": ("command",),
    "transport": ("url",),
    "headers": ("url", "openapi"),
    "keep_alive_s": ("url", "openapi"),
    "base_url": ("openapi",),
}


class Finding(Struct, frozen=True):
    """Something wrong below a section: where, from the section on, and what."""

    path: tuple[str | int, ...]
    message: str


def check_upstream(given: Mapping[str, Any]) -> list[Finding]:
    """Findings in an upstream, of which only the keys that differ from their defaults are passed.

    Takes values of any type; those of the wrong one are somebody else's finding.
    """
    return [
        *_kind_findings(given),
        *_value_findings("env", given, variable_name_fault),
        *_value_findings("headers", given, header_name_fault),
        *_twice(given),
        *_limits(given),
        *(
            Finding((key,), "a URL may not hold credentials; use headers")
            for key in ("url", "base_url", "openapi")
            if isinstance(given.get(key), str) and holds_credentials(given[key])
        ),
    ]


def check_argument(given: Collection[str]) -> list[Finding]:
    """Findings in the rules of one argument."""
    if "fix" in given and "default" in given:
        return [Finding(("default",), "a fixed argument has no default; leave one of them out")]
    return []


def check_include(new_names: Mapping[str, object]) -> list[Finding]:
    """Findings in the overrides of one include: upstream's name -> new exposed name.

    Names that are URIs (they hold a colon) belong to resources and may be any text.
    """
    return [
        Finding(("override", key, "name"), EXPOSED_NAME_RULE)
        for key, name in new_names.items()
        if isinstance(name, str) and ":" not in key and not EXPOSED_NAME.fullmatch(name)
    ]


def check_grant(group: object, principal: object) -> list[Finding]:
    """Findings in a grant."""
    if (group is None) == (principal is None):
        return [Finding((), "a grant names exactly one of 'group' and 'principal'")]
    return []


def _kind_findings(given: Mapping[str, Any]) -> Iterator[Finding]:
    kinds = [kind for kind in _KINDS if given.get(kind) is not None]
    if len(kinds) != 1:
        found = f"; here are {' and '.join(kinds)}" if kinds else ""
        yield Finding((), f"an upstream has exactly one of command, url and openapi{found}")
        return
    for key in given:
        if key in _ONLY_FOR and kinds[0] not in _ONLY_FOR[key]:
            where = " or ".join(_ONLY_FOR[key])
            yield Finding((key,), f"goes with {where} only, not with {kinds[0]}")
    command = given.get("command")
    if isinstance(command, list | tuple) and command and not str(command[0]).strip():
        yield Finding(("command", 0), "the program's name is empty")


def _value_findings(
    key: str, given: Mapping[str, Any], fault_of: Callable[[str], str | None]
) -> Iterator[Finding]:
    for name, value in _mapping(given, key).items():
        fault = fault_of(name) or (reference_fault(value) if isinstance(value, str) else None)
        if fault is not None:
            yield Finding((key, name), fault)


def _twice(given: Mapping[str, Any]) -> Iterator[Finding]:
    seen: set[str] = set()
    for name in _mapping(given, "headers"):
        if name.lower() in seen:
            yield Finding(("headers", name), "header is given twice; case does not matter")
        seen.add(name.lower())


def _limits(given: Mapping[str, Any]) -> Iterator[Finding]:
    timeout, cap = given.get("timeout_s", 60.0), given.get("timeout_cap_s", 600.0)
    if _is_bearable(timeout) and _is_bearable(cap) and timeout > cap:
        key = "timeout_s" if "timeout_s" in given else "timeout_cap_s"
        yield Finding((key,), f"timeout_s ({timeout:g}) is above timeout_cap_s ({cap:g})")


def _is_bearable(value: Any) -> bool:
    """Whether it is a number that can be shown; what is beyond is somebody else's finding."""
    return isinstance(value, int | float) and abs(value) < _BEARABLE


def _mapping(given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = given.get(key)
    return value if isinstance(value, Mapping) else {}
