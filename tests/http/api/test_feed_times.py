"""The Last-Modified of feeds and of the sitemap: who asks by it misses no change, however quickly it came."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from callboard.actors.editorial.document_times import MOST, DocumentTimes
from callboard.actors.editorial.feeds import Feed
from callboard.actors.editorial.sitemaps import SitemapPage
from callboard.http.api import feeds
from callboard.http.server.preconditions import Condition
from callboard.http.server.request import RawReply

START = datetime(2026, 1, 1, 12, 0, 0, 400_000, tzinfo=UTC)


class Site:
    """A site at a time of its own: its documents, and requests to them."""

    def __init__(self) -> None:
        self.at = START
        self.answer: Any = None
        self.takes_s = 0.0
        asked = SimpleNamespace(ask=self.ask)
        self.refs: Any = SimpleNamespace(
            feeds=asked, sitemaps=asked, site="https://a.example", document_times=DocumentTimes(lambda: self.at)
        )

    async def ask(self, _message: Any) -> Any:
        found = self.answer
        self.at += timedelta(seconds=self.takes_s)
        return found

    async def get(self, handler: Any, later_s: float = 0.0) -> RawReply:
        self.at += timedelta(seconds=later_s)
        request: Any = SimpleNamespace(refs=self.refs, query=SimpleNamespace(cursor=None), text=lambda _: "news")
        reply: RawReply = await handler(request)
        return reply


def is_known(reply: RawReply, since: datetime) -> bool:
    return Condition(None, None, modified_since=since.replace(microsecond=0)).is_unchanged(
        str(reply.etag), reply.modified
    )


@pytest.mark.parametrize(
    ("handler", "before", "after"),
    [
        (feeds.feed, Feed(b"a", "1"), Feed(b"b", "2")),
        (feeds.category_feed, Feed(b"a", "1"), Feed(b"b", "2")),
        (feeds.sitemap, [SitemapPage(None, START)], [SitemapPage(None, None)]),
        (feeds.sitemap_page, b"a", b"b"),
    ],
    ids=["feed", "category_feed", "sitemap", "sitemap_page"],
)
async def test_a_document_has_the_time_of_its_change_from_the_next_second_on(
    handler: Any, before: Any, after: Any
) -> None:
    site = Site()
    site.answer = before
    assert (await site.get(handler)).modified is None
    assert (await site.get(handler, 0.5)).modified is None
    for _ in range(2):
        reply = await site.get(handler, 1)
        assert reply.modified == START
        assert is_known(reply, START)
    site.answer = after  # within the second of the last response
    changed = await site.get(handler)
    assert not is_known(changed, START)
    changed = await site.get(handler, 1)
    assert not is_known(changed, START)
    assert changed.modified is not None
    assert is_known(changed, changed.modified)


async def test_a_document_that_is_read_slowly_may_have_changed_meanwhile() -> None:
    site = Site()
    site.answer, site.takes_s = b"a", 0.7
    assert (await site.get(feeds.sitemap_page)).modified is None
    assert (await site.get(feeds.sitemap_page)).modified is None  # begun in the second in which it was first seen


async def test_a_crawler_of_many_documents_takes_no_memory_that_grows() -> None:
    times = DocumentTimes(lambda: START)
    for number in range(MOST + 5):
        times.modified(str(number), "1", START)
    later = START + timedelta(seconds=5)
    times.now = lambda: later
    assert times.modified("4", "1", later) is None
    assert times.modified(str(MOST), "1", later) == START
