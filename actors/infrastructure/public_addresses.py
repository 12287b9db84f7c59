"""Connections to public addresses only: a name of a service may lead to a server of our own network."""

import ipaddress
import socket
from typing import Any

NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an address is of the internet, also as IPv4 within IPv6."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if found.teredo is not None or (inner is not None and not is_public(str(inner))):
            return False
        if inner is not None:
            return True
    return found.is_global and not found.is_multicast


def public_socket(info: tuple[Any, ...]) -> socket.socket:
    """Return a socket for an address that getaddrinfo gave. Raises OSError unless it is public.

    aiohttp calls this for each address that it tries, literal ones too: no name resolves past it.
    """
    family, kind, protocol, _, address = info
    if not is_public(address[0]):
        raise PermissionError("the service has a private address, to which we do not connect")
    return socket.socket(family, kind, protocol)
