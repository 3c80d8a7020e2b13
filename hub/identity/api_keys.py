"""API keys: ``ptk_`` + 256 random bits + a checksum that catches typing errors without a look-up."""

import hashlib
import secrets
import zlib
from typing import Final

PREFIX: Final = "ptk_"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_LENGTH: Final = 43
_CHECK_LENGTH: Final = 6


def new_key() -> str:
    """A fresh key. It is shown once and never stored."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_BODY_LENGTH))
    return f"{PREFIX}{body}{_checksum(body)}"


def is_well_formed(key: str) -> bool:
    """Whether ``key`` has the shape and checksum of one of ours; says nothing of its validity."""
    body, check = key[len(PREFIX) : -_CHECK_LENGTH], key[-_CHECK_LENGTH:]
    return (
        key.startswith(PREFIX)
        and len(body) == _BODY_LENGTH
        and key.isascii()
        and check == _checksum(body)
    )


def digest_of(key: str) -> bytes:
    """What is stored and looked up in place of the key: its SHA-256."""
    return hashlib.sha256(key.encode()).digest()


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(_CHECK_LENGTH):
        number, place = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[place] + digits
    return digits
