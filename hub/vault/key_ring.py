"""The ring of secrets of an installation: what seals, what signs, what digests are keyed with.

``keys.json`` (0600) in the data directory, made on first use and shared by all processes. Of each
kind the first key is the current one; older ones stay, to open and check what they made.
"""

import os
import secrets
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Meta, Struct

from hub.errors import DataDirectoryError

FILE_NAME = "keys.json"
SECRET_BYTES = 32

KeyKind = Literal["sealing", "signing", "digest"]


class RingKey(Struct, frozen=True, kw_only=True):
    """One secret of the ring; ``repr`` does not show it."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
    """Eight hexadecimal digits."""
    created_at: datetime
    secret: Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
    """256 random bits; the seed of an Ed25519 key where it signs."""

    def __repr__(self) -> str:
        return f"RingKey(id={self.id!r})"


class Signer:
    """Signs with one Ed25519 key of the ring."""

    def __init__(self, key: RingKey) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(key.secret)
        self.public_key: bytes = self._private.public_key().public_bytes(
            Encoding.Raw, PublicFormat.Raw
        )
        """32 bytes, what a verifier needs."""

    def sign(self, content: bytes) -> bytes:
        """The 64 bytes of the signature (RFC 8032)."""
        return self._private.sign(content)

    def public_key_pem(self) -> str:
        """The public key as PEM, to hand to whoever verifies."""
        pem = self._private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        return pem.decode("ascii")


RingKeys = Annotated[tuple[RingKey, ...], Meta(min_length=1)]


class KeyRing(Struct, frozen=True, kw_only=True):
    """All secrets of the installation, current ones first."""

    sealing: RingKeys
    """AES-256-GCM keys of session ids, cursors and the like."""
    signing: RingKeys
    """Ed25519 keys of checkpoints."""
    digest: RingKeys
    """Roots that the tenants' digest keys are derived from."""

    def signer(self) -> Signer:
        """Signs with the current signing key."""
        return Signer(self.signing[0])

    def public_keys(self) -> tuple[bytes, ...]:
        """Ed25519 public keys (32 bytes each) of every signing key, current first."""
        return tuple(Signer(key).public_key for key in self.signing)

    def public_keys_pem(self) -> str:
        """The same as concatenated PEM blocks: the file an auditor keeps."""
        return "".join(Signer(key).public_key_pem() for key in self.signing)

    def digest_key(self, tenant: str) -> bytes:
        """The tenant's HMAC key: HKDF-SHA256 (RFC 5869) of the current root; keep it, do not ask per call."""
        derivation = HKDF(
            algorithm=SHA256(),
            length=SECRET_BYTES,
            salt=None,
            info=b"portico digest v1\x00" + tenant.encode(),
        )
        return derivation.derive(self.digest[0].secret)

    def rotated(self, kind: KeyKind, now: datetime) -> "KeyRing":
        """The ring with a new current key of one kind; the older ones stay behind it."""
        keys: tuple[RingKey, ...] = getattr(self, kind)
        return msgspec.structs.replace(self, **{kind: (_new_key(now), *keys)})


def load_or_create(directory: Path, now: datetime) -> KeyRing:
    """The ring of this data directory, made if there is none yet.

    Processes that start at the same time end up with the same ring. Raises DataDirectoryError when
    the file is readable for others, damaged, or cannot be written.
    """
    path = directory / FILE_NAME
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            ring = KeyRing(
                sealing=(_new_key(now),), signing=(_new_key(now),), digest=(_new_key(now),)
            )
            _publish(directory, ring, replace=False)
        if path.stat().st_mode & 0o077:
            raise DataDirectoryError(f"{path} is open to other users; run: chmod 600 {path}")
        return msgspec.json.decode(path.read_bytes(), type=KeyRing)
    except OSError as error:
        raise DataDirectoryError(
            f"{path} cannot be used ({error.strerror}); --data names another directory"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataDirectoryError(f"{path} is damaged; restore it from a backup") from error


def replace(directory: Path, ring: KeyRing) -> None:
    """Put a rotated ring in the place of the old one. Raises DataDirectoryError."""
    try:
        _publish(directory, ring, replace=True)
    except OSError as error:
        raise DataDirectoryError(
            f"{directory / FILE_NAME} cannot be written ({error.strerror})"
        ) from error


def _new_key(now: datetime) -> RingKey:
    secret = secrets.token_bytes(SECRET_BYTES)
    return RingKey(id=sha256(secret).hexdigest()[:8], created_at=now, secret=secret)


def _publish(directory: Path, ring: KeyRing, *, replace: bool) -> None:
    path = directory / FILE_NAME
    draft = directory / f"{FILE_NAME}.{secrets.token_hex(8)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(ring))
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            path.hardlink_to(draft)  # fails where another process was first: its ring holds
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
