"""A definition as a virtual server shows it: exposed name and overrides applied, the rest untouched."""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct

from hub.catalog.definitions import NAME_MEMBERS, Described
from hub.domain.catalog import Kind
from hub.domain.desired import ArgumentRule, Override
from mcp_wire.jsonrpc import EMPTY_OBJECT, decode_batch, decode_members, encode, raw

_NO_RULES: Final[Mapping[str, ArgumentRule]] = {}
_list_of_names: Final = msgspec.json.Decoder(list[str])
_TRUE: Final = b"true"
_FALSE: Final = b"false"


class Rewritten(Struct, frozen=True, kw_only=True):
    """What an exposure shows and does."""

    fragment: bytes
    """The encoded definition as listed."""
    arguments: Mapping[str, ArgumentRule] = {}
    param_headers: Mapping[tuple[str, ...], str] = {}
    """``x-mcp-header`` map of what is shown; hidden arguments have no header."""
    destructive: bool = False
    input_schema: Raw | None = None
    problems: tuple[str, ...] = ()
    """What an override asks for and cannot have, one sentence each."""


def rewrite(described: Described, name: str, override: Override | None) -> Rewritten:
    """Show ``described`` under ``name``. Bytes stay as received where nothing changes."""
    kind = described.definition.id.kind
    members = decode_members(described.definition.body)
    problems: list[str] = []
    changed = False
    if name != described.name:
        members[NAME_MEMBERS[kind]] = raw(name)
        changed = True
    if override is not None:
        _apply_texts(kind, members, override)
        if override.arguments:
            _ARGUMENTS[kind](members, override.arguments, problems)
        changed = True
    hidden = {argument for argument, rule in _rules(override).items() if rule.hide}
    return Rewritten(
        fragment=encode(members) if changed else bytes(described.definition.body),
        arguments=_rules(override) if kind in ("tool", "prompt") else {},
        param_headers={
            path: token for path, token in described.param_headers.items() if path[0] not in hidden
        },
        destructive=_is_destructive(members.get("annotations")),
        input_schema=members.get("inputSchema"),
        problems=tuple(problems),
    )


def _rules(override: Override | None) -> Mapping[str, ArgumentRule]:
    return override.arguments if override is not None else _NO_RULES


def _apply_texts(kind: Kind, members: dict[str, Raw], override: Override) -> None:
    if override.name is not None and kind in ("resource", "template"):
        # Their exposed name is the URI; what they are called is for people.
        members["name"] = raw(override.name)
    if override.title is not None:
        members["title"] = raw(override.title)
    if override.description is not None:
        members["description"] = raw(override.description)
    if override.annotations:
        annotations = decode_members(members.get("annotations", EMPTY_OBJECT))
        members["annotations"] = raw({**annotations, **override.annotations})


def _rewrite_schema(
    members: dict[str, Raw], rules: Mapping[str, ArgumentRule], problems: list[str]
) -> None:
    """Show ``inputSchema`` as the caller may use it.

    Hidden properties go; a fixed one is shown as a constant; what has a value of its own is no
    longer required.
    """
    schema = decode_members(members["inputSchema"])
    properties = decode_members(schema.get("properties", EMPTY_OBJECT))
    required = _list_of_names.decode(schema.get("required", b"[]"))
    for name, rule in rules.items():
        if name not in properties:
            problems.append(f"a rule for argument {name!r}, which its schema does not have")
        if rule.fix is not None or rule.default is not None:
            required = [other for other in required if other != name]
        elif rule.hide and name in required:
            problems.append(f"argument {name!r} is required, and hidden without a value")
        if rule.hide:
            properties.pop(name, None)
            required = [other for other in required if other != name]
        elif name in properties:
            properties[name] = _property(properties[name], rule)
    schema["properties"] = raw(properties)
    schema.pop("required", None)
    if required:
        schema["required"] = raw(required)
    members["inputSchema"] = raw(schema)


def _property(schema: Raw, rule: ArgumentRule) -> Raw:
    members = {} if bytes(schema) in {_TRUE, _FALSE} else decode_members(schema)
    if rule.description is not None:
        members["description"] = raw(rule.description)
    if rule.fix is not None:
        members.pop("default", None)
        members["const"] = rule.fix
    elif rule.default is not None:
        members["default"] = rule.default
    return raw(members)


def _rewrite_prompt_arguments(
    members: dict[str, Raw], rules: Mapping[str, ArgumentRule], problems: list[str]
) -> None:
    """The same for a prompt, whose arguments are a list and carry no schema."""
    shown: list[dict[str, Raw]] = []
    unused = set(rules)
    for item in decode_batch(members.get("arguments", b"[]")):
        argument = decode_members(item)
        name = msgspec.json.decode(argument["name"], type=str)
        unused.discard(name)
        rule = rules.get(name, ArgumentRule())
        if rule.hide:
            continue
        if rule.description is not None:
            argument["description"] = raw(rule.description)
        if rule.fix is not None or rule.default is not None:
            argument["required"] = Raw(_FALSE)
        shown.append(argument)
    problems += [f"a rule for argument {name!r}, which it does not have" for name in sorted(unused)]
    members["arguments"] = raw(shown)


def _ignore_arguments(
    members: dict[str, Raw], rules: Mapping[str, ArgumentRule], problems: list[str]
) -> None:
    del members, rules
    problems.append("rules for arguments, which resources do not have")


def _is_destructive(annotations: Raw | None) -> bool:
    """Whether a tool says so itself; without a word the attempt is not recorded separately."""
    hints = decode_members(annotations) if annotations is not None else {}
    return (
        bytes(hints.get("destructiveHint", b"")) == _TRUE
        and bytes(hints.get("readOnlyHint", b"")) != _TRUE
    )


_ARGUMENTS: Final = {
    "tool": _rewrite_schema,
    "prompt": _rewrite_prompt_arguments,
    "resource": _ignore_arguments,
    "template": _ignore_arguments,
}
