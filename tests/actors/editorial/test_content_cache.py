"""The cache of published content: right at once while Redis hears of changes, and in half a second if it does not."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.domain import Domain

from callboard.actors.editorial import content_cache
from callboard.actors.editorial.content_cache import FRESH_US, MAX_VALUE_BYTES, CachedContent, ContentCache
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.redis import RedisClient
from callboard.ops.embedded.data_directory import DataDirectory, free_ports
from callboard.ops.embedded.valkey import Valkey

VALUE = msgspec.msgpack.Decoder(CachedContent)


class Reader:
    """A process's cache on the tests' servers, and what it asks PostgreSQL."""

    def __init__(self, domain: Domain, redis: RedisClient) -> None:
        self.domain = domain
        self.redis = redis
        self.cache = ContentCache(domain.database, redis)

    async def version(self, content_id: UUID) -> int | None:
        """The version that its readers see; None if they see no article."""
        content = await self.cache.read(content_id)
        return None if content is None else content.version

    async def asked(self, content_id: UUID) -> tuple[int | None, list[str]]:
        """The same, with what PostgreSQL was asked: the article, its version, or nothing."""
        with self.domain.overheard() as said:
            version = await self.version(content_id)
        return version, ["article" if "body" in query else "version" for query in said if "content_id" in query]

    async def forget(self, content_id: UUID) -> None:
        """Tell it of a change."""
        async with self.cache.changing(content_id):
            pass

    async def warm(self, content_id: UUID) -> None:
        """Have an article in Redis."""
        for _ in range(2):
            await self.version(content_id)
            await self.settle()

    async def settle(self) -> None:
        """Wait until what it has written is in Redis."""
        await self.redis.send("TIME")

    async def age(self, content_id: UUID, by_us: int) -> None:
        """Have time pass for what is cached of an article."""
        await self.settle()
        key = self.redis.keys.key("content", str(content_id), "article")
        value = await self.redis.get(key)
        if value is not None:
            cached = VALUE.decode(value)
            older = msgspec.structs.replace(cached, checked_us=cached.checked_us - by_us)
            await self.redis.send("SET", key, msgspec.msgpack.encode(older), "KEEPTTL")

    async def ttl_s(self, content_id: UUID) -> int:
        await self.settle()
        return int(await self.redis.send("TTL", self.redis.keys.key("content", str(content_id), "article")))


@pytest.fixture
async def quiet(database: Database, cache: RedisClient) -> AsyncIterator[Domain]:
    """The tests' servers, without an actor that runs."""
    yield Domain(database, cache)
    await cache.close()


@pytest.fixture
async def reader(quiet: Domain) -> Reader:
    return Reader(quiet, quiet.cache)


@pytest.fixture
async def second(quiet: Domain, valkey: Valkey) -> AsyncIterator[Reader]:
    """The reader of another process."""
    redis = RedisClient(valkey.url)
    yield Reader(quiet, redis)
    await redis.close()


async def article(domain: Domain, body: str = "A body") -> UUID:
    """A published article of the database alone: no cache hears of it."""
    author = await domain.person()
    content_id = uuid4()
    await domain.rows(
        "insert into content (content_id, author_id, title, body, body_html, status, published_at) "
        "values ($1, $2, 'A title', $3, $3, 'published', now())",
        content_id,
        author.user_id,
        body,
    )
    return content_id


async def change(domain: Domain, content_id: UUID, status: str = "published") -> None:
    """A change that no cache has been told of."""
    await domain.rows("update content set status = $2, version = version + 1 where content_id = $1", content_id, status)


async def test_an_article_is_read_once_confirmed_after_half_a_second_and_read_again_after_a_change(
    quiet: Domain, reader: Reader
) -> None:
    content_id = await article(quiet)
    for _ in range(2):
        assert await reader.asked(content_id) == (1, ["article"])
        await reader.settle()
    assert await reader.asked(content_id) == (1, [])
    await reader.age(content_id, FRESH_US)
    assert await reader.asked(content_id) == (1, ["version"])
    await reader.settle()
    assert await reader.asked(content_id) == (1, [])
    await change(quiet, content_id)
    await reader.age(content_id, FRESH_US)
    assert await reader.asked(content_id) == (2, ["version", "article"])
    assert reader.cache.results == {"miss": 2, "hit": 2, "confirmed": 1, "outdated": 1}
    assert 0 < await reader.ttl_s(content_id) <= 300


async def test_a_change_that_redis_has_heard_of_is_seen_by_the_next_read_of_every_process(
    quiet: Domain, reader: Reader, second: Reader
) -> None:
    readers = (reader, second)
    content_id = await article(quiet)
    for number, status in enumerate(("published", "archived", "published", "draft"), 2):
        for each in readers:
            await each.warm(content_id)
        await change(quiet, content_id, status)
        await readers[number % 2].forget(content_id)
        for each in readers * 2:
            assert await each.version(content_id) == (number if status == "published" else None)
            await each.settle()


async def test_a_change_that_redis_has_not_heard_of_is_seen_after_half_a_second(quiet: Domain, reader: Reader) -> None:
    content_id = await article(quiet)
    for number in range(2, 5):
        await reader.warm(content_id)
        await change(quiet, content_id)
        assert await reader.version(content_id) == number - 1  # else the test shows nothing
        await reader.age(content_id, FRESH_US)
        assert await reader.version(content_id) == number


@pytest.mark.parametrize("told", [True, False])
async def test_a_slow_reader_that_writes_an_old_text_after_the_change_makes_nobody_read_it(
    quiet: Domain, reader: Reader, monkeypatch: pytest.MonkeyPatch, *, told: bool
) -> None:
    content_id, has_read, may_write = await article(quiet), asyncio.Event(), asyncio.Event()
    await reader.version(content_id)
    load = reader.cache._load

    async def slow(content_id: UUID) -> Any:
        content = await load(content_id)
        has_read.set()
        await may_write.wait()
        return content

    with monkeypatch.context() as patch:
        patch.setattr(reader.cache, "_load", slow)
        late = asyncio.create_task(reader.version(content_id))
        await has_read.wait()
    await change(quiet, content_id)
    if told:
        await reader.forget(content_id)
        assert await reader.version(content_id) == 2
        await reader.settle()
    may_write.set()
    assert await late == 1
    if not told:
        await reader.age(content_id, FRESH_US)
    for _ in range(2):
        assert await reader.version(content_id) == 2
        await reader.settle()


@pytest.mark.parametrize("by_us", [-1, -10 * FRESH_US, -3_600_000_000, FRESH_US, 3_600_000_000])
async def test_a_time_of_another_clock_is_not_trusted(quiet: Domain, reader: Reader, by_us: int) -> None:
    """The clock of Redis was set, or another server stands in its place."""
    content_id = await article(quiet)
    await reader.warm(content_id)
    await reader.age(content_id, by_us if abs(by_us) >= FRESH_US else -FRESH_US)
    await change(quiet, content_id)
    assert await reader.version(content_id) == 2


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"{}", b"\x94\x90\x00\xc0\xc0", b"x" * 100_000])
async def test_what_another_release_or_somebody_else_has_written_is_read_anew(
    quiet: Domain, reader: Reader, junk: bytes
) -> None:
    content_id = await article(quiet)
    await reader.warm(content_id)
    await reader.redis.send("SET", reader.redis.keys.key("content", str(content_id), "article"), junk)
    for _ in range(2):
        assert await reader.asked(content_id) == (1, ["article"])
        await reader.settle()
    assert await reader.asked(content_id) == (1, [])


async def test_a_value_is_bounded_and_an_article_that_is_larger_is_read_each_time(
    quiet: Domain, reader: Reader
) -> None:
    content_id = await article(quiet, "x" * (MAX_VALUE_BYTES // 2 - 300))
    large = await article(quiet, "x" * (MAX_VALUE_BYTES // 2))
    for each in (content_id, large):
        await reader.warm(each)
    assert await reader.asked(content_id) == (1, [])
    assert await reader.asked(large) == (1, ["article"])
    assert reader.cache.results["large"] == 1


async def test_what_each_reader_reads_once_is_not_stored(
    quiet: Domain, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crawler does not fill Redis; what is read again among a bounded number of misses is stored."""
    monkeypatch.setattr(content_cache, "MAX_MISSED", 3)
    crawled = [await article(quiet) for _ in range(4)]
    for content_id in crawled * 2:
        await reader.version(content_id)
    assert await reader.redis.send("KEYS", "*:content:*") == []
    for content_id in [each for each in crawled[:3] for _ in range(2)]:
        await reader.version(content_id)
    assert len(await reader.redis.send("KEYS", "*:content:*")) == 3
    assert len(reader.cache._missed) <= 3


async def test_what_is_not_published_is_never_in_redis(quiet: Domain, reader: Reader) -> None:
    content_id = await article(quiet)
    for status in ("draft", "pending_review", "approved", "archived"):
        await change(quiet, content_id, status)
        assert await reader.version(content_id) is None
    assert await reader.version(uuid4()) is None
    assert await reader.redis.send("KEYS", "*:content:*") == []


async def test_readers_who_come_at_once_share_one_question(quiet: Domain, reader: Reader) -> None:
    content_id = await article(quiet)
    await reader.version(content_id)
    for expected in (["article"], ["version"]):
        with quiet.overheard() as said:
            seen = await asyncio.gather(*(reader.version(content_id) for _ in range(200)))
        assert set(seen) == {1}
        assert ["article" if "body" in query else "version" for query in said if "content_id" in query] == expected
        await reader.age(content_id, FRESH_US)


async def test_without_redis_the_answers_are_those_of_postgresql(quiet: Domain, data: DataDirectory) -> None:
    content_id, server = await article(quiet), Valkey(data, free_ports(1)[0])
    await server.start()
    redis = RedisClient(server.url)
    reader = Reader(quiet, redis)
    try:
        await reader.warm(content_id)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        for number in range(2, 5):  # frozen
            await change(quiet, content_id)
            await reader.forget(content_id)
            assert await reader.version(content_id) == number
        os.kill(server.pid, signal.SIGCONT)
        assert await redis.probe()
        for number in range(5, 8):  # back, with what it knew
            await change(quiet, content_id)
            await reader.forget(content_id)
            assert await reader.version(content_id) == number
            await reader.settle()
        await server.stop()
        for number in range(8, 11):  # gone
            await change(quiet, content_id)
            await reader.forget(content_id)
            assert await reader.version(content_id) == number
        assert reader.cache.results["bypass"] >= 6
    finally:
        await redis.close()
        await server.stop()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("read", "change", "change unheard", "hide", "forget nothing", "lose", "wait", "write late")),
        st.integers(0, 1),
    ),
    max_size=14,
)


@settings(settings.get_profile("actors"))
@given(steps=STEPS)
async def test_whatever_happens_nobody_reads_what_is_older_than_half_a_second(
    quiet: Domain, reader: Reader, second: Reader, steps: list[tuple[str, int]]
) -> None:
    """The model: a read is right, or a change that Redis did not hear of is younger than half a second."""
    readers = (reader, second)
    content_id, version, status = await article(quiet), 1, "published"
    unheard: set[int | None] = set()  # the versions before changes that are young, and that Redis did not hear of
    for step, number in steps:
        reader = readers[number]
        await reader.settle()
        visible = version if status == "published" else None
        if step == "read":
            assert await reader.version(content_id) in {visible, *unheard}
        elif step in ("change", "change unheard", "hide"):
            status = "archived" if step == "hide" else "published"
            await change(quiet, content_id, status)
            version += 1
            if step == "change unheard":
                unheard.add(visible)
            else:
                await reader.forget(content_id)
                unheard.clear()
        elif step == "forget nothing":
            await reader.forget(content_id)
            unheard.clear()
        elif step == "lose":
            await reader.redis.send("FLUSHDB")
            unheard.clear()
        elif step == "wait":
            await reader.age(content_id, FRESH_US)
            unheard.clear()
        else:
            found = await reader.cache._find(content_id)
            old = await reader.cache._load(content_id)
            await change(quiet, content_id, status)
            version += 1
            await readers[1 - number].forget(content_id)
            unheard.clear()
            if found is not None and old is not None:
                reader.cache._store(content_id, found, old)
    for reader in readers:
        await reader.age(content_id, FRESH_US)
        assert await reader.version(content_id) == (version if status == "published" else None)
