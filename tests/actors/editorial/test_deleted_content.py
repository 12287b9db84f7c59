"""Deleted content: gone for everybody at once, kept for editors for some weeks, and then removed for good."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.domain import Domain, at_once, refused

from callboard.actors.editorial.content_cache import ContentCache
from callboard.actors.editorial.content_queries import ListContent, ListTransitions, ReadContent
from callboard.actors.editorial.deleted_content import DeletedSummary, ListDeleted
from callboard.actors.editorial.errors import CONTENT_NOT_FOUND, CONTENT_STALE
from callboard.actors.editorial.html_sanitizer import HtmlSanitizer
from callboard.actors.editorial.revisions import ListRevisions
from callboard.actors.editorial.workflow import (
    Change,
    Content,
    ContentWorkflow,
    CreateContent,
    DeleteContent,
    Draft,
    EditContent,
    ScheduleContent,
    UndeleteContent,
)
from callboard.actors.editorial.workflow_rules import Action, Status
from callboard.actors.infrastructure.errors import QUOTA_CONTENT
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.quotas import Quotas
from callboard.runtime import Props, Ref, System, pool, supervisor

PATH = [Action.SUBMIT_FOR_REVIEW, Action.APPROVE, Action.PUBLISH, Action.ARCHIVE]
STEPS_TO = {Status.DRAFT: 0, Status.PENDING_REVIEW: 1, Status.APPROVED: 2, Status.ARCHIVED: 4}


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


async def deleted_in(domain: Domain, status: Status, author: Principal, editor: Principal) -> Content:
    content = await domain.draft(author)
    for action in PATH[: STEPS_TO[status]]:
        content = await domain.move(content.content_id, action, editor)
    await domain.content.ask(DeleteContent(content.content_id, author, content.version))
    return content


async def deleted(domain: Domain) -> list[DeletedSummary]:
    return await domain.deleted_content.ask(ListDeleted(100))  # type: ignore[no-any-return]


async def age(domain: Domain, days: int) -> None:
    await domain.rows("update content set deleted_at = deleted_at - make_interval(days => $1)", days)


@pytest.mark.parametrize("status", list(STEPS_TO))
async def test_what_is_deleted_is_gone_for_all_and_comes_back_as_it_was(
    domain: Domain, author: Principal, editor: Principal, status: Status
) -> None:
    content = await deleted_in(domain, status, author, editor)
    content_id = content.content_id
    asked: list[Any] = []
    for caller in (author, editor):
        asked += [
            (domain.content_queries, ReadContent(content_id, caller)),
            (domain.content_queries, ListTransitions(content_id, caller, 10)),
            (domain.revisions, ListRevisions(content_id, caller, 10)),
            (domain.content, EditContent(content_id, Draft("t", "b"), None, caller)),
            (domain.content, DeleteContent(content_id, caller)),
            (domain.content, ScheduleContent(content_id, None, None, None, caller)),
        ]
        for pool_of, message in asked:
            with refused(CONTENT_NOT_FOUND):
                await pool_of.ask(message)
        for action in Action:
            with refused(CONTENT_NOT_FOUND):
                await domain.move(content_id, action, caller)
        for filters in ({}, {"author_id": author.user_id}, {"status": status}):
            assert await domain.content_queries.ask(ListContent(caller, 10, **filters)) == []
    with refused(CONTENT_NOT_FOUND):
        await domain.content.ask(UndeleteContent(content_id, author))

    (kept,) = await deleted(domain)
    assert (kept.content_id, kept.status, kept.deleted_by) == (content_id, status, author.user_id)
    assert (kept.kept_until - kept.deleted_at).days == 30
    back = await domain.content.ask(UndeleteContent(content_id, editor))
    assert (back.status, back.version, back.title, back.body) == (
        status,
        content.version + 2,
        content.title,
        content.body,
    )
    assert await domain.content_queries.ask(ReadContent(content_id, author)) == back
    assert await deleted(domain) == []
    steps = await domain.content_queries.ask(ListTransitions(content_id, editor, 10))
    assert [(step.action, step.actor_id) for step in steps[-2:]] == [
        ("delete", author.user_id),
        ("undelete", editor.user_id),
    ]
    events = [type_ for _, type_, _ in await domain.events() if type_ in ("content.deleted", "content.undeleted")]
    assert events == ["content.deleted", "content.undeleted"]


async def test_after_its_days_it_cannot_come_back_and_is_purged_with_all_that_belongs_to_it(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    gone = await domain.draft(author)
    await domain.content.ask(EditContent(gone.content_id, Draft("t", "b"), 1, author))
    await domain.content.ask(DeleteContent(gone.content_id, author))
    await age(domain, 25)
    lately, living = await deleted_in(domain, Status.DRAFT, author, editor), await domain.draft(author)
    await age(domain, 5)
    with refused(CONTENT_NOT_FOUND):
        await domain.content.ask(UndeleteContent(gone.content_id, editor))
    assert [each.content_id for each in await deleted(domain)] == [lately.content_id]
    await domain.clean_up()
    left = {row["content_id"] for row in await domain.rows("select content_id from content")}
    assert left == {lately.content_id, living.content_id}
    assert await domain.value("select count(*) from content_revisions") == 0
    assert (await domain.content.ask(UndeleteContent(lately.content_id, editor))).status is Status.DRAFT


async def test_deleted_content_is_listed_by_pages(domain: Domain, author: Principal, editor: Principal) -> None:
    made = [(await deleted_in(domain, Status.DRAFT, author, editor)).content_id for _ in range(7)]
    await domain.rows("update content set deleted_at = date_trunc('hour', deleted_at)")  # all at one time
    found: list[UUID] = []
    last: DeletedSummary | None = None
    while page := await domain.deleted_content.ask(
        ListDeleted(3, last.deleted_at if last else None, last.content_id if last else None)
    ):
        found += [each.content_id for each in page]
        last = page[-1]
    assert sorted(found) == sorted(made)


async def test_of_deletions_and_undeletions_at_once_one_wins(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    content = await domain.draft(author)
    for take, loser in ((DeleteContent, CONTENT_STALE), (UndeleteContent, CONTENT_NOT_FOUND)):
        won, lost = await at_once(*(domain.content.ask(take(content.content_id, editor)) for _ in range(6)))
        assert len(won) == 1
        assert set(lost) <= {loser, CONTENT_NOT_FOUND}
    assert await domain.value("select count(*) from outbox where type in ('content.deleted', 'content.undeleted')") == 2


async def test_a_repeated_creation_of_a_deleted_draft_creates_nothing(domain: Domain, author: Principal) -> None:
    content_id = uuid4()
    make = CreateContent(content_id, Draft("t", "b"), author)
    await domain.content.ask(make)
    await domain.content.ask(DeleteContent(content_id, author))
    assert (await domain.content.ask(make)).content_id == content_id
    with refused(CONTENT_NOT_FOUND):
        await domain.content_queries.ask(ReadContent(content_id, author))


@pytest.fixture
async def narrow(domain: Domain) -> AsyncIterator[Ref[Change]]:
    """Content with room for five articles of an author."""
    props = Props(
        ContentWorkflow,
        domain.database,
        ContentCache(domain.database, domain.cache),
        domain.jobs,
        HtmlSanitizer(),
        quotas=Quotas(content_rows=5, content_bytes=3_000),
    )
    content: Ref[Change] = pool("narrow", props, size=4)
    async with System(supervisor("narrow only", content)):  # type: ignore[arg-type]
        yield content


async def test_deleted_content_makes_room_for_new_content_the_oldest_first(
    domain: Domain, narrow: Ref[Change], author: Principal, editor: Principal
) -> None:
    made = [await narrow.ask(CreateContent(uuid4(), Draft(f"t{n}", "b" * 200), author)) for n in range(5)]
    for content in made[:3]:
        await narrow.ask(DeleteContent(content.content_id, author))
    await narrow.ask(CreateContent(uuid4(), Draft("t", "b"), author))
    assert [each.title for each in await deleted(domain)] == ["t2", "t1"]
    with refused(QUOTA_CONTENT):  # though both go it does not fit
        await narrow.ask(CreateContent(uuid4(), Draft("t", "b" * 2_000), author))
    assert [each.title for each in await deleted(domain)] == ["t2", "t1"], "what was refused takes nothing"
    await narrow.ask(EditContent(made[3].content_id, Draft("t3", "b" * 900), 1, author))
    assert [each.title for each in await deleted(domain)] == ["t2"]
    assert (await narrow.ask(UndeleteContent(made[2].content_id, editor))).title == "t2"
