"""Checkpoints: signed statements of how far all chains have come, each naming the one before.

What is signed is a text of its own, so that it can be checked without JSON: lines ended by a
newline, the heads sorted by writer::

    portico checkpoint v1
    <number>
    <when it was made, RFC 3339, UTC>
    <SHA-256 of the signed text of the checkpoint before, hexadecimal; 64 zeros for the first>
    <writer> <sequence> <chain hash>          one line for each head

A checkpoint names the head of every chain that no later chain has named in its opening, and once
the last head of those that were named: so one checkpoint stands for all that was written before.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Struct

from hub.audit.lines import Head

NO_CHECKPOINT: Final = "0" * 64
"""What the first checkpoint names as the one before."""


class Signer(Protocol):
    """Signs checkpoints."""

    @property
    def public_key(self) -> bytes:
        """The Ed25519 public key, 32 bytes."""
        ...

    def sign(self, content: bytes) -> bytes:
        """The signature, 64 bytes."""
        ...


class Checkpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signed statement; ``key`` and ``signature`` are hexadecimal."""

    number: int
    at: str
    previous: str
    heads: tuple[Head, ...]
    key: str
    """First 16 digits of the SHA-256 of the public key."""
    signature: str

    @property
    def text(self) -> bytes:
        """What is signed."""
        return _text(self.number, self.at, self.previous, self.heads)

    @property
    def digest(self) -> str:
        """What the next checkpoint names."""
        return sha256(self.text).hexdigest()

    def head_of(self, writer: str) -> Head | None:
        """How far it says that a chain had come."""
        return next((head for head in self.heads if head.writer == writer), None)


_checkpoint: Final = msgspec.json.Decoder(Checkpoint)


def key_id(public_key: bytes) -> str:
    """How a checkpoint names the key that signed it."""
    return sha256(public_key).hexdigest()[:16]


def sign(
    heads: Sequence[Head], *, after: Checkpoint | None, at: datetime, signer: Signer
) -> Checkpoint:
    """The checkpoint that follows ``after``."""
    number = 1 if after is None else after.number + 1
    previous = NO_CHECKPOINT if after is None else after.digest
    moment = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sorted_heads = tuple(sorted(heads))
    return Checkpoint(
        number=number,
        at=moment,
        previous=previous,
        heads=sorted_heads,
        key=key_id(signer.public_key),
        signature=signer.sign(_text(number, moment, previous, sorted_heads)).hex(),
    )


def is_authentic(checkpoint: Checkpoint, public_keys: Sequence[bytes]) -> bool:
    """Whether one of these Ed25519 public keys (32 bytes each) signed it."""
    return is_signed(checkpoint.text, checkpoint.key, checkpoint.signature, public_keys)


def is_signed(text: bytes, key: str, signature: str, public_keys: Sequence[bytes]) -> bool:
    """Whether the one of these keys that is named so signed a text; ``signature`` is hexadecimal."""
    for public_key in public_keys:
        if key_id(public_key) != key:
            continue
        try:
            signed = bytes.fromhex(signature)
            if signed.hex() != signature:  # one signature has one spelling
                return False
            Ed25519PublicKey.from_public_bytes(public_key).verify(signed, text)
        except (InvalidSignature, ValueError):
            return False
        return True
    return False


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """One line of JSON, newline included."""
    return msgspec.json.encode(checkpoint) + b"\n"


def decode_checkpoint(line: bytes) -> Checkpoint | None:
    """Read a line (without its newline); None for anything but the exact form it is written in."""
    try:
        checkpoint = _checkpoint.decode(line)
    except ValueError:
        return None
    return checkpoint if encode_checkpoint(checkpoint) == line + b"\n" else None


def last_checkpoint_in(content: bytes) -> Checkpoint | None:
    """The last checkpoint of a file of them, such as a sink keeps; None when there is none."""
    lines = content.split(b"\n")[:-1]
    return decode_checkpoint(lines[-1]) if lines else None


def read_public_keys(pem: bytes) -> tuple[bytes, ...]:
    """Ed25519 public keys of concatenated PEM blocks. Raises ValueError when there is none or other."""
    end = b"-----END PUBLIC KEY-----"
    keys = []
    for block in pem.split(end)[:-1]:
        key = load_pem_public_key(block + end)
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("a checkpoint key is an Ed25519 key")
        keys.append(key.public_bytes_raw())
    if not keys:
        raise ValueError("no PEM block of a public key")
    return tuple(keys)


def _text(number: int, at: str, previous: str, heads: Sequence[Head]) -> bytes:
    lines = ["portico checkpoint v1", str(number), at, previous]
    lines += [f"{head.writer} {head.sequence} {head.hash}" for head in heads]
    return ("\n".join(lines) + "\n").encode()
