"""The sitemap of published articles (sitemaps.org): an index, and pages of at most 50,000 addresses.

A page is a range of the articles in the order of their publication, and the last page is open. A job decides hourly
where pages begin; so a request reads one range of an index, at a cost that its page bounds.
"""

from datetime import UTC, datetime
from uuid import UUID
from xml.sax.saxutils import escape

import msgspec

from callboard.actors.editorial.atom import article_address
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Job, JobKind, Outcome, Priority, on_job
from callboard.actors.infrastructure.schedules import Schedule
from callboard.runtime import Actor, Request, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

MAX_URLS = 50_000  # of a page, by the protocol
MAX_PAGES = 50_000  # of an index, by the protocol
NAMESPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"
START = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))  # before all articles
END = (datetime(9999, 12, 31, tzinfo=UTC), UUID(int=2**128 - 1))

Position = tuple[datetime, UUID]  # an article's place: its publication and its id


class SitemapPage(msgspec.Struct, frozen=True):
    """A page of the index: its first place, None for that of the first page; and its newest publication, if any."""

    start: Position | None
    updated_at: datetime | None


class ListSitemapPages(Request[list[SitemapPage]], frozen=True):
    """List the pages of the sitemap."""


class ReadSitemapPage(Request[bytes], frozen=True):
    """Read the page that begins at a place, as a document. The first page has the site's own page, too."""

    start: Position | None = None


class PlanSitemap(msgspec.Struct, frozen=True):
    """Decide where the pages of the sitemap begin."""


PLAN_SITEMAP = JobKind("plan_sitemap", PlanSitemap, priority=Priority.BULK, slots=1, max_running=1, timeout_s=600.0)
PLAN_HOURLY = Schedule("plan_sitemap", PlanSitemap(), "23 * * * *")


class Sitemaps(Actor[ListSitemapPages | ReadSitemapPage]):
    """Answers crawlers. `base` is the address of the site."""

    def __init__(self, database: Database, base: str) -> None:
        self.database = database
        self.base = base

    @on(ListSitemapPages)
    async def list_pages(self, message: ListSitemapPages) -> list[SitemapPage]:  # noqa: ARG002 - a handler's face
        """Each page's newest article is the one before the next page, unless the page has become empty."""
        async with self.database.acquire() as connection:
            rows = [row async for row in QUERIES.sitemap_pages(connection, limit=MAX_PAGES - 1)]
            newest = await QUERIES.newest_publication(connection)
        starts = [None, *((row["first_at"], row["first_id"]) for row in rows)]
        ends = [*(row["last_before"] for row in rows), newest]
        pages = zip(starts, ends, strict=True)
        return [SitemapPage(start, end if start is None or (end and end >= start[0]) else None) for start, end in pages]

    @on(ReadSitemapPage)
    async def read_page(self, message: ReadSitemapPage) -> bytes:
        """PostgreSQL writes the addresses: they are ids and times, and may be many."""
        (start_at, start_id), (end_at, end_id) = message.start or START, END
        async with self.database.acquire() as connection:
            following = await QUERIES.next_sitemap_page(connection, start_at=start_at, start_id=start_id)
            if following is not None:
                end_at, end_id = following["first_at"], following["first_id"]
            urls = await QUERIES.sitemap_urls(
                connection,
                base=escape(article_address(self.base, "")),
                start_at=start_at,
                start_id=start_id,
                end_at=end_at,
                end_id=end_id,
                limit=MAX_URLS - 1,
            )
        home = f"<url><loc>{escape(self.base)}/</loc></url>\n"
        own = home if message.start is None or not urls else ""  # a page without any address is no sitemap
        return _document("urlset", own + urls)


class SitemapPlanner(Actor[Job[PlanSitemap]]):
    """Divides the published articles into pages of `size`."""

    def __init__(self, database: Database, size: int) -> None:
        self.database = database
        self.size = size

    @on_job
    async def plan(self, job: Job[PlanSitemap]) -> Outcome:
        """Walk from page to page, and replace the division by the new one."""
        starts: list[Position] = []
        at, content_id = START
        while len(starts) < MAX_PAGES - 1:
            async with self.database.acquire() as connection:
                row = await QUERIES.place_after(connection, start_at=at, start_id=content_id, count=self.size)
            if row is None:
                break
            at, content_id = row["published_at"], row["content_id"]
            starts.append((at, content_id))
            await job.progress(len(starts))
        async with job.finish() as connection:
            await QUERIES.remove_sitemap_pages(connection)
            await QUERIES.add_sitemap_pages(
                connection, starts=[start for start, _ in starts], ids=[each for _, each in starts]
            )
        return None


def render_index(pages: list[tuple[str, datetime | None]]) -> bytes:
    """Return the index of pages, given by their addresses and their newest publications."""
    lines = [
        f"<sitemap><loc>{escape(address)}</loc>"
        + (f"<lastmod>{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}</lastmod>" if at else "")
        + "</sitemap>\n"
        for address, at in pages
    ]
    return _document("sitemapindex", "".join(lines))


def _document(name: str, inside: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{NAMESPACE}">\n{inside}</{name}>\n'.encode()
