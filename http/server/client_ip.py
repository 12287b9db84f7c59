"""The address of the client, found through trusted proxies, and the key under which it is rate limited.

X-Forwarded-For is read from the right, as each proxy appends who called it: the client is the first address that is no
trusted proxy. What stands left of it was written by that client, and says nothing. Forwarded (RFC 7239) is not read.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from multidict import CIMultiDictProxy

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

V6_PREFIX = 64  # what a subscriber is given at least, RFC 6177: to count single addresses would be to count none
REMEMBERED = 4096  # addresses whose parsed form is kept
LONGEST = 64  # characters of an address with brackets, zone and port; what is longer is none


def network(text: str) -> Network:
    """A network or a single address: `10.0.0.0/8`, `::1`. Raises ValueError: "must be ..."."""
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError("must be addresses or networks, such as 10.0.0.0/8, with commas between") from None


def parsed(text: str) -> Address | None:
    """An address, also with a port as some proxies write it (`192.0.2.1:80`, `[2001:db8::1]:80`); None for any other.

    An IPv4 address in IPv6's form is that IPv4 address; a zone is dropped.
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
    """The proxies whose word is taken. Without any, the peer is the client and no header is looked at."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self._trusts = lru_cache(REMEMBERED)(self._is_trusted)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._trusted)

    def trusts(self, peer: str) -> bool:
        """Whether a peer is one of them."""
        return bool(self._trusted) and self._trusts(peer)

    def client(self, peer: str | None, headers: CIMultiDictProxy[str]) -> str:
        """The client's address; where a trusted proxy has written what is none, that proxy's own."""
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
