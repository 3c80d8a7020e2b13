"""Which values an argument may have."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from hub.domain.guarding import ALLOW, Context, Verdict
from hub.errors import ConfigurationError
from hub.guard.content import Content, Unreadable
from hub.guard.protocol import Guard

_MEMBERS: Final = {"request": "arguments", "response": "structuredContent"}
_EXACT: Final = 2.0**53


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The values; an argument that is not named may have any."""

    arguments: Mapping[str, tuple[Raw, ...]] = {}
    """Name or dotted path of an argument -> JSON values; none: it may not be given at all."""


def guard(options: Options) -> Guard:
    """The guard. Raises ConfigurationError."""
    if not options.arguments or not all(options.arguments):
        raise ConfigurationError("it needs arguments, by name, with the values they may have")
    return _AllowedValues({
        name: frozenset(_key(msgspec.json.decode(value)) for value in values)
        for name, values in options.arguments.items()
    })


class _AllowedValues:
    """An array is let through if each of its items is; what is absent is let through."""

    def __init__(self, allowed: Mapping[str, frozenset[bytes]]) -> None:
        self._allowed = allowed

    def inspect(self, content: Content, context: Context) -> Verdict:
        """See :class:`hub.guard.protocol.Guard`. Raises Unreadable."""
        member = _MEMBERS.get(context.direction)
        value = content.value
        if member is None or not isinstance(value, dict) or member not in value:
            return ALLOW
        try:
            broken = [
                name
                for name, keys in self._allowed.items()
                if not all(_is_allowed(found, keys) for found in _at(value[member], name))
            ]
        except RecursionError as error:
            raise Unreadable("it is nested too deeply") from error
        if broken:
            return Verdict("block", reason=f"values that are not allowed: {', '.join(broken)}")
        return ALLOW


def _at(value: Any, path: str) -> Iterator[Any]:
    """Every value that ``path`` may mean; names of members may have dots in them themselves."""
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    if not isinstance(value, dict):
        return
    if path in value:
        yield value[path]
    at = path.find(".")
    while at != -1:
        if path[:at] in value:
            yield from _at(value[path[:at]], path[at + 1 :])
        at = path.find(".", at + 1)


def _is_allowed(value: Any, keys: frozenset[bytes]) -> bool:
    if _key(value) in keys:
        return True
    return isinstance(value, list) and bool(value) and all(_key(item) in keys for item in value)


def _key(value: Any) -> bytes:
    """The same for the same JSON value: members sorted, numbers by value, true no number."""
    return msgspec.json.encode(_plain(value), order="sorted")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value) and abs(value) < _EXACT:
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    return value
