"""Pieces of something that is not whole yet, kept in as much room as they take."""

from typing import Final

_SMALL: Final = 4096


def keep(pieces: list[bytes], piece: bytes) -> None:
    """Keep one more piece; small ones are joined.

    Whoever sends decides how small pieces are, and each of them alone would take fifty bytes more.
    """
    if pieces and len(pieces[-1]) + len(piece) <= _SMALL:
        pieces[-1] += piece
    else:
        pieces.append(piece)
