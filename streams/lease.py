"""A lease in a row of PostgreSQL: one process at a time leads, and a process that was suspended notices before it acts.

Each holder has a higher fence than the one before it. Every write of a leader names its fence, and is refused once
another process leads. A lease is free if it is not renewed, or at once if the connection that took it has ended.
"""

import asyncio
import os
import socket
from typing import Any

from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

LEASE_TTL_S = 3.0
RENEW_S = 1.0


class LeaseLostError(Exception):
    """Another process leads, or may lead by now."""


class Lease:
    """One process's hold on the lease `name`. All calls use one connection, which no other code may use meanwhile."""

    def __init__(self, name: str) -> None:
        self.fence = 0
        self._name = name
        self._holder = f"{socket.gethostname()}:{os.getpid()}"
        self._valid_until = 0.0  # of the loop's time, which goes on while a process is suspended

    async def take(self, connection: Any) -> bool:
        """Take the lease if it is free."""
        asked_at = asyncio.get_running_loop().time()
        fence = await QUERIES.take(connection, name=self._name, holder=self._holder, life_s=LEASE_TTL_S)
        if fence is None:
            return False
        self.fence, self._valid_until = fence, asked_at + LEASE_TTL_S
        return True

    async def keep(self, connection: Any) -> None:
        """Renew the lease each second; ends with LeaseLostError, or with an error of the connection."""
        while True:
            await asyncio.sleep(RENEW_S)
            asked_at = asyncio.get_running_loop().time()
            if await QUERIES.renew(connection, name=self._name, fence=self.fence, life_s=LEASE_TTL_S) is None:
                raise LeaseLostError(f"another process holds the lease {self._name!r}")
            self._valid_until = asked_at + LEASE_TTL_S

    async def release(self, connection: Any) -> None:
        """Release the lease, so that the next process leads at once."""
        self._valid_until = 0.0
        await QUERIES.release(connection, name=self._name, fence=self.fence)

    def check(self) -> None:
        """Raise LeaseLostError unless the lease was renewed in time: a process that was suspended does nothing more."""
        if asyncio.get_running_loop().time() >= self._valid_until:
            raise LeaseLostError(f"the lease {self._name!r} was not renewed in time")
