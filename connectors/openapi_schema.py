"""Schemas of an OpenAPI document as JSON Schema 2020-12 that stands on its own.

References are written out where they stand; what refers to itself, or grows too large that way, is
kept in ``$defs``. Only known keywords with values of their own type are taken over, so that the
result is a valid schema whatever the document holds.
"""

import re
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Final, Literal

from msgspec import Struct

from connectors.openapi_document import Document, Json, Node, UnusableError, json_text

Schema = dict[str, Json]
Direction = Literal["request", "response"]

MAX_INLINE_NODES: Final = 1_000
"""Schema objects of one tool with references written out; larger ones keep them in ``$defs``."""
MAX_DEFINED_NODES: Final = 5_000
MAX_OUTPUT_NODES: Final = 300
"""Of what an answer looks like; a larger description is not worth its room."""
MAX_DOCUMENT_NODES: Final = 500_000
MAX_SCHEMA_DEPTH: Final = 60
MAX_TEXT: Final = 2_000
"""Characters of a title or description."""
MAX_PATTERN: Final = 1_000
"""Compiling longer ones takes too long, as there may be thousands."""
MAX_EXAMPLE: Final = 500
MAX_NAME: Final = 40

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string", "null")
_HIDDEN: Final[dict[Direction, str]] = {"request": "readOnly", "response": "writeOnly"}
_BYTES: Final = {"application/octet-stream": "binary"}
"""How OpenAPI 3.1 says what 3.0 calls the format ``binary``."""
_UNSAFE_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")


def _is_text(value: Json) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _is_pattern(value: Json) -> bool:
    """Whether it is a pattern here and, flags apart, likely one for clients too."""
    if not isinstance(value, str) or len(value) > MAX_PATTERN or "(?i" in value:
        return False
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError, Warning):  # where warnings are made errors
        return False
    return True


def _is_flag(value: Json) -> bool:
    return isinstance(value, bool)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_anything(_value: Json) -> bool:
    return True


_PLAIN: Final[dict[str, Callable[[Json], bool]]] = {
    "title": _is_text,
    "format": _is_text,
    "pattern": _is_pattern,
    "contentEncoding": _is_text,
    "contentMediaType": _is_text,
    "deprecated": _is_flag,
    "uniqueItems": _is_flag,
    "minimum": _is_number,
    "maximum": _is_number,
    "exclusiveMinimum": _is_number,
    "exclusiveMaximum": _is_number,
    "minLength": _is_count,
    "maxLength": _is_count,
    "minItems": _is_count,
    "maxItems": _is_count,
    "minContains": _is_count,
    "maxContains": _is_count,
    "minProperties": _is_count,
    "maxProperties": _is_count,
    "const": _is_anything,
    "default": _is_anything,
}
_INSIDE: Final = ("items", "additionalProperties", "contains", "propertyNames")
"""Keywords whose schema is for a part of the value."""
_ALIKE: Final = ("not", "if", "then", "else")
"""Keywords whose schema is for the very same value."""
_ALIKE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_SUBSCHEMAS: Final = frozenset((
    *_INSIDE,
    *_ALIKE,
    *_ALIKE_LISTS,
    "prefixItems",
    "patternProperties",
))


class TooLargeError(UnusableError):
    """The schema has too many parts, at least with references written out."""


class Budget:
    """Schema objects that all tools of a document may have together."""

    def __init__(self, nodes: int = MAX_DOCUMENT_NODES) -> None:
        self._left = nodes

    def spend(self, node: Node) -> None:
        """One more. Raises UnusableError when there were too many."""
        self._left -= 1
        if self._left < 0:
            raise UnusableError(node.where, "the document has too many schemas")


class _Way(Struct, frozen=True):
    """How the converter came to a schema."""

    depth: int = 0
    opened: tuple[str, ...] = ()
    """References that were followed."""
    alike: tuple[str, ...] = ()
    """Those of them that are for the very same value: coming to one again would never end."""

    def into(self) -> "_Way":
        """To a part of the value."""
        return _Way(self.depth + 1, self.opened)

    def along(self) -> "_Way":
        """To another schema of the same value."""
        return _Way(self.depth + 1, self.opened, self.alike)

    def through(self, pointer: str) -> "_Way":
        """By a reference."""
        return _Way(self.depth, (*self.opened, pointer), (*self.alike, pointer))


class SchemaMaker:
    """Makes the schemas of one tool; they share ``$defs``, which :meth:`definitions` returns."""

    def __init__(
        self, document: Document, direction: Direction, budget: Budget, *, inline: bool = True
    ) -> None:
        self._document = document
        self._budget = budget
        self._hidden = _HIDDEN[direction]
        self._inline = inline
        self._left = MAX_INLINE_NODES if inline else MAX_DEFINED_NODES
        if direction == "response":
            self._left = MAX_OUTPUT_NODES
        self._names: dict[str, str] = {}
        self._clashes: dict[str, int] = {}
        self._waiting: list[str] = []

    def of(self, node: Node) -> Json:
        """The schema at ``node``. Raises UnusableError; TooLargeError asks for ``inline=False``."""
        return self._convert(node, _Way())

    def definitions(self) -> Schema:
        """What the schemas made so far refer to, by its name in ``$defs``. Raises UnusableError."""
        made: Schema = {}
        while self._waiting:
            pointer = self._waiting.pop()
            target = self._document.at(pointer, pointer)
            made[self._names[pointer]] = self._convert(target, _Way().through(pointer))
        _refuse_circles(made)
        return dict(sorted(made.items()))

    def _convert(self, node: Node, way: _Way) -> Json:
        if isinstance(node.value, bool):
            return node.value
        if not isinstance(node.value, dict):
            raise UnusableError(node.where, "a schema must be an object")
        if way.depth > MAX_SCHEMA_DEPTH:
            raise TooLargeError(node.where, "the schema is nested too deeply")
        self._left -= 1
        if self._left < 0:
            raise TooLargeError(node.where, "the schema is too large")
        self._budget.spend(node)
        if isinstance(node.value.get("$ref"), str):
            return self._referred(node, way)
        schema: Schema = {}
        _add_types(node, schema)
        for name, value in node.value.items():
            if name in _PLAIN and _PLAIN[name](value):
                schema[name] = value
        if node.text("description"):
            schema["description"] = node.text("description")[:MAX_TEXT]
        self._add_properties(node, schema, way)
        self._add_subschemas(node, schema, way)
        if "binary" in {node.text("format"), _BYTES.get(node.text("contentMediaType"))}:
            schema["format"] = "binary"
            schema["contentEncoding"] = "base64"  # the only way to say bytes in JSON
        return _as_2020(node, schema) if self._document.nullable_is_keyword else schema

    def _referred(self, node: Node, way: _Way) -> Json:
        target = self._document.follow(node)
        pointer = target.where
        if pointer in way.alike:
            raise UnusableError(node.where, "a schema is defined by itself")
        if self._inline and pointer not in way.opened and pointer not in self._names:
            return self._convert(target, way.through(pointer))
        if pointer not in self._names:
            self._names[pointer] = self._free_name(pointer)
            self._waiting.append(pointer)
        return {"$ref": f"#/$defs/{self._names[pointer]}"}

    def _free_name(self, pointer: str) -> str:
        plain = _UNSAFE_NAME.sub("_", pointer.rpartition("/")[2])[:MAX_NAME] or "schema"
        count = self._clashes.get(plain, 0) + 1
        self._clashes[plain] = count
        return plain if count == 1 else f"{plain}.{count}"

    def _affordable(self, node: Node) -> Node:
        """Several schemas. Raises TooLargeError before any of them is looked at."""
        if node.size > MAX_DEFINED_NODES:
            raise TooLargeError(node.where, "the schema is too large")
        return node

    def _add_properties(self, node: Node, schema: Schema, way: _Way) -> None:
        """Properties that travel in this direction, and which of them are required."""
        properties: Schema = {}
        for name, child in self._affordable(node.child("properties")).members().items():
            if not self._document.follow(child).flag(self._hidden):
                properties[name] = self._convert(child, way.into())
        if properties:
            schema["properties"] = properties
        declared, named = node.get("properties"), node.get("required")
        hidden = declared.keys() - properties.keys() if isinstance(declared, dict) else set()
        required = [
            name
            for name in (named if isinstance(named, list) else [])
            if isinstance(name, str) and name not in hidden
        ]
        if required:
            schema["required"] = list(dict.fromkeys(required))

    def _add_subschemas(self, node: Node, schema: Schema, way: _Way) -> None:
        members = node.value if isinstance(node.value, dict) else {}
        for name in [name for name in members if name in _SUBSCHEMAS]:
            child = self._affordable(node.child(name))
            is_schema = isinstance(child.value, dict | bool)
            if name in _INSIDE and is_schema:
                schema[name] = self._convert(child, way.into())
            elif name in _ALIKE and is_schema:
                schema[name] = self._convert(child, way.along())
            elif name in _ALIKE_LISTS and child.items():
                schema[name] = [self._convert(item, way.along()) for item in child.items()]
            elif name == "prefixItems" and child.items():
                schema[name] = [self._convert(item, way.into()) for item in child.items()]
            elif name == "patternProperties":
                matched = {
                    pattern: self._convert(item, way.into())
                    for pattern, item in child.members().items()
                    if _is_pattern(pattern)
                }
                if matched:
                    schema[name] = matched


def _add_types(node: Node, schema: Schema) -> None:
    """``type``, ``enum`` and examples, as far as they are what they should be."""
    value = node.get("type")
    named = value if isinstance(value, list) else [value]
    types = [name for name in _TYPES if name in named]
    if types:
        schema["type"] = types[0] if len(types) == 1 else list[Json](types)
    choices = node.get("enum")
    if isinstance(choices, list) and choices:
        schema["enum"] = choices
    examples = node.get("examples")
    if node.get("example") is not None:
        examples = [node.get("example")]
    if isinstance(examples, list) and examples and len(json_text(examples)) <= MAX_EXAMPLE:
        schema["examples"] = examples


def _as_2020(node: Node, schema: Schema) -> Schema:
    """What OpenAPI 3.0 says in its own keywords (OpenAPI 3.0.3, Schema Object)."""
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if node.flag(bound) and limit in schema:
            schema[bound] = schema.pop(limit)
    if not node.flag("nullable"):
        return schema
    choices = schema.get("enum")
    if isinstance(choices, list) and None not in choices:
        schema["enum"] = [*choices, None]
    kind = schema.get("type")
    if isinstance(kind, str) and kind != "null":
        schema["type"] = [kind, "null"]
    elif kind is None and not set(_ALIKE_LISTS).isdisjoint(schema):
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


def _refuse_circles(definitions: Schema) -> None:
    """Definitions that are each other, by whatever detour: checking a value would never end."""
    graph = {name: set(_alike_in(schema)) for name, schema in definitions.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        name = str(error.args[1][0])
        raise UnusableError(f"#/$defs/{name}", "a schema is defined by itself") from error


def _alike_in(schema: Json) -> Iterator[str]:
    """Names of definitions that a schema applies to the very same value."""
    if not isinstance(schema, dict):
        return
    reference = schema.get("$ref")
    if isinstance(reference, str):
        yield reference.removeprefix("#/$defs/")
    for name in _ALIKE:
        yield from _alike_in(schema.get(name))
    for name in _ALIKE_LISTS:
        parts = schema.get(name)
        for part in parts if isinstance(parts, list) else []:
            yield from _alike_in(part)
