"""Which addresses alerts may be sent to (log-service.md §7): those of the public Internet. Pure.

Refused are loopback, private, link-local, multicast, reserved and unspecified ones, in IPv4, in IPv6, and where an
IPv6 address only carries an IPv4 one (mapped, NAT64, 6to4). Not here: names; who resolves one asks for each address.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_NAT64: Final = IPv6Network("64:ff9b::/96")
_CARRIERS: Final = (IPv6Network("64:ff9b:1::/48"), IPv6Network("2001::/32"))  # local NAT64, Teredo


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(text: str) -> bool:
    """Whether an address, as a resolver gives it, is one of the public Internet; False for what is no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if any(address in network for network in _CARRIERS) or address.is_site_local:
            return False
        address = _carried(address) or address
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
