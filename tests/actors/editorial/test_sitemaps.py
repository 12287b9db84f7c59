"""The sitemap: each published article once, whatever the times of publication, at the cost of a page."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from kit.domain import Domain
from kit.feed_rules import checked_sitemap

from callboard.actors.editorial import sitemaps
from callboard.actors.editorial.sitemaps import ListSitemapPages, PlanSitemap, ReadSitemapPage, render_index
from callboard.actors.infrastructure.principals import Principal, Role


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


async def publish(domain: Domain, author: Principal, count: int, *, minutes: int = 1) -> None:
    """Articles of which `minutes` of a minute apart; with 0 all are of one moment."""
    await domain.rows(
        "insert into content (author_id, title, body, body_html, status, published_at) "
        "select $1, n::text, '', '', 'published', '2026-01-01'::timestamptz + make_interval(mins => n * $3) "
        "from generate_series(1, $2) as n",
        author.user_id,
        count,
        minutes,
    )


async def plan(domain: Domain) -> None:
    async with domain.database.transaction() as connection:
        await domain.jobs.enqueue(connection, PlanSitemap())
    await domain.work()


async def every_address(domain: Domain) -> list[list[str]]:
    """The addresses of all pages, page by page."""
    found = []
    for page in await domain.sitemaps.ask(ListSitemapPages()):
        urls = checked_sitemap(await domain.sitemaps.ask(ReadSitemapPage(page.start)), domain.public_url)
        times = [at for _, at in urls if at is not None]
        assert times == sorted(times)
        assert (page.updated_at and f"{page.updated_at:%Y-%m-%dT%H:%M:%SZ}") == (times[-1] if times else None)
        found.append([address for address, _ in urls])
    return found


async def test_without_articles_there_is_a_page_with_the_site_alone(domain: Domain) -> None:
    assert await every_address(domain) == [[f"{domain.public_url}/"]]
    index = render_index([(f"{domain.public_url}/sitemap-articles.xml?a=1&b=<2>", None)])
    assert checked_sitemap(index, domain.public_url) == [(f"{domain.public_url}/sitemap-articles.xml?a=1&b=<2>", None)]


@pytest.mark.parametrize(("count", "minutes"), [(9, 1), (10, 1), (35, 1), (35, 0)])
async def test_the_pages_have_each_published_article_once_also_if_many_are_of_one_moment(
    domain: Domain, author: Principal, count: int, minutes: int
) -> None:
    await publish(domain, author, count, minutes=minutes)
    await domain.draft(author, "draft")
    await plan(domain)
    pages = await every_address(domain)
    assert [len(page) for page in pages] == [1 + min(10, count), *([10] * 2 + [5] if count == 35 else [])]
    rows = await domain.rows("select content_id from content where status = 'published'")
    expected = {f"{domain.public_url}/content/{row['content_id']}" for row in rows}
    found = [address for page in pages for address in page if address != f"{domain.public_url}/"]
    assert len(found) == len(set(found)) == count
    assert set(found) == expected


async def test_a_page_whose_articles_have_gone_and_one_that_no_plan_knows_are_answered(
    domain: Domain, author: Principal
) -> None:
    await publish(domain, author, 25)
    await plan(domain)
    await domain.rows("update content set status = 'archived' where title::integer between 8 and 22")
    assert [len(page) for page in await every_address(domain)] == [8, 1, 3]
    await plan(domain)
    assert [len(page) for page in await every_address(domain)] == [11]
    for start in ((datetime(1, 1, 1, tzinfo=UTC), UUID(int=0)), (datetime(9000, 1, 1, tzinfo=UTC), uuid4())):
        checked_sitemap(await domain.sitemaps.ask(ReadSitemapPage(start)), domain.public_url)


async def test_what_is_published_after_the_plan_is_in_the_last_page_and_pages_are_bounded(
    domain: Domain, author: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(domain, author, 15)
    await plan(domain)
    fresh = await domain.published(author, await domain.person(Role.EDITOR), "fresh")
    pages = await every_address(domain)
    assert pages[-1][-1] == f"{domain.public_url}/content/{fresh.content_id}"
    assert [len(page) for page in pages] == [11, 6]
    monkeypatch.setattr(sitemaps, "MAX_URLS", 5)
    assert [len(page) for page in await every_address_unchecked(domain)] == [5, 4]


async def every_address_unchecked(domain: Domain) -> list[list[str]]:
    pages = await domain.sitemaps.ask(ListSitemapPages())
    return [
        [url for url, _ in checked_sitemap(await domain.sitemaps.ask(ReadSitemapPage(page.start)), domain.public_url)]
        for page in pages
    ]
