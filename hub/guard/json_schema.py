"""Arguments and structured results against the JSON Schema that their tool promises.

Schemas are others' texts: they are compiled once, refer to nothing outside of themselves, and those
that would take too long to apply are refused.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
import msgspec
from msgspec import Raw, Struct

from hub.domain.guarding import ALLOW, Context, Verdict
from hub.guard.content import Content
from hub.guard.protocol import Guard

MAX_SCHEMAS: Final = 512
"""Compiled schemas that are kept."""
MAX_SCHEMA_BYTES: Final = 1024 * 1024
MAX_APPLIED: Final = 20_000
"""Parts of a schema with references written out; applying takes time in proportion."""
MAX_PLACE: Final = 160

_LINEAR: Final = jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)
_BACKTRACKING: Final = jsonschema_rs.FancyRegexOptions(
    backtrack_limit=10_000, size_limit=1 << 20, dfa_size_limit=1 << 20
)
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_NAMES: Final = ("$anchor", "$dynamicAnchor")
_SCHEMAS: Final = ("inputSchema", "outputSchema")


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """There is nothing to choose."""


class Unusable(Exception):  # noqa: N818 -- the state of the schema
    """A schema that cannot be applied; the text says why."""


def guard(options: Options) -> Guard:
    """The guard; schemas come with the content."""
    del options
    return _JsonSchema()


class _JsonSchema:
    def inspect(self, content: Content, context: Context) -> Verdict:
        """See :class:`hub.guard.protocol.Guard`. Raises Unreadable."""
        if context.direction == "definition":
            return _definition(content.value)
        if context.schema is None:
            return ALLOW
        if context.direction == "request":
            return _request(content.value, context.schema)
        return _response(content.value, context.schema)


def _definition(value: Any) -> Verdict:
    """Whether the schemas that a definition brings along can be applied."""
    members = value if isinstance(value, dict) else {}
    for name in _SCHEMAS:
        if name in members:
            try:
                _compiled(msgspec.json.encode(members[name]))
            except Unusable as reason:
                return Verdict("block", reason=f"{name} cannot be used: {reason}")
    return ALLOW


def _request(value: Any, schema: Raw) -> Verdict:
    if not isinstance(value, dict):
        return ALLOW
    return _checked("arguments", value.get("arguments", {}), schema)


def _response(value: Any, schema: Raw) -> Verdict:
    """A result with ``isError`` says why there is none, in whatever shape; clients take it so, too."""
    if not isinstance(value, dict) or value.get("isError") is True:
        return ALLOW
    if "structuredContent" in value:
        return _checked("structuredContent", value["structuredContent"], schema)
    if "content" in value:
        return Verdict("block", reason="the promised structuredContent is missing")
    return ALLOW


def _checked(what: str, value: Any, schema: Raw) -> Verdict:
    try:
        validator = _compiled(bytes(schema))
    except Unusable as reason:
        return Verdict("block", reason=f"the schema cannot be used: {reason}")
    try:
        if validator.is_valid(value):
            return ALLOW
        fault = next(validator.iter_errors(value), None)
    except (ValueError, RecursionError, OverflowError):
        return Verdict("block", reason=f"{what} cannot be compared with the schema")
    place = "/".join(str(step) for step in fault.schema_path) if fault is not None else ""
    return Verdict("block", reason=f"{what} break the schema at /{place[:MAX_PLACE]}")


@lru_cache(maxsize=MAX_SCHEMAS)
def _compiled(schema: bytes) -> jsonschema_rs.Validator:
    """The validator of a schema text; 2020-12 unless ``$schema`` says otherwise. Raises Unusable."""
    if len(schema) > MAX_SCHEMA_BYTES:
        raise Unusable("it is too large")
    try:
        value = msgspec.json.decode(schema)
        if not isinstance(value, dict | bool):
            raise Unusable("it is neither an object nor a boolean")
        if _applied(value) > MAX_APPLIED:
            raise Unusable("it would take too long to apply")
        return _validator(value)
    except jsonschema_rs.ReferencingError as error:
        raise Unusable("it refers to something that is not in it") from error
    except (ValueError, RecursionError) as error:
        raise Unusable(
            "it is no valid JSON Schema, or refers to something outside of it"
        ) from error


def _validator(value: dict[str, Any] | bool) -> jsonschema_rs.Validator:
    """Patterns take linear time, but where look-around asks for more; that is bounded."""
    try:
        return jsonschema_rs.validator_for(value, offline=True, pattern_options=_LINEAR)
    except ValueError:
        return jsonschema_rs.validator_for(value, offline=True, pattern_options=_BACKTRACKING)


def _applied(schema: Any) -> int:
    """How many parts a schema has with each reference written out once on each way to it.

    References double what they name: thirty definitions can mean a thousand million.
    """
    targets = dict(_targets(schema, "#"))
    counts: dict[int, int] = {}

    def count(node: Any) -> int:
        if isinstance(node, list):
            return sum(map(count, node))
        if not isinstance(node, dict):
            return 0
        known = counts.get(id(node))
        if known is None:
            counts[id(node)] = 1  # for ways that lead back here
            known = 1 + sum(map(count, node.values()))
            for keyword in _REFERENCES:
                reference = node.get(keyword)
                if isinstance(reference, str):
                    known += count(targets.get(reference))
            known = counts[id(node)] = min(known, MAX_APPLIED + 1)
        return known

    return count(schema)


def _targets(node: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """What references within a schema may name."""
    if isinstance(node, dict):
        yield pointer, node
        for keyword in _NAMES:
            if isinstance(node.get(keyword), str):
                yield f"#{node[keyword]}", node
        if isinstance(node.get("$id"), str):
            yield node["$id"], node
        for name, child in node.items():
            yield from _targets(child, f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(node, list):
        for number, child in enumerate(node):
            yield from _targets(child, f"{pointer}/{number}")
