"""What can be wrong inside the sections of rules, beyond the types of their keys."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hub.config.references import holds_credentials, parse_reference, reference_fault
from hub.config.section_checks import Finding
from hub.config.texts import header_name_fault

CHECK_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "secrets": ("kinds",),
    "personal_data": ("kinds",),
    "words": ("words", "patterns", "ignore_case", "whole_words"),
    "injection": ("sensitivity",),
    "hidden_text": (),
    "json_schema": (),
    "size": ("max_bytes", "max_depth"),
    "allowed_values": ("arguments",),
    "urls": ("allow",),
    "webhook": ("url", "deadline_ms", "on_error", "headers", "secret", "format"),
}
"""By check: its own keys."""

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "words": ("words", "patterns"),
    "size": ("max_bytes", "max_depth"),
    "allowed_values": ("arguments",),
    "webhook": ("url",),
}
"""By check: keys of which at least one is given."""

_BLOCKS_ONLY: Final = frozenset(("json_schema", "size", "allowed_values"))
"""Checks that cannot point at what to cut out."""

_SEES_DEFINITIONS: Final = frozenset((
    "hidden_text",
    "injection",
    "json_schema",
    "secrets",
    "urls",
    "words",
))
_COMMON: Final = frozenset(("name", "check", "on", "action", "mode", "order", "attach"))
_LIMITS: Final = ("rate", "quota", "concurrency")


def check_attach(given: Mapping[str, Any]) -> list[Finding]:
    """Findings in where a rule holds; takes values of any type."""
    found = []
    if not given:
        words = "tenant, group, principal, virtual_server and tool"
        found.append(Finding((), f"says where it holds by at least one of {words}"))
    tool = given.get("tool")
    if isinstance(tool, str) and not all(tool.partition("/")):
        message = "a tool is named with its virtual server: dev/find_order"
        found.append(Finding(("tool",), message))
    return found


def check_guardrail(given: Mapping[str, Any]) -> list[Finding]:
    """Findings in a guardrail, of which only the keys that differ from their defaults are passed."""
    check = given.get("check")
    if not isinstance(check, str) or check not in CHECK_KEYS:
        return []
    return [
        *_foreign_keys(check, given),
        *_action_findings(check, given),
        *_direction_findings(check, given),
        *_webhook_findings(given),
    ]


def check_limit(given: Mapping[str, Any]) -> list[Finding]:
    """Findings in a limit; keys that are null are not passed."""
    kinds = [key for key in _LIMITS if key in given]
    if len(kinds) != 1:
        found = f"; here are {' and '.join(kinds)}" if kinds else ""
        return [Finding((), f"a limit has exactly one of rate, quota and concurrency{found}")]
    if "burst" in given and kinds != ["rate"]:
        return [Finding(("burst",), f"goes with rate only, not with {kinds[0]}")]
    return []


def _foreign_keys(check: str, given: Mapping[str, Any]) -> Iterator[Finding]:
    for key in given:
        if key not in _COMMON and key not in CHECK_KEYS[check]:
            owners = [name for name, keys in CHECK_KEYS.items() if key in keys]
            if owners:
                yield Finding((key,), f"goes with {' or '.join(owners)} only, not with {check}")
    needed = _NEEDS.get(check, ())
    if needed and not any(given.get(key) for key in needed):
        yield Finding((), f"the check {check} needs {' or '.join(needed)}")


def _action_findings(check: str, given: Mapping[str, Any]) -> Iterator[Finding]:
    action = given.get("action")
    if action == "redact" and check in _BLOCKS_ONLY:
        yield Finding(("action",), f"{check} finds nothing that could be cut out; use block")
    if action == "require_approval":
        yield Finding(("action",), "approvals are not there yet; use block")


def _direction_findings(check: str, given: Mapping[str, Any]) -> Iterator[Finding]:
    listed = given.get("on")
    directions = listed if isinstance(listed, list | tuple) else ()
    for index, direction in enumerate(directions):
        if direction == "definition" and check not in _SEES_DEFINITIONS:
            known = ", ".join(sorted(_SEES_DEFINITIONS))
            yield Finding(("on", index), f"definitions are looked at by {known} only")
        if direction == "response" and check == "allowed_values":
            yield Finding(("on", index), "allowed_values looks at the arguments of requests only")
    attach = given.get("attach")
    elsewhere = {"group", "principal", "virtual_server", "tool"}
    if "definition" in directions and isinstance(attach, Mapping) and elsewhere & attach.keys():
        message = "definitions are everyone's: what looks at them is attached to the tenant alone"
        yield Finding(("attach",), message)


def _webhook_findings(given: Mapping[str, Any]) -> Iterator[Finding]:
    headers = given.get("headers")
    for name, value in (headers if isinstance(headers, Mapping) else {}).items():
        fault = header_name_fault(name) or (
            reference_fault(value) if isinstance(value, str) else None
        )
        if fault is not None:
            yield Finding(("headers", name), fault)
    url, secret = given.get("url"), given.get("secret")
    if isinstance(url, str) and holds_credentials(url):
        yield Finding(("url",), "a URL may not hold credentials; use headers")
    if isinstance(secret, str) and parse_reference(secret) is None:
        yield Finding(("secret",), "a secret stands elsewhere: 'env:NAME' or 'file:PATH'")
