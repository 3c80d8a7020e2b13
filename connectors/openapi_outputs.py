"""What an operation's answer looks like, as far as its document can be taken at its word."""

import re
from typing import Final

from connectors.openapi_document import Document, Json, Node, UnusableError
from connectors.openapi_schema import Budget, Schema, SchemaMaker

_JSON: Final = re.compile(r"application/(.+\+)?json")
_KEPT: Final = frozenset(("title", "description", "type", "deprecated", "format"))
_ALTERNATIVES: Final = ("anyOf", "oneOf")
MAX_STATUSES: Final = 200
"""Answers of an operation with more of them are not described."""


def output_schema(document: Document, operation: Node, budget: Budget) -> Schema | None:
    """The ``outputSchema`` of an operation whose first successful answer is a JSON object.

    Clients refuse answers that do not fit it, and documents promise more than services keep: the
    structure is taken over, what narrows values is not, and any member may be absent or null.
    """
    maker = SchemaMaker(document, "response", budget)
    try:
        node = _answer(document, operation)
        if node is None:
            return None
        made = maker.of(node)
        definitions = maker.definitions()
    except UnusableError:
        return None
    if not isinstance(made, dict) or not _is_object(made):
        return None
    schema = _loosened(made)
    if not isinstance(schema, dict):
        return None
    schema["type"] = "object"
    if definitions:
        schema["$defs"] = {name: _loosened(part) for name, part in definitions.items()}
    return schema


def _answer(document: Document, operation: Node) -> Node | None:
    """The schema of the first 2xx answer that has JSON."""
    described = operation.child("responses")
    responses = described.members() if described.size <= MAX_STATUSES else {}
    for status in sorted(name for name in responses if name.startswith("2")):
        content = document.follow(responses[status]).child("content").members()
        for media_type, described in content.items():
            if _JSON.fullmatch(media_type.partition(";")[0].strip().lower()):
                schema = document.follow(described).child("schema")
                return schema if isinstance(schema.value, dict) else None
    return None


def _is_object(schema: Schema) -> bool:
    if schema.get("type") == "object":
        return True
    parts = schema.get("allOf")
    if schema.get("type") is None and isinstance(parts, list):
        return any(isinstance(part, dict) and _is_object(part) for part in parts)
    return schema.get("type") is None and "properties" in schema


def _loosened(schema: Json) -> Json:
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        return {"anyOf": [schema, {"type": "null"}]}
    loose: Schema = {name: value for name, value in schema.items() if name in _KEPT}
    kind = loose.get("type")
    if isinstance(kind, str) and kind != "null":
        loose["type"] = [kind, "null"]
    properties = schema.get("properties")
    if isinstance(properties, dict):
        loose["properties"] = {name: _loosened(part) for name, part in properties.items()}
    for name in ("items", "additionalProperties"):
        part = schema.get(name)
        if isinstance(part, dict):
            loose[name] = _loosened(part)
    for name in ("allOf", *_ALTERNATIVES):
        parts = schema.get(name)
        if isinstance(parts, list):
            loose["anyOf" if name in _ALTERNATIVES else name] = [_loosened(part) for part in parts]
    return loose
