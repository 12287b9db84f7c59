"""Feeds: valid whatever an article holds, the same entry for the same article, and nothing that is not published."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.domain import Domain, refused
from kit.feed_rules import ATOM, checked_feed

from callboard.actors.editorial import feeds
from callboard.actors.editorial.atom import AtomEntry, AtomFeed, absolute_links, render_feed
from callboard.actors.editorial.categories import CreateCategory, DeleteCategory, ReplaceCategory
from callboard.actors.editorial.errors import CATEGORY_NOT_FOUND
from callboard.actors.editorial.feeds import MAX_HTML, Feed, ReadFeed
from callboard.actors.editorial.html_sanitizer import HtmlSanitizer
from callboard.actors.editorial.workflow import Content, EditContent
from callboard.actors.editorial.workflow import Draft as Text
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.infrastructure.principals import Principal, Role

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BASE = "https://board.example"


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


def entry(**more: Any) -> AtomEntry:
    usual: dict[str, Any] = {
        "content_id": UUID(int=1),
        "title": "A title",
        "author_name": "Ada",
        "terms": (),
        "published_at": NOW,
        "updated_at": NOW,
        "text": "<p>A text.</p>",
        "is_whole": True,
    }
    return AtomEntry(**(usual | more))


def feed(*entries: AtomEntry, title: str = "Board") -> bytes:
    return render_feed(AtomFeed(feed_id=UUID(int=9), title=title, base=BASE, path="/feed.atom", entries=entries))


async def titles(domain: Domain, category: str | None = None) -> list[str | None]:
    document = checked_feed((await domain.feeds.ask(ReadFeed(category))).body)
    return [each.findtext(f"{ATOM}title") for each in document.findall(f"{ATOM}entry")]


# The document -------------------------------------------------------------------------------------------------------

HOSTILE = [
    "\x00\x01\x0b\x0c\x1f",
    "a\ufffe\uffffb",
    "\ud800",
    "]]>",
    "<b>&amp;</b> & < > \" '",
    "<!-- -- --><![CDATA[x]]><?pi?><!DOCTYPE a>",
    "&#0; &#xD800; &nbsp;",
    "\u202e\u2028\u2029\u0085",
    "\U0001f3ee \u6771\u4eac",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_document_is_valid_whatever_its_texts_hold(text: str) -> None:
    more = {"title": f"t{text}", "author_name": f"n{text}", "text": f"<p>{text}", "terms": ((f"x{text}", f"l{text}"),)}
    for is_whole in (True, False):
        document = checked_feed(feed(entry(**more, is_whole=is_whole), title=f"Board {text}"))
        (item,) = document.findall(f"{ATOM}entry")
        kept = "".join(each for each in text if each in "\t\n\r" or " " <= each <= "\ud7ff" or each > "\udfff")
        kept = kept.replace("\ufffe", "").replace("\uffff", "")
        assert item.findtext(f"{ATOM}title") == f"t{kept}"
        assert item.findtext(ATOM + ("content" if is_whole else "summary")) == f"<p>{kept}"


@given(st.text(max_size=30), st.text(max_size=30))
def test_every_text_gives_a_valid_document(title: str, html: str) -> None:
    checked_feed(feed(entry(title=f"t{title}", text=html, terms=(("x" + title, html),))))


def test_a_feed_without_entries_is_valid() -> None:
    assert checked_feed(feed()).findtext(f"{ATOM}updated") == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("markup", "shown"),
    [
        ('<a href="/x?a=1&b=2">y</a>', 'href="https://board.example/x?a=1&amp;b=2"'),
        ('<img src="picture.png">', 'src="https://board.example/content/picture.png"'),
        ('<a href="#note">y</a>', 'href="https://board.example/content/1#note"'),
        ('<a href="//cdn.example/x">y</a>', 'href="https://cdn.example/x"'),
        ('<a href="../up">y</a>', 'href="https://board.example/up"'),
        ('<a href="?page=2">y</a>', 'href="https://board.example/content/1?page=2"'),
        ('<blockquote cite="/source">y</blockquote>', 'cite="https://board.example/source"'),
        ('<a href="http://other.example/x">y</a>', 'href="http://other.example/x"'),
        ('<a href="mailto:a@example.org">y</a>', 'href="mailto:a@example.org"'),
        ('<a href="//[">y</a>', 'href="//["'),
        ('<img alt="> href=&quot;/x&quot;" src="/y">', 'src="https://board.example/y"'),
        ("<p title='href=\"/x\"'>z</p>", 'title="href=&quot;/x&quot;"'),
        ('<p>write href="/x" here</p>', 'write href="/x" here'),
        ('<p>&lt;a href="/x"&gt;</p>', '&lt;a href="/x"&gt;'),
    ],
)
async def test_addresses_in_a_text_are_absolute_and_its_words_stay(markup: str, shown: str) -> None:
    clean = await HtmlSanitizer().clean(markup)
    assert shown in absolute_links(clean, "https://board.example/content/1")


# The actor ----------------------------------------------------------------------------------------------------------


async def test_a_feed_has_what_is_published_newest_first_and_nothing_else(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    await domain.draft(author, "draft")
    first = await domain.published(author, editor, "first", "one")
    await domain.published(author, editor, "second")
    assert await titles(domain) == ["second", "first"]
    await domain.move(first.content_id, Action.ARCHIVE, author)
    assert await titles(domain) == ["second"]
    for number in range(25):
        await domain.published(author, editor, f"article {number}")
    assert len(await titles(domain)) == 20


async def test_an_entry_keeps_its_id_and_its_first_publication_when_the_article_is_corrected(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    content = await domain.published(author, editor, "a typing eror")
    before = checked_feed((await domain.feeds.ask(ReadFeed())).body).find(f"{ATOM}entry")
    await domain.rows("update content_transitions set created_at = created_at - interval '1 hour'")
    for action in (Action.ARCHIVE, Action.RESTORE):
        await domain.move(content.content_id, action, author)
    await domain.content.ask(EditContent(content.content_id, Text("a typing error", ""), None, author))
    for action, caller in ((Action.SUBMIT_FOR_REVIEW, author), (Action.APPROVE, editor), (Action.PUBLISH, editor)):
        after: Content = await domain.move(content.content_id, action, caller)
    item = checked_feed((await domain.feeds.ask(ReadFeed())).body).find(f"{ATOM}entry")
    assert before is not None
    assert item is not None
    assert item.findtext(f"{ATOM}id") == before.findtext(f"{ATOM}id") == content.content_id.urn
    assert item.findtext(f"{ATOM}title") == "a typing error"
    assert after.published_at is not None
    assert item.findtext(f"{ATOM}updated") == f"{after.published_at:%Y-%m-%dT%H:%M:%SZ}"
    assert str(item.findtext(f"{ATOM}published")) < str(before.findtext(f"{ATOM}published"))


async def test_an_entry_names_its_author_category_tags_and_page_and_has_the_text(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    category = await domain.categories.ask(CreateCategory(uuid4(), "A & B", "", None, editor))
    content = await domain.draft(author, "t", "<p>x <a href='/y'>z</a>", category_id=category.category_id, tags=("k",))
    for action, caller in ((Action.SUBMIT_FOR_REVIEW, author), (Action.APPROVE, editor), (Action.PUBLISH, editor)):
        await domain.move(content.content_id, action, caller)
    base = domain.public_url
    item = checked_feed((await domain.feeds.ask(ReadFeed())).body).find(f"{ATOM}entry")
    assert item is not None
    assert item.findtext(f"{ATOM}author/{ATOM}name") == "Some One"
    assert [each.attrib for each in item.findall(f"{ATOM}category")] == [
        {"term": "a-b", "label": "A & B"},
        {"term": "k", "label": "k"},
    ]
    link = item.find(f"{ATOM}link")
    assert link is not None
    assert link.get("href") == f"{base}/content/{content.content_id}"
    assert f'href="{base}/y"' in str(item.findtext(f"{ATOM}content"))


async def test_of_a_long_article_the_feed_has_the_beginning_as_text(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    await domain.published(author, editor, "long", "<p>begin <b>bold</b></p>" + "<p>word</p>" * (MAX_HTML // 11))
    item = checked_feed((await domain.feeds.ask(ReadFeed())).body).find(f"{ATOM}entry")
    assert item is not None
    summary = str(item.findtext(f"{ATOM}summary"))
    assert item.find(f"{ATOM}content") is None
    assert summary.startswith("begin bold word word")
    assert "<" not in summary
    assert len(summary) <= 2_000


async def test_a_category_has_a_feed_whose_id_survives_another_slug(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    category = await domain.categories.ask(CreateCategory(uuid4(), "News", "", None, editor))
    inside = await domain.published(author, editor, "inside")
    await domain.published(author, editor, "outside")
    await domain.rows(
        "update content set category_id = $1 where content_id = $2", category.category_id, inside.content_id
    )
    await domain.draft(author, "a draft inside", category_id=category.category_id)
    for key in ("news", "NEWS", str(category.category_id)):
        assert await titles(domain, key) == ["inside"]
    before = await domain.feeds.ask(ReadFeed("news"))
    await domain.categories.ask(ReplaceCategory("news", "Newest", "", "newest", editor))
    after = await domain.feeds.ask(ReadFeed("newest"))
    assert checked_feed(after.body).findtext(f"{ATOM}id") == checked_feed(before.body).findtext(f"{ATOM}id")
    assert after.tag != before.tag
    assert b"/categories/newest/feed.atom" in after.body
    with refused(CATEGORY_NOT_FOUND):
        await domain.feeds.ask(ReadFeed("news"))
    await domain.categories.ask(DeleteCategory("newest", editor))
    for key in ("newest", str(category.category_id), str(uuid4())):
        with refused(CATEGORY_NOT_FOUND):
            await domain.feeds.ask(ReadFeed(key))


async def test_a_feed_changes_its_tag_with_whatever_it_shows_and_is_kept_until_then(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    category = await domain.categories.ask(CreateCategory(uuid4(), "News", "", None, editor))
    content = await domain.published(author, editor, "t")
    await domain.rows("update content set category_id = $1", category.category_id)
    seen: list[Feed] = []

    async def changed() -> bool:
        read = [await domain.feeds.ask(ReadFeed()) for _ in range(4)]
        assert len({each.body for each in read}) == len({each.tag for each in read}) == 1
        seen.append(read[0])
        return len({each.tag for each in seen}) == len({each.body for each in seen}) == len(seen)

    assert await changed()
    with domain.overheard() as said:
        assert await domain.feeds.ask(ReadFeed()) == seen[0]
        assert await domain.feeds.ask(ReadFeed()) == seen[0]
    assert not any("body_html" in each for each in said)
    await domain.rows("update users set full_name = 'Another Name' where user_id = $1", author.user_id)
    assert await changed()
    await domain.categories.ask(ReplaceCategory("news", "Newest", "", None, editor))
    assert await changed()
    await domain.published(author, editor, "another")
    assert await changed()
    await domain.move(content.content_id, Action.ARCHIVE, author)
    assert await changed()


async def test_an_article_that_is_archived_while_a_feed_is_made_is_not_in_it(
    domain: Domain, author: Principal, editor: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await domain.published(author, editor, "stays")
    await domain.published(author, editor, "goes")
    read = feeds.QUERIES.feed_texts

    async def late(connection: Any, **given: Any) -> AsyncIterator[Any]:
        await domain.rows("update content set status = 'archived' where title = 'goes'")
        async for row in read(connection, **given):
            yield row

    monkeypatch.setattr(feeds.QUERIES, "feed_texts", late)
    assert await titles(domain) == ["stays"]
