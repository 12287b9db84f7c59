"""Redis, which keeps only what may be lost: a client that fails fast, and stops trying for a moment when it has."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import cached_property, partial
from math import inf
from typing import Any, TypeVar

from hiredis import pack_command
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from callboard.runtime import Actor

log = logging.getLogger(__name__)

T = TypeVar("T")
Command = Callable[[], tuple[Any, ...]]
Waiting = list[tuple[Command, asyncio.Future[Any]]]  # commands and where their replies go
Getting = dict[str, list[asyncio.Future[bytes | None]]]  # the same for the keys of one command

TIMEOUT_S = 0.25  # what a caller may lose to a server that has gone quiet
PROBE_INTERVAL_S = 0.5
REFUSED = re.compile(r"\b(READONLY|OOM|MISCONF|NOREPLICAS)\b|read only replica|not allowed when used memory")
BATCH = 500  # commands in one round trip: more would keep the first of them waiting, and the loop busy


class CacheAwayError(Exception):
    """Redis is away: do without."""


class Cache:
    """A Redis client behind a circuit breaker: after a failure, calls fail at once until the guard's probe succeeds."""

    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            max_connections=32,
            retry=None,
            redis_connect_func=self._greet,
        )
        # What is sent in batches goes over one connection, held: redis-py's pool, pipeline and time limits, each for
        # every command, cost several times as much as all that they carry.
        pool: Any = ConnectionPool.from_url(
            url, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0), redis_connect_func=self._greet
        )
        self._line = pool.make_connection()
        self.away = asyncio.Event()
        self.generation = 0  # another one whenever what the server said before may not hold: it was away, or is new
        self._returning: list[Callable[[Any], Awaitable[None]]] = []
        self._waiting: Waiting = []
        self._sender: asyncio.Task[None] | None = None
        self._getting: Getting = {}

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The one it lives on: the one that ran at its first use. To ask again is a system call in Python 3.11."""
        return asyncio.get_running_loop()

    def get(self, key: str) -> "asyncio.Future[bytes | None]":
        """What stands at a key, all that are asked for at one time in one command. Otherwise like `send`."""
        reply: asyncio.Future[bytes | None] = self.loop.create_future()
        getting = self._getting
        if not getting or len(getting) == BATCH:
            getting = self._getting = {}
            self.send_late(partial(self._mget, getting)).add_done_callback(partial(self._got, getting))
        getting.setdefault(key, []).append(reply)
        return reply

    def _mget(self, getting: Getting) -> tuple[Any, ...]:
        if self._getting is getting:
            self._getting = {}
        return "MGET", *getting

    def _got(self, getting: Getting, answer: "asyncio.Future[Any]") -> None:
        if self._getting is getting:  # it has not gone
            self._getting = {}
        error = answer.exception()
        values = answer.result() if error is None else [None] * len(getting)
        for replies, value in zip(getting.values(), values, strict=True):
            for reply in replies:
                if reply.done():
                    continue
                if error is None:
                    reply.set_result(value)
                else:
                    reply.set_exception(error)

    def send(self, *command: Any) -> "asyncio.Future[Any]":
        """Redis's reply to one command, like `send("GET", key)`, in one round trip with all that are sent meanwhile.

        Commands go out in the order they were sent, while none is under way; who cancels takes a command back if it
        has not gone. The reply raises CacheAwayError, within TIMEOUT_S or at once, and ResponseError.
        """
        return self.send_late(lambda: command)

    def send_late(self, command: Command) -> "asyncio.Future[Any]":
        """The same for a command that is made when it goes: it may take along what has come up meanwhile."""
        reply: asyncio.Future[Any] = self.loop.create_future()
        if self.away.is_set():
            reply.set_exception(CacheAwayError())
            return reply
        self._waiting.append((command, reply))
        if self._sender is None:  # in a context of its own: it sends for others too
            self._sender = self.loop.create_task(self._send_waiting(), name="cache", context=Context())
        return reply

    async def _send_waiting(self) -> None:
        batch: Waiting = []
        try:
            while self._waiting:
                await asyncio.sleep(0)  # for whoever else comes in this turn of the loop
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                batch = [(command, reply) for command, reply in batch if not reply.done()]
                if batch:
                    await self._send_batch(batch)
        finally:
            self._sender = None
            self._waiting = [*batch, *self._waiting]
            self._forsake()  # only when this is cancelled, or has a bug

    def _forsake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, reply in waiting:
            if not reply.done():
                reply.set_exception(CacheAwayError())

    async def _send_batch(self, batch: Waiting) -> None:
        commands = [command() for command, _ in batch]
        try:
            answers = await self.call(lambda _: self._exchange(commands))
        except CacheAwayError:
            answers = [CacheAwayError() for _ in batch]
        if any(isinstance(each, ResponseError) and REFUSED.search(str(each)) for each in answers):
            # It answers, and can be told nothing: a session that ends could not be forgotten by the other processes.
            self.away.set()
            self.generation += 1
        for (_, reply), answer in zip(batch, answers, strict=True):
            if reply.done():
                continue
            if isinstance(answer, Exception):
                reply.set_exception(answer)
            else:
                reply.set_result(answer)

    async def _exchange(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """The replies to commands, errors among them. Raises RedisError, OSError or TimeoutError when it is away."""
        line = self._line
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if line.is_connected and await line.can_read():  # nothing was asked: this is its end
                    await line.disconnect(nowait=True)
                if not line.is_connected:
                    await line.connect()
                await line.send_packed_command(b"".join(map(pack_command, commands)), check_health=False)
                return [await self._reply() for _ in commands]
        except BaseException:
            await line.disconnect(nowait=True)  # what it says next would be the answer to something else
            raise

    async def _reply(self) -> Any:
        try:
            return await self._line.read_response(timeout=inf)
        except ResponseError as error:
            return error

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
            self.generation += 1
            raise CacheAwayError from error

    async def _greet(self, connection: Any) -> None:
        self.generation += 1
        await connection.on_connect()

    def before_return(self, settle: Callable[[Any], Awaitable[None]]) -> None:
        """Have `settle(client)` awaited each time that Redis is back, before anyone else uses it again."""
        self._returning.append(settle)

    async def check(self) -> None:
        """Raise CacheAwayError unless the server answers."""
        await self.call(lambda client: client.ping())

    async def probe(self) -> bool:
        """Ask the server, whatever the breaker says, and close the breaker if it answers."""
        try:
            await self._client.ping()
            for settle in self._returning:
                await settle(self._client)
        except (RedisError, OSError, TimeoutError):
            return False
        self.away.clear()
        return True

    async def close(self) -> None:
        """Close the connections."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait((self._sender,))
            self._forsake()  # a task that is cancelled before its first step does not
        await self._line.disconnect(nowait=True)
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
