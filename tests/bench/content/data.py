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
PART = 5_000  # articles in a transaction: a run that was interrupted goes on at the next
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


async def fill(url: str, sizes: Sizes) -> None:
    """Fill the tables, with the triggers that fill what is searched and counted."""
    connection = await asyncpg.connect(url)
    if not await connection.fetchval("select exists (select from categories where slug = 'category-0')"):
        await _prepare(connection)
    half = sizes.articles // 2
    await asyncio.gather(_copy_articles(url, range(half)), _copy_articles(url, range(half, sizes.articles)))
    await connection.copy_records_to_table(
        "comments",
        records=comments(sizes),
        columns=["comment_id", "content_id", "author_id", "body", "body_html", "created_at"],
        timeout=1200,
    )
    await connection.execute("alter table content enable trigger content_usage")
    await connection.execute(
        "create index content_search_idx on content using gin (search) where status = 'published'", timeout=600
    )
    await connection.execute("vacuum analyze", timeout=600)
    await connection.close()


async def _prepare(connection: Any) -> None:
    """Add people, categories, and the words: two connections that learn words would wait for each other."""
    people = [(UUID(int=n + 1), f"person{n}@example.org", "x", f"Person {n}") for n in range(AUTHORS)]
    fields = ["user_id", "email", "password_hash", "full_name"]
    await connection.copy_records_to_table("users", records=people, columns=fields)
    words = vocabulary()
    for start in range(0, VOCABULARY, 2_000):
        for language in set(LANGUAGES):
            await connection.execute("select learn_words($1, '', $2)", language, " ".join(words[start : start + 2_000]))
    await connection.execute("alter table content disable trigger content_usage; drop index content_search_idx")
    groups = [(UUID(int=n + 1), f"category-{n}", f"Category {n}") for n in range(CATEGORIES)]
    await connection.copy_records_to_table("categories", records=groups, columns=["category_id", "slug", "name"])


async def _copy_articles(url: str, part: range) -> None:
    connection = await asyncpg.connect(url)
    columns = ["content_id", "author_id", "category_id", "title", "body", "body_html", "status", "published_at"]
    for first in part[::PART]:
        if not await connection.fetchval(
            "select exists (select from content where content_id = $1)", article_id(first)
        ):
            await connection.copy_records_to_table(
                "content",
                records=articles(range(first, min(first + PART, part.stop))),
                columns=[*columns, "created_at", "language", "tags"],
                timeout=600,
            )
    await connection.close()
