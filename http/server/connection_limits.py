"""Bounds on the connections of a listener, by address and in all, and on their unsent bytes.

Over a bound the least active connection is closed first: the one that has been idle for longest, or has left its
response unread for longest. A client that opens too many connections loses its own, and one that does not read is
disconnected.
"""

import asyncio
import logging
import resource
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from math import inf
from typing import Generic, Protocol, TypeVar

from callboard.http.server.client_ip import NO_PROXIES, Proxies, rate_limit_address

REPEAT_S = 60.0  # the least time between two log lines with one reason
CANDIDATES = 256  # the oldest connections, among which the longest idle one is sought
MIN_CONNECTIONS = 16  # the least limit, even if descriptors are scarce

log = logging.getLogger(__name__)


class Bound(StrEnum):
    """The bound for which a connection was closed or refused."""

    ADDRESS = "connections of one address"
    ALL = "connections"
    UNSENT = "unsent bytes"


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits of one listener's clients. They never take the last `reserve` descriptors of the process: these are
    for the operator plane, the connection pools and files.
    """

    connections: int = 4096
    per_address: int = 1024
    unsent_bytes: int = 64 << 20
    reserve: int = 0

    @property
    def most(self) -> int:
        """Return the limit of connections: the setting, or fewer if the process has too few descriptors."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return self.connections
        return min(self.connections, max(MIN_CONNECTIONS, soft - self.reserve))


class Limited(Protocol):
    """A connection as its limits see it. `idle_since` is a time of the loop's clock, infinite while it is busy."""

    address: str
    idle_since: float

    def abort(self) -> None:
        """Close at once, without a response."""


C = TypeVar("C", bound=Limited)


class OpenConnections(Generic[C]):
    """The open connections of a listener; `closed_for` is called for each one that a limit closes."""

    def __init__(
        self,
        limits: ConnectionLimits,
        proxies: Proxies = NO_PROXIES,
        closed_for: Callable[[Bound], None] | None = None,
    ) -> None:
        self.limits = limits
        self.unsent_bytes = 0
        self._most = limits.most
        self._proxies = proxies
        self._closed_for = closed_for
        self._all: dict[C, None] = {}
        self._by_address: dict[str, dict[C, None]] = {}
        self._unsent: dict[C, int] = {}
        self._logged: dict[Bound, float] = {}
        self._time = asyncio.get_running_loop().time

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._all)

    def __iter__(self) -> Iterator[C]:
        """Iterate over the connections in order of arrival, while they may come and go."""
        return iter(tuple(self._all))

    def add(self, connection: C, peer: str | None) -> bool:
        """Add a connection; an idle one may be closed for it. Return False if there is no room."""
        connection.address = address = "" if peer and self._proxies.trusts(peer) else rate_limit_address(peer or "")
        of_address = self._by_address.setdefault(address, {})
        room = not address or len(of_address) < self.limits.per_address or self._close_idle(of_address, Bound.ADDRESS)
        room = room and (len(self._all) < self._most or self._close_idle(self._all, Bound.ALL))
        self._all[connection] = None
        of_address[connection] = None
        return room

    def discard(self, connection: C) -> None:
        """Remove a closed connection."""
        self.sent(connection)
        self._all.pop(connection, None)
        of_address = self._by_address.get(connection.address)
        if of_address is not None:
            of_address.pop(connection, None)
            if not of_address:
                del self._by_address[connection.address]

    def unsent(self, connection: C, size: int) -> None:
        """Note how many bytes a connection's client has left unread."""
        self.sent(connection)
        self._unsent[connection] = size
        self.unsent_bytes += size
        while self.unsent_bytes > self.limits.unsent_bytes:
            slowest = next(iter(self._unsent))
            self.sent(slowest)
            self._tell(Bound.UNSENT, slowest.address)
            slowest.abort()

    def sent(self, connection: C) -> None:
        """Note that the client has read its bytes, or is gone."""
        self.unsent_bytes -= self._unsent.pop(connection, 0)

    def _close_idle(self, among: Iterable[C], bound: Bound) -> bool:
        """Close the connection that is idle for longest. Return False if all that were looked at are busy."""
        idlest = min(islice(among, CANDIDATES), key=lambda each: each.idle_since)
        self._tell(bound, idlest.address)
        if idlest.idle_since == inf:
            return False
        idlest.abort()
        self.discard(idlest)
        return True

    def _tell(self, bound: Bound, address: str) -> None:
        """Count each one; log the first of a reason, then at most one a minute."""
        if self._closed_for is not None:
            self._closed_for(bound)
        now = self._time()
        if now - self._logged.get(bound, -inf) >= REPEAT_S:
            self._logged[bound] = now
            most = {
                Bound.ADDRESS: self.limits.per_address,
                Bound.ALL: self._most,
                Bound.UNSENT: self.limits.unsent_bytes,
            }
            log.warning("at the limit of %d %s: connections of %s are closed", most[bound], bound, address or "a proxy")
