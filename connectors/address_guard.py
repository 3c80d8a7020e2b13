"""Which addresses may be connected to: public ones, and what a platform administrator wrote.

Names are judged by what they resolve to, and the very addresses that were judged are the ones
connected to, so that a name cannot change its mind in between (DNS rebinding). Every way of writing
an address, decimal or mapped into IPv6, is judged by what it means.
"""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from connectors.errors import AddressRefused, Unreachable

_NAT64: Final = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NOT_PUBLIC: Final = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4: a private IPv4 address in disguise
        "3fff::/20",  # documentation
    )
)


def is_public(text: str) -> bool:
    """Whether an IP address is on the public Internet, its embedded IPv4 address included."""
    address: IPv4Address | IPv6Address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFF_FFFF)
        elif address not in _GLOBAL_UNICAST or address.scope_id is not None:
            return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address.version == net.version and address in net for net in _NOT_PUBLIC)


class AddressGuard:
    """Resolves names to the addresses that may be connected to.

    ``written`` are the hosts with their ports that a platform administrator wrote: those may be
    private or loopback, as written. Redirects and discovered addresses pass the same guard and so
    profit only when they name exactly that host and port.
    """

    def __init__(self, written: frozenset[tuple[str, int]] = frozenset()) -> None:
        self._written = frozenset((_plain(host), port) for host, port in written)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Addresses of ``host``, best first; a :data:`connectors.http_pool.Resolve`.

        Raises AddressRefused when one of them is not public, Unreachable when there is none.
        """
        addresses = await _resolve(host, port)
        if (_plain(host), port) not in self._written:
            for address in addresses:
                if not is_public(address):
                    raise AddressRefused(
                        f"{host}:{port} leads to {address}, which is no public address; only a "
                        "platform administrator can allow it"
                    )
        return addresses


async def _resolve(host: str, port: int) -> list[str]:
    if _is_address(host):
        return [host]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{host} cannot be resolved") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise Unreachable(f"{host} has no address")
    return addresses


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _plain(host: str) -> str:
    return host.lower().rstrip(".").strip("[]")
