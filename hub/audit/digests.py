"""What stands for content in the record: keyed, so that small values cannot be guessed from it."""

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

_DIGEST_BYTES: Final = 16
"""HMAC-SHA256 (RFC 2104) cut to 128 bits."""


class Digests:
    """HMACs under one key per tenant; each key is set up once."""

    def __init__(self, key_of: Callable[[str], bytes]) -> None:
        """``key_of`` gives a tenant's key; asked once per tenant."""
        self._key_of = key_of
        self._keyed: dict[str, HMAC] = {}

    def digest(self, tenant: str, content: bytes) -> str:
        """The digest of content under the tenant's key: 32 hexadecimal digits."""
        keyed = self._keyed.get(tenant)
        if keyed is None:
            keyed = self._keyed[tenant] = HMAC(self._key_of(tenant), SHA256())
        one = keyed.copy()
        one.update(content)
        return one.finalize()[:_DIGEST_BYTES].hex()
