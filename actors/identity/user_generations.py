"""User generations: one look into Redis tells a process whether what it remembers of a user still holds.

A user's epoch is a random word in Redis. What is read of a user in PostgreSQL is remembered together with the epoch
that was read before; once a change is committed, the epoch is set anew, and whoever remembers the old one reads again.
"""

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from redis.exceptions import ResponseError

from callboard.actors.infrastructure.redis import Ask, CacheAwayError, RedisClient

MAX_AGE_S = 30.0  # how long anything may be remembered, whatever Redis says
SETTLING_S = 2.0  # after Redis was away: the other processes find it again, and tell what they owe
KEY_TTL_S = 3600  # in Redis; longer than MAX_AGE_S, so that what is remembered is never older than its epoch
MAX_OWED = 10_000  # the oldest are forgotten first; MAX_AGE_S bounds what that can do


class UserGenerations:
    """The epochs of a process, shared by whoever remembers users. `clock` is monotonic, in seconds.

    An epoch that could not be told is owed, and told before Redis is trusted again.
    """

    def __init__(self, cache: RedisClient, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._cache = cache
        self._owed: dict[UUID, tuple[float]] = {}  # since when; a debt is itself, and no other of the same moment
        self._trusted_from = 0.0
        cache.before_return(self._settle)

    def read(self, user_id: UUID) -> "asyncio.Future[bytes | None]":
        """The epoch of a user, begun if there is none; None while Redis cannot be trusted, and nothing remembered.

        It is asked for at once, and raises nothing: who does not wait for it need not look at it either.
        """
        reply: asyncio.Future[bytes | None] = self._cache.loop.create_future()
        if self._cache.away.is_set() or self.clock() < self._trusted_from:
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
        # On a new connection it may be a server that came back with an epoch of yesterday.
        good = answer.exception() is None and generation == self._cache.generation
        if not reply.done():
            reply.set_result(b"%d %s" % (generation, answer.result() or begun) if good else None)

    async def turn(self, user_id: UUID) -> None:
        """Begin a new epoch, once the change is committed. It never fails: what cannot be told now is owed."""
        self._owed.pop(user_id, None)
        debt = self._owed[user_id] = (self.clock(),)
        if len(self._owed) > MAX_OWED:
            del self._owed[next(iter(self._owed))]
        word = secrets.token_hex(8)
        try:
            # Shielded: who does not wait for it has changed the user all the same.
            await asyncio.shield(self._cache.send("SET", self._key(user_id), word, "EX", KEY_TTL_S))
        except (CacheAwayError, ResponseError):
            return
        self._pay(user_id, debt)

    async def _settle(self, ask: Ask) -> None:
        """Tell what is owed; what is older than anything that is remembered need not be told any more."""
        self._trusted_from = self.clock() + SETTLING_S
        while self._owed:
            user_id, debt = next(iter(self._owed.items()))
            if self.clock() - debt[0] < MAX_AGE_S:
                await ask("SET", self._key(user_id), secrets.token_hex(8), "EX", KEY_TTL_S)
            self._pay(user_id, debt)

    def _pay(self, user_id: UUID, debt: tuple[float]) -> None:
        if self._owed.get(user_id) is debt:
            del self._owed[user_id]

    def _key(self, user_id: UUID) -> str:
        return self._cache.keys.key("user", str(user_id), "epoch")
