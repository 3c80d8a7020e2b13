"""Arguments as text in paths, queries, headers and forms (OpenAPI 3.1, Style Examples; RFC 6570).

Numbers are written as the caller wrote them. A null is left out.
"""

from collections.abc import Iterator
from typing import Final, Literal
from urllib.parse import quote

from msgspec import Raw

from connectors.openapi_operation import Style
from mcp_wire.jsonrpc import decode_batch, decode_members, string_of

MAX_NESTING: Final = 8
"""Depth of objects in a ``deepObject`` parameter; deeper ones are written as JSON."""

_RESERVED: Final = ":/?[]@!$'()*,;"
"""What ``allowReserved`` leaves as it is; what would end the value is always encoded."""
_DELIMITERS: Final[dict[Style, str]] = {"spaceDelimited": "%20", "pipeDelimited": "%7C"}

Shape = Literal["null", "array", "object", "scalar"]


def shape_of(value: Raw) -> Shape:
    """What kind of JSON value it is."""
    first = bytes(memoryview(value)[:1])
    if first == b"n":
        return "null"
    return "array" if first == b"[" else "object" if first == b"{" else "scalar"


def text_of(value: Raw) -> str:
    """A string's text, any other value's JSON."""
    text = string_of(value)
    return bytes(value).decode() if text is None else text


def encoded(text: str, *, allow_reserved: bool = False) -> str:
    """Percent-encoded."""
    return quote(text, safe=_RESERVED if allow_reserved else "")


def pairs_of(
    name: str, value: Raw, style: Style, *, explode: bool, allow_reserved: bool = False
) -> Iterator[tuple[str, str]]:
    """Names and values of a query or form, percent-encoded."""
    shape = shape_of(value)

    def say(raw: Raw) -> str:
        return encoded(text_of(raw), allow_reserved=allow_reserved)

    if shape == "null":
        return
    if shape == "scalar" or style == "json" or (style == "auto" and shape == "object"):
        yield encoded(name), say(value)
    elif style == "deepObject" and shape == "object":
        yield from _deep(encoded(name), value, 0)
    elif shape == "array":
        items = [say(item) for item in _items(value)]
        if explode or style in {"auto", "deepObject"}:
            yield from ((encoded(name), item) for item in items)
        elif items:
            yield encoded(name), _DELIMITERS.get(style, ",").join(items)
    else:
        members = [(encoded(key), say(item)) for key, item in _members(value)]
        if explode:
            yield from members
        elif members:
            yield encoded(name), _DELIMITERS.get(style, ",").join(sum(members, ()))


def path_text(name: str, value: Raw, style: Style, *, explode: bool) -> str:
    """What stands for a path parameter, its style's own prefix included."""
    if shape_of(value) == "array":
        parts = [encoded(text_of(item)) for item in _items(value)]
        pairs = [f"{encoded(name)}={part}" for part in parts]
    elif shape_of(value) == "object":
        members = [(encoded(key), encoded(text_of(item))) for key, item in _members(value)]
        pairs = [f"{key}={item}" for key, item in members]
        parts = pairs if explode else list(sum(members, ()))
    else:
        parts = [encoded(text_of(value))]
        pairs = [f"{encoded(name)}={parts[0]}"]
    if style == "json":
        return encoded(bytes(value).decode())
    if style == "label":
        return "." + ("." if explode else ",").join(parts)
    if style == "matrix":
        return ";" + (";".join(pairs) if explode else f"{encoded(name)}={','.join(parts)}")
    return ",".join(parts)


def header_text(value: Raw, style: Style, *, explode: bool) -> str:
    """The value of a header, which is not percent-encoded."""
    shape = shape_of(value)
    if style == "json" or shape == "scalar":
        return text_of(value)
    if shape == "array":
        return ",".join(text_of(item) for item in _items(value))
    members = [(key, text_of(item)) for key, item in _members(value)]
    if explode:
        return ",".join(f"{key}={item}" for key, item in members)
    return ",".join(part for member in members for part in member)


def form_members(value: Raw) -> dict[str, Raw]:
    """The members of an object that is a whole form. Raises msgspec.DecodeError for anything else."""
    return decode_members(value)


def form_items(value: Raw) -> list[Raw]:
    """The items of an array, without its nulls; any other value is its only item, null is none."""
    shape = shape_of(value)
    if shape == "null":
        return []
    return _items(value) if shape == "array" else [value]


def _deep(prefix: str, value: Raw, depth: int) -> Iterator[tuple[str, str]]:
    for key, item in _members(value):
        name = f"{prefix}%5B{encoded(key)}%5D"
        shape = shape_of(item)
        if shape == "object" and depth < MAX_NESTING:
            yield from _deep(name, item, depth + 1)
        elif shape == "array":
            yield from ((name, encoded(text_of(part))) for part in _items(item))
        else:
            yield name, encoded(text_of(item))


def _items(value: Raw) -> list[Raw]:
    return [item for item in decode_batch(value) if shape_of(item) != "null"]


def _members(value: Raw) -> Iterator[tuple[str, Raw]]:
    return ((key, item) for key, item in decode_members(value).items() if shape_of(item) != "null")
