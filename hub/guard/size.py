"""How large and how deeply nested content may be."""

import re
from itertools import accumulate
from typing import Final

from msgspec import Struct

from hub.domain.guarding import ALLOW, Context, Verdict
from hub.errors import ConfigurationError
from hub.guard.content import Content
from hub.guard.protocol import Guard

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""One that nothing ends reaches to the end of the text, else each quote in it would be tried."""
_BRACKETS: Final = b"[{]}"
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_STEPS: Final = tuple(
    1 if byte in _BRACKETS[:2] else -1 if byte in _BRACKETS[2:] else 0 for byte in range(256)
)


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """At least one is given."""

    max_bytes: int | None = None
    """Of the JSON text, as it goes on the wire."""
    max_depth: int | None = None
    """Objects and arrays within each other; ``{}`` has one level."""


def guard(options: Options) -> Guard:
    """The guard. Raises ConfigurationError."""
    given = [limit for limit in (options.max_bytes, options.max_depth) if limit is not None]
    if not given or min(given) < 1:
        raise ConfigurationError("it needs max_bytes or max_depth, each at least 1")
    return _Size(options)


class _Size:
    def __init__(self, options: Options) -> None:
        self._max_bytes = options.max_bytes
        self._max_depth = options.max_depth

    def inspect(self, content: Content, context: Context) -> Verdict:
        """See :class:`hub.guard.protocol.Guard`."""
        del context
        if self._max_bytes is not None and len(content.body) > self._max_bytes:
            return Verdict("block", reason=f"it has more than {self._max_bytes} bytes")
        if self._max_depth is not None and _is_deeper(content.body, self._max_depth):
            return Verdict("block", reason=f"it has more than {self._max_depth} levels")
        return ALLOW


def _is_deeper(body: bytes, levels: int) -> bool:
    """Whether brackets are nested more deeply; reads no values, so that no depth is too much."""
    if body.count(b"{") + body.count(b"[") <= levels:
        return False
    brackets = _STRING.sub(b"", body).translate(None, delete=_OTHERS)
    return max(accumulate(_STEPS[bracket] for bracket in brackets), default=0) > levels
