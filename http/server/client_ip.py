"""The address of the client, found through trusted proxies, and its rate-limit key.

Each proxy appends its peer to X-Forwarded-For, so the header is read from the right: the client is the first address
that is no trusted proxy. That client wrote everything to the left, which proves nothing. Forwarded (RFC 7239) is not
read.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from multidict import CIMultiDictProxy

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

V6_PREFIX = 64  # the smallest network of a subscriber, RFC 6177: a count by single address would be no limit
REMEMBERED = 4096  # addresses whose parsed form is cached
LONGEST = 64  # the longest address, with brackets, zone and port


def network(text: str) -> Network:
    """Parse a network or a single address: `10.0.0.0/8`, `::1`. Raises ValueError: "must be ..."."""
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError("must be addresses or networks, such as 10.0.0.0/8, with commas between") from None


def parsed(text: str) -> Address | None:
    """Parse an address, also with a port as some proxies write it (`192.0.2.1:80`, `[2001:db8::1]:80`); None if it is
    none.

    An IPv4-mapped IPv6 address becomes the IPv4 address; a zone is dropped.
    """
    text = text.strip()
    return _parsed(text) if len(text) <= LONGEST else None


@lru_cache(REMEMBERED)
def _parsed(text: str) -> Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(REMEMBERED)
def rate_limit_address(ip: str) -> str:
    """Return the rate-limit key of an address: the address itself, or its /64. All other peers, such as Unix sockets,
    share one key.
    """
    address = parsed(ip)
    if address is None:
        return "unknown"
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, V6_PREFIX), strict=False))
    return str(address)


class Proxies:
    """The proxies whose X-Forwarded-For is trusted. Without any, the peer is the client and no header is read."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self._trusts = lru_cache(REMEMBERED)(self._is_trusted)

    def __bool__(self) -> bool:
        """Whether any proxy is trusted."""
        return bool(self._trusted)

    def trusts(self, peer: str) -> bool:
        """Whether a peer is a trusted proxy."""
        return bool(self._trusted) and self._trusts(peer)

    def client(self, peer: str | None, headers: CIMultiDictProxy[str]) -> str:
        """Return the client's address; if a trusted proxy has written no valid address, that proxy's own."""
        client = peer or "unknown"
        if not self._trusted or not self._trusts(client):
            return client
        hops = [hop for line in headers.getall("X-Forwarded-For", ()) for hop in line.split(",")]
        for hop in reversed(hops):
            address = parsed(hop)
            if address is None:
                break
            client = str(address)
            if not self._trusts(client):
                break
        return client

    def _is_trusted(self, text: str) -> bool:
        address = parsed(text)
        return address is not None and any(address in each for each in self._trusted)


NO_PROXIES = Proxies()
