"""Searching the record page by page: what was found, and a cursor that goes on where it ended."""

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from hub.audit.reading import Filters, Place, Recorded, Search

_LARGEST_CURSOR_BYTES: Final = 1024 * 1024
_place: Final = msgspec.msgpack.Decoder(Place)


class Page(Struct, frozen=True):
    """Some of what a search finds, newest first."""

    items: Sequence[Recorded]
    cursor: str
    """Goes on behind the last of them, whatever is recorded meanwhile; empty: nothing is left."""


def page(record: Path, filters: Filters, size: int, cursor: str = "") -> Page:
    """The next ``size`` entries that the filters admit; blocks on the disk.

    ``cursor`` is that of the page before, asked for with the same filters. Its length grows with the
    number of chains that were looked into, by some 20 bytes each. Raises ValueError when it is none.
    """
    found = Search(record, filters, _decoded(cursor) if cursor else None)
    items = list(islice(found, size))
    place = found.place if len(items) == size else None
    return Page(items, _encoded(place) if place is not None else "")


def _encoded(place: Place) -> str:
    return urlsafe_b64encode(zlib.compress(msgspec.msgpack.encode(place))).decode()


def _decoded(cursor: str) -> Place:
    unpack = zlib.decompressobj()
    try:
        packed = urlsafe_b64decode(cursor.encode())
        return _place.decode(unpack.decompress(packed, _LARGEST_CURSOR_BYTES))
    except (ValueError, zlib.error) as error:
        raise ValueError("not a cursor of a search") from error
