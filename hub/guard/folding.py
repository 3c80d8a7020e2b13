"""Text as people read it: what looks the same becomes the same, and every place is known in the original.

Compatibility forms (full width, mathematical, circled, ligatures) are decomposed (Unicode NFKD, UAX 15),
what cannot be seen is dropped, letters of other scripts that look Latin become Latin. A character becomes
the same whatever stands beside it, so that a text can be folded piece by piece.
"""

import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import Final

_LIKE_LATIN: Final = (
    # Cyrillic
    "аa вb еe кk мm нh оo рp сc тt уy хx іi јj ѕs ԁd ԛq ԝw һh ӏl ьb гr пn ѵv "
    # Greek
    "αa βb γy δd εe ζz ηn ιi κk μm νv οo ρp σo ςc τt υu χx ωw "
    # Armenian, Cherokee and others
    "օo սu ոn հh ցg զq ѡw ᴀa ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz "
    "ıi ȷj ɑa ɡg ɩi ɐa ʋv ƅb ɗd ƙk"
)
"""Pairs: a small letter, and the Latin one it is taken for."""
_UNSEEN: Final = (
    *((0x0334, 0x0338), (0x034F, 0x034F), (0x115F, 0x1160), (0x20D0, 0x20F0), (0x2800, 0x2800)),
    *((0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF)),
)
"""Besides format characters: marks laid over letters, fillers, selectors of variants; first and last."""
_CIRCLED: Final = (0x1F150, 0x1F170)
"""Where the negative circled and squared letters begin, which have no decomposition."""


class Folding:
    """One way to fold, with or without telling capitals from small letters."""

    def __init__(self, *, ignore_case: bool) -> None:
        self._ignore_case = ignore_case
        self._like = {pair[0]: pair[1] for pair in _LIKE_LATIN.split()}
        for other, latin in tuple(self._like.items()):
            self._like.setdefault(other.upper(), latin.upper())
        self._table: dict[int, str] = {}
        """What characters become, by their codes; filled with those that are met."""

    def text(self, text: str) -> str:
        """``text`` folded."""
        if text.isascii():
            return text.lower() if self._ignore_case else text
        table = self._table
        for char in set(text):
            if ord(char) not in table:
                table[ord(char)] = self._folded(char)
        return text.translate(table)

    def _folded(self, char: str) -> str:
        if char.isascii():
            return char.lower() if self._ignore_case else char
        code = ord(char)
        for first in _CIRCLED:
            if first <= code < first + 26:
                char = chr(ord("A") + code - first)
        plain = unicodedata.normalize("NFKD", char)
        if self._ignore_case:
            plain = plain.casefold()
        return "".join(self._like.get(one, one) for one in plain if not _is_unseen(one))

    def places(self, text: str) -> "Places":
        """Where in ``text``, which was folded, the characters of the folded one come from."""
        if text.isascii():
            return Places(None)
        table = self._table
        return Places([0, *accumulate(len(table[ord(one)]) for one in text)])


class Places:
    """The way back from a folded text."""

    def __init__(self, starts: list[int] | None) -> None:
        self._starts = starts

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The piece of the original that a piece of the folded text, not an empty one, comes from."""
        starts = self._starts
        if starts is None:
            return start, end
        return bisect_right(starts, start) - 1, bisect_right(starts, end - 1)

    def folded(self, index: int) -> int:
        """Where in the folded text what stands at ``index`` of the original begins."""
        return index if self._starts is None else self._starts[index]


def _is_unseen(char: str) -> bool:
    return unicodedata.category(char) == "Cf" or any(
        first <= ord(char) <= last for first, last in _UNSEEN
    )
