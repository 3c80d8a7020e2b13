"""What a request brings to prove its principal, collected and not judged."""

import ipaddress
from collections.abc import Iterable
from typing import Final

from hub.domain.principal import Evidence
from hub.surfaces.asgi import Fields, Scope

LOOPBACK_NAMES: Final = frozenset(("localhost", "127.0.0.1", "[::1]"))
_BEARER: Final = "bearer "

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """Which peers are believed when they say whom they forward for."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._networks: tuple[Network, ...] = tuple(
            ipaddress.ip_network(network, strict=False) for network in trusted
        )

    def caller(self, peer: str, fields: Fields) -> str:
        """The caller's address: the peer's, or the last one named that is no trusted proxy."""
        if not self._networks or not self._trusts(peer):
            return peer
        forwarded = fields.get(b"x-forwarded-for")
        if forwarded is None:
            return peer
        for address in reversed([part.strip() for part in forwarded.split(",")]):
            if not is_address(address):
                return peer
            if not self._trusts(address):
                return address
            peer = address
        return peer

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def evidence_of(scope: Scope, fields: Fields, proxies: Proxies, tenant: str | None) -> Evidence:
    """The evidence of a request; ``tenant`` is the one its path names, if any.

    A credential in a scheme that nobody knows is presented as it is, so that it is refused and not
    overlooked.
    """
    client = scope.get("client")
    peer: str = client[0] if client else ""
    secret = _secret_of(fields)
    return Evidence(
        secret=secret,
        direct=secret is None and _is_direct(peer, fields),
        peer=proxies.caller(peer, fields),
        tenant=tenant if tenant is not None else fields.get(b"x-tenant-id"),
    )


def is_loopback(address: str) -> bool:
    """Whether an address of a socket peer is this machine's loopback."""
    return address.startswith("127.") or address in {"::1", "::ffff:127.0.0.1"}


def is_loopback_host(host: str | None) -> bool:
    """Whether a ``Host`` value names loopback, with any port."""
    return host is not None and host_name(host) in LOOPBACK_NAMES


def host_name(host: str) -> str:
    """The name in a ``Host`` value, lower case and without its port; IPv6 keeps its brackets."""
    host = host.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _secret_of(fields: Fields) -> str | None:
    authorization = fields.get(b"authorization")
    if authorization is None:
        return fields.get(b"x-api-key")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return authorization


def _is_direct(peer: str, fields: Fields) -> bool:
    forwarded = (
        b"forwarded" in fields or b"via" in fields or fields.has_any_starting_with(b"x-forwarded-")
    )
    return is_loopback(peer) and is_loopback_host(fields.get(b"host")) and not forwarded


def is_address(text: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
