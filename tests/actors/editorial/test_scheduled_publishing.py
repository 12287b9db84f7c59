"""Scheduled publication and expiry: once, at its time, and never of what has changed since."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kit.domain import Domain, at_once, refused

from callboard.actors.editorial.content_queries import ListTransitions, ReadContent
from callboard.actors.editorial.errors import (
    CONTENT_FORBIDDEN,
    CONTENT_ILLEGAL_TRANSITION,
    CONTENT_NOT_FOUND,
    CONTENT_STALE,
)
from callboard.actors.editorial.scheduled_publishing import MAX_DAYS, RunSchedule
from callboard.actors.editorial.workflow import (
    Content,
    DeleteContent,
    Draft,
    EditContent,
    ScheduleContent,
    TransitionContent,
    UndeleteContent,
)
from callboard.actors.editorial.workflow_rules import Action, Status
from callboard.actors.errors import REQUEST_INVALID
from callboard.actors.infrastructure.principals import Principal, Role

HOUR = timedelta(hours=1)
PUBLISH, EXPIRE = "content.published", "content.archived"


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


@pytest.fixture
async def approved(domain: Domain, author: Principal, editor: Principal) -> Content:
    content = await domain.draft(author)
    await domain.move(content.content_id, Action.SUBMIT_FOR_REVIEW, author)
    return await domain.move(content.content_id, Action.APPROVE, editor)


def ahead(hours: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + hours * HOUR


async def schedule(
    domain: Domain,
    content: Content,
    caller: Principal,
    publish_at: datetime | None = None,
    expire_at: datetime | None = None,
) -> Content:
    return await domain.content.ask(ScheduleContent(content.content_id, publish_at, expire_at, None, caller))


async def read(domain: Domain, content: Content, caller: Principal | None = None) -> Content:
    return await domain.content_queries.ask(ReadContent(content.content_id, caller))


async def hours_pass(domain: Domain, hours: float) -> None:
    """Let time pass for schedules and their jobs, and do what is due then."""
    for table, columns in (("content", ("publish_at", "expire_at")), ("jobs", ("run_at",))):
        moved = ", ".join(f"{column} = {column} - make_interval(secs => $1)" for column in columns)
        await domain.rows(f"update {table} set {moved}", hours * 3600)  # noqa: S608 - our own names
    await domain.work()


async def told(domain: Domain, content: Content) -> list[str]:
    """The events of an article since its approval."""
    rows = await domain.rows("select type from outbox where key = $1 order by outbox_id", str(content.content_id))
    return [row["type"] for row in rows][3:]


async def waiting(domain: Domain) -> list[datetime]:
    rows = await domain.rows("select run_at from jobs where kind = 'content_schedule' order by 1")
    return [row["run_at"] for row in rows]


async def test_content_is_published_and_archived_at_its_times_by_the_one_who_set_them(
    domain: Domain, approved: Content, editor: Principal
) -> None:
    publish_at, expire_at = ahead(2), ahead(5)
    content = await schedule(domain, approved, editor, publish_at, expire_at)
    assert (content.status, content.version) == (Status.APPROVED, approved.version + 1)
    assert (content.publish_at, content.expire_at) == (publish_at, expire_at)
    assert await waiting(domain) == [publish_at]
    await hours_pass(domain, 1)
    with refused(CONTENT_NOT_FOUND):
        await read(domain, approved)
    await hours_pass(domain, 1)
    published = await read(domain, approved)
    assert (published.status, published.publish_at) == (Status.PUBLISHED, None)
    assert published.published_at is not None
    assert await waiting(domain) == [published.expire_at]
    await hours_pass(domain, 3)
    archived = await read(domain, approved, editor)
    assert (archived.status, archived.publish_at, archived.expire_at) == (Status.ARCHIVED, None, None)
    assert (published.version, archived.version) == (content.version + 1, content.version + 2)
    assert await waiting(domain) == []
    assert await told(domain, approved) == ["content.scheduled", PUBLISH, EXPIRE]
    steps = await domain.content_queries.ask(ListTransitions(approved.content_id, editor, 10))
    assert [(step.action, step.from_status, step.to_status, step.actor_id) for step in steps[2:]] == [
        ("schedule", "approved", "approved", editor.user_id),
        ("publish", "approved", "published", editor.user_id),
        ("archive", "published", "archived", editor.user_id),
    ]


async def test_content_whose_times_have_both_passed_is_seen_by_no_reader(
    domain: Domain, approved: Content, editor: Principal
) -> None:
    await schedule(domain, approved, editor, ahead(1), ahead(2))
    await hours_pass(domain, 30)
    assert (await read(domain, approved, editor)).status is Status.ARCHIVED
    assert await told(domain, approved) == ["content.scheduled", PUBLISH, EXPIRE]
    rows = await domain.rows("select xmin::text from outbox where type = any($1)", [PUBLISH, EXPIRE])
    assert len({row["xmin"] for row in rows}) == 1, "in one transaction"


async def test_published_content_can_be_given_an_expiry_at_once_or_later_and_lose_it(
    domain: Domain, approved: Content, author: Principal, editor: Principal
) -> None:
    expire_at = ahead(1)
    content = await domain.content.ask(
        TransitionContent(approved.content_id, Action.PUBLISH, None, editor, None, expire_at)
    )
    assert (content.status, content.expire_at) == (Status.PUBLISHED, expire_at)
    content = await schedule(domain, approved, author, expire_at=ahead(2))  # who may archive it may say when
    assert await waiting(domain) == [content.expire_at]
    content = await schedule(domain, approved, editor)
    assert (content.expire_at, await waiting(domain)) == (None, [])
    await schedule(domain, approved, editor, expire_at=ahead(1))
    await hours_pass(domain, 1)
    assert (await read(domain, approved, editor)).status is Status.ARCHIVED
    events = ["content.scheduled", "content.unscheduled", "content.scheduled"]
    assert await told(domain, approved) == [PUBLISH, *events, EXPIRE]


@pytest.mark.parametrize("hours", [[3, 1], [1, 3], [1, 3, 2]])
async def test_a_new_schedule_replaces_the_one_before(
    domain: Domain, approved: Content, editor: Principal, hours: list[int]
) -> None:
    for each in hours:
        content = await schedule(domain, approved, editor, ahead(each))
        assert await waiting(domain) == [content.publish_at]
    await hours_pass(domain, hours[-1] - 0.5)
    assert (await read(domain, approved, editor)).status is Status.APPROVED
    await hours_pass(domain, 0.5)
    assert (await read(domain, approved)).status is Status.PUBLISHED
    await hours_pass(domain, 9)
    assert (await told(domain, approved)).count(PUBLISH) == 1


async def test_the_same_schedule_again_changes_nothing(domain: Domain, approved: Content, editor: Principal) -> None:
    at = ahead(1)
    first = await schedule(domain, approved, editor, at)
    assert await schedule(domain, approved, editor, at.astimezone(None)) == first  # in any time zone
    with refused(CONTENT_STALE):
        await domain.content.ask(ScheduleContent(approved.content_id, at, None, None, editor, approved.version))
    assert await told(domain, approved) == ["content.scheduled"]


async def test_a_cancelled_schedule_publishes_nothing(domain: Domain, approved: Content, editor: Principal) -> None:
    await schedule(domain, approved, editor, ahead(1), ahead(2))
    content = await schedule(domain, approved, editor)
    assert (content.publish_at, content.expire_at, await waiting(domain)) == (None, None, [])
    await hours_pass(domain, 9)
    assert (await read(domain, approved, editor)).status is Status.APPROVED
    assert await told(domain, approved) == ["content.scheduled", "content.unscheduled"]


async def test_publishing_by_hand_comes_first_and_keeps_the_expiry(
    domain: Domain, approved: Content, editor: Principal
) -> None:
    expire_at = ahead(2)
    await schedule(domain, approved, editor, ahead(1), expire_at)
    content = await domain.move(approved.content_id, Action.PUBLISH, editor)
    assert (content.publish_at, content.expire_at) == (None, expire_at)
    assert await waiting(domain) == [expire_at]
    await hours_pass(domain, 1)
    await hours_pass(domain, 1)
    assert await told(domain, approved) == ["content.scheduled", PUBLISH, EXPIRE]


async def edit(domain: Domain, content: Content, caller: Principal) -> None:
    await domain.content.ask(EditContent(content.content_id, Draft("Changed", "b"), None, caller))


async def delete(domain: Domain, content: Content, caller: Principal) -> None:
    await domain.content.ask(DeleteContent(content.content_id, caller))
    restored = await domain.content.ask(UndeleteContent(content.content_id, caller))
    assert restored.status is Status.APPROVED


@pytest.mark.parametrize("change", [edit, delete])
async def test_a_schedule_ends_with_what_was_scheduled(
    domain: Domain, approved: Content, editor: Principal, change: Any
) -> None:
    await schedule(domain, approved, editor, ahead(1), ahead(2))
    await change(domain, approved, editor)
    content = await read(domain, approved, editor)
    assert (content.publish_at, content.expire_at, await waiting(domain)) == (None, None, [])
    await hours_pass(domain, 9)
    assert (await read(domain, approved, editor)).version == content.version
    assert PUBLISH not in await told(domain, approved)


async def test_an_edit_without_a_change_keeps_the_schedule(
    domain: Domain, approved: Content, author: Principal, editor: Principal
) -> None:
    content = await schedule(domain, approved, editor, ahead(1))
    await domain.content.ask(EditContent(approved.content_id, Draft("A title", "A body"), None, author))
    assert await read(domain, approved, editor) == content
    assert await waiting(domain) == [content.publish_at]


async def test_archiving_by_hand_ends_the_expiry(domain: Domain, approved: Content, editor: Principal) -> None:
    await schedule(domain, approved, editor, ahead(1), ahead(2))
    await hours_pass(domain, 1)
    content = await domain.move(approved.content_id, Action.ARCHIVE, editor)
    assert (content.expire_at, await waiting(domain)) == (None, [])


@pytest.mark.parametrize(
    ("hours", "fields"),
    [
        ((-1, None), ["publish_at"]),
        ((0, None), ["publish_at"]),
        ((-2, -1), ["publish_at", "expire_at"]),
        ((2, 1), ["expire_at"]),
        ((1, 1), ["expire_at"]),
        ((1, -1), ["expire_at", "expire_at"]),
        ((None, 1), ["expire_at"]),
        ((24 * MAX_DAYS + 1, None), ["publish_at"]),
        ((1, 24 * 365 * 7000), ["expire_at"]),
    ],
)
async def test_times_that_cannot_be_meant_are_refused_by_their_fields(
    domain: Domain, approved: Content, editor: Principal, hours: tuple[float | None, float | None], fields: list[str]
) -> None:
    times = [None if each is None else ahead(each) for each in hours]
    with refused(REQUEST_INVALID) as caught:
        await schedule(domain, approved, editor, *times)
    assert [each.field for each in caught.value.details] == fields
    assert await read(domain, approved, editor) == approved
    assert await waiting(domain) == []


async def test_an_expiry_belongs_to_a_publication_only(domain: Domain, approved: Content, editor: Principal) -> None:
    content = await domain.move(approved.content_id, Action.PUBLISH, editor)
    with refused(REQUEST_INVALID):
        await domain.content.ask(TransitionContent(content.content_id, Action.ARCHIVE, None, editor, None, ahead(1)))
    with refused(CONTENT_ILLEGAL_TRANSITION):
        await schedule(domain, content, editor, ahead(1))
    await domain.move(content.content_id, Action.ARCHIVE, editor)
    with refused(CONTENT_ILLEGAL_TRANSITION):
        await schedule(domain, content, editor, expire_at=ahead(1))


async def test_only_who_may_make_a_transition_schedules_it(
    domain: Domain, approved: Content, author: Principal
) -> None:
    stranger = await domain.person()
    with refused(CONTENT_FORBIDDEN):
        await schedule(domain, approved, author, ahead(1))
    with refused(CONTENT_NOT_FOUND):
        await schedule(domain, approved, stranger, ahead(1))


async def enqueue(domain: Domain, content: Content, actor: Principal) -> None:
    """A job that is due now, as one that an earlier schedule left, or a wrong clock started."""
    async with domain.database.transaction() as connection:
        await domain.jobs.enqueue(connection, RunSchedule(content.content_id, actor.user_id))


async def test_a_job_that_comes_too_early_or_too_late_does_nothing_and_loses_nothing(
    domain: Domain, approved: Content, editor: Principal
) -> None:
    await enqueue(domain, approved, editor)
    await domain.work()
    assert await read(domain, approved, editor) == approved
    content = await schedule(domain, approved, editor, ahead(1))
    await domain.rows("update jobs set run_at = now()")  # by a clock that is an hour ahead
    await domain.work()
    assert await read(domain, approved, editor) == content
    assert await waiting(domain) == [content.publish_at]
    await hours_pass(domain, 1)
    assert (await told(domain, approved)).count(PUBLISH) == 1
    await domain.rows("delete from content")
    await enqueue(domain, approved, editor)
    await domain.work()
    assert await domain.value("select count(*) from dead_jobs") == 0


async def test_two_processes_publish_what_is_due_once(
    domain: Domain, other: Domain, approved: Content, editor: Principal
) -> None:
    await schedule(domain, approved, editor, ahead(1), ahead(2))
    await domain.rows("update content set publish_at = now() - interval '1 s'")
    for _ in range(4):  # more jobs than one, as if withdrawing them had failed
        await enqueue(domain, approved, editor)
    await asyncio.gather(domain.work(), other.work())
    assert (await read(domain, approved)).status is Status.PUBLISHED
    assert (await told(domain, approved)).count(PUBLISH) == 1


async def test_a_change_and_the_due_job_at_once_leave_one_story_and_no_lost_schedule(
    domain: Domain, author: Principal, editor: Principal
) -> None:
    for n in range(6):
        content = await domain.draft(author)
        await domain.move(content.content_id, Action.SUBMIT_FOR_REVIEW, author)
        approved = await domain.move(content.content_id, Action.APPROVE, editor)
        await schedule(domain, approved, editor, ahead(1))
        await domain.rows("update content set publish_at = now() where content_id = $1", content.content_id)
        await domain.rows("update jobs set run_at = now()")
        changes = [schedule(domain, approved, editor, ahead(3)), schedule(domain, approved, editor)]
        (won, lost), _ = await asyncio.gather(at_once(changes[n % 2]), domain.work())
        changes[1 - n % 2].close()
        now = await read(domain, approved, editor)
        events = await told(domain, approved)
        assert set(lost) <= {CONTENT_ILLEGAL_TRANSITION}
        if won and now.status is Status.APPROVED:
            assert events.count(PUBLISH) == 0
            assert await waiting(domain) == ([now.publish_at] if n % 2 == 0 else [])
        else:
            assert (now.status, events.count(PUBLISH)) == (Status.PUBLISHED, 1)
            assert await waiting(domain) == []
        await domain.rows("delete from jobs")


async def test_each_scheduled_article_has_one_job_however_often_it_is_scheduled(
    domain: Domain, approved: Content, editor: Principal
) -> None:
    for n in range(1, 12):
        await schedule(domain, approved, editor, ahead(n))
    assert len(await waiting(domain)) == 1
