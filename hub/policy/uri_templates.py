"""Which resource URIs an RFC 6570 template stands for.

An upstream wrote the template and a caller the URI, so matching takes time in proportion to the
parts of the one and the length of the other, whatever they hold; a backtracking expression would
not.
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
        ends = 1
        for part in self.parts:
            ends = (
                _after_text(uri, part, ends) if isinstance(part, str) else _after(uri, part, ends)
            )
            if not ends:
                return False
        return bool(ends >> len(uri) & 1)


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


# Where parts may end is a number with a bit for each place in the URI, so that all of them are
# followed at once.


def _after_text(uri: str, text: str, starts: int) -> int:
    return (_occurrences(uri, text) & starts) << len(text)


def _after(uri: str, variable: Variable, starts: int) -> int:
    """Where ``variable`` may end when it begins at one of ``starts``."""
    everything = (1 << len(uri)) - 1
    if variable.crosses_slash:
        lowest = starts & -starts
        ends = (everything & -lowest) << 1
    else:
        inside = everything & ~_occurrences(uri, "/")
        first = inside & ~(inside << 1)
        # Adding the first place of each segment carries through all places before the first start.
        open_places = inside & ~starts
        ends = (inside & ~(open_places & ~(open_places + first))) << 1
    return ends | starts if variable.may_be_empty else ends


@lru_cache(maxsize=1024)
def _occurrences(uri: str, text: str) -> int:
    """The places at which ``text`` stands in ``uri``."""
    places, place = 0, uri.find(text)
    while place >= 0:
        places |= 1 << place
        place = uri.find(text, place + 1)
    return places
