"""Lists of names and shell patterns, as grants and virtual servers write them."""

import re
from fnmatch import translate
from functools import lru_cache
from typing import Final

_WILD: Final = re.compile(r"[*?\[]")


class Patterns:
    """A list compiled once: names are looked up, patterns are one regular expression.

    Patterns are the shell's, case-sensitive: ``*``, ``?``, ``[seq]``, ``[!seq]``.
    """

    __slots__ = ("_pattern", "everything", "names")

    def __init__(self, items: tuple[str, ...]) -> None:
        self.names = frozenset(items)
        """As written: a name holding ``[`` matches itself as well."""
        self.everything = "*" in self.names
        wild = [translate(item) for item in items if _WILD.search(item)]
        self._pattern = re.compile("|".join(wild)) if wild else None

    def match(self, name: str) -> bool:
        """Whether any name or pattern of the list means ``name``."""
        if self.everything or name in self.names:
            return True
        return self._pattern is not None and self._pattern.match(name) is not None


@lru_cache(maxsize=8192)
def patterns_of(items: tuple[str, ...]) -> Patterns:
    """The compiled form of a list, shared by whoever writes the same one."""
    return Patterns(items)
