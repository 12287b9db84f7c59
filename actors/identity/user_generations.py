"""User generations: one lookup in Redis tells a process whether its cached data of a user is current.

A user's generation is a random word in Redis. Data that a process reads from PostgreSQL is cached together with the
generation read before it. After the commit of a change the generation is replaced, so every process reads again.
"""

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from redis.exceptions import ResponseError

from callboard.actors.infrastructure.redis import Ask, CacheAwayError, RedisClient

MAX_AGE_S = 30.0  # the longest time that anything is cached
SETTLING_S = 2.0  # after an outage of Redis: the other processes reconnect, and send their pending invalidations
KEY_TTL_S = 3600  # in Redis; longer than MAX_AGE_S, so that cached data never outlives its generation
MAX_PENDING = 10_000  # the oldest are dropped first; MAX_AGE_S bounds the damage


class UserGenerations:
    """The generations of a process, shared by its caches of users. `clock` is monotonic, in seconds.

    An invalidation that fails is pending, and is sent before Redis is trusted again.
    """

    def __init__(self, cache: RedisClient, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._cache = cache
        self._pending: dict[UUID, tuple[float]] = {}  # the time of each pending invalidation, as an object of its own
        self._trusted_from = 0.0
        cache.before_return(self._before_return)

    def read(self, user_id: UUID) -> "asyncio.Future[bytes | None]":
        """Return an awaitable of a user's generation, created if there is none; None while Redis is not trusted and
        nothing is cached.

        The question is sent at once, and the awaitable never raises, so it may be left unawaited.
        """
        reply: asyncio.Future[bytes | None] = self._cache.loop.create_future()
        if self._cache.unavailable.is_set() or self.clock() < self._trusted_from:
            reply.set_result(None)
            return reply
        key, generation = self._key(user_id), self._cache.generation
        self._cache.get(key).add_done_callback(partial(self._got, key, generation, reply))
        return reply

    def _got(
        self, key: str, generation: int, reply: "asyncio.Future[bytes | None]", answer: "asyncio.Future[Any]"
    ) -> None:
        if answer.exception() is None and answer.result() is None and not reply.done():
            begun = secrets.token_hex(8).encode()
            setting = self._cache.send("SET", key, begun, "NX", "GET", "EX", KEY_TTL_S)
            setting.add_done_callback(partial(self._told, begun, generation, reply))
        else:
            self._told(b"", generation, reply, answer)

    def _told(
        self,
        begun: bytes,
        generation: int,
        reply: "asyncio.Future[bytes | None]",
        answer: "asyncio.Future[Any]",
    ) -> None:
        # After a reconnection the server may have come back with an old generation.
        good = answer.exception() is None and generation == self._cache.generation
        if not reply.done():
            reply.set_result(b"%d %s" % (generation, answer.result() or begun) if good else None)

    async def bump(self, user_id: UUID) -> None:
        """Replace the generation, after the commit of a change. It never fails: an invalidation that cannot be sent is
        pending.
        """
        self._pending.pop(user_id, None)
        debt = self._pending[user_id] = (self.clock(),)
        if len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        word = secrets.token_hex(8)
        try:
            # Shielded: a cancelled caller has changed the user all the same.
            await asyncio.shield(self._cache.send("SET", self._key(user_id), word, "EX", KEY_TTL_S))
        except (CacheAwayError, ResponseError):
            return
        self._send_pending(user_id, debt)

    async def _before_return(self, ask: Ask) -> None:
        """Send pending invalidations; drop those older than the cache's TTL."""
        self._trusted_from = self.clock() + SETTLING_S
        while self._pending:
            user_id, debt = next(iter(self._pending.items()))
            if self.clock() - debt[0] < MAX_AGE_S:
                await ask("SET", self._key(user_id), secrets.token_hex(8), "EX", KEY_TTL_S)
            self._send_pending(user_id, debt)

    def _send_pending(self, user_id: UUID, debt: tuple[float]) -> None:
        if self._pending.get(user_id) is debt:
            del self._pending[user_id]

    def _key(self, user_id: UUID) -> str:
        return self._cache.keys.key("user", str(user_id), "epoch")
