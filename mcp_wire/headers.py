"""HTTP headers of MCP: names, the value encoding, and parameters mirrored in ``Mcp-Param-*``.

Source: 2026-07-28 transports, "Standard MCP Request Headers" and "Custom Headers from Tool
Parameters". What is compiled once works on whole schemas; what runs per call gets the compiled map
and reads arguments one level at a time: a tool without annotations costs nothing.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from mcp_wire.jsonrpc import decode_members, raw

REVISION_HEADER: Final = "MCP-Protocol-Version"
METHOD_HEADER: Final = "Mcp-Method"
NAME_HEADER: Final = "Mcp-Name"
SESSION_HEADER: Final = "Mcp-Session-Id"
LAST_EVENT_HEADER: Final = "Last-Event-ID"
PARAM_PREFIX: Final = "Mcp-Param-"
ANNOTATION: Final = "x-mcp-header"
"""JSON Schema annotation that names the header of a property."""

NAME_PARAMS: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""Method -> parameter that ``Mcp-Name`` repeats."""

ParamHeaders = Mapping[tuple[str, ...], str]
"""Property path -> header token, of a schema that :func:`find_invalid_param_header` accepts."""

_ROUTING_HEADERS: Final = frozenset(
    name.lower().encode() for name in (REVISION_HEADER, METHOD_HEADER, NAME_HEADER)
)
_SENTINEL_START: Final = "=?base64?"
_SENTINEL_END: Final = "?="
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_MIRRORED_TYPES: Final = frozenset(("string", "integer", "boolean"))
_ONE_SUBSCHEMA: Final = frozenset((
    "items", "contains", "unevaluatedItems", "additionalProperties", "propertyNames",
    "unevaluatedProperties", "not", "if", "then", "else", "contentSchema",
))  # fmt: skip
_LISTED_SUBSCHEMAS: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_NAMED_SUBSCHEMAS: Final = frozenset((
    "patternProperties", "dependentSchemas", "$defs", "definitions",
))  # fmt: skip
_MAX_DEPTH: Final = 64
"""Schemas nested deeper than this keep their annotations when they are stripped."""

_string: Final = msgspec.json.Decoder(str)
_list: Final = msgspec.json.Decoder(list[Raw])


def encode_header_value(value: str) -> str:
    """``value`` as a header can carry it: in base64 behind a sentinel where it would not survive.

    Raises UnicodeEncodeError for text that has no UTF-8 form.
    """
    plain = value.isascii() and value.isprintable() and value == value.strip(" ")
    if plain and _sentinel_payload(value) is None:
        return value
    return f"{_SENTINEL_START}{base64.b64encode(value.encode()).decode()}{_SENTINEL_END}"


def decode_header_value(value: str | None) -> str | None:
    """What :func:`encode_header_value` made the header from; None for a damaged sentinel, and absence.

    Only canonical base64 of UTF-8 text is accepted, so that two values never read as one.
    """
    if value is None:
        return None
    payload = _sentinel_payload(value)
    if payload is None:
        return value
    try:
        content = base64.b64decode(payload, validate=True)
        if base64.b64encode(content).decode() != payload:
            return None
        return content.decode()
    except (binascii.Error, UnicodeError, ValueError):
        return None


def find_duplicate_routing_header(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The lower-case name of a routing header that came more than once; readers could disagree on it."""
    seen: set[bytes] = set()
    for name, _ in headers:
        key = name.lower()
        if key in _ROUTING_HEADERS:
            if key in seen:
                return key.decode()
            seen.add(key)
    return None


def find_invalid_param_header(schema: Any) -> str | None:
    """Why the annotations of a decoded input schema cannot be used; None when they can (mcp.md C6).

    An annotation belongs on a string, integer or boolean that is reached from the root through
    ``properties`` alone, and is an RFC 9110 token that no other property has, whatever its case.
    """
    seen: set[str] = set()
    for path, node in _positions(schema):
        if ANNOTATION not in node:
            continue
        if not path:
            return f"{ANNOTATION} at a place that properties alone do not lead to"
        where, token, kind = ".".join(path), node[ANNOTATION], node.get("type")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return f"{ANNOTATION} of '{where}' is not a token"
        if not isinstance(kind, str) or kind not in _MIRRORED_TYPES:
            return (
                f"{ANNOTATION} of '{where}' is on something else than a string, integer or boolean"
            )
        if token.lower() in seen:
            return f"{ANNOTATION} of '{where}' repeats that of another property"
        seen.add(token.lower())
    return None


def param_header_map(schema: Any) -> dict[tuple[str, ...], str]:
    """Property path -> header token of a decoded input schema without invalid annotations."""
    return {
        path: node[ANNOTATION]
        for path, node in _positions(schema)
        if path and isinstance(node.get(ANNOTATION), str)
    }


def strip_param_headers(schema: Raw) -> Raw:
    """``schema`` without its annotations, for wires that have no headers; the very same when it has none."""
    if b"x-mcp-" not in bytes(schema) and b"\\" not in bytes(schema):
        return schema
    return _stripped(schema, 0)


def build_param_headers(header_map: ParamHeaders, arguments: Raw | None) -> list[tuple[str, str]]:
    """``Mcp-Param-*`` headers of a call with these final arguments: (name, encoded value) pairs.

    Absent and null values have no header, nor have values that a header cannot mirror.
    """
    headers = []
    if header_map:
        members = _object(arguments)
        for path, token in header_map.items():
            rendered = _render(_value_at(members, path))
            if rendered is not None:
                headers.append((PARAM_PREFIX + token, encode_header_value(rendered)))
    return headers


def find_param_mismatch(
    header_map: ParamHeaders, arguments: Raw | None, headers: Iterable[tuple[bytes, bytes]]
) -> str | None:
    """Where ``Mcp-Param-*`` headers and arguments disagree; None where they agree (mcp.md S4).

    Header and argument are present together or absent together, null counts as absent; whole
    numbers are compared as numbers; a header that came twice agrees with nothing.
    """
    if not header_map:
        return None
    members = _object(arguments)
    given: dict[str, list[str]] = {}
    for name, value in headers:
        given.setdefault(name.lower().decode("latin-1"), []).append(value.decode("latin-1"))
    for path, token in header_map.items():
        values = given.get((PARAM_PREFIX + token).lower(), [])
        if len(values) > 1:
            return f"{PARAM_PREFIX}{token} came more than once"
        problem = _disagreement(_value_at(members, path), values[0] if values else None)
        if problem is not None:
            return f"{PARAM_PREFIX}{token} {problem} the argument '{'.'.join(path)}'"
    return None


def _disagreement(argument: Raw | None, header: str | None) -> str | None:
    rendered = _render(argument)
    if rendered is None:
        return None if header is None else "came without"
    if header is None:
        return "is missing beside"
    decoded = decode_header_value(header.strip(" \t"))
    if decoded is None:
        return "cannot be decoded and compared with"
    if decoded != rendered and not _same_whole_number(argument, decoded):
        return "differs from"
    return None


def _same_whole_number(argument: Raw | None, text: str) -> bool:
    """Whether a whole number of the arguments is what ``text`` writes, exactly and at any size."""
    if not _DECIMAL.fullmatch(text):
        return False
    number = _number(bytes(argument or b""))
    if isinstance(number, float):
        if not number.is_integer():
            return False
        number = int(number)
    whole, _, fraction = text.partition(".")
    try:
        return number is not None and not fraction.strip("0") and int(whole) == number
    except ValueError:
        return False


def _sentinel_payload(value: str) -> str | None:
    shortest = len(_SENTINEL_START) + len(_SENTINEL_END)
    if len(value) < shortest or "\n" in value or not value.startswith(_SENTINEL_START):
        return None
    return value[len(_SENTINEL_START) : -2] if value.endswith(_SENTINEL_END) else None


def _positions(root: Any) -> Iterator[tuple[tuple[str, ...] | None, dict[str, Any]]]:
    """Every place of a schema that is a schema, with the path of ``properties`` that leads there.

    The path is None behind any other keyword. References are not followed and data is not entered;
    the walk ends for every finite schema, however deep.
    """
    pending: list[tuple[tuple[str, ...] | None, Any]] = [((), root)]
    while pending:
        path, node = pending.pop()
        if not isinstance(node, dict):
            continue
        yield path, node
        for keyword, value in node.items():
            if keyword == "properties" and isinstance(value, dict):
                for name, child in value.items():
                    pending.append((None if path is None else (*path, name), child))
            elif keyword in _ONE_SUBSCHEMA:
                pending.append((None, value))
            elif keyword in _LISTED_SUBSCHEMAS and isinstance(value, list):
                pending.extend((None, child) for child in value)
            elif keyword in _NAMED_SUBSCHEMAS and isinstance(value, dict):
                pending.extend((None, child) for child in value.values())


def _stripped(schema: Raw, depth: int) -> Raw:
    members = _object(schema)
    if depth > _MAX_DEPTH or not members:
        return schema
    kept = {name: value for name, value in members.items() if name != ANNOTATION}
    changed = len(kept) != len(members)
    for keyword, value in kept.items():
        stripped = _stripped_keyword(keyword, value, depth + 1)
        if stripped is not value:
            kept[keyword] = stripped
            changed = True
    return raw(kept) if changed else schema


def _stripped_keyword(keyword: str, value: Raw, depth: int) -> Raw:
    if keyword in _ONE_SUBSCHEMA:
        return _stripped(value, depth)
    if keyword == "properties" or keyword in _NAMED_SUBSCHEMAS:
        before = _object(value)
        after = {name: _stripped(child, depth) for name, child in before.items()}
        return raw(after) if any(after[name] is not before[name] for name in before) else value
    if keyword in _LISTED_SUBSCHEMAS and bytes(value)[:1] == b"[":
        listed = _list.decode(value)
        stripped = [_stripped(child, depth) for child in listed]
        changed = any(new is not old for new, old in zip(stripped, listed, strict=True))
        return raw(stripped) if changed else value
    return value


def _object(value: Raw | None) -> dict[str, Raw]:
    """The members of an object; whatever else there is has none."""
    return (
        decode_members(value) if value is not None and bytes(memoryview(value)[:1]) == b"{" else {}
    )


def _value_at(members: Mapping[str, Raw], path: tuple[str, ...]) -> Raw | None:
    value: Raw | None = None
    for depth, name in enumerate(path):
        value = (members if depth == 0 else _object(value)).get(name)
    return value


def _render(value: Raw | None) -> str | None:
    """How a header mirrors a scalar; None where there is nothing to mirror."""
    text = bytes(value) if value is not None else b"null"
    if text[:1] == b'"':
        return _string.decode(text)
    if text in {b"true", b"false"}:
        return text.decode()
    number = _number(text)
    try:
        return None if number is None else str(number)
    except ValueError:
        return None


def _number(text: bytes) -> int | float | None:
    """A JSON number; None for anything else, and for integers too long to be written in decimal."""
    if not text[:1].isdigit() and text[:1] != b"-":
        return None
    try:
        return int(text) if text.lstrip(b"-").isdigit() else float(text)
    except ValueError:
        return None
