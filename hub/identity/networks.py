"""Whether a caller's address lies within the networks that a key is limited to."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from hub.snapshot import Network


def is_within(peer: str, networks: Iterable[Network]) -> bool:
    """Whether the address ``peer`` is in one of ``networks``; what is no address is in none.

    IPv4 addresses in IPv6 (``::ffff:192.0.2.1``) count as what they stand for.
    """
    address = _address(peer)
    return address is not None and any(address in network for network in networks)


@lru_cache(maxsize=4096)
def _address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
