"""Search of what an earlier release kept: found as before, then made anew without a change of the article."""

from typing import Any

import pytest
from kit.domain import Domain

from callboard.actors.editorial.content_search import SearchContent
from callboard.actors.editorial.search_refill import RefillSearch
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.infrastructure.principals import Role

# As the first release kept it: the words of English, with their accents, and nothing of the category.
AGE = """
    begin;
    alter table content disable trigger content_search;
    update content set search_outdated = true, search =
        setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('english', body), 'B');
    alter table content enable trigger content_search;
    commit;
"""
ROWS = "select content_id, version, updated_at, search_outdated from content order by 1"


async def aged(domain: Domain, *titles: str, **more: Any) -> None:
    """Published articles as an earlier release left them."""
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    for title in titles:
        content = await domain.draft(author, title, **more)
        for action in (Action.SUBMIT_FOR_REVIEW, Action.APPROVE, Action.PUBLISH):
            await domain.move(content.content_id, action, editor)
    await domain.execute(AGE)


async def refill(domain: Domain) -> None:
    async with domain.database.transaction() as connection:
        await domain.jobs.enqueue(connection, RefillSearch())
    await domain.work()


async def found(domain: Domain, q: str, **more: Any) -> set[str]:
    return {hit.title for hit in await domain.content_search.ask(SearchContent(q, 10, **more))}


@pytest.mark.parametrize("q", ["Café", "lanterns", '"the lantern"', "lantern -quay", "well-known", "ada@example.org"])
async def test_an_outdated_article_is_found_as_before_and_by_the_same_words_after(domain: Domain, q: str) -> None:
    title = "The Lantern Café of the well-known ada@example.org"
    await aged(domain, title, "A quay")  # by no word that is asked for
    assert await found(domain, q) == {title}
    await refill(domain)
    assert await found(domain, q) == {title}


async def test_one_search_finds_outdated_articles_and_new_ones(domain: Domain) -> None:
    await aged(domain, "An old café")
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    await domain.published(author, editor, "A new café")
    assert await found(domain, "café") == {"An old café", "A new café"}
    assert await found(domain, "cafe") == {"A new café"}
    await refill(domain)
    assert await found(domain, "cafe") == {"An old café", "A new café"}


async def test_outdated_articles_are_found_in_their_category_alone(domain: Domain) -> None:
    category_id = await domain.value("insert into categories (slug, name) values ('a', 'A') returning category_id")
    await aged(domain, "A lantern outside")
    await aged(domain, "A lantern within", category_id=category_id)
    assert await found(domain, "lantern", category_id=category_id) == {"A lantern within"}
    await refill(domain)
    assert await found(domain, "lantern", category_id=category_id) == {"A lantern within"}


async def test_making_search_anew_is_no_change_of_the_article(domain: Domain) -> None:
    await aged(domain, *(f"Lantern {number}" for number in range(120)))
    before = await domain.rows(ROWS)
    await refill(domain)
    assert await domain.rows(ROWS) == [row | {"search_outdated": False} for row in before]
    assert await domain.value("select count(*) from finished_jobs where outcome <> 'done'") == 0


async def test_an_older_draft_is_searched_anew_when_it_is_published(domain: Domain) -> None:
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    draft = await domain.draft(author, "A café")
    await domain.execute(AGE)
    for action in (Action.SUBMIT_FOR_REVIEW, Action.APPROVE, Action.PUBLISH):
        await domain.move(draft.content_id, action, editor)
    assert await found(domain, "cafe") == {"A café"}
    assert not await domain.value("select search_outdated from content")


async def test_what_somebody_edits_is_passed_over_and_comes_later(domain: Domain) -> None:
    await aged(domain, "Held", "Free")
    async with domain.database.transaction() as connection:
        await connection.execute("select from content where title = 'Held' for update")
        await refill(domain)
        left = await domain.rows("select title from content where search_outdated")
        assert [row["title"] for row in left] == ["Held"]
    assert await domain.value("select postponed from jobs") == 1
