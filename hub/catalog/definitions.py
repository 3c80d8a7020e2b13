"""What an upstream listed, made safe to pass on: each definition is judged by itself.

A definition is kept as it was received, vendor fields and ``_meta`` included. What is harmless is
mended, what cannot be used is left out with its reason, and neither touches any other definition.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from hub.catalog.steps import Steps
from hub.domain.catalog import CapabilityId, Definition, Kind, UpstreamListing
from hub.policy.uri_templates import parse
from mcp_wire.headers import (
    ANNOTATION,
    find_invalid_param_header,
    param_header_map,
    strip_param_headers,
)
from mcp_wire.jsonrpc import decode_members, raw
from mcp_wire.revisions import MODERN_REVISIONS
from mcp_wire.wellformed import UNREADABLE

MAX_DEPTH: Final = 200
"""Levels of a definition; so deep, whatever reads it later has the stack for it."""

MAX_VARIABLES: Final = 32
"""Expressions in a URI template; matching takes time in proportion."""

_LEFT_OUT: Final = object()
_STRING_MEMBERS: Final = ("title", "description", "mimeType")
_OBJECT_MEMBERS: Final = ("annotations", "_meta", "outputSchema", "execution")


class Unfit(Exception):  # noqa: N818 -- what is said of a definition
    """A definition cannot be passed on; the text says why."""


class Described(Struct, frozen=True, kw_only=True, gc=False):
    """A definition that passed, with what choosing and rewriting ask of it."""

    definition: Definition
    hints: Mapping[str, bool] = {}
    """Boolean members of ``annotations``."""
    param_headers: Mapping[tuple[str, ...], str] = {}
    """``x-mcp-header`` map of a tool's schema."""

    @property
    def name(self) -> str:
        """The original name, URI or URI template."""
        return self.definition.id.name


class Definitions:
    """Everything usable that one upstream listed, by kind; compared by identity."""

    __slots__ = ("_judged", "by_kind", "listing", "problems")

    def __init__(
        self,
        listing: UpstreamListing,
        by_kind: Mapping[Kind, tuple[Described, ...]],
        problems: tuple[str, ...],
        judged: Mapping[bytes, Described],
    ) -> None:
        self.listing = listing
        self.by_kind = by_kind
        self.problems = problems
        """Why something was left out, one sentence each."""
        self._judged = judged

    def judged(self, key: bytes) -> Described | None:
        """What was made of the same received bytes before."""
        return self._judged.get(key)

    def only(
        self, listing: UpstreamListing, by_kind: Mapping[Kind, tuple[Described, ...]]
    ) -> "Definitions":
        """The same with nothing but ``by_kind``."""
        return Definitions(listing, by_kind, self.problems, self._judged)

    def body_of(self, capability: CapabilityId) -> Raw | None:
        """The upstream's own words for a capability; None where it is not among these."""
        for described in self.by_kind[capability.kind]:
            if described.name == capability.name:
                return described.definition.body
        return None


def read_listing(listing: UpstreamListing, before: Definitions | None) -> Steps[Definitions]:
    """Judge every definition of ``listing``; those that ``before`` saw are not read again."""
    found = listing.listing
    received: dict[Kind, tuple[Raw, ...]] = {
        "tool": found.tools,
        "resource": found.resources,
        "template": found.templates,
        "prompt": found.prompts,
    }
    judged: dict[bytes, Described] = {}
    problems: list[str] = []
    by_kind: dict[Kind, tuple[Described, ...]] = {}
    for kind, definitions in received.items():
        named: dict[str, Described] = {}
        for number, definition in enumerate(definitions, 1):
            yield
            key = _key(listing, kind, definition)
            try:
                described = before.judged(key) if before is not None else None
                described = described or _judged(listing, kind, definition)
                judged[key] = described
                if described.name in named:
                    raise Unfit("an earlier definition has the same name")
                named[described.name] = described
            except Unfit as reason:
                problems.append(f"{kind} {_label(kind, definition, number)}: {reason}")
        by_kind[kind] = tuple(named.values())
    return Definitions(listing, by_kind, tuple(problems), judged)


def digest_of(value: Any) -> str:
    """SHA-256 over canonical JSON: members sorted, no white space, numbers by value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _judged(listing: UpstreamListing, kind: Kind, received: Raw) -> Described:
    """As :func:`_judge`; what no later reader could take is unfit as well."""
    try:
        return _judge(listing, kind, received)
    except UNREADABLE as error:
        raise Unfit("it cannot be read and written again") from error


def _judge(listing: UpstreamListing, kind: Kind, received: Raw) -> Described:
    value, repeated = _read(received)
    changes = _MENDERS[kind](value)
    changes.update(_mended_members(value))
    annotated = kind == "tool" and _may_hold_annotation(bytes(received))
    if annotated:
        schema = changes["inputSchema"] if "inputSchema" in changes else value["inputSchema"]
        problem = find_invalid_param_header(schema)
        if problem is not None:
            changes["inputSchema"] = _without_headers(listing, schema, problem)
    body = received
    if repeated or changes:
        kept = {**value, **changes}
        value = {name: member for name, member in kept.items() if member is not _LEFT_OUT}
        body = _encoded(received, value, None if repeated else changes)
    identity = CapabilityId(listing.upstream, kind, value[NAME_MEMBERS[kind]])
    annotations = value.get("annotations", {})
    return Described(
        definition=Definition(identity, digest_of(value), body),
        hints={name: hint for name, hint in annotations.items() if isinstance(hint, bool)},
        param_headers=param_header_map(value["inputSchema"]) if annotated else {},
    )


def _read(received: Raw) -> tuple[dict[str, Any], bool]:
    """The definition as Python values, and whether any object in it repeats a member.

    A repeated member reads differently from parser to parser, so such a definition is passed on as
    it was understood here.
    """
    repeated = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        found = dict(pairs)
        repeated = repeated or len(found) < len(pairs)
        return found

    try:
        value = json.loads(bytes(received), object_pairs_hook=members)
    except (ValueError, RecursionError) as error:
        raise Unfit("it cannot be read as JSON") from error
    if not isinstance(value, dict):
        raise Unfit("it is no object")
    text = bytes(received)
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and _is_too_deep(value):
        raise Unfit(f"it is nested deeper than {MAX_DEPTH} levels")
    return value, repeated


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for container in level for item in _items_of(container)]
        if not level:
            return False
    return True


def _items_of(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _encoded(received: Raw, value: dict[str, Any], changes: dict[str, Any] | None) -> Raw:
    """``value`` as JSON; members beside ``changes`` stay the text that was received."""
    if changes is None:
        return Raw(_dumped(value))
    members = decode_members(received)
    for name, member in changes.items():
        if member is _LEFT_OUT:
            members.pop(name, None)
        else:
            members[name] = Raw(_dumped(member))
    return raw(members)


def _dumped(value: Any) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise Unfit("a number in it is out of range") from error


def _mended_members(value: Mapping[str, Any]) -> dict[str, Any]:
    """Optional members of the wrong type go; of icons, those that could be harmful go too."""
    changes: dict[str, Any] = {}
    for names, wanted in ((_STRING_MEMBERS, str), (_OBJECT_MEMBERS, dict)):
        for name in names:
            if name in value and not isinstance(value[name], wanted):
                changes[name] = _LEFT_OUT
    if "icons" in value:
        icons = value["icons"] if isinstance(value["icons"], list) else []
        kept = [icon for icon in icons if isinstance(icon, dict) and _is_safe(icon.get("src"))]
        if kept != value["icons"]:
            changes["icons"] = kept or _LEFT_OUT
    return changes


def _is_safe(source: Any) -> bool:
    return isinstance(source, str) and source[:6].lower().startswith(("https:", "data:"))


def _mend_tool(value: Mapping[str, Any]) -> dict[str, Any]:
    _name_of(value, "name")
    schema = _mend_schema(value.get("inputSchema"))
    return {} if schema is value.get("inputSchema") else {"inputSchema": schema}


def _mend_schema(schema: Any) -> dict[str, Any]:
    """An object schema, which is what MCP asks of ``inputSchema``; absent reads as no arguments."""
    if schema is None or schema is True:
        return {"type": "object"}
    if not isinstance(schema, dict):
        raise Unfit("inputSchema is no schema")
    changes: dict[str, Any] = {}
    kind = schema.get("type")
    if kind is None or (isinstance(kind, list) and "object" in kind):
        changes["type"] = "object"
    elif kind != "object":
        raise Unfit("inputSchema is not the schema of an object")
    properties = schema.get("properties", {})
    if properties is None:
        changes["properties"] = {}
    elif not isinstance(properties, dict):
        raise Unfit("properties of inputSchema is no object")
    elif not all(isinstance(member, dict | bool) for member in properties.values()):
        raise Unfit("a property of inputSchema is no schema")
    required = schema.get("required", [])
    if required is None or isinstance(required, bool):
        changes["required"] = []
    elif not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise Unfit("required of inputSchema is no list of names")
    return {**schema, **changes} if changes else schema


def _mend_prompt(value: Mapping[str, Any]) -> dict[str, Any]:
    _name_of(value, "name")
    arguments = value.get("arguments", [])
    if arguments is None:
        return {"arguments": _LEFT_OUT}
    if not isinstance(arguments, list) or not all(
        isinstance(argument, dict) and isinstance(argument.get("name"), str)
        for argument in arguments
    ):
        raise Unfit("arguments is no list of named arguments")
    return {}


def _mend_resource(value: Mapping[str, Any]) -> dict[str, Any]:
    uri = _name_of(value, "uri")
    return {} if isinstance(value.get("name"), str) else {"name": uri}


def _mend_template(value: Mapping[str, Any]) -> dict[str, Any]:
    text = _name_of(value, "uriTemplate")
    try:
        template = parse(text)
    except ValueError as error:
        raise Unfit("the braces of its uriTemplate do not close") from error
    if sum(not isinstance(part, str) for part in template.parts) > MAX_VARIABLES:
        raise Unfit(f"its uriTemplate has more than {MAX_VARIABLES} expressions")
    return {} if isinstance(value.get("name"), str) else {"name": text}


def _name_of(value: Mapping[str, Any], member: str) -> str:
    name = value.get(member)
    if not isinstance(name, str) or not name:
        raise Unfit(f"it has no {member}")
    if len(name) > 2048 or not name.isprintable():
        raise Unfit(f"its {member} is too long or holds control characters")
    return name


def _may_hold_annotation(text: bytes) -> bool:
    """Whether looking for ``x-mcp-header`` is worth it; an escape may hide the name."""
    return ANNOTATION.encode() in text or b"\\u" in text


def _without_headers(listing: UpstreamListing, schema: dict[str, Any], problem: str) -> Any:
    """The schema without its invalid annotations.

    Where they would become headers, such a tool is left out instead (2026-07-28 transports, "Custom
    Headers from Tool Parameters"; mcp.md C6).
    """
    if _takes_headers(listing):
        raise Unfit(problem)
    return json.loads(bytes(strip_param_headers(Raw(_dumped(schema)))))


def _takes_headers(listing: UpstreamListing) -> bool:
    """Whether calls carry ``Mcp-Param-*``: over HTTP, in the modern era."""
    identity = listing.identity
    return identity.transport == "http" and any(
        revision in MODERN_REVISIONS for revision in identity.revisions
    )


def _key(listing: UpstreamListing, kind: Kind, definition: Raw) -> bytes:
    digest = hashlib.sha256(f"{kind}\0{_takes_headers(listing)}\0".encode())
    digest.update(definition)
    return digest.digest()


def _label(kind: Kind, definition: Raw, number: int) -> str:
    try:
        name = msgspec.json.decode(decode_members(definition)[NAME_MEMBERS[kind]], type=str)
    except (KeyError, *UNREADABLE):
        return f"#{number}"
    return repr(name[:80])


NAME_MEMBERS: Final[Mapping[Kind, str]] = {
    "tool": "name",
    "resource": "uri",
    "template": "uriTemplate",
    "prompt": "name",
}
"""Which member of a definition is its name."""

_MENDERS: Final[Mapping[Kind, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "tool": _mend_tool,
    "resource": _mend_resource,
    "template": _mend_template,
    "prompt": _mend_prompt,
}
