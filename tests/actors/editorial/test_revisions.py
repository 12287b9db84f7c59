"""Revisions: every text that an article had, by its writer, within bounds; an earlier text comes back as an edit."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from kit.domain import Domain, at_once, refused

from callboard.actors.editorial.content_cache import ContentCache
from callboard.actors.editorial.errors import (
    CONTENT_FORBIDDEN,
    CONTENT_NOT_FOUND,
    CONTENT_OWN_REVIEW,
    CONTENT_PUBLISHED,
    CONTENT_REVISION_NOT_FOUND,
    CONTENT_STALE,
)
from callboard.actors.editorial.html_sanitizer import HtmlSanitizer
from callboard.actors.editorial.revisions import (
    DiffRevisions,
    FieldChange,
    ListRevisions,
    ReadRevision,
    Revision,
    RevisionBounds,
    RevisionSummary,
)
from callboard.actors.editorial.text_diff import Kind, Piece
from callboard.actors.editorial.workflow import Change, Content, ContentWorkflow, Draft, EditContent, RestoreRevision
from callboard.actors.editorial.workflow_rules import Action, Language, Status
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.runtime import Props, Ref, System, pool, supervisor


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


async def edit(domain: Domain, content: Content, caller: Principal, **fields: Any) -> Content:
    draft = Draft(**({"title": content.title, "body": content.body} | fields))
    return await domain.content.ask(EditContent(content.content_id, draft, content.version, caller))


async def listed(domain: Domain, content_id: UUID, caller: Principal) -> list[RevisionSummary]:
    return await domain.revisions.ask(ListRevisions(content_id, caller, 200))  # type: ignore[no-any-return]


async def read(domain: Domain, content_id: UUID, revision: int, caller: Principal) -> Revision:
    return await domain.revisions.ask(ReadRevision(content_id, revision, caller))  # type: ignore[no-any-return]


async def restore(domain: Domain, content: Content, revision: int, caller: Principal) -> Content:
    return await domain.content.ask(RestoreRevision(content.content_id, revision, content.version, caller))


async def test_each_text_is_a_revision_with_its_writer_and_its_time(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    first = await domain.draft(author, "One", "First")
    second = await edit(domain, first, editor, title="Two", body="Second")
    moved = await domain.move(first.content_id, Action.SUBMIT_FOR_REVIEW, author)
    third = await edit(domain, moved, author, title="Two", body="Third", language=Language.GERMAN)
    assert [content.revision for content in (first, second, moved, third)] == [1, 2, 2, 3]
    found = await listed(domain, first.content_id, author)
    assert [(each.revision, each.title, each.editor_id, each.is_current) for each in found] == [
        (3, "Two", author.user_id, True),
        (2, "Two", editor.user_id, False),
        (1, "One", author.user_id, False),
    ]
    assert [each.written_at for each in found] == [third.updated_at, second.updated_at, first.created_at]
    assert {each.editor_name for each in found} == {"Some One"}
    for number, text in ((1, "First"), (2, "Second"), (3, "Third")):
        revision = await read(domain, first.content_id, number, editor)
        assert (revision.revision, revision.body) == (number, text)
    for number in (0, 4, 999_999_999):
        with refused(CONTENT_REVISION_NOT_FOUND):
            await read(domain, first.content_id, number, editor)


async def test_a_revision_is_found_by_its_article_and_its_number(domain: Domain, author: Principal) -> None:
    articles = [await domain.draft(author, f"Title {n}", f"Body {n}") for n in range(3)]
    for each in articles:
        await edit(domain, each, author, body="Another")
    found = [await read(domain, each.content_id, 1, author) for each in articles]
    assert [each.title for each in found] == [each.title for each in articles]


async def test_revisions_are_listed_by_pages(domain: Domain, author: Principal) -> None:
    content = await domain.draft(author)
    for n in range(6):
        content = await edit(domain, content, author, body=f"b{n}")
    pages = [
        [each.revision for each in await domain.revisions.ask(ListRevisions(content.content_id, author, 3, before))]
        for before in (None, 5, 2, 1, 2**62)
    ]
    assert pages == [[7, 6, 5], [4, 3, 2], [1], [], [7, 6, 5]]


async def test_only_the_author_and_editors_see_revisions(domain: Domain, author: Principal, editor: Principal) -> None:
    stranger = await domain.person()
    draft, published = await domain.draft(author), await domain.published(author, editor)
    for content, code in ((draft, CONTENT_NOT_FOUND), (published, CONTENT_FORBIDDEN)):
        for message in (
            ListRevisions(content.content_id, stranger, 10),
            ReadRevision(content.content_id, 1, stranger),
            DiffRevisions(content.content_id, 1, 1, stranger),
        ):
            with refused(code):
                await domain.revisions.ask(message)


async def test_two_revisions_are_compared_in_both_directions(domain: Domain, author: Principal) -> None:
    content = await domain.draft(author, "Old", "one\ntwo\nthree\n")
    content = await edit(domain, content, author, title="New", body="one\nTWO\nthree\nfour")
    ahead = await domain.revisions.ask(DiffRevisions(content.content_id, 1, 2, author))
    assert ahead.fields == [FieldChange("title", "Old", "New")]
    assert ahead.body == [
        Piece(Kind.EQUAL, "one\n"),
        Piece(Kind.REMOVED, "two\n"),
        Piece(Kind.ADDED, "TWO\n"),
        Piece(Kind.EQUAL, "three\n"),
        Piece(Kind.ADDED, "four"),
    ]
    back = await domain.revisions.ask(DiffRevisions(content.content_id, 2, 1, author))
    assert back.fields == [FieldChange("title", "New", "Old")]
    same = await domain.revisions.ask(DiffRevisions(content.content_id, 2, 2, author))
    assert (same.fields, [piece.kind for piece in same.body]) == ([], [Kind.EQUAL])


async def test_restoring_is_an_edit_by_the_restorer(domain: Domain, author: Principal, editor: Principal) -> None:
    first = await domain.draft(author, "One", "First <b>text</b>")
    content = await edit(domain, first, author, title="Two", body="Second")
    for action in (Action.SUBMIT_FOR_REVIEW, Action.APPROVE):
        content = await domain.move(first.content_id, action, editor)
    restored = await restore(domain, content, 1, editor)
    assert (restored.title, restored.body, restored.body_html) == (first.title, first.body, first.body_html)
    assert (restored.status, restored.revision, restored.last_edited_by) == (Status.DRAFT, 3, editor.user_id)
    await domain.move(first.content_id, Action.SUBMIT_FOR_REVIEW, author)
    with refused(CONTENT_OWN_REVIEW):
        await domain.move(first.content_id, Action.APPROVE, editor)
    assert [each.title for each in await listed(domain, first.content_id, author)] == ["One", "Two", "One"]


async def test_restoring_the_current_text_changes_nothing(domain: Domain, author: Principal) -> None:
    content = await edit(domain, await domain.draft(author), author, body="Second")
    await domain.execute("delete from outbox")
    for _ in range(2):
        assert await restore(domain, content, 2, author) == content
    assert await domain.value("select count(*) from outbox") == 0
    assert await domain.value("select count(*) from content_revisions") == 1


async def test_what_cannot_be_edited_cannot_be_restored_to_an_earlier_text(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    stranger = await domain.person()
    draft = await edit(domain, await domain.draft(author), author, body="Second")
    with refused(CONTENT_NOT_FOUND):
        await restore(domain, draft, 1, stranger)
    with refused(CONTENT_REVISION_NOT_FOUND):
        await restore(domain, draft, 7, author)
    with refused(CONTENT_STALE):
        await domain.content.ask(RestoreRevision(draft.content_id, 1, 1, author))
    content = draft
    for action in (Action.SUBMIT_FOR_REVIEW, Action.APPROVE, Action.PUBLISH, Action.ARCHIVE):
        content = await domain.move(draft.content_id, action, editor)
        if action in (Action.PUBLISH, Action.ARCHIVE):
            with refused(CONTENT_PUBLISHED):
                await restore(domain, content, 1, author)


async def test_a_category_that_is_gone_is_left_out_of_a_restored_text(domain: Domain, author: Principal) -> None:
    ids = [
        await domain.value("insert into categories (slug, name) values ($1, $1) returning category_id", name)
        for name in ("a", "b")
    ]
    content = await domain.draft(author, category_id=ids[0])
    content = await edit(domain, content, author, category_id=ids[1])
    content = await edit(domain, content, author, body="Third", category_id=ids[1])
    assert (await restore(domain, content, 1, author)).category_id == ids[0]
    await domain.rows("update categories set deleted_at = now() where category_id = $1", ids[1])  # a job deletes it
    content = await domain.content.ask(RestoreRevision(content.content_id, 3, None, author))
    assert (content.body, content.category_id) == ("Third", None)


async def test_of_edits_at_once_only_the_winner_leaves_a_revision(domain: Domain, author: Principal) -> None:
    content = await domain.draft(author)
    for n in range(3):
        current = await domain.value("select version from content")
        draft = [Draft(f"Take {n} {k}", "b") for k in range(6)]
        won, _ = await at_once(
            *(domain.content.ask(EditContent(content.content_id, each, current, author)) for each in draft)
        )
        assert len(won) == 1
    assert [each.revision for each in await listed(domain, content.content_id, author)] == [4, 3, 2, 1]


@pytest.fixture
async def bounded(domain: Domain) -> AsyncIterator[Ref[Change]]:
    """Content with three revisions of an article, and 1,000 bytes of an author's."""
    cache, bounds = ContentCache(domain.database, domain.cache), RevisionBounds(3, 1_000)
    props = Props(ContentWorkflow, domain.database, cache, domain.jobs, HtmlSanitizer(), revisions=bounds)
    content: Ref[Change] = pool("bounded", props, size=4)
    async with System(supervisor("bounded only", content)):  # type: ignore[arg-type]
        yield content


async def test_the_oldest_revisions_go_beyond_their_number_and_their_bytes(
    domain: Domain, bounded: Ref[Change], author: Principal
) -> None:
    async def stored(content_id: UUID) -> list[int]:
        rows = await domain.rows("select revision from content_revisions where content_id = $1", content_id)
        return sorted(row["revision"] for row in rows)

    first, second = await domain.draft(author), await domain.draft(author)
    for n in range(6):
        await bounded.ask(EditContent(first.content_id, Draft("t", f"{n}"), None, author))
    assert await stored(first.content_id) == [4, 5, 6]
    for n in range(3):
        await bounded.ask(EditContent(second.content_id, Draft("t", f"{n}" * 491), None, author))
    assert await stored(first.content_id) == [6], "the oldest of the author's go first, and no more than must"
    assert await stored(second.content_id) == [1, 2, 3]
    await bounded.ask(EditContent(second.content_id, Draft("t", "x" * 2_000), None, author))
    await bounded.ask(EditContent(second.content_id, Draft("t", "y"), None, author))
    assert await stored(second.content_id) == [], "one that is too large is not kept"
    assert [each.revision for each in await listed(domain, second.content_id, author)] == [6]


async def test_the_counted_bytes_agree_with_the_rows_whatever_is_done_at_once(domain: Domain) -> None:
    people = [await domain.person() for _ in range(2)]
    editor = await domain.person(Role.EDITOR)

    async def some(nth: int) -> None:
        content = await domain.draft(people[nth % 2], body="ü" * nth)
        for n in range(nth % 4):
            content = await edit(domain, content, editor, body="é" * n)

    await asyncio.gather(*(some(nth) for nth in range(10)))
    counted = (
        "select coalesce(sum(octet_length(title) + octet_length(body)), 0) from content_revisions where author_id = $1"
    )
    kept = "select revision_bytes from user_usage where user_id = $1"
    for person in people:
        assert await domain.value(kept, person.user_id) == await domain.value(counted, person.user_id) > 0
    await domain.execute("delete from content")
    assert {await domain.value(kept, person.user_id) for person in people} == {0}
    assert await domain.value(kept, editor.user_id) is None
