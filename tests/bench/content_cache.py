"""Reads of published articles by one process: from PostgreSQL one by one, together, and through the cache in Redis.

    .venv/bin/python tests/bench/content_cache.py

Each line is a size of the text. `once` reads each article a single time, as a crawler does: the cache only costs there.
"""

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from pathlib import Path
from uuid import UUID, uuid4

sys.path.insert(0, str(Path(__file__).parents[1]))

from kit.people import UserFactory
from kit.running import one_up

from callboard.actors.editorial.content_cache import ContentCache
from callboard.actors.editorial.content_rows import as_content
from callboard.actors.editorial.workflow import QUERIES
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.redis import RedisClient

SIZES = (1_000, 20_000, 100_000)
HOT, COLD = 20, 6_000
READERS = 64
SECONDS = 3.0
INSERT = (
    "insert into content (content_id, author_id, title, body, body_html, status, published_at) "
    "select unnest($1::uuid[]), $2, 'A title', $3, $3, 'published', now()"
)

Read = Callable[[UUID], Awaitable[object]]


async def rate(read: Read, ids: Iterator[UUID]) -> float:
    """Reads a second of 64 readers, until the time is over or all ids are read."""
    count, ends_at = 0, time.perf_counter() + SECONDS

    async def reader() -> None:
        nonlocal count
        for content_id in ids:
            await read(content_id)
            count += 1
            if time.perf_counter() > ends_at:
                return

    began = time.perf_counter()
    async with asyncio.TaskGroup() as readers:
        for _ in range(READERS):
            readers.create_task(reader())
    return count / (time.perf_counter() - began)


async def measure(facts: dict[str, str], author_id: UUID) -> None:
    """Print a line for each size."""
    database = Database(facts["DATABASE_URL"], size=10)
    await database.connect()
    redis = RedisClient(facts["REDIS_URL"])
    letters = random.Random(1)  # noqa: S311 - texts that do not compress to nothing

    async def alone(content_id: UUID) -> object:
        async with database.acquire() as connection:
            return as_content(await QUERIES.content_by_id(connection, content_id=content_id))

    sys.stdout.write(
        f"{'bytes':>8} {'one by one':>11} {'together':>9} {'cached':>9} | {'once: together':>14} {'cached':>9}\n"
    )
    for size in SIZES:
        body = "".join(letters.choices("abcdefghijklmnopqrstuvwxyz     ", k=size))
        ids = [uuid4() for _ in range(COLD if size < SIZES[-1] else COLD // 10)]
        async with database.acquire() as connection:
            await connection.execute(INSERT, ids, author_id, body)
        hot = ids[:HOT]
        rates = [
            await rate(alone, cycle(hot)),
            await rate(ContentCache(database, redis)._load, cycle(hot)),
            await rate(ContentCache(database, redis).read, cycle(hot)),
            await rate(ContentCache(database, redis)._load, iter(ids[HOT:])),
            await rate(ContentCache(database, redis).read, iter(ids[HOT:])),
        ]
        line = "{:>8} {:>9.0f}/s {:>7.0f}/s {:>7.0f}/s | {:>12.0f}/s {:>7.0f}/s\n"
        sys.stdout.write(line.format(size, *rates))
        sys.stdout.flush()
    await redis.close()
    database.disconnect()


def main() -> None:
    """Measure on servers of its own."""
    with one_up() as up:
        author = UserFactory(up.facts).person("member")
        asyncio.run(measure(up.facts, author.user_id))


if __name__ == "__main__":
    main()
