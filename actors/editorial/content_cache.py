"""A cache of published content in Redis, which is never the word of Redis alone.

A value holds the article, the time in Redis's clock before PostgreSQL was last asked about it, and the article's
generation at that time. It is used while both hold: half a second has not passed, and the generation is the same. Then
PostgreSQL is asked for the version alone, and the text is read only if that is another.

Each change of content replaces the generation, after its commit and before its answer. So the next read sees the
change if Redis has heard of it; and if it has not, because it was away, refused, lost its data or was told late, nobody
sees the old text for longer than half a second. Nothing that is written late makes an old text new: its time is old.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec
from redis.exceptions import ResponseError

from callboard.actors.editorial.content_rows import Content, as_content
from callboard.actors.figures import Figure
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.redis import CacheAwayError, RedisClient
from callboard.actors.infrastructure.row_loader import Reads
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

FRESH_US = 500_000  # how long PostgreSQL's word holds; a reply of Redis takes 0.3 s at most: together under a second
GENERATION_TTL_S = 60  # longer than any value is fresh that was read before it
MAX_VALUE_BYTES = 256 * 1024  # larger articles are read from PostgreSQL
MAX_MISSED = 1000  # articles that were read once lately: a second reading stores them, so that no crawler fills Redis
TTL_S = 300


class Changing(Protocol):
    """An actor that changes content."""

    cache: "ContentCache"


class Change(Protocol):
    """A message to it."""

    @property
    def content_id(self) -> UUID:
        """Return the id of the article."""


A = TypeVar("A", bound=Changing)
C = TypeVar("C", bound=Change)
R = TypeVar("R")


def forgetting(work: Callable[[A, C], Awaitable[R]]) -> Callable[[A, C], Coroutine[Any, Any, R]]:
    """Decorate a handler that changes an article: the next read sees the change. See ContentCache.changing."""

    @wraps(work)
    async def run(self: A, message: C) -> R:
        async with self.cache.changing(message.content_id):
            return await work(self, message)

    return run


class CachedContent(msgspec.Struct, array_like=True, frozen=True):
    """A published article as PostgreSQL had it after `checked_us`, in Redis's time; `shape` is that of the release."""

    shape: tuple[str, ...]
    checked_us: int
    generation: bytes | None
    content: Content


class Found(msgspec.Struct, frozen=True):
    """An article in Redis: the time there, the generation, and a value, which may be out of date."""

    now_us: int
    generation: bytes | None
    cached: CachedContent | None

    @property
    def is_fresh(self) -> bool:
        """Whether the value may be used without asking PostgreSQL. A time that is yet to come is of another clock."""
        cached = self.cached
        return (
            cached is not None
            and cached.generation == self.generation
            and 0 <= self.now_us - cached.checked_us < FRESH_US
        )


class ContentCache:
    """Reads published content, and learns of its changes. One of these serves all actors of a process."""

    def __init__(self, database: Database, redis: RedisClient, ttl_s: int = TTL_S) -> None:
        self.results: Counter[str] = Counter()
        self._missed: dict[UUID, None] = {}
        self.figures = (
            Figure(
                "callboard_content_cache",
                "Reads of published content: hit, confirmed (by PostgreSQL), outdated, miss, bypass (Redis was away). "
                "Beside them: large (not stored), unheard (changes that Redis did not hear of).",
                lambda: {(result,): float(count) for result, count in self.results.items()},
                ("result",),
            ),
        )
        self._redis = redis
        self._ttl_s = ttl_s
        self._articles: Reads[UUID] = Reads(database, QUERIES.published_content.sql, "content_id")
        self._versions: Reads[UUID] = Reads(database, QUERIES.published_versions.sql, "content_id")
        self._decoder = msgspec.msgpack.Decoder(CachedContent)

    async def read(self, content_id: UUID) -> Content | None:
        """Return the article if it is published. Simultaneous reads share their questions to Redis and PostgreSQL."""
        found = await self._find(content_id)
        if found is None:
            self.results["bypass"] += 1
            return await self._load(content_id)
        if found.cached is None:
            return await self._fill(content_id, found, "miss")
        if found.is_fresh:
            self.results["hit"] += 1
            return found.cached.content
        state = await self._versions.read(content_id)
        if state is None or state["version"] != found.cached.content.version:
            return await self._fill(content_id, found, "outdated")
        self.results["confirmed"] += 1
        self._store(content_id, found, found.cached.content)
        return found.cached.content

    @asynccontextmanager
    async def changing(self, content_id: UUID) -> AsyncIterator[None]:
        """Have the next read of an article see what the block changes, which it commits. The block may also fail: the
        outcome of a commit may be unknown.
        """
        try:
            yield
        finally:
            await self._forget(content_id)

    async def _forget(self, content_id: UUID) -> None:
        word = secrets.token_bytes(8)
        sent = self._redis.send("SET", self._key(content_id, "generation"), word, "EX", GENERATION_TTL_S)
        try:
            await asyncio.shield(sent)  # a cancelled caller has changed the article all the same
        except (CacheAwayError, ResponseError):  # the client has logged it; what is cached is old in half a second
            self.results["unheard"] += 1

    async def _find(self, content_id: UUID) -> Found | None:
        """Ask Redis, in one round trip; return None if it is not there."""
        redis = self._redis
        value, generation = redis.get(self._key(content_id, "article")), redis.get(self._key(content_id, "generation"))
        time = redis.send("TIME")  # after both: it is not earlier than their replies
        try:
            replies = await asyncio.gather(value, generation, time)
        except (CacheAwayError, ResponseError):
            return None
        seconds, microseconds = replies[2]
        return Found(int(seconds) * 1_000_000 + int(microseconds), replies[1], self._decode(replies[0]))

    def _decode(self, value: bytes | None) -> CachedContent | None:
        try:
            cached = None if value is None else self._decoder.decode(value)
        except msgspec.MsgspecError:  # another release's
            return None
        return cached if cached is not None and cached.shape == Content.__struct_fields__ else None

    async def _fill(self, content_id: UUID, found: Found, result: str) -> Content | None:
        self.results[result] += 1
        content = await self._load(content_id)
        if content is not None and (found.cached is not None or self._is_wanted(content_id)):
            self._store(content_id, found, content)
        return content

    def _is_wanted(self, content_id: UUID) -> bool:
        """Whether an article is read for the second time among the last misses."""
        if content_id in self._missed:
            del self._missed[content_id]
            return True
        self._missed[content_id] = None
        if len(self._missed) > MAX_MISSED:
            del self._missed[next(iter(self._missed))]
        return False

    async def _load(self, content_id: UUID) -> Content | None:
        row = await self._articles.read(content_id)
        return None if row is None else as_content(row)

    def _store(self, content_id: UUID, found: Found, content: Content) -> None:
        """Write what PostgreSQL has said since `found`. Nobody waits for it."""
        cached = CachedContent(Content.__struct_fields__, found.now_us, found.generation, content)
        value = msgspec.msgpack.encode(cached)
        if len(value) > MAX_VALUE_BYTES:
            self.results["large"] += 1
            return
        self._redis.send("SET", self._key(content_id, "article"), value, "EX", self._ttl_s).add_done_callback(_ignore)

    def _key(self, content_id: UUID, attribute: str) -> str:
        return self._redis.keys.key("content", str(content_id), attribute)


def _ignore(sent: "asyncio.Future[object]") -> None:
    """Take note of an error, which the client has logged: without it the article is read from PostgreSQL again."""
    if not sent.cancelled():
        sent.exception()
