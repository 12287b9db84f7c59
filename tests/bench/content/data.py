"""The data of the benchmark, the same each time: articles with words as common as a language's, and comments."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VOCABULARY = 20_000
BODY_WORDS = 100
PART = 5_000  # articles in a transaction
AUTHORS, CATEGORIES = 2_000, 40
LANGUAGES = (*["english"] * 17, *["german"] * 2, "simple")
TOKYO = "東京タワーの歴史について書いた記事です。"
BUSY = 25_000  # comments of the newest article
SYLLABLES = [first + vowel + last for first in "bdfglmnprst" for vowel in "aeiou" for last in ("", "n", "r")]


class Sizes(NamedTuple):
    """The numbers of rows."""

    articles: int = 200_000
    comments: int = 1_000_000


@cache
def vocabulary() -> list[str]:
    """Distinct words, the most common first. They are of two to four syllables, so that some are spelt alike."""
    random = Random(2)  # noqa: S311 - the same words each time
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        words["".join(random.choices(SYLLABLES, k=random.choice((2, 3, 3, 4))))] = None
    return list(words)


def article_id(number: int) -> UUID:
    """Return the id of an article; the lower the number, the newer it is."""
    return UUID(int=(number * 0x9E3779B97F4A7C15 % 2**64) << 64 | number)


def articles(part: range) -> Iterator[tuple[Any, ...]]:
    """Yield rows of content: 19 of 20 are published, 1 of 50 is Japanese, and every one has the commonest words."""
    random = Random(part.start)  # noqa: S311 - the same articles each time
    words = vocabulary()
    many = random.choices(words, cum_weights=list(accumulate(1 / (n + 1) for n in range(VOCABULARY))), k=100_000)
    for number in part:
        start = random.randrange(len(many) - BODY_WORDS)
        moment = NOW - timedelta(minutes=number)
        title = " ".join([words[number % VOCABULARY], *many[start : start + 4]]).capitalize()
        body = f"<p>{' '.join(many[start : start + BODY_WORDS])}</p>"
        if number % 50 == 0:
            title, body = f"{TOKYO[: 4 + number % 9]} {number}", f"<p>{TOKYO * 8}</p>{body}"
        author, category = UUID(int=1 + number * 7 % AUTHORS), UUID(int=1 + number % CATEGORIES)
        yield (
            article_id(number), author, category, title, body, body,
            "draft" if number % 20 == 19 else "published", moment, moment, LANGUAGES[number % 20],
            [f"tag-{number // 10 % 200}"] if number % 10 == 0 else [],
        )  # fmt: skip


def comments(sizes: Sizes) -> Iterator[tuple[Any, ...]]:
    """Yield rows of comments: the newest article has many, the others an equal number."""
    busy = min(BUSY, sizes.comments // 4)
    for number in range(sizes.comments):
        of = 0 if number < busy else 1 + number % (sizes.articles - 1)
        text = f"A comment, number {number}"
        at = NOW + timedelta(seconds=number)
        yield UUID(int=number + 1), article_id(of), UUID(int=1 + number % AUTHORS), text, text, at


# Indexes that no constraint needs.
INDEXES = """
    select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition
    from pg_index join pg_class on pg_class.oid = indrelid
    where relname = any($1) and relnamespace = 'public'::regnamespace
      and not exists (select from pg_constraint where conindid = indexrelid)
"""
# What the triggers of content and comments would have done, for all rows at once.
ARTICLES = """
    insert into content (content_id, author_id, category_id, title, body, body_html, status, published_at, created_at,
                         language, tags, search)
    select content_id, author_id, category_id, title, body, body_html, status, published_at, created_at, language, tags,
           case status when 'published' then
               search_vector(language, title, body, category_id) || filter_words(author_id, null, tags) end
    from filled order by published_at
"""
COUNTS = """
    insert into content_tags (content_id, tag, category_id, status, listed_at)
    select content_id, tag, category_id, status, case status when 'published' then published_at else created_at end
    from content, unnest(tags) as tag order by tag;
    insert into tag_counts select tag, count(*) from content_tags where status = 'published' group by tag;
    insert into comment_counts select content_id, count(*) from comments group by content_id;
    insert into user_usage (user_id, content_rows, content_bytes)
    select author_id, count(*), sum(content_size(content)) from content group by author_id;
    insert into user_usage (user_id, comment_rows) select author_id, count(*) from comments group by author_id
    on conflict (user_id) do update set comment_rows = excluded.comment_rows
"""


async def fill(url: str, sizes: Sizes) -> None:
    """Fill the empty tables without triggers and indexes, which are made afterwards."""
    connection = await _connect(url)
    await _prepare(connection)
    indexes = await connection.fetch(INDEXES, ["content", "comments", "content_tags"])
    for index in indexes:
        await connection.execute(f"drop index {index['name']}")
    half = sizes.articles // 2
    await asyncio.gather(_copy_articles(url, range(half)), _copy_articles(url, range(half, sizes.articles)))
    columns = ["comment_id", "content_id", "author_id", "body", "body_html", "created_at"]
    await asyncio.gather(
        connection.copy_records_to_table("comments", records=comments(sizes), columns=columns, timeout=600),
        _create(url, [each["definition"] for each in indexes if " comments " not in each["definition"]]),
    )
    comment_indexes = [each["definition"] for each in indexes if " comments " in each["definition"]]
    await asyncio.gather(connection.execute(COUNTS, timeout=600), _create(url, comment_indexes))
    await connection.execute("vacuum analyze", timeout=600)
    await connection.close()


async def _connect(url: str) -> Any:
    """Connect; triggers do not fire for what the connection writes."""
    connection = await asyncpg.connect(url)
    await connection.execute("set session_replication_role = replica; set maintenance_work_mem = '256MB'")
    return connection


async def _create(url: str, definitions: list[str]) -> None:
    connection = await _connect(url)
    for definition in definitions:
        await connection.execute(definition.replace(" ON public.", " ON "), timeout=600)
    await connection.close()


async def _prepare(connection: Any) -> None:
    """Add people, categories, and the words."""
    people = [(UUID(int=n + 1), f"person{n}@example.org", "x", f"Person {n}") for n in range(AUTHORS)]
    fields = ["user_id", "email", "password_hash", "full_name"]
    await connection.copy_records_to_table("users", records=people, columns=fields)
    words = vocabulary()
    for start in range(0, VOCABULARY, 2_000):
        for language in set(LANGUAGES):
            await connection.execute("select learn_words($1, '', $2)", language, " ".join(words[start : start + 2_000]))
    groups = [(UUID(int=n + 1), f"category-{n}", f"Category {n}") for n in range(CATEGORIES)]
    await connection.copy_records_to_table("categories", records=groups, columns=["category_id", "slug", "name"])


async def _copy_articles(url: str, numbers: range) -> None:
    connection = await _connect(url)
    await connection.execute("create temporary table filled as select * from content limit 0")
    columns = ["content_id", "author_id", "category_id", "title", "body", "body_html", "status", "published_at"]
    for first in reversed(numbers[::PART]):  # the oldest come first, as on a site
        await connection.copy_records_to_table(
            "filled",
            records=articles(range(first, min(first + PART, numbers.stop))),
            columns=[*columns, "created_at", "language", "tags"],
        )
        await connection.execute(ARTICLES, timeout=600)
        await connection.execute("truncate filled")
    await connection.close()
