"""Sealed values: what we hand to callers and take back, unread and unaltered by them.

A token is unpadded base64url of ``version (1) | key id (4) | expiry (8) | nonce (12) | ciphertext
and tag``, encrypted with AES-256-GCM. Purpose, associated data and the token's own first 13 bytes
are authenticated with it, so that a cursor is no session id and a session id of one principal is
none for another. Nonces are random: rotate a key long before 2**32 tokens (NIST SP 800-38D 8.3).
"""

import os
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.vault.key_ring import RingKey

_VERSION = 1
_PREFIX = struct.Struct(">B4sQ")
_NONCE_BYTES = 12
_TAG_BYTES = 16


class Sealer:
    """Seals with the ring's current key, opens with any of its keys."""

    def __init__(self, keys: Sequence[RingKey], now: Callable[[], float]) -> None:
        """``keys``: current first; ``now``: seconds since 1970."""
        self._keys = {bytes.fromhex(key.id): AESGCM(key.secret) for key in keys}
        self._current_id = bytes.fromhex(keys[0].id)
        self._current = self._keys[self._current_id]
        self._now = now

    def seal(
        self,
        content: bytes,
        *,
        purpose: str,
        associated: bytes = b"",
        lifetime_s: float | None = None,
    ) -> str:
        """A token of visible ASCII (RFC 4648 section 5) that only this installation can read.

        ``purpose`` and ``associated`` must be given again to open it. Without ``lifetime_s`` it
        holds as long as its key does.
        """
        expiry = 0 if lifetime_s is None else max(1, int(self._now() + lifetime_s))
        prefix = _PREFIX.pack(_VERSION, self._current_id, expiry)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._current.encrypt(nonce, content, _bound(prefix, purpose, associated))
        return urlsafe_b64encode(prefix + nonce + sealed).rstrip(b"=").decode("ascii")

    def unseal(self, token: str, *, purpose: str, associated: bytes = b"") -> bytes | None:
        """What was sealed; None for everything else: altered, expired, another's, not ours at all.

        The reasons are one on purpose: whoever presents such a token learns nothing from it.
        """
        packed = _decoded(token)
        if packed is None or len(packed) < _PREFIX.size + _NONCE_BYTES + _TAG_BYTES:
            return None
        prefix = packed[: _PREFIX.size]
        version, key_id, expiry = _PREFIX.unpack(prefix)
        key = self._keys.get(key_id)
        if version != _VERSION or key is None:
            return None
        nonce = packed[_PREFIX.size : _PREFIX.size + _NONCE_BYTES]
        sealed = packed[_PREFIX.size + _NONCE_BYTES :]
        try:
            content = key.decrypt(nonce, sealed, _bound(prefix, purpose, associated))
        except InvalidTag:
            return None
        return content if expiry == 0 or self._now() < expiry else None


def _bound(prefix: bytes, purpose: str, associated: bytes) -> bytes:
    name = purpose.encode()
    return b"portico sealed %b%d:%b%b" % (prefix, len(name), name, associated)


def _decoded(token: str) -> bytes | None:
    try:
        text = token.encode("ascii")
        packed = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:  # not ASCII, or not base64
        return None
    # One value has one token: letters that decoding ignores or rounds off are not ours.
    return packed if urlsafe_b64encode(packed).rstrip(b"=") == text else None
