"""Atom feeds of published articles: of all, and of each category."""

import hashlib
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from callboard.actors.editorial.atom import AtomEntry, AtomFeed, render_feed
from callboard.actors.editorial.category_rules import id_in
from callboard.actors.editorial.errors import CATEGORY_NOT_FOUND
from callboard.actors.editorial.html_sanitizer import text_of
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import derive_id
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

MAX_HTML = 20_000  # bytes; of a longer article the feed has the beginning
MAX_BEGINNING = 2_000  # characters
KEPT = 8  # documents that an actor keeps, so that a reader who comes again costs one small query
FORM = 1  # of our documents; another one changes every ETag


class Feed(msgspec.Struct, frozen=True):
    """A document and its ETag."""

    body: bytes
    tag: str


class ReadFeed(Request[Feed], frozen=True):
    """Read the feed of all articles, or of the category with this slug or id. Raises Problem(CATEGORY_NOT_FOUND)."""

    category: str | None = None


class FeedSettings(msgspec.Struct, frozen=True):
    """The address and the title of the site, and the number of entries."""

    base: str
    title: str
    entries: int


class Feeds(Actor[ReadFeed]):
    """Makes feeds. What is published is read each time, the texts only if a document is not the kept one."""

    def __init__(self, database: Database, settings: FeedSettings) -> None:
        self.database = database
        self.settings = settings
        self.kept: dict[UUID, Feed] = {}

    @on(ReadFeed)
    async def read(self, message: ReadFeed) -> Feed:
        """Return the kept document if every entry of it is still as it was. An article that is archived between the two
        queries is in neither document.
        """
        async with self.database.acquire() as connection:
            feed_id, title, path, category_id = await self._head(connection, message.category)
            if category_id is None:
                found = QUERIES.feed_entries(connection, limit=self.settings.entries)
            else:
                found = QUERIES.feed_entries_in(connection, category_id=category_id, limit=self.settings.entries)
            rows = [dict(row) async for row in found]
            facts = (FORM, self.settings.base, path, title, rows)
            tag = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:16]
            kept = self.kept.pop(feed_id, None)
            if kept is None or kept.tag != tag:
                ids = [row["content_id"] for row in rows]
                texts = QUERIES.feed_texts(connection, content_ids=ids, most=MAX_HTML, beginning=MAX_BEGINNING)
                by_id = {text["content_id"]: text async for text in texts}
                entries = [_entry(row, by_id[row["content_id"]]) for row in rows if row["content_id"] in by_id]
                feed = AtomFeed(feed_id=feed_id, title=title, base=self.settings.base, path=path, entries=entries)
                kept = Feed(render_feed(feed), tag)
        self.kept[feed_id] = kept
        if len(self.kept) > KEPT:
            del self.kept[next(iter(self.kept))]  # the one that was asked for the longest time ago
        return kept

    async def _head(self, connection: Any, key: str | None) -> tuple[UUID, str, str, UUID | None]:
        """Return the id, the title and the path of a feed, and its category. Ids stay, whatever name or slug change."""
        if key is None:
            host = urlsplit(self.settings.base).netloc  # another scheme makes no other feed
            return derive_id("feed", host), self.settings.title, "/feed.atom", None
        category_id = id_in(key.lower())
        row = await QUERIES.feed_category(
            connection, category_id=category_id, slug=None if category_id else key.lower()
        )
        if row is None:
            raise Problem(CATEGORY_NOT_FOUND)
        path = f"/categories/{row['slug']}/feed.atom"
        return row["category_id"], f"{self.settings.title}: {row['name']}", path, row["category_id"]


def _entry(row: dict[str, Any], text: Any) -> AtomEntry:
    labels = [(row["category_slug"], row["category_name"])] if row["category_slug"] else []
    return AtomEntry(
        content_id=row["content_id"],
        title=row["title"],
        author_name=row["author_name"],
        terms=(*labels, *((tag, tag) for tag in row["tags"])),
        published_at=text["first_published_at"],
        updated_at=row["published_at"],
        text=text["html"] if text["is_whole"] else _beginning(text["html"]),
        is_whole=text["is_whole"],
    )


def _beginning(html: str) -> str:
    """Return the text of markup that ends somewhere, perhaps within a tag."""
    return " ".join(text_of(html.rpartition("<")[0] or html).split())
