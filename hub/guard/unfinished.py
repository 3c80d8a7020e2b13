"""Partial matching for RE2, which has none: from a pattern, one that matches its unfinished matches.

``unfinished("ab+c")`` matches every beginning of what ``ab+c`` matches, the empty and the whole one
included. Searched for before the end of a text that goes on, it tells from where on something may
still become a match (``hub.guard.stream``). It is RE2 again: linear in time for whatever
administrators write.
"""

import re
from typing import Final

_REPEAT: Final = re.compile(r"[*+?]|\{(\d+)(?:(,)(\d*))?\}")
_ESCAPE: Final = re.compile(
    r"\\(?:[pP](?:\{[^}]*\}|.)|x(?:\{[0-9A-Fa-f]*\}|..)|[0-7]{1,3}|.)", re.DOTALL
)
_CLASS: Final = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]", re.DOTALL)
_ANY: Final = re.compile(".", re.DOTALL)
_GROUP: Final = re.compile(r"\?P?<\w+>|\?([a-zA-Z-]*)([:)])")
_WITHOUT_WIDTH: Final = frozenset(("^", "$", "\\b", "\\B", "\\A", "\\z"))


class Unsupported(ValueError):  # noqa: N818 -- the state of the pattern
    """A pattern that this module cannot take apart; RE2 may know it."""


def unfinished(pattern: str) -> str:
    r"""What matches every beginning of a match of ``pattern``, an RE2 pattern that compiles.

    Raises Unsupported for what RE2 has beyond ordinary syntax (``\C``).
    """
    return _Reader(pattern).whole()[1]


class _Reader:
    """Reads a pattern; of each part it knows the part itself and its beginnings."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def whole(self) -> tuple[str, str]:
        read = self._alternatives("")
        if self._at < len(self._pattern):
            raise Unsupported(f"unbalanced at {self._at}")
        return read

    def _alternatives(self, flags: str) -> tuple[str, str]:
        branches: list[list[tuple[str, str]]] = [[]]
        while self._at < len(self._pattern) and self._pattern[self._at] != ")":
            if self._pattern[self._at] == "|":
                self._at += 1
                branches.append([])
                continue
            changed = self._flags(flags)
            if changed is not None:
                flags = changed
                continue
            atoms = self._atoms(flags)
            branches[-1] += [*atoms[:-1], self._repeated(atoms[-1])]
        read = [_joined(branch) for branch in branches]
        return "|".join(one for one, _ in read), "|".join(part for _, part in read)

    def _flags(self, flags: str) -> str | None:
        """Flags from here to the end of the group, if that is what stands here: ``(?i)``."""
        found = _GROUP.match(self._pattern, self._at + 1)
        if self._pattern[self._at] != "(" or found is None or found[2] != ")":
            return None
        self._at = found.end()
        return _changed(flags, found[1])

    def _atoms(self, flags: str) -> list[tuple[str, str]]:
        r"""What stands here and can be repeated, as a list for ``\Q...\E``."""
        pattern, at = self._pattern, self._at
        if pattern.startswith("\\Q", at):
            end = pattern.find("\\E", at)
            literal = pattern[at + 2 : end if end >= 0 else None]
            if not literal:
                raise Unsupported(f"nothing is quoted at {at}")
            self._at = end + 2 if end >= 0 else len(pattern)
            return [_single(re.escape(one), flags) for one in literal]
        if pattern[at] == "(":
            return [self._group(flags)]
        found = {"\\": _ESCAPE, "[": _CLASS}.get(pattern[at], _ANY).match(pattern, at)
        if found is None or found[0] == "\\C":
            raise Unsupported(f"unknown at {at}")
        self._at = found.end()
        return [_single(found[0], flags)]

    def _group(self, flags: str) -> tuple[str, str]:
        found = _GROUP.match(self._pattern, self._at + 1)
        self._at = found.end() if found else self._at + 1
        full, part = self._alternatives(_changed(flags, found[1] or "") if found else flags)
        self._at += 1
        return f"(?:{full})", f"(?:{part})"

    def _repeated(self, atom: tuple[str, str]) -> tuple[str, str]:
        """``atom`` as often as stands behind it."""
        found = _REPEAT.match(self._pattern, self._at)
        if found is None:
            return atom
        self._at = found.end()
        if self._pattern.startswith("?", self._at):
            self._at += 1
        full, part = atom
        whole = f"(?:{full}){found[0]}"
        most = {"*": "", "+": "", "?": "1"}.get(found[0], found[3] if found[2] else found[1])
        if not most:
            return whole, f"(?:{full})*(?:{part})"
        if most == "0":
            return whole, ""
        return whole, f"(?:{full}){{0,{int(most) - 1}}}(?:{part})"


def _single(atom: str, flags: str) -> tuple[str, str]:
    """An atom and its beginnings; what has no width is never begun."""
    full = f"(?{flags}:{atom})" if flags else atom
    return full, "" if atom in _WITHOUT_WIDTH else f"(?:{full})?"


def _joined(atoms: list[tuple[str, str]]) -> tuple[str, str]:
    """Atoms behind each other: begun is one of them, and those before it are whole."""
    begun = ""
    for full, part in reversed(atoms):
        begun = f"(?:{part}|{full}{begun})"
    return "".join(full for full, _ in atoms), begun


def _changed(flags: str, change: str) -> str:
    """``flags`` after ``change`` (``i-s``). What is greedy makes no difference here."""
    added, _, removed = change.partition("-")
    return "".join(sorted((set(flags) | set(added)) - set(removed) - {"U"}))
