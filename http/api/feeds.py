"""Documents for other sites: Atom feeds of the published articles, their sitemap, and the advice for crawlers."""

import hashlib
from datetime import datetime
from typing import Annotated

from callboard.actors.editorial.atom import ATOM_TYPE
from callboard.actors.editorial.document_times import DocumentTimes
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
    times = request.refs.document_times
    began = times.now()
    found = await request.refs.feeds.ask(ReadFeed(category))
    path = f"/categories/{category}/feed.atom" if category else "/feed.atom"
    modified = times.modified(path, found.tag, began)
    return RawReply(found.body, FEED, etag=found.tag, modified=modified, is_public=True, is_shared=True)


async def sitemap(request: HttpRequest[None, None, EditorialRefs]) -> RawReply:
    """Return the index of the sitemap."""
    times = request.refs.document_times
    began = times.now()
    pages = await request.refs.sitemaps.ask(ListSitemapPages())
    address = request.refs.site + PAGES
    body = render_index(
        [
            (address if page.start is None else f"{address}?cursor={BY_TIME.encode(*page.start)}", page.updated_at)
            for page in pages
        ]
    )
    return _document(body, XML, times, "/sitemap.xml", began)


async def sitemap_page(request: HttpRequest[None, SitemapQuery, EditorialRefs]) -> RawReply:
    """Return a page of the sitemap."""
    times, cursor = request.refs.document_times, request.query.cursor
    began = times.now()
    body = await request.refs.sitemaps.ask(ReadSitemapPage(BY_TIME.decode(cursor) if cursor else None))
    return _document(body, XML, times, f"{PAGES}?{cursor}", began)


async def robots(request: HttpRequest[None, None, EditorialRefs]) -> RawReply:
    """Tell crawlers of the sitemap (RFC 9309)."""
    body = f"User-agent: *\nAllow: /\n\nSitemap: {request.refs.site}/sitemap.xml\n"
    times = request.refs.document_times
    return _document(body.encode(), TEXT, times, "/robots.txt", times.now())


def _document(body: bytes, content_type: str, times: DocumentTimes, path: str, began: datetime) -> RawReply:
    """Reply with a document whose ETag is a digest of its bytes."""
    tag = hashlib.sha256(body).hexdigest()[:16]
    return RawReply(body, content_type, etag=tag, modified=times.modified(path, tag, began), is_public=True)


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
        has_date=True,
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
        has_date=True,
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
        has_date=True,
        content_type="text/plain",
    ),
)
