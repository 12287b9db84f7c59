"""Redis, for data that can be recomputed: a client that fails fast, and stops trying for a moment after a failure."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import cached_property, partial
from math import inf
from typing import Any

import msgspec
from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, NoScriptError, RedisError, ResponseError

from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.redis_time_limit import LEAST_S, TIMEOUT_S, SharedTimeLimit
from callboard.runtime import Actor, Span, SpanKind, begin_span

log = logging.getLogger(__name__)

Command = Callable[[], tuple[Any, ...]]
Waiting = list[tuple[Command, asyncio.Future[Any]]]  # commands and the futures of their replies
Getting = dict[str, list[asyncio.Future[bytes | None]]]  # the same for the keys of one command
Ask = Callable[..., Awaitable[Any]]  # one command, past the circuit breaker

FIRST_PROBE_S, LAST_PROBE_S = 0.1, 1.0  # a probe costs one round trip
PROBE_TTL_S = 60
REPEAT_S = 60.0  # the least time between log lines of one reply
BATCH = 500  # commands in one round trip: more would delay the first of them, and block the loop

AWAY = (RedisError, OSError, TimeoutError)
REFUSED = re.compile(r"\b(READONLY|OOM|MISCONF|NOREPLICAS|CLUSTERDOWN|MASTERDOWN)\b|read only replica|used memory")
KEY_PARTS = 5  # see KeySpace.key
KEY_AFTER = {"EVALSHA": 2, "EVAL": 2}
SCRIPTS = ("EVALSHA", "EVAL")  # without scripts limits are counted in the process; everything else still uses Redis
CALLERS = ("ERR", "WRONGTYPE")  # the beginning of a reply that concerns the command alone


class CacheAwayError(Exception):
    """Redis is unavailable: go on without it. The message has the reason, if it is known."""


class KeySpace(msgspec.Struct, frozen=True):
    """The names of our keys, which no other installation on the same Redis uses.

    The service is in braces: a cluster then keeps all keys of an installation together, and one command may name
    several.
    """

    environment: str = "production"
    service: str = "callboard"

    def key(self, resource: str, identifier: str, attribute: str) -> str:
        """`{environment}:{service}:{resource}:{identifier}:{attribute}`."""
        return f"{self.environment}:{{{self.service}}}:{resource}:{identifier}:{attribute}"


DEFAULT_KEYS = KeySpace()


class RedisClient:
    """A Redis client behind a circuit breaker: after a failure, calls fail at once until the guard's probe succeeds.

    It keeps one connection: simultaneous commands share a round trip. In a cluster it follows the server's redirection
    to the node that has our keys.
    """

    def __init__(self, url: str, keys: KeySpace = DEFAULT_KEYS) -> None:
        self.keys = keys
        # Only redis-py's connection is used: its pool, pipeline and time limits, each for every command, cost several
        # times as much as the commands.
        pool: Any = ConnectionPool.from_url(
            url, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0), redis_connect_func=self._greet
        )
        self._line = pool.make_connection()
        self._home = getattr(self._line, "host", None), getattr(self._line, "port", None)
        self._turn = asyncio.Lock()  # of the one connection
        self.breaker = CircuitBreaker("redis", first_s=FIRST_PROBE_S, last_s=LAST_PROBE_S)
        self.unavailable = asyncio.Event()
        self.why = ""
        self.generation = 0  # replaced whenever earlier replies may be invalid: the server was unavailable, or is new
        self._returning: list[Callable[[Ask], Awaitable[None]]] = []
        self._trials: list[Callable[[], Awaitable[None]]] = []
        self._told: dict[str, float] = {}  # the last log line, and its time
        self._time_limit = SharedTimeLimit()
        self._waiting: Waiting = []
        self._oldest = 0.0  # since when the first of them has waited
        self._sender: asyncio.Task[None] | None = None
        self._getting: Getting = {}

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the first use: asking again is a system call in Python 3.11."""
        return asyncio.get_running_loop()

    def get(self, key: str) -> "asyncio.Future[bytes | None]":
        """Read the value of a key; simultaneous reads share one command. Otherwise like `send`."""
        reply: asyncio.Future[bytes | None] = self.loop.create_future()
        getting = self._getting
        if not getting or len(getting) == BATCH:
            getting = self._getting = {}
            self._enqueue(partial(self._mget, getting)).add_done_callback(partial(self._got, getting))
        getting.setdefault(key, []).append(reply)
        if (span := begin_span("CACHE GET", SpanKind.CLIENT)) is not None:
            span.name = cache_span_name("GET", key)
            reply.add_done_callback(span.end_with)
        return reply

    def _mget(self, getting: Getting) -> tuple[Any, ...]:
        if self._getting is getting:
            self._getting = {}
        return "MGET", *getting

    def _got(self, getting: Getting, answer: "asyncio.Future[Any]") -> None:
        if self._getting is getting:  # it is not sent yet
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
        """Return an awaitable of Redis's reply to a command, like `send("GET", key)`; simultaneous commands share a
        round trip.

        Commands are sent in order, one round trip at a time; cancellation removes a command that is not sent yet. The
        awaitable raises CacheAwayError, within TIMEOUT_S and LEAST_S or at once, and ResponseError. One command that
        fails so fails all others. Slow round trips share that time too: a caller loses it once, however many commands
        it sends.
        """
        return self.send_late(lambda: command)

    def send_late(self, command: Command) -> "asyncio.Future[Any]":
        """The same for a command that is made when it is sent: it may include later additions."""
        span = begin_span("CACHE", SpanKind.CLIENT)
        if span is None:
            return self._enqueue(command)
        reply = self._enqueue(partial(_named, span, command))
        reply.add_done_callback(span.end_with)
        return reply

    def _enqueue(self, command: Command) -> "asyncio.Future[Any]":
        reply: asyncio.Future[Any] = self.loop.create_future()
        if self.unavailable.is_set():
            self.breaker.refused += 1
            reply.set_exception(CacheAwayError())
            return reply
        if not self._waiting:
            self._oldest = self.loop.time()
        self._waiting.append((command, reply))
        if self._sender is None:  # in a context of its own: it sends for other callers too
            self._sender = self.loop.create_task(self._send_waiting(), name="cache", context=Context())
        return reply

    async def _send_waiting(self) -> None:
        batch: Waiting = []
        try:
            while self._waiting:
                await asyncio.sleep(0)  # for other callers in this turn of the loop
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                batch = [(command, reply) for command, reply in batch if not reply.done()]
                if batch:
                    await self._send_batch(batch)
                if self.unavailable.is_set():
                    self._fail_waiting()
        finally:
            self._sender = None
            self._waiting = [*batch, *self._waiting]
            self._fail_waiting()  # only if this task is cancelled, or has a bug

    def _fail_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, reply in waiting:
            if not reply.done():
                reply.set_exception(CacheAwayError())

    async def _send_batch(self, batch: Waiting) -> None:
        commands = [command() for command, _ in batch]
        began = self.loop.time()
        try:
            answers = await self._exchange(commands, self._oldest + self._time_limit.left_s(began))
        except AWAY as error:
            self.mark_unavailable(error)
            answers = [CacheAwayError(self.why) for _ in batch]
        self._time_limit.note(self.loop.time() - began)
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, ResponseError) and not isinstance(answer, NoScriptError):
                self._judge(command[0], answer)
        for (_, reply), answer in zip(batch, answers, strict=True):
            if reply.done():
                continue
            if isinstance(answer, Exception):
                reply.set_exception(answer)
            else:
                reply.set_result(answer)

    async def _exchange(self, commands: Sequence[tuple[Any, ...]], due: float) -> list[Any]:
        """Return the replies to commands, errors among them, until `due` in the loop's time. Raises one of `AWAY` if
        Redis is unavailable.
        """
        async with asyncio.timeout_at(max(due, self.loop.time() + LEAST_S)), self._turn:
            answers = await self._round_trip(commands)
            moved = [place for place, answer in enumerate(answers) if isinstance(answer, MovedError)]
            if moved:  # another node of the cluster has all our keys
                await self._go(answers[moved[0]].host or self._home[0], answers[moved[0]].port)
                again = await self._round_trip([commands[place] for place in moved])
                for place, answer in zip(moved, again, strict=True):
                    answers[place] = answer
            return answers

    async def _go(self, host: Any, port: Any) -> None:
        await self._line.disconnect(nowait=True)
        self._line.host, self._line.port = host, port

    async def _round_trip(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        line = self._line
        try:
            if line.is_connected and await line.can_read():  # without a pending command: the connection has ended
                await line.disconnect(nowait=True)
            if not line.is_connected:
                await line.connect()
            await line.send_packed_command(b"".join(map(pack_command, commands)), check_health=False)
            return [await self._reply() for _ in commands]
        except BaseException:
            if None in self._home:
                await line.disconnect(nowait=True)  # its next bytes would be the reply to another command
            else:
                await self._go(*self._home)  # and the keys of a lost node may be elsewhere
            raise

    async def _reply(self) -> Any:
        try:
            return await self._line.read_response(timeout=inf)
        except ResponseError as error:
            return error

    async def _ask(self, *command: Any) -> Any:
        """Send one command, past the circuit breaker. Raises one of `AWAY`, of which an error reply is one."""
        (answer,) = await self._exchange([command], self.loop.time() + TIMEOUT_S)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _greet(self, connection: Any) -> None:
        self.generation += 1
        await connection.on_connect()

    # State ----------------------------------------------------------------------------------------------------------

    def _judge(self, command: str, error: ResponseError) -> None:
        """Log a refusal, and go on without Redis if it refuses every write."""
        said = error_text(error)
        if REFUSED.search(said) or (command not in SCRIPTS and not said.startswith(CALLERS)):
            # It responds, and refuses writes: other processes could not learn of an ended session.
            self.mark_unavailable(error)
        else:
            self._tell(f"Redis refuses {command}: {said}")

    def mark_unavailable(self, error: BaseException) -> None:
        """Note that Redis is unavailable, or refuses."""
        self.why = error_text(error)
        self._tell(f"Redis is unavailable: {self.why}")
        self.breaker.failed(self.breaker.clock(), self.why)
        self.unavailable.set()
        self.generation += 1

    def _tell(self, line: str) -> None:
        now = time.monotonic()
        if now - self._told.get(line, -REPEAT_S) >= REPEAT_S:
            self._told = {known: when for known, when in self._told.items() if now - when < REPEAT_S}
            self._told[line] = now
            log.warning("%s", line)

    def before_return(self, callback: Callable[[Ask], Awaitable[None]]) -> None:
        """Have `callback(ask)` awaited each time that Redis is back, before any other use."""
        self._returning.append(callback)

    def add_trial(self, trial: Callable[[], Awaitable[None]]) -> None:
        """Add a readiness check; it raises if Redis refuses a command that its owner needs."""
        self._trials.append(trial)

    async def check(self) -> None:
        """Raise CacheAwayError, with the reason, unless the server accepts all our commands."""
        if self.unavailable.is_set():
            raise CacheAwayError(self.why)
        try:
            await self._try()
            for trial in self._trials:
                await trial()
        except AWAY as error:
            raise CacheAwayError(error_text(error)) from error

    async def look(self) -> None:
        """Open the circuit breaker unless the server accepts a write."""
        try:
            await self._try()
        except AWAY as error:
            self.mark_unavailable(error)

    async def _try(self) -> None:
        await self._ask("SET", self.keys.key("server", "probe", "time"), "1", "EX", PROBE_TTL_S)

    async def probe(self) -> bool:
        """Probe the server, past the circuit breaker: close the breaker if it accepts a write and is not slow, and open
        it if not.
        """
        try:
            await self._try()
            await self._exchange([("PING",)], 0.0)  # over the connection that is open now
            for callback in self._returning:
                await callback(self._ask)
        except AWAY as error:
            self.mark_unavailable(error)
            return False
        self.breaker.close()
        self.unavailable.clear()
        return True

    async def close(self) -> None:
        """Close the connection."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait((self._sender,))
            self._fail_waiting()  # a task that is cancelled before its first step does not close it
        await self._line.disconnect(nowait=True)


def _named(span: Span, command: Command) -> tuple[Any, ...]:
    """Make a command, and name its span after it."""
    made = command()
    span.name = cache_span_name(*made)
    return made


def cache_span_name(operation: str, *arguments: Any) -> str:
    """`CACHE {operation} {key pattern}`, by a command's words: a pattern names no user."""
    place = KEY_AFTER.get(operation, 0)  # a script's keys come after its text and their number
    key = str(arguments[place]).split(":") if len(arguments) > place else []
    return f"CACHE {operation} {key[2]}:*:{key[-1]}" if len(key) >= KEY_PARTS else f"CACHE {operation}"


def error_text(error: BaseException) -> str:
    """Return Redis's error, or the error of the connection, as one line without the command's arguments, which may be
    personal.
    """
    said = re.split(r", with args|\bscript: ", " ".join(str(error).split()), maxsplit=1)[0][:200].rstrip(" .")
    said = re.sub(r"^Error \S+ connecting to \S+ |^Timeout connecting to \S+", "", said)  # the log does not say where
    code = getattr(error, "status_code", None)
    if isinstance(error, ResponseError):
        return f"{code} {said}" if code and not said.startswith(code) else said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


class RedisConnector(Actor[None]):
    """Probes Redis at the start and whenever the breaker is open, until it may close."""

    def __init__(self, cache: RedisClient) -> None:
        self.cache = cache

    async def run(self) -> None:
        """Probe once, so that a refusal is logged before a caller meets it; then wait for the breaker to open."""
        await self.cache.look()
        while True:
            await self.cache.unavailable.wait()
            if await self.cache.probe():
                log.info("Redis is available")
            else:
                await self.cache.breaker.until_probe()

    async def on_stop(self) -> None:
        """Close the client."""
        await self.cache.close()
