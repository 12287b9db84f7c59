"""Reading: who sees what, pages that lose and repeat nothing, and a search that no input upsets."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from kit.domain import Domain, refused

from callboard.actors.editorial.content_queries import (
    ContentSummary,
    ListContent,
    ListTransitions,
    ReadContent,
)
from callboard.actors.editorial.content_search import SearchContent, SearchResult
from callboard.actors.editorial.errors import CONTENT_FORBIDDEN, CONTENT_NOT_FOUND
from callboard.actors.editorial.workflow_rules import Action, Status
from callboard.actors.infrastructure.principals import Principal, Role


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


async def titles(domain: Domain, caller: Principal | None, **filters: Any) -> set[str]:
    return {entry.title for entry in await domain.content_queries.ask(ListContent(caller, 100, **filters))}


async def search(domain: Domain, q: str, **more: Any) -> list[SearchResult]:
    return await domain.content_search.ask(SearchContent(q, **({"limit": 100} | more)))


async def insert(domain: Domain, author: Principal, count: int, body: str = "lantern") -> set[UUID]:
    """Published articles of one and the same moment, so that only their ids tell them apart."""
    rows = await domain.rows(
        "insert into content (author_id, title, body, body_html, status, published_at, created_at) "
        "select $1, 'Number ' || n, $3, '', 'published', $4, $4 from generate_series(1, $2) as n returning content_id",
        author.user_id,
        count,
        body,
        datetime.fromisoformat("2026-01-01T00:00:00Z"),
    )
    return {row["content_id"] for row in rows}


# Listing -------------------------------------------------------------------------------------------------------------


async def test_readers_list_what_is_published_authors_their_own_too_and_editors_all(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    other = await domain.person()
    await domain.draft(author, "draft of author")
    await domain.draft(other, "draft of other")
    await domain.published(author, editor, "published")
    assert await titles(domain, None) == {"published"}
    assert await titles(domain, author) == {"published", "draft of author"}
    assert await titles(domain, other) == {"published", "draft of other"}
    assert await titles(domain, editor) == {"published", "draft of author", "draft of other"}
    assert await titles(domain, await domain.person(Role.ADMIN)) == await titles(domain, editor)


async def test_an_author_reads_ones_own_published_article_as_it_is_whatever_the_cache_has_heard(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    content = await domain.published(author, editor, "published")
    for _ in range(3):
        await domain.content_queries.ask(ReadContent(content.content_id, None))
        await domain.cache.send("TIME")  # what it has written before is there
    await domain.rows("update content set version = version + 1")
    for reader in (author, editor):
        read = await domain.content_queries.ask(ReadContent(content.content_id, reader))
        assert read.version == content.version + 1


async def test_filters_narrow_and_never_show_more(domain: Domain, author: Principal, editor: Principal) -> None:
    other = await domain.person()
    category_id = await domain.value("insert into categories (slug, name) values ('a', 'A') returning category_id")
    await domain.draft(author, "draft", category_id=category_id)
    await domain.draft(other, "other's draft", category_id=category_id)
    await domain.published(author, editor, "published")
    assert await titles(domain, author, status=Status.DRAFT) == {"draft"}
    assert await titles(domain, None, status=Status.DRAFT) == set()
    for reader in (None, other):
        assert await titles(domain, reader, author_id=author.user_id) == {"published"}
    assert await titles(domain, None, category_id=category_id) == set()
    assert await titles(domain, editor, category_id=category_id) == {"draft", "other's draft"}
    assert await titles(domain, editor, category_id=category_id, author_id=other.user_id) == {"other's draft"}
    assert await titles(domain, author, status=Status.ARCHIVED) == set()


async def test_pages_show_every_row_once_and_in_order_while_rows_are_added(domain: Domain, author: Principal) -> None:
    ids = await insert(domain, author, 25)
    seen: list[ContentSummary] = []
    before, before_id = None, None
    while page := await domain.content_queries.ask(ListContent(None, 4, before=before, before_id=before_id)):
        seen += page
        before, before_id = page[-1].position
        await domain.execute("update content set created_at = now() where content_id = gen_random_uuid()")
        await domain.rows(
            "insert into content (author_id, title, body, body_html, status, published_at) "
            "values ($1, 'newer', 'lantern', '', 'published', now())",
            author.user_id,
        )
    assert len(seen) == 25
    assert {entry.content_id for entry in seen} == ids
    keys = [entry.position for entry in seen]
    assert keys == sorted(keys, reverse=True)


async def test_published_articles_stand_in_the_order_of_their_publication(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    """An old draft that is published today is today's article, whoever lists it."""
    old = await domain.draft(author, "an old draft")
    for number in range(3):
        await domain.published(author, editor, f"article {number}")
    await domain.draft(author, "a newer draft")
    for action in (Action.SUBMIT_FOR_REVIEW, Action.APPROVE, Action.PUBLISH):
        await domain.move(old.content_id, action, editor)
    expected = ["an old draft", "article 2", "article 1", "article 0"]
    for caller, more in ((None, {}), (editor, {"status": Status.PUBLISHED}), (None, {"author_id": author.user_id})):
        assert [entry.title for entry in await domain.content_queries.ask(ListContent(caller, 10, **more))] == expected
    for caller in (author, editor):
        both = [entry.title for entry in await domain.content_queries.ask(ListContent(caller, 10))]
        assert both == [expected[0], "a newer draft", *expected[1:]]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_of_every_list_hold_every_row_once_in_order(domain: Domain, author: Principal, limit: int) -> None:
    category_id = await domain.value("insert into categories (slug, name) values ('a', 'A') returning category_id")
    await domain.rows(
        "insert into content (author_id, category_id, title, body, body_html, tags, status, published_at, created_at) "
        "select $1, case when n % 2 = 0 then $2::uuid end, n::text, 'b', '', array['all', 'mod ' || n % 3], "
        "(array['draft', 'pending_review', 'approved', 'published', 'archived'])[1 + n % 5], "
        "now() - make_interval(mins => n % 4), now() - make_interval(mins => n % 3) from generate_series(1, 30) as n",
        author.user_id,
        category_id,
    )
    editor = await domain.person(Role.EDITOR)
    for caller in (None, author, editor):
        for filters in (
            {},
            {"category_id": category_id},
            {"author_id": author.user_id},
            {"status": Status.DRAFT},
            {"tag": "all"},
            {"tag": "mod 1", "category_id": category_id},
            {"tag": "mod 1", "author_id": author.user_id},
            {"tag": "all", "status": Status.DRAFT},
        ):
            every = await domain.content_queries.ask(ListContent(caller, 100, **filters))
            assert [entry.position for entry in every] == sorted((entry.position for entry in every), reverse=True)
            seen: list[ContentSummary] = []
            position: tuple[Any, Any] = (None, None)
            while page := await domain.content_queries.ask(
                ListContent(caller, limit, before=position[0], before_id=position[1], **filters)
            ):
                seen += page
                position = page[-1].position
            assert seen == every


# Reading -------------------------------------------------------------------------------------------------------------


async def test_an_article_is_read_by_whom_it_may_be_seen(domain: Domain, author: Principal, editor: Principal) -> None:
    content = await domain.draft(author)
    for caller in (author, editor):
        assert await domain.content_queries.ask(ReadContent(content.content_id, caller)) == content
    for stranger in (None, await domain.person()):
        with refused(CONTENT_NOT_FOUND):
            await domain.content_queries.ask(ReadContent(content.content_id, stranger))
    published = await domain.published(author, editor)
    assert await domain.content_queries.ask(ReadContent(published.content_id, None)) == published


async def test_the_history_is_between_author_and_editors(domain: Domain, author: Principal, editor: Principal) -> None:
    content = await domain.published(author, editor)
    draft = await domain.draft(author)
    stranger = await domain.person()
    with refused(CONTENT_FORBIDDEN):
        await domain.content_queries.ask(ListTransitions(content.content_id, stranger, 10))
    with refused(CONTENT_NOT_FOUND):
        await domain.content_queries.ask(ListTransitions(draft.content_id, stranger, 10))
    for caller in (author, editor):
        steps = await domain.content_queries.ask(ListTransitions(content.content_id, caller, 10))
        assert [step.action for step in steps] == ["submit_for_review", "approve", "publish"]
        (second,) = await domain.content_queries.ask(
            ListTransitions(content.content_id, caller, 1, steps[0].transition_id)
        )
        assert second == steps[1]


# Searching -----------------------------------------------------------------------------------------------------------


async def test_only_what_is_published_is_found(domain: Domain, author: Principal, editor: Principal) -> None:
    content = await domain.published(author, editor, "Lanterns", "on the quay")
    await domain.draft(author, "Lanterns of mine", "unpublished")
    assert [hit.content_id for hit in await search(domain, "lantern")] == [content.content_id]
    await domain.move(content.content_id, Action.ARCHIVE, author)
    assert await search(domain, "lantern") == []


async def test_a_word_in_the_title_ranks_above_one_in_the_text(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    await domain.published(author, editor, "Harbours", "a lantern on the quay")
    await domain.published(author, editor, "The lantern", "on the quay")
    await domain.published(author, editor, "Boats", "nothing of the kind")
    hits = await search(domain, "lantern")
    assert [hit.title for hit in hits] == ["The lantern", "Harbours"]
    assert hits[0].rank > hits[1].rank
    assert "<mark>lantern</mark>" in hits[1].snippet


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("lanterns quay", {"a"}),
        ('"old quay"', {"a"}),
        ('"quay old"', set()),
        ("lantern -quay", {"b"}),
        ("quay or street", {"a", "b"}),
        ("the", set()),
    ],
)
async def test_the_search_takes_words_phrases_exclusions_and_or(
    domain: Domain, author: Principal, editor: Principal, q: str, found: set[str]
) -> None:
    await domain.published(author, editor, "a", "a lantern on the old quay")
    await domain.published(author, editor, "b", "a lantern in the street")
    assert {hit.title for hit in await search(domain, q)} == found


async def test_the_category_narrows_a_search(domain: Domain, author: Principal, editor: Principal) -> None:
    category_id = await domain.value("insert into categories (slug, name) values ('a', 'A') returning category_id")
    inside = await domain.published(author, editor, "inside", "lantern")
    await domain.published(author, editor, "outside", "lantern")
    await domain.rows("update content set category_id = $1 where content_id = $2", category_id, inside.content_id)
    assert [hit.title for hit in await search(domain, "lantern", category_id=category_id)] == ["inside"]


async def test_pages_of_a_search_show_every_hit_once_while_hits_are_added(domain: Domain, author: Principal) -> None:
    ids = await insert(domain, author, 10) | await insert(domain, author, 10, "lantern lantern lantern")
    seen: list[SearchResult] = []
    rank, before_id = None, None
    while page := await search(domain, "lantern", limit=3, rank=rank, before_id=before_id):
        seen += page
        rank, before_id = page[-1].rank, page[-1].content_id
        await insert(domain, author, 1, "a lantern lantern lantern lantern lantern lantern before all others")
    old = [hit.content_id for hit in seen if hit.content_id in ids]
    assert len(old) == len(set(old)) == 20
    assert [hit.rank for hit in seen] == sorted((hit.rank for hit in seen), reverse=True)


@pytest.mark.parametrize(
    "body",
    [
        "lantern <script>alert(1)</script> lantern",
        "<img src=x onerror=alert(1)> lantern",
        "<mark onclick='alert(1)' title=x>lantern</mark> <mark>not found</mark>",
        "<<b>mark>lantern<</b>/mark>",
        "lantern < b > & \" '",
        "&lt;script&gt; lantern",
    ],
)
async def test_a_snippet_holds_no_markup_but_its_marks(
    domain: Domain, author: Principal, editor: Principal, body: str
) -> None:
    await domain.published(author, editor, "t", body)
    (hit,) = await search(domain, "lantern")
    assert "<mark>" in hit.snippet
    bare = hit.snippet.replace("<mark>", "").replace("</mark>", "")
    assert "<" not in bare
    assert ">" not in bare


HOSTILE = [
    *(
        "'",
        '"',
        "\\",
        "\\'",
        "&|!",
        "!!!",
        "()",
        "(((",
        ":*",
        "a:*b",
        "<->",
        "%",
        "_",
        "--",
        "; drop table users",
        "$1",
    ),
    *(
        "{}",
        ":q",
        "\u200b",
        "\U0001f3ee",
        "\ud7ff",
        "a" * 20_000,
        "a " * 5_000,
        '"' * 999,
        "or or or",
        "-",
        "- -a",
        "a -",
    ),
]


@pytest.mark.parametrize("q", HOSTILE, ids=range(len(HOSTILE)))
async def test_no_search_is_an_error(domain: Domain, author: Principal, editor: Principal, q: str) -> None:
    await domain.published(author, editor, "a", "b")
    for hit in await search(domain, q):
        assert hit.title == "a"
