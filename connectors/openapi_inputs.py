"""The arguments of an operation's tool: its parameters and its body, merged into one input schema."""

import re
from collections.abc import Iterable
from typing import Final

from connectors.http_message import RESERVED
from connectors.openapi_document import Document, Json, Node, UnusableError
from connectors.openapi_operation import (
    BODY_ARGUMENT,
    Body,
    BodyKind,
    Field,
    Parameter,
    Place,
    Style,
)
from connectors.openapi_schema import Schema, SchemaMaker

MAX_PARAMETERS: Final = 200
MAX_MEDIA_TYPES: Final = 100
MAX_ARGUMENT: Final = 64
"""Characters of an argument's name; clients refuse longer ones."""

MAX_DESCRIPTION: Final = 2_000

_PLACES: Final[tuple[Place, ...]] = ("path", "query", "header", "cookie")
_STYLES: Final[dict[Place, tuple[Style, ...]]] = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
"""The default of each place first (OpenAPI 3.1, Style Values)."""
_OWN_HEADERS: Final = RESERVED | {"authorization"}
"""Header parameters that are to be ignored (OpenAPI 3.1, Parameter Object, ``name``), and others that
only whoever writes the message can set."""
_KINDS: Final[tuple[tuple[str, BodyKind], ...]] = (
    (r"application/(.+\+)?json", "json"),
    (r"application/x-www-form-urlencoded", "form"),
    (r"multipart/form-data", "multipart"),
    (r"text/.+|application/(.+\+)?xml", "text"),
    (r"[^*]+/[^*]+", "binary"),
    (r".*\*", "json"),
)
"""Media types of bodies, the preferred first."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TEMPLATE: Final = re.compile(r"\{([^{}/]*)\}")
_FLAT: Final = frozenset((
    "type", "properties", "required", "title", "description", "additionalProperties", "examples",
    "default", "deprecated",
))  # fmt: skip
"""Keywords of an object whose members can be arguments of their own."""


_FILE: Final[Json] = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "Content of the file, base64.",
}


class Inputs:
    """Collects the arguments of one operation. What comes first keeps its plain name.

    Every method raises UnusableError for what makes the whole operation unusable.
    """

    def __init__(self, document: Document, maker: SchemaMaker) -> None:
        self.parameters: list[Parameter] = []
        self.body: Body | None = None
        self._document = document
        self._maker = maker
        self._properties: Schema = {}
        self._required: list[Json] = []

    def schema(self) -> Schema:
        """The ``inputSchema``."""
        schema: Schema = {"type": "object", "properties": self._properties}
        if self._required:
            schema["required"] = self._required
        schema["additionalProperties"] = False
        definitions = self._maker.definitions()
        if definitions:
            schema["$defs"] = definitions
        return schema

    def add_parameters(self, path: str, lists: Iterable[Node]) -> None:
        """Parameters of the path and of the operation, of which the later ones take precedence."""
        lists = list(lists)
        found: dict[tuple[str, str], Node] = {}
        if any(part.size > MAX_PARAMETERS for part in lists):
            raise UnusableError(path, f"it has more than {MAX_PARAMETERS} parameters")
        for node in (self._document.follow(item) for part in lists for item in part.items()):
            found[node.text("in"), node.text("name")] = node
        if len(found) > MAX_PARAMETERS:
            raise UnusableError(path, f"it has more than {MAX_PARAMETERS} parameters")
        named = dict.fromkeys(_TEMPLATE.findall(path))
        for place, name in found:
            if place not in _PLACES or not name:
                where = found[place, name].where
                raise UnusableError(where, f"a parameter in {place[:40]!r} cannot be sent")
        for name in named:
            self._add_parameter("path", name, found.get(("path", name), Node({}, path)))
        for place in _PLACES[1:]:
            for (where, name), declared in found.items():
                if where == place and not (place == "header" and name.lower() in _OWN_HEADERS):
                    self._add_parameter(place, name, declared)

    def add_body(self, request_body: Node) -> None:
        """The body, in the media type that is easiest to make."""
        node = self._document.follow(request_body)
        content = node.child("content")
        if content.size > MAX_MEDIA_TYPES:
            raise UnusableError(content.where, "it has too many media types")
        offered = content.members()
        if not offered:
            return
        media_type, kind = _preferred(offered)
        content = self._document.follow(offered[media_type])
        is_required = node.flag("required")
        plain = media_type.partition(";")[0].strip().lower()
        schema = self._schema_of(content) if kind != "binary" else _FILE
        if node.text("description") and isinstance(schema, dict):
            schema = {"description": node.text("description"), **schema}
        members = _members(schema) if kind in {"json", "form", "multipart"} else None
        if "*" in plain:
            plain = "application/json"
        if not _MEDIA_TYPE.fullmatch(plain):
            raise UnusableError(content.where, "a body of this media type cannot be made")
        if not members:
            argument = self._add(BODY_ARGUMENT, "body", schema, is_required=is_required)
            self.body = Body(kind=kind, media_type=plain, argument=argument, required=is_required)
            return
        required = _required_of(schema) if is_required else set()
        encoding = content.child("encoding")
        fields = tuple(
            self._field(name, member, encoding.child(name), is_required=name in required)
            for name, member in members.items()
        )
        self.body = Body(kind=kind, media_type=plain, fields=fields, required=is_required)

    def _add_parameter(self, place: Place, name: str, node: Node) -> None:
        if place in {"header", "cookie"} and not _TOKEN.fullmatch(name):
            raise UnusableError(node.where, f"a {place} cannot have that name")
        is_required = place == "path" or node.flag("required")
        described = node.child("content")
        if isinstance(described.value, dict) and described.value:
            first = described.child(next(iter(described.value)))
            schema = self._schema_of(self._document.follow(first))
            style: Style = "json"
        else:
            schema = self._schema_of(node)
            style = next(
                (known for known in _STYLES[place] if known == node.text("style")),
                _STYLES[place][0],
            )
        if isinstance(schema, dict) and node.text("description"):
            schema = {**schema, "description": node.text("description")[:MAX_DESCRIPTION]}
        self.parameters.append(
            Parameter(
                argument=self._add(name, place, schema, is_required=is_required),
                name=name,
                place=place,
                style=style,
                explode=node.flag("explode", default=style == "form"),
                allow_reserved=node.flag("allowReserved"),
                required=is_required,
            )
        )

    def _field(self, name: str, schema: Json, encoding: Node, *, is_required: bool) -> Field:
        media_type = encoding.text("contentType").partition(",")[0].strip()
        style: Style = next(
            (one for one in _STYLES["query"] if one == encoding.text("style")), "auto"
        )
        return Field(
            argument=self._add(name, "body", schema, is_required=is_required),
            name=name,
            style=style,
            explode=encoding.flag("explode", default=style in {"auto", "form"}),
            is_binary=isinstance(schema, dict) and schema.get("format") == "binary",
            media_type=media_type if _MEDIA_TYPE.fullmatch(media_type) else "",
        )

    def _schema_of(self, node: Node) -> Json:
        schema = node.child("schema")
        return {} if schema.value is None else self._maker.of(schema)

    def _add(self, name: str, place: str, schema: Json, *, is_required: bool) -> str:
        """Make an argument; a name that is taken gets its place in front, then a number behind."""
        argument = _UNSAFE.sub("_", name).strip("_")[:MAX_ARGUMENT] or place
        if argument in self._properties:
            argument = f"{place}_{argument}"[:MAX_ARGUMENT]
        plain, count = argument, 1
        while argument in self._properties:
            count += 1
            argument = f"{plain[: MAX_ARGUMENT - 4]}_{count}"
        self._properties[argument] = schema
        if is_required:
            self._required.append(argument)
        return argument


def _preferred(offered: dict[str, Node]) -> tuple[str, BodyKind]:
    for pattern, kind in _KINDS:
        for media_type in offered:
            plain = media_type.partition(";")[0].strip().lower()
            if re.fullmatch(pattern, plain):
                return media_type, kind
    first = next(iter(offered.values()))
    raise UnusableError(first.where, "a body of this media type cannot be made")


def _members(schema: Json) -> dict[str, Json] | None:
    """The members of an object whose members can be arguments; None for any other schema."""
    if not isinstance(schema, dict):
        return None
    parts = schema.get("allOf")
    if isinstance(parts, list) and set(schema) <= _FLAT | {"allOf"}:
        rest = {name: value for name, value in schema.items() if name != "allOf"}
        merged: dict[str, Json] = {}
        for part in [*parts, {"properties": {}, **rest}]:
            members = _members(part)
            if members is None:
                return None
            merged |= members
        return merged
    properties = schema.get("properties")
    is_closed = schema.get("additionalProperties") in (None, False)
    is_object = schema.get("type") in (None, "object")
    is_flat = is_object and is_closed and set(schema) <= _FLAT
    return properties if is_flat and isinstance(properties, dict) else None


def _required_of(schema: Json) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    own, parts = schema.get("required"), schema.get("allOf")
    names = {name for name in own if isinstance(name, str)} if isinstance(own, list) else set()
    for part in parts if isinstance(parts, list) else []:
        names |= _required_of(part)
    return names
