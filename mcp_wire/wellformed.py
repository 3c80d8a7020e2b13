"""JSON text from outside: UTF-8 throughout, and no half characters, so that it can be read in pieces.

The decoder checks the encoding of strings it decodes and not of what it keeps raw, and it takes no
unpaired surrogate escape, which JSON allows (RFC 8259 8.2) and JavaScript writes for text that was
cut within a character.
"""

import re
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

Read = TypeVar("Read")

UNREADABLE: Final = (ValueError, RecursionError)
"""What decoders raise: for what is no JSON, no UTF-8, not of the type, or nested too deeply."""

HEADROOM: Final = 32
"""Calls; a part of a message is read again at most so much further down."""
_SHALLOW_BYTES: Final = 1600
"""Shorter texts cannot be nested too deeply for anybody: a level takes two bytes."""
_REPLACEMENT: Final = rb"\ufffd"
_PAIR_BYTES: Final = 12
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPES: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.",
    re.DOTALL,
)


def decoded(
    decoder: msgspec.json.Decoder[Read], text: bytes | memoryview | Raw, levels: int = HEADROOM
) -> Read:
    """What ``decoder`` makes of a whole text, with headroom for whoever reads parts of it later.

    How deeply a text may be nested depends on how deep in the stack it is read: here it is read from
    further down than anywhere else, so that what is taken once can be taken again.
    """
    if levels and len(text) >= _SHALLOW_BYTES:
        return decoded(decoder, text, levels - 1)
    return decoder.decode(text)


def read_again(
    decoder: msgspec.json.Decoder[Read], text: bytes | memoryview | Raw, error: Exception
) -> Read:
    """What ``decoder`` makes of a text that it could not read, as ``error`` says.

    Unpaired surrogate escapes are read as U+FFFD, as every encoder to UTF-8 writes them. Raises
    :class:`msgspec.DecodeError`, for other encodings and for what is nested too deeply as well.
    """
    if isinstance(error, msgspec.ValidationError):
        raise error
    if not isinstance(error, msgspec.DecodeError):
        raise msgspec.DecodeError(str(error)) from None
    whole = with_whole_characters(bytes(text))
    if whole is None:
        raise error
    try:
        return decoded(decoder, whole)
    except (UnicodeDecodeError, RecursionError) as other:
        raise msgspec.DecodeError(str(other)) from None


def with_whole_characters(text: bytes) -> bytes | None:
    """The text with unpaired surrogate escapes replaced; None where it has none."""
    if _SURROGATE.search(text) is None:
        return None
    whole = _ESCAPES.sub(_whole, text)
    return None if whole == text else whole


def _whole(escape: re.Match[bytes]) -> bytes:
    found = escape.group()
    return _REPLACEMENT if len(found) not in {2, _PAIR_BYTES} else found
