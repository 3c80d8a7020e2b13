"""Which resource URIs an RFC 6570 template stands for.

An upstream wrote the template and a caller the URI, so matching takes time in proportion to the
product of their lengths, whatever they hold; a backtracking expression would not.
"""

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

MAX_URI_LENGTH: Final = 2048
"""Longer URIs match no template."""

_EXPRESSION: Final = re.compile(r"\{([+#./;?&]?)([^{}]*)\}")
_MAY_BE_EMPTY: Final = frozenset("./;?&")


class Variable(Struct, frozen=True):
    """One expression of a template."""

    crosses_slash: bool
    may_be_empty: bool


class UriTemplate(Struct, frozen=True):
    """A template in parts, and how specific it is."""

    text: str
    parts: tuple[str | Variable, ...]

    @property
    def specificity(self) -> tuple[int, int, str]:
        """Sorts the most specific template first: more fixed text, then fewer variables."""
        fixed = sum(len(part) for part in self.parts if isinstance(part, str))
        return -fixed, sum(isinstance(part, Variable) for part in self.parts), self.text

    def matches(self, uri: str) -> bool:
        """Whether ``uri`` is an expansion of this template."""
        if len(uri) > MAX_URI_LENGTH:
            return False
        ends = {0}
        for part in self.parts:
            ends = (
                _after_text(uri, part, ends) if isinstance(part, str) else _after(uri, part, ends)
            )
            if not ends:
                return False
        return len(uri) in ends


@lru_cache(maxsize=4096)
def parse(text: str) -> UriTemplate:
    """Read a template. Raises ValueError for braces that do not close."""
    parts: list[str | Variable] = []
    position = 0
    for found in _EXPRESSION.finditer(text):
        if found.start() > position:
            parts.append(text[position : found.start()])
        operator, names = found.groups()
        parts.append(
            Variable(
                # ``{path*}`` takes segments in the servers that are common, beyond RFC 6570.
                crosses_slash=bool(operator) or names.endswith("*"),
                may_be_empty=operator in _MAY_BE_EMPTY,
            )
        )
        position = found.end()
    parts.append(text[position:])
    fixed = [part for part in parts if isinstance(part, str)]
    if any("{" in part or "}" in part for part in fixed):
        raise ValueError(f"the braces of URI template {text!r} do not close")
    return UriTemplate(text, tuple(part for part in parts if part != ""))


def _after_text(uri: str, text: str, starts: set[int]) -> set[int]:
    return {start + len(text) for start in starts if uri.startswith(text, start)}


def _after(uri: str, variable: Variable, starts: set[int]) -> set[int]:
    """Where ``variable`` may end when it begins at one of ``starts``."""
    ends = set(starts) if variable.may_be_empty else set()
    open_since_start = False
    for position, character in enumerate(uri):
        open_since_start = open_since_start or position in starts
        if character == "/" and not variable.crosses_slash:
            open_since_start = False
        if open_since_start:
            ends.add(position + 1)
    return ends
