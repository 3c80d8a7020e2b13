r"""The lines of a chain: how they are written, linked, and read back.

A line is one JSON object in three parts, ended by a newline::

    {"n":7,"entry":{...},"hash":"<64 hexadecimal digits>"}

``n`` counts within the chain from 1. The second member says what the line holds: ``open`` begins a
chain, ``entry`` is a call, ``torn`` tells of a tail that was found cut off, ``seal`` ends a segment.
The *body* is every byte before ``,"hash"``. With ``genesis = SHA-256("portico record v1\n" writer)``,

    hash(n) = SHA-256( hash(n - 1) || SHA-256(body(n)) )

so that a line can be left out of an export by showing only the digest of its body.
"""

import re
from binascii import hexlify
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from hub.domain.record import Entry, LineKind

HASH_BYTES: Final = 32
_TRAILER_BYTES: Final = len(',"hash":""}') + 2 * HASH_BYTES
FRAME_BYTES: Final = len('{"n":,"entry":') + 20 + _TRAILER_BYTES + 1
"""What a line is longer than its JSON, at most."""

_BODIES: Final[dict[LineKind, bytes]] = {
    "open": b'{"n":%d,"open":%b',
    "entry": b'{"n":%d,"entry":%b',
    "torn": b'{"n":%d,"torn":%b',
    "seal": b'{"n":%d,"seal":%b',
}
_LINE: Final = re.compile(
    rb'\{"n":([1-9][0-9]{0,18}),"(open|entry|torn|seal)":(.+),"hash":"([0-9a-f]{64})"\}'
)


class Head(Struct, frozen=True, gc=False, order=True):
    """How far a chain has come: its last line and the hash that covers all before."""

    writer: str
    sequence: int
    hash: str


class Opening(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Begins a chain: who writes it, and the heads of the chains it found."""

    format: Literal[1] = 1
    writer: str
    at: datetime
    previous: tuple[Head, ...] = ()
    """Chains that have ended and that no chain had named before; oldest first."""
    beside: tuple[Head, ...] = ()
    """Chains that other processes were writing then, as far as they had come."""


class Torn(Struct, frozen=True, kw_only=True):
    """A tail that a crash left unfinished: cut, and kept in ``kept`` beside its segment."""

    writer: str
    segment: int
    offset: int
    size_bytes: int
    sha256: str
    kept: str
    """File name in the writer's directory."""


class Seal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Ends a segment and speaks for it when retention has removed it."""

    segment: int
    first: int
    """Sequence of the segment's first line; ``last`` of the one before the seal."""
    last: int
    after: str
    """Chain hash before the first line; ``head`` after the last one."""
    head: str
    began: datetime
    """When the first of its calls arrived; ``ended``: when it was sealed."""
    ended: datetime
    final: bool = False
    """Nothing follows in this chain."""
    sealed_by: str = ""
    """The writer that found the chain unfinished; empty: its own."""
    previous: tuple[Head, ...] = ()
    """Repeats the opening of the chain, in the seal of its first segment."""


class Line(Struct, frozen=True, gc=False):
    """A line taken apart; ``content`` is not decoded yet."""

    sequence: int
    kind: LineKind
    content: bytes
    body: bytes
    hash: bytes


class _Arrival(Struct):
    at: datetime


Content = TypeVar("Content", Opening, Torn, Seal)

encode_content: Final[Callable[[Entry | Opening | Torn | Seal], bytes]] = (
    msgspec.json.Encoder().encode
)
"""JSON of what a line holds."""
_entry: Final = msgspec.json.Decoder(Entry)
_arrival: Final = msgspec.json.Decoder(_Arrival)
_opening: Final = msgspec.json.Decoder(Opening)
_torn: Final = msgspec.json.Decoder(Torn)
_seal: Final = msgspec.json.Decoder(Seal)


def genesis(writer: str) -> bytes:
    """What the first line of a chain is linked to."""
    return sha256(b"portico record v1\n" + writer.encode()).digest()


def link(before: bytes, body_digest: bytes) -> bytes:
    """The chain hash of a line, from the hash before it and the SHA-256 of its body."""
    return sha256(before + body_digest).digest()


def frame(sequence: int, kind: LineKind, content: bytes, before: bytes) -> tuple[bytes, bytes]:
    """The whole line with its newline, and its chain hash."""
    body = _BODIES[kind] % (sequence, content)
    chained = sha256(before + sha256(body).digest()).digest()
    return b'%b,"hash":"%b"}\n' % (body, hexlify(chained)), chained


def hash_in(line: bytes) -> bytes:
    """The chain hash that a line of ours ends with, newline included."""
    return bytes.fromhex(line[-2 * HASH_BYTES - 3 : -3].decode("ascii"))


def parse(text: bytes) -> Line | None:
    """Take a line (without its newline) apart; None when it has not the form of one."""
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    kind: LineKind = match[2].decode("ascii")  # type: ignore[assignment]  # the expression names them
    return Line(
        int(match[1]),
        kind,
        match[3],
        text[:-_TRAILER_BYTES],
        bytes.fromhex(match[4].decode("ascii")),
    )


def decode_entry(line: Line) -> Entry:
    """The call a line tells of. Raises ValueError."""
    return _entry.decode(line.content)


def arrival(line: Line) -> datetime | None:
    """When the call of an ``entry`` line arrived, whatever else it says."""
    try:
        return _arrival.decode(line.content).at
    except ValueError:
        return None


def decode_opening(line: Line) -> Opening | None:
    """What an ``open`` line says; None for other lines and for what cannot be read."""
    return _decoded(_opening, line, "open")


def decode_torn(line: Line) -> Torn | None:
    """What a ``torn`` line says; None for other lines and for what cannot be read."""
    return _decoded(_torn, line, "torn")


def decode_seal(line: Line) -> Seal | None:
    """What a ``seal`` line says; None for other lines and for what cannot be read."""
    return _decoded(_seal, line, "seal")


def head_of(writer: str, line: Line) -> Head:
    """The head of a chain whose last line this is."""
    return Head(writer, line.sequence, line.hash.hex())


def _decoded(decoder: msgspec.json.Decoder[Content], line: Line, kind: LineKind) -> Content | None:
    if line.kind != kind:
        return None
    try:
        return decoder.decode(line.content)
    except ValueError:
        return None
