"""Tags: one form for each, lists by tag that stay right through every transition, and counts of what is published."""

import unicodedata
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.domain import Domain, at_once, refused

from callboard.actors.editorial.content_cache import ContentCache
from callboard.actors.editorial.content_queries import ContentSummary, ListContent
from callboard.actors.editorial.html_sanitizer import HtmlSanitizer
from callboard.actors.editorial.tags import ListTags, normal_tag
from callboard.actors.editorial.workflow import ContentWorkflow, CreateContent, DeleteContent, Draft, EditContent
from callboard.actors.editorial.workflow_rules import Action, Status
from callboard.actors.errors import REQUEST_INVALID
from callboard.actors.infrastructure.principals import Principal, Role

CATEGORY = "insert into categories (slug, name) values"


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


async def test_an_article_has_no_more_tags_than_the_settings_allow(domain: Domain, author: Principal) -> None:
    cache = ContentCache(domain.database, domain.cache)
    workflow = ContentWorkflow(domain.database, cache, domain.jobs, HtmlSanitizer(), max_tags=2)
    content = await workflow.create(CreateContent(uuid4(), Draft("t", "b", tags=("a", "b")), author))
    for draft in (Draft("t", "b", tags=("a", "b", "c")), Draft("x", "b", tags=("a", "b", "c"))):
        with refused(REQUEST_INVALID) as caught:
            await workflow.edit(EditContent(content.content_id, draft, None, author))
        assert [fault.field for fault in caught.value.details] == ["tags"]


async def tagged(domain: Domain, caller: Principal | None, tag: str, **more: Any) -> list[str]:
    found = await domain.content_queries.ask(ListContent(caller, 100, tag=tag, **more))
    assert all(tag in entry.tags for entry in found)
    return [entry.title for entry in found]


async def counts(domain: Domain, **more: Any) -> dict[str, int]:
    return {each.tag: each.published for each in await domain.tags.ask(ListTags(**({"limit": 100} | more)))}


async def publish(domain: Domain, author: Principal, editor: Principal, title: str, *tags: str) -> UUID:
    content = await domain.draft(author, title, tags=tags)
    for action, caller in ((Action.SUBMIT_FOR_REVIEW, author), (Action.APPROVE, editor), (Action.PUBLISH, editor)):
        await domain.move(content.content_id, action, caller)
    return content.content_id


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Compilers", "compilers"),
        ("  machine   design ", "machine design"),
        ("e\u0301tude", "\u00e9tude"),
        ("go\u200b\u00ad", "go"),
        ("\u6771\u4eac\u3000\u30bf\u30ef\u30fc", "\u6771\u4eac \u30bf\u30ef\u30fc"),
        ("C++", "c++"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
        ("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2"),
        ("a,b;c", "a,b;c"),
    ],
)
def test_a_tag_has_one_form_however_it_is_written(sent: str, kept: str) -> None:
    assert normal_tag(sent) == kept


@pytest.mark.parametrize("sent", ["", "  ", "\u200b", "\ufe0f", "a\nb", "a\0b", "x" * 51, "\u202ea", "\u0130" * 50])
def test_a_tag_that_shows_nothing_or_is_too_long_is_refused(sent: str) -> None:
    with pytest.raises(ValueError, match="must"):
        normal_tag(sent)


@given(st.text(max_size=60))
def test_the_form_of_a_tag_is_its_own_form(sent: str) -> None:
    try:
        kept = normal_tag(sent)
    except ValueError:
        return
    assert normal_tag(kept) == kept
    assert unicodedata.is_normalized("NFC", kept)
    assert kept == kept.lower()
    assert 1 <= len(kept) <= 50


async def test_an_article_is_listed_by_each_of_its_tags_to_whom_may_see_it(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    await publish(domain, author, editor, "published", "engines", "notes")
    await domain.draft(author, "draft", tags=("engines",))
    await domain.draft(editor, "untagged")
    assert await tagged(domain, None, "engines") == ["published"]
    assert await tagged(domain, await domain.person(), "engines") == ["published"]
    assert await tagged(domain, author, "engines") == ["draft", "published"]
    assert await tagged(domain, editor, "engines") == ["draft", "published"]
    assert await tagged(domain, editor, "engines", status=Status.DRAFT) == ["draft"]
    assert await tagged(domain, editor, "engines", author_id=author.user_id) == ["draft", "published"]
    assert await tagged(domain, editor, "notes") == ["published"]
    assert await tagged(domain, editor, "note") == []


async def test_tags_follow_the_article_through_its_states_and_out_of_it(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    content_id = await publish(domain, author, editor, "t", "engines", "notes")
    assert await counts(domain) == {"engines": 1, "notes": 1}
    await domain.move(content_id, Action.ARCHIVE, author)
    assert await counts(domain) == {}
    assert await tagged(domain, None, "engines") == []
    assert await tagged(domain, author, "engines", status=Status.ARCHIVED) == ["t"]
    await domain.move(content_id, Action.RESTORE, author)
    edited = await domain.content.ask(EditContent(content_id, Draft("t", "", tags=("notes", "b")), None, author))
    assert edited.tags == ("notes", "b")
    assert await tagged(domain, author, "engines") == []
    assert await tagged(domain, author, "b") == ["t"]
    await domain.content.ask(DeleteContent(content_id, author))
    assert await tagged(domain, author, "b") == []


async def test_deleted_content_is_in_no_list_until_it_is_restored(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    content = await domain.draft(author, "t", tags=("a",))
    for moment, titles in (("now()", []), ("null", ["t"])):
        await domain.rows(f"update content set deleted_at = {moment} where content_id = $1", content.content_id)  # noqa: S608
        for caller in (author, editor):
            assert await tagged(domain, caller, "a") == titles
            found = await domain.content_queries.ask(ListContent(caller, 10))
            assert [entry.title for entry in found] == titles


async def test_an_edit_of_the_tags_alone_is_an_edit_and_sends_content_back_to_draft(
    domain: Domain, author: Principal
) -> None:
    content = await domain.draft(author, "t", "b", tags=("a",))
    await domain.move(content.content_id, Action.SUBMIT_FOR_REVIEW, author)
    same = await domain.content.ask(EditContent(content.content_id, Draft("t", "b", tags=("a",)), None, author))
    assert (same.status, same.version) == (Status.PENDING_REVIEW, 2)
    edited = await domain.content.ask(EditContent(content.content_id, Draft("t", "b", tags=("c",)), None, author))
    assert (edited.status, edited.version, edited.tags) == (Status.DRAFT, 3, ("c",))


async def test_tags_are_listed_by_their_number_and_pages_hold_each_once(domain: Domain, author: Principal) -> None:
    await domain.rows(
        "insert into content (author_id, title, body, body_html, status, published_at, tags) "
        "select $1, n::text, '', '', 'published', now(), array['all', 'mod ' || n % 3, 'only ' || n] "
        "from generate_series(1, 20) as n",
        author.user_id,
    )
    every = await domain.tags.ask(ListTags(100))
    assert [(each.tag, each.published) for each in every[:4]] == [("all", 20), ("mod 1", 7), ("mod 2", 7), ("mod 0", 6)]
    assert [each.tag for each in every[4:]] == sorted(f"only {n}" for n in range(1, 21))
    for limit in (1, 3, 7):
        seen, after = [], None
        while page := await domain.tags.ask(ListTags(limit, after)):
            seen += page
            after = (page[-1].published, page[-1].tag)
        assert seen == every
    assert await domain.tags.ask(ListTags(5, (2**63 - 1, ""))) == every[:5]


async def test_counts_are_right_when_many_articles_with_the_same_tags_change_at_once(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    contents = [await domain.draft(author, str(n), tags=("a", "b") if n % 2 else ("b", "a")) for n in range(8)]
    for action, caller in ((Action.SUBMIT_FOR_REVIEW, author), (Action.APPROVE, editor), (Action.PUBLISH, editor)):
        won, lost = await at_once(*(domain.move(each.content_id, action, caller) for each in contents))
        assert (len(won), lost) == (8, [])
    assert await counts(domain) == {"a": 8, "b": 8}
    won, lost = await at_once(*(domain.move(each.content_id, Action.ARCHIVE, author) for each in contents[:5]))
    assert (len(won), lost) == (5, [])
    await domain.rows("delete from content where content_id = $1", contents[5].content_id)
    assert await counts(domain) == {"a": 2, "b": 2}


async def test_the_database_bounds_the_tags_of_an_article(domain: Domain, author: Principal) -> None:
    content = await domain.content.ask(
        CreateContent(UUID(int=1), Draft("t", "b", tags=tuple(f"{n}" for n in range(10))), author)
    )
    assert len(content.tags) == 10
    with pytest.raises(Exception, match="content_tags_check"):
        await domain.rows("update content set tags = tags || '{one more}' where content_id = $1", content.content_id)


async def test_a_row_of_a_list_has_the_names_that_a_page_shows(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    category_id = await domain.value(
        "insert into categories (slug, name) values ('a-b', 'A & B') returning category_id"
    )
    content = await domain.draft(author, "t", category_id=category_id, tags=("x", "y"))
    await domain.draft(author, "without")
    await domain.rows(
        "insert into comments (content_id, author_id, body, body_html, deleted_at) "
        "select $1, $2, 'b', '', case n when 1 then now() end from generate_series(1, 3) as n",
        content.content_id,
        author.user_id,
    )
    without, row = await domain.content_queries.ask(ListContent(author, 10))
    assert isinstance(row, ContentSummary)
    assert (row.content_id, row.author_name, row.tags) == (content.content_id, "Some One", ("x", "y"))
    assert row.category is not None
    assert (row.category_id, row.category.slug, row.category.name) == (category_id, "a-b", "A & B")
    assert (row.comment_count, without.comment_count) == (2, 0)
    assert (without.category_id, without.category, without.tags) == (None, None, ())
    await domain.rows("update users set deleted_at = now() where user_id = $1", author.user_id)
    assert {each.author_name for each in await domain.content_queries.ask(ListContent(editor, 10))} == {"Deleted user"}


async def test_a_category_is_named_by_its_slug_too(domain: Domain, author: Principal, editor: Principal) -> None:
    category_id = await domain.value(
        "insert into categories (slug, name) values ('news', 'News') returning category_id"
    )
    await domain.draft(author, "inside", category_id=category_id, tags=("x",))
    await domain.draft(author, "outside", tags=("x",))
    for more in ({}, {"tag": "x"}, {"author_id": author.user_id}, {"author_id": author.user_id, "tag": "x"}):
        for named in ({"category_slug": "news"}, {"category_id": category_id}):
            for caller in (author, editor):
                found = await domain.content_queries.ask(ListContent(caller, 10, **more, **named))
                assert [entry.title for entry in found] == ["inside"]
    assert await domain.content_queries.ask(ListContent(editor, 10, category_slug="other")) == []
