"""Redis, which keeps only what may be lost: a client that fails fast, and stops trying for a moment when it has."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from callboard.runtime import Actor

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT_S = 0.25  # what a caller may lose to a server that has gone quiet
PROBE_INTERVAL_S = 0.5


class CacheAwayError(Exception):
    """Redis is away: do without."""


class Cache:
    """A Redis client behind a circuit breaker: after a failure, calls fail at once until the guard's probe succeeds."""

    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, max_connections=32, retry=None
        )
        self.away = asyncio.Event()

    async def call(self, command: Callable[[Any], Awaitable[T]]) -> T:
        """Run `command(client)`. Raises CacheAwayError, within TIMEOUT_S or at once."""
        if self.away.is_set():
            raise CacheAwayError
        try:
            return await command(self._client)
        except (RedisError, OSError, TimeoutError) as error:
            if not self.away.is_set():
                log.warning("Redis is away: %s", type(error).__name__)
            self.away.set()
            raise CacheAwayError from error

    async def check(self) -> None:
        """Raise CacheAwayError unless the server answers."""
        await self.call(lambda client: client.ping())

    async def probe(self) -> bool:
        """Ask the server, whatever the breaker says, and close the breaker if it answers."""
        try:
            await self._client.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        self.away.clear()
        return True

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class CacheGuard(Actor[None]):
    """Waits for the breaker to open, and probes until it may close."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    async def run(self) -> None:
        """Probe whenever Redis is away."""
        while True:
            await self.cache.away.wait()
            if await self.cache.probe():
                log.info("Redis is here")
            else:
                await asyncio.sleep(PROBE_INTERVAL_S)

    async def on_stop(self) -> None:
        """Close the client."""
        await self.cache.close()
