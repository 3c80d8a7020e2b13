"""Entries are bounded: what callers choose the length of is cut where it would not fit."""

from typing import Any, Final

import msgspec

from hub.audit.lines import FRAME_BYTES, encode_content
from hub.audit.log import LARGEST_LINE_BYTES
from hub.domain.record import Entry

LARGEST_ENTRY_BYTES: Final = LARGEST_LINE_BYTES - FRAME_BYTES
CLIPPED: Final = "…"
"""Ends what was cut."""

MANY: Final = 24
"""Groups, and rules that acted, that an entry names which would be too long otherwise."""

_TEXTS: Final = tuple(field.name for field in msgspec.structs.fields(Entry) if field.type is str)
_LENGTHS: Final = (512, 40)
"""Characters that are kept of each text; the second fits whatever they are (6 bytes each, escaped)."""


def encode_entry(entry: Entry) -> bytes:
    """JSON of an entry, at most LARGEST_ENTRY_BYTES long."""
    content = encode_content(entry)
    for length in _LENGTHS:
        if len(content) <= LARGEST_ENTRY_BYTES:
            break
        content = encode_content(_clipped(entry, length))
    return content


def _clipped(entry: Entry, length: int) -> Entry:
    cut: dict[str, Any] = {
        name: text[:length] + CLIPPED
        for name in _TEXTS
        if len(text := getattr(entry, name)) > length
    }
    if len(entry.groups) > MANY:
        cut["groups"] = frozenset((*sorted(entry.groups)[:MANY], CLIPPED))
    if len(entry.rules) > MANY:
        cut["rules"] = (*entry.rules[:MANY], CLIPPED)
    return msgspec.structs.replace(entry, **cut)
