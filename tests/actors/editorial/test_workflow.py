"""Articles: every change is one version, one event and, where it moves the article, one line of its history."""

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from kit.domain import Domain, at_once, refused

from callboard.actors.editorial.content_queries import ListTransitions, ReadContent
from callboard.actors.editorial.errors import (
    CONTENT_CATEGORY_UNKNOWN,
    CONTENT_FORBIDDEN,
    CONTENT_ILLEGAL_TRANSITION,
    CONTENT_NOT_FOUND,
    CONTENT_OWN_REVIEW,
    CONTENT_PUBLISHED,
    CONTENT_STALE,
)
from callboard.actors.editorial.workflow import Content, DeleteContent, Draft, EditContent, TransitionContent
from callboard.actors.editorial.workflow_rules import Action, Status
from callboard.actors.infrastructure.principals import Principal, Role

PATH = [Action.SUBMIT_FOR_REVIEW, Action.APPROVE, Action.PUBLISH, Action.ARCHIVE]  # a full life, state by state
STEPS_TO = {Status.DRAFT: 0, Status.PENDING_REVIEW: 1, Status.APPROVED: 2, Status.PUBLISHED: 3, Status.ARCHIVED: 4}


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


@pytest.fixture
async def stranger(domain: Domain) -> Principal:
    return await domain.person()


async def content_in(domain: Domain, status: Status, author: Principal, editor: Principal) -> Content:
    content = await domain.draft(author)
    for action in PATH[: STEPS_TO[status]]:
        content = await domain.move(content.content_id, action, editor)
    assert content.status is status
    return content


async def edit(
    domain: Domain, content: Content, caller: Principal, version: int | None = None, **fields: Any
) -> Content:
    draft = Draft(**({"title": "Changed", "body": "Changed"} | fields))
    return await domain.content.ask(
        EditContent(content.content_id, draft, content.version if version is None else version, caller)
    )


async def story(domain: Domain, content_id: UUID) -> list[tuple[str, int]]:
    """What the outbox tells of an article: (type, version), in order."""
    rows = await domain.rows("select type, value from outbox where key = $1 order by outbox_id", str(content_id))
    return [(row["type"], msgspec.json.decode(row["value"])["version"]) for row in rows]


async def history(domain: Domain, content_id: UUID) -> list[tuple[str, str, str]]:
    rows = await domain.rows(
        "select action, from_status, to_status from content_transitions where content_id = $1 order by transition_id",
        content_id,
    )
    return [(row["action"], row["from_status"], row["to_status"]) for row in rows]


# One change at a time ------------------------------------------------------------------------------------------------


async def test_a_new_article_is_a_draft_of_version_one(domain: Domain, author: Principal) -> None:
    content = await domain.draft(author, "Lighthouses", "All of them")
    assert (content.status, content.version, content.author_id) == (Status.DRAFT, 1, author.user_id)
    assert (content.title, content.body, content.published_at) == ("Lighthouses", "All of them", None)
    assert await story(domain, content.content_id) == [("content.created", 1)]
    assert await history(domain, content.content_id) == []


async def test_the_whole_way_from_draft_to_archive_and_back(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    content = await domain.draft(author)
    for action, caller in zip([*PATH, Action.RESTORE], [author, editor, editor, author, author], strict=True):
        content = await domain.move(content.content_id, action, caller)
    assert (content.status, content.version) == (Status.DRAFT, 6)
    assert content.published_at is not None
    assert await story(domain, content.content_id) == [
        ("content.created", 1),
        ("content.submitted", 2),
        ("content.approved", 3),
        ("content.published", 4),
        ("content.archived", 5),
        ("content.restored", 6),
    ]
    assert await history(domain, content.content_id) == [
        ("submit_for_review", "draft", "pending_review"),
        ("approve", "pending_review", "approved"),
        ("publish", "approved", "published"),
        ("archive", "published", "archived"),
        ("restore", "archived", "draft"),
    ]


async def test_a_change_its_history_and_its_event_come_from_one_transaction(domain: Domain, author: Principal) -> None:
    content = await domain.draft(author)
    await domain.execute("delete from outbox")
    await domain.move(content.content_id, Action.SUBMIT_FOR_REVIEW, author)
    tables = ("content", "content_transitions", "outbox")
    union = " union all ".join(f"select xmin::text from {table}" for table in tables)  # noqa: S608 - our own names
    assert await domain.value(f"select count(distinct xmin) from ({union}) as rows") == 1  # noqa: S608


async def test_a_note_is_in_the_history_and_in_the_event(domain: Domain, author: Principal, editor: Principal) -> None:
    content = await content_in(domain, Status.PENDING_REVIEW, author, editor)
    note = "Too long; see <b>page 2</b> & 'quotes'"
    await domain.move(content.content_id, Action.REJECT, editor, note)
    steps = await domain.content_queries.ask(ListTransitions(content.content_id, author, 10))
    assert [(step.action, step.note, step.actor_id, step.actor_name) for step in steps] == [
        ("submit_for_review", None, editor.user_id, "Some One"),
        ("reject", note, editor.user_id, "Some One"),
    ]
    ((_, _, event),) = await domain.events("content.rejected")
    assert (event["note"], event["actor_id"], event["author_id"]) == (
        note,
        str(editor.user_id),
        str(author.user_id),
    )


@pytest.mark.parametrize("status", [Status.PENDING_REVIEW, Status.APPROVED])
async def test_an_edit_takes_what_was_reviewed_back_to_draft_and_says_so(
    domain: Domain, author: Principal, editor: Principal, status: Status
) -> None:
    content = await content_in(domain, status, author, editor)
    edited = await edit(domain, content, author)
    assert (edited.status, edited.version, edited.title) == (Status.DRAFT, content.version + 1, "Changed")
    assert (await history(domain, content.content_id))[-1] == ("edit", status, "draft")
    assert (await story(domain, content.content_id))[-1] == ("content.edited", edited.version)


async def test_an_edit_of_a_draft_is_no_step_of_its_history(domain: Domain, author: Principal) -> None:
    content = await edit(domain, await domain.draft(author), author)
    assert (content.status, content.version) == (Status.DRAFT, 2)
    assert await history(domain, content.content_id) == []


@pytest.mark.parametrize("status", [Status.PUBLISHED, Status.ARCHIVED])
async def test_what_is_published_or_archived_cannot_be_edited(
    domain: Domain, author: Principal, editor: Principal, status: Status
) -> None:
    content = await content_in(domain, status, author, editor)
    told = await story(domain, content.content_id)
    for caller in (author, editor):
        with refused(CONTENT_PUBLISHED):
            await edit(domain, content, caller)
    assert await story(domain, content.content_id) == told


@pytest.mark.parametrize("version", [0, 1, 3, 999_999_999])
async def test_an_edit_of_another_version_is_stale(domain: Domain, author: Principal, version: int) -> None:
    content = await edit(domain, await domain.draft(author), author)
    with refused(CONTENT_STALE):
        await edit(domain, content, author, version=version)
    assert len(await story(domain, content.content_id)) == 2


async def test_an_author_with_an_editors_role_does_not_approve_their_own(domain: Domain, editor: Principal) -> None:
    content = await domain.draft(editor)
    await domain.move(content.content_id, Action.SUBMIT_FOR_REVIEW, editor)
    with refused(CONTENT_OWN_REVIEW):
        await domain.move(content.content_id, Action.APPROVE, editor)
    other = await domain.person(Role.ADMIN)
    assert (await domain.move(content.content_id, Action.APPROVE, other)).status is Status.APPROVED


async def test_what_a_stranger_may_not_see_is_not_there_for_any_change(
    domain: Domain, author: Principal, editor: Principal, stranger: Principal
) -> None:
    for status in (Status.DRAFT, Status.PENDING_REVIEW, Status.APPROVED, Status.ARCHIVED):
        content = await content_in(domain, status, author, editor)
        with refused(CONTENT_NOT_FOUND):
            await edit(domain, content, stranger)
        with refused(CONTENT_NOT_FOUND):
            await domain.move(content.content_id, Action.ARCHIVE, stranger)
        with refused(CONTENT_NOT_FOUND):
            await domain.content.ask(DeleteContent(content.content_id, stranger))
        with refused(CONTENT_NOT_FOUND):
            await domain.content_queries.ask(ReadContent(content.content_id, stranger))


async def test_what_a_stranger_may_see_they_may_not_change(
    domain: Domain, author: Principal, editor: Principal, stranger: Principal
) -> None:
    content = await content_in(domain, Status.PUBLISHED, author, editor)
    with refused(CONTENT_FORBIDDEN):
        await edit(domain, content, stranger)
    with refused(CONTENT_FORBIDDEN):
        await domain.move(content.content_id, Action.ARCHIVE, stranger)
    with refused(CONTENT_FORBIDDEN):
        await domain.content.ask(DeleteContent(content.content_id, stranger))


async def test_no_change_is_made_of_another_version_than_the_one_that_was_read(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    content = await domain.draft(author)
    newer = await edit(domain, content, author)
    with refused(CONTENT_STALE):
        await domain.content.ask(DeleteContent(content.content_id, author, content.version))
    with refused(CONTENT_STALE):
        await domain.content.ask(
            TransitionContent(content.content_id, Action.SUBMIT_FOR_REVIEW, None, author, content.version)
        )
    assert await domain.content_queries.ask(ReadContent(content.content_id, editor)) == newer
    await domain.content.ask(DeleteContent(content.content_id, author, newer.version))


async def test_an_unknown_article_is_not_there(domain: Domain, author: Principal, editor: Principal) -> None:
    content = await domain.draft(author)
    await domain.content.ask(DeleteContent(content.content_id, author))
    for caller in (author, editor):
        with refused(CONTENT_NOT_FOUND):
            await edit(domain, content, caller)
        with refused(CONTENT_NOT_FOUND):
            await domain.move(uuid4(), Action.APPROVE, caller)


async def test_a_category_must_exist_and_one_that_goes_leaves_its_articles(domain: Domain, author: Principal) -> None:
    with refused(CONTENT_CATEGORY_UNKNOWN) as caught:
        await domain.draft(author, category_id=uuid4())
    assert [detail.field for detail in caught.value.details] == ["category_id"]
    category_id = await domain.value("insert into categories (slug, name) values ('a', 'A') returning category_id")
    content = await domain.draft(author, category_id=category_id)
    assert content.category_id == category_id
    with refused(CONTENT_CATEGORY_UNKNOWN):
        await edit(domain, content, author, category_id=uuid4())
    await domain.execute("delete from categories")
    assert (await domain.content_queries.ask(ReadContent(content.content_id, author))).category_id is None
    assert await story(domain, content.content_id) == [("content.created", 1)]


async def test_what_is_published_cannot_be_deleted(domain: Domain, author: Principal, editor: Principal) -> None:
    content = await content_in(domain, Status.PUBLISHED, author, editor)
    for caller in (author, editor):
        with refused(CONTENT_PUBLISHED):
            await domain.content.ask(DeleteContent(content.content_id, caller))
    assert await domain.content_queries.ask(ReadContent(content.content_id, None)) == content


# Several at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", [(Action.APPROVE, Action.APPROVE), (Action.APPROVE, Action.REJECT)])
async def test_of_transitions_at_once_one_wins_and_is_told_once(
    domain: Domain, author: Principal, editor: Principal, actions: tuple[Action, Action]
) -> None:
    for _ in range(5):
        content = await content_in(domain, Status.PENDING_REVIEW, author, editor)
        won, lost = await at_once(*(domain.move(content.content_id, action, editor) for action in actions * 4))
        assert [each.version for each in won] == [3]
        assert set(lost) == {CONTENT_ILLEGAL_TRANSITION}
        assert len(await story(domain, content.content_id)) == 3
        assert len(await history(domain, content.content_id)) == 2


async def test_of_an_approval_and_a_rejection_in_two_processes_one_wins(
    domain: Domain, other: Domain, author: Principal, editor: Principal
) -> None:
    second = await domain.person(Role.EDITOR)
    for _ in range(8):
        content = await content_in(domain, Status.PENDING_REVIEW, author, editor)
        won, lost = await at_once(
            domain.move(content.content_id, Action.APPROVE, editor),
            other.move(content.content_id, Action.REJECT, second),
        )
        assert (len(won), lost) == (1, [CONTENT_ILLEGAL_TRANSITION])
        assert len(await story(domain, content.content_id)) == 3
        assert (await history(domain, content.content_id))[-1][2] == won[0].status


async def test_of_edits_of_one_version_at_once_one_wins(domain: Domain, author: Principal) -> None:
    content = await domain.draft(author)
    won, lost = await at_once(*(edit(domain, content, author, title=f"Take {n}") for n in range(8)))
    assert len(won) == 1
    assert lost == [CONTENT_STALE] * 7
    assert (await domain.content_queries.ask(ReadContent(content.content_id, author))).title == won[0].title
    assert await story(domain, content.content_id) == [("content.created", 1), ("content.edited", 2)]


async def test_what_was_approved_is_what_was_read_though_an_edit_comes_at_once(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    for _ in range(8):
        content = await content_in(domain, Status.PENDING_REVIEW, author, editor)
        won, lost = await at_once(
            edit(domain, content, author), domain.move(content.content_id, Action.APPROVE, editor)
        )
        now = await domain.content_queries.ask(ReadContent(content.content_id, editor))
        assert len(won) == 1
        assert lost[0] in (CONTENT_STALE, CONTENT_ILLEGAL_TRANSITION)
        assert (now.status, now.title) in ((Status.DRAFT, "Changed"), (Status.APPROVED, "A title"))
        assert now.version == content.version + 1


async def test_a_deletion_and_a_transition_at_once_leave_one_story(domain: Domain, author: Principal) -> None:
    for _ in range(8):
        content = await domain.draft(author)
        won, lost = await at_once(
            domain.content.ask(DeleteContent(content.content_id, author)),
            domain.move(content.content_id, Action.SUBMIT_FOR_REVIEW, author),
        )
        assert len(won) + len(lost) == 2
        told = await story(domain, content.content_id)
        left = await domain.rows(
            "select status from content where content_id = $1 and deleted_at is null", content.content_id
        )
        assert (left == []) == (told[-1][0] == "content.deleted")
        assert len(told) == 1 + len(won)
