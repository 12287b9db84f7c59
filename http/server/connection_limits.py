"""Bounds on what all clients together hold of a listener: connections, by address and in all, and unsent bytes.

Over a bound the connection that does least goes first: the one that has been idle for longest, or has not read its
answer for longest. So a client that opens too many takes from itself, and one that does not read is let go.
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

REPEAT_S = 60.0  # the least time between two log lines about one reason
CANDIDATES = 256  # connections, oldest first, among which the one that is idle for longest is sought
MIN_CONNECTIONS = 16  # even where descriptors are scarce

log = logging.getLogger(__name__)


class Bound(StrEnum):
    """The bound for which a connection was closed or refused."""

    ADDRESS = "connections of one address"
    ALL = "connections"
    UNSENT = "unsent bytes"


@dataclass(frozen=True)
class ConnectionLimits:
    """How much the clients of one listener may hold. `reserve` descriptors of the process are never theirs: they are
    for the operator plane, the pools of connections, and files.
    """

    connections: int = 4096
    per_address: int = 1024
    unsent_bytes: int = 64 << 20
    reserve: int = 0

    @property
    def most(self) -> int:
        """How many connections there may be: as set, and as far as the process has descriptors for them."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return self.connections
        return min(self.connections, max(MIN_CONNECTIONS, soft - self.reserve))


class Limited(Protocol):
    """A connection, as far as its bounds look at it. `idle_since` is on the loop's clock, infinite while it is busy."""

    address: str
    idle_since: float

    def cut(self) -> None:
        """Close without another word."""


C = TypeVar("C", bound=Limited)


class OpenConnections(Generic[C]):
    """The open connections of a listener; `closed_for` is told of each one that a bound has closed."""

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
        """How many there are."""
        return len(self._all)

    def __iter__(self) -> Iterator[C]:
        """Each of them, in the order they came, whatever happens to them meanwhile."""
        return iter(tuple(self._all))

    def add(self, connection: C, peer: str | None) -> bool:
        """Enter a connection, for which an idle one may have to go. False when there is no room for it."""
        connection.address = address = "" if peer and self._proxies.trusts(peer) else rate_limit_address(peer or "")
        of_address = self._by_address.setdefault(address, {})
        room = not address or len(of_address) < self.limits.per_address or self._close_idle(of_address, Bound.ADDRESS)
        room = room and (len(self._all) < self._most or self._close_idle(self._all, Bound.ALL))
        self._all[connection] = None
        of_address[connection] = None
        return room

    def discard(self, connection: C) -> None:
        """Forget a connection that is closed."""
        self.sent(connection)
        self._all.pop(connection, None)
        of_address = self._by_address.get(connection.address)
        if of_address is not None:
            of_address.pop(connection, None)
            if not of_address:
                del self._by_address[connection.address]

    def unsent(self, connection: C, size: int) -> None:
        """A connection's client does not read, and so many bytes wait for it."""
        self.sent(connection)
        self._unsent[connection] = size
        self.unsent_bytes += size
        while self.unsent_bytes > self.limits.unsent_bytes:
            slowest = next(iter(self._unsent))
            self.sent(slowest)
            self._tell(Bound.UNSENT, slowest.address)
            slowest.cut()

    def sent(self, connection: C) -> None:
        """It has read them, or is gone."""
        self.unsent_bytes -= self._unsent.pop(connection, 0)

    def _close_idle(self, among: Iterable[C], bound: Bound) -> bool:
        """Close the one that is idle for longest. False when all of those looked at are busy."""
        idlest = min(islice(among, CANDIDATES), key=lambda each: each.idle_since)
        self._tell(bound, idlest.address)
        if idlest.idle_since == inf:
            return False
        idlest.cut()
        self.discard(idlest)
        return True

    def _tell(self, bound: Bound, address: str) -> None:
        """Count each, and log the first of a reason, then one a minute at most."""
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
