"""The bounds of a search: which matches are read and ranked, if there are many."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from kit.domain import Domain

from callboard.actors.editorial import content_search
from callboard.actors.editorial.content_search import Search, SearchContent, months_of

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

# Articles that are stored from the oldest to the newest, one a day. Each `newer`th of the newest 20 has the word in its
# text, and each `older`th of the others.
DAYS = """
    insert into content (author_id, title, body, body_html, status, published_at)
    select $1, 'Day ' || day,
           case when day % case when day < 20 then $2::integer else $3 end = 0 then 'lantern' else 'quay' end, '',
           'published', $4::timestamptz - make_interval(days => day)
    from generate_series(299, 0, -1) as day
"""


async def titles(domain: Domain, until: datetime | None = None) -> set[str]:
    return {hit.title for hit in await domain.content_search.ask(SearchContent("lantern", 100, until=until))}


@pytest.mark.parametrize(
    "case",
    [
        (5, 5, 24),  # the newest 100 articles have more than ten
        (5, 5, 2),  # but they are of too many months
        (20, 20, 24),  # one of the newest 20: all articles are asked
        (5, 40, 24),  # the newest 100 articles have fewer than were to be expected
        (1, 1, 24),  # the newest 20 are enough
    ],
)
async def test_the_newest_matches_are_ranked_in_whatever_order_they_are_stored(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, case: tuple[int, int, int]
) -> None:
    newer, older, months = case
    author = await domain.person()
    bounds = {"RECENT": 20, "ENOUGH": 11, "LATEST": 100, "MAX_MONTHS": months, "EXAMINED": 60, "CANDIDATES": 10}
    for name, bound in bounds.items():
        monkeypatch.setattr(content_search, name, bound)
    await domain.rows(DAYS, author.user_id, newer, older, LONG_AGO)
    matching = [day for day in range(300) if day % (newer if day < 20 else older) == 0]
    assert await titles(domain) == {f"Day {day}" for day in matching[:10]}
    earlier = [day for day in matching if day > 30]
    assert await titles(domain, LONG_AGO - timedelta(days=30)) == {f"Day {day}" for day in earlier[:10]}


async def test_the_months_of_an_index_are_those_of_a_query(domain: Domain) -> None:
    for moment in ("2025-12-31T23:59:59.999999Z", "2026-01-01T00:00:00Z", "2024-02-29T12:00:00+05:00"):
        at = datetime.fromisoformat(moment)
        assert await domain.value("select month_of($1)", at) in (months_of(at, at + timedelta(seconds=1)) or [])


async def test_an_article_that_is_archived_after_it_was_found_is_left_out(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = await domain.person()
    await domain.rows(DAYS, author.user_id, 150, 150, LONG_AGO)
    rank = Search.ranks

    async def slow(self: Search, *, tolerant: bool) -> dict[UUID, float]:
        found = await rank(self, tolerant=tolerant)
        await domain.rows("update content set status = 'archived' where title = 'Day 0'")
        return found

    monkeypatch.setattr(Search, "ranks", slow)
    assert await titles(domain) == {"Day 150"}
