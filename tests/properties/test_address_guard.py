"""Which addresses may be connected to, however they are written."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.address_guard import AddressGuard, is_public
from connectors.errors import AddressRefused, Unreachable

PRIVATE_NETWORKS = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
]  # fmt: skip
private = st.sampled_from(PRIVATE_NETWORKS).flatmap(
    lambda text: st.integers(
        int(ip_network(text).network_address), int(ip_network(text).broadcast_address)
    ).map(IPv4Address)
)


@given(private)
def test_a_private_address_is_none_in_any_disguise(address: IPv4Address) -> None:
    number = int(address)
    assert not is_public(str(address))
    assert not is_public(f"::ffff:{address}")
    assert not is_public(f"::{address}")
    assert not is_public(str(IPv6Address((0x64FF9B << 96) | number)))
    assert not is_public(str(IPv6Address((0x64FF9B0001 << 80) | number)))
    assert not is_public(str(IPv6Address((0x2002 << 112) | (number << 80) | 1)))
    assert not is_public(str(IPv6Address((0x20010000 << 96) | (number ^ 0xFFFF_FFFF))))


@pytest.mark.parametrize(
    "address",
    [
        "::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "100::1",
        "fec0::1", "3fff::1", "5f00::1", "255.255.255.255", "169.254.169.254", "fd00:ec2::254",
    ],
)  # fmt: skip
def test_what_is_not_on_the_internet_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_what_is_on_the_internet_passes(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "::1"]
)
async def test_every_way_to_write_loopback_is_refused(host: str) -> None:
    with pytest.raises(AddressRefused):
        await AddressGuard()(host, 80)


async def test_what_an_administrator_wrote_passes_with_its_port_and_no_other() -> None:
    guard = AddressGuard(frozenset({("LOCALHOST.", 8080)}))
    assert "127.0.0.1" in await guard("localhost", 8080)
    with pytest.raises(AddressRefused):
        await guard("localhost", 8081)
    with pytest.raises(AddressRefused):
        await guard("127.0.0.1", 8080)


async def test_the_judged_addresses_are_the_ones_to_connect_to() -> None:
    assert await AddressGuard()("8.8.8.8", 443) == ["8.8.8.8"]


@pytest.mark.parametrize("host", ["name.invalid", "", "a..b", "x" * 300])
async def test_a_name_without_an_address_is_unreachable(host: str) -> None:
    with anyio.fail_after(20), pytest.raises((Unreachable, AddressRefused)):
        await AddressGuard()(host, 80)
