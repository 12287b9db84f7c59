"""Documents for other sites: Atom feeds of the published articles, their sitemap, and the advice for crawlers."""

import hashlib
from datetime import UTC
from email.utils import format_datetime
from typing import Annotated

from callboard.actors.editorial.atom import ATOM_TYPE
from callboard.actors.editorial.errors import CATEGORY_NOT_FOUND
from callboard.actors.editorial.feeds import ReadFeed
from callboard.actors.editorial.refs import EditorialRefs
from callboard.actors.editorial.sitemaps import ListSitemapPages, ReadSitemapPage, render_index
from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.http.server.pagination import BY_TIME
from callboard.http.server.request import HttpRequest, Query, RawReply
from callboard.http.server.routing import Access, Route, Routes

FEED, XML, TEXT = (f"{kind}; charset=utf-8" for kind in (ATOM_TYPE, "application/xml", "text/plain"))
PAGES = "/sitemap-articles.xml"


class SitemapQuery(Query, frozen=True, kw_only=True):
    """The place at which a page of the sitemap begins; the index has it."""

    cursor: Annotated[str, BY_TIME.meta] | None = None


async def feed(request: HttpRequest[None, None, EditorialRefs]) -> RawReply:
    """Return the Atom feed of the newest articles."""
    return await _feed(request, None)


async def category_feed(request: HttpRequest[None, None, EditorialRefs]) -> RawReply:
    """Return the Atom feed of the newest articles of a category, given by its slug or its id."""
    return await _feed(request, request.text("category"))


async def _feed(request: HttpRequest[None, None, EditorialRefs], category: str | None) -> RawReply:
    found = await request.refs.feeds.ask(ReadFeed(category))
    headers = {}
    if found.updated_at is not None:
        # For people. It is not compared with If-Modified-Since: an article that leaves the feed does not move it.
        headers["Last-Modified"] = format_datetime(found.updated_at.astimezone(UTC), usegmt=True)
    return RawReply(found.body, FEED, headers=headers, etag=found.tag, is_public=True, is_shared=True)


async def sitemap(request: HttpRequest[None, None, EditorialRefs]) -> RawReply:
    """Return the index of the sitemap."""
    pages = await request.refs.sitemaps.ask(ListSitemapPages())
    address = request.refs.site + PAGES
    return _document(
        render_index(
            [
                (address if page.start is None else f"{address}?cursor={BY_TIME.encode(*page.start)}", page.updated_at)
                for page in pages
            ]
        )
    )


async def sitemap_page(request: HttpRequest[None, SitemapQuery, EditorialRefs]) -> RawReply:
    """Return a page of the sitemap."""
    cursor = request.query.cursor
    return _document(await request.refs.sitemaps.ask(ReadSitemapPage(BY_TIME.decode(cursor) if cursor else None)))


async def robots(request: HttpRequest[None, None, EditorialRefs]) -> RawReply:
    """Tell crawlers of the sitemap (RFC 9309)."""
    body = f"User-agent: *\nAllow: /\n\nSitemap: {request.refs.site}/sitemap.xml\n"
    return _document(body.encode(), TEXT)


def _document(body: bytes, content_type: str = XML) -> RawReply:
    """Reply with a document whose ETag is a digest of its bytes."""
    return RawReply(body, content_type, etag=hashlib.sha256(body).hexdigest()[:16], is_public=True)


ROUTES = Routes(
    EditorialRefs,
    Route(
        "GET",
        "/feed.atom",
        feed,
        summary="Read the feed of all articles",
        tag="feeds",
        access=Access.PUBLIC,
        absolute=True,
        has_etag=True,
        has_date=True,
        content_type=ATOM_TYPE,
    ),
    Route(
        "GET",
        "/categories/{category}/feed.atom",
        category_feed,
        summary="Read the feed of a category",
        tag="feeds",
        access=Access.PUBLIC,
        absolute=True,
        has_etag=True,
        has_date=True,
        content_type=ATOM_TYPE,
        errors=(CATEGORY_NOT_FOUND,),
    ),
    Route(
        "GET",
        "/sitemap.xml",
        sitemap,
        summary="Read the index of the sitemap",
        tag="feeds",
        access=Access.PUBLIC,
        absolute=True,
        has_etag=True,
        content_type="application/xml",
    ),
    Route(
        "GET",
        PAGES,
        sitemap_page,
        summary="Read a page of the sitemap",
        tag="feeds",
        access=Access.PUBLIC,
        absolute=True,
        has_etag=True,
        content_type="application/xml",
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route(
        "GET",
        "/robots.txt",
        robots,
        summary="Read the advice for crawlers",
        tag="feeds",
        access=Access.PUBLIC,
        absolute=True,
        has_etag=True,
        content_type="text/plain",
    ),
)
