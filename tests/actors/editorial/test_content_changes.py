"""What every change of content does: it tells the cache, and versions that readers see have seconds of their own."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from kit.domain import Domain

from callboard.actors.editorial.content_rows import Content, Draft
from callboard.actors.editorial.events import CONTENT_EVENTS
from callboard.actors.editorial.scheduled_publishing import RUN_SCHEDULE
from callboard.actors.editorial.workflow import (
    DeleteContent,
    EditContent,
    RestoreRevision,
    ScheduleContent,
    UndeleteContent,
)
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.infrastructure.principals import Principal, Role


async def test_every_change_that_is_announced_replaces_the_generation_before_its_answer(domain: Domain) -> None:
    """Whatever changes content writes its event, and tells the cache."""
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    content = await domain.draft(author)
    content_id, seen = content.content_id, set[bytes | None]()

    async def edited() -> None:
        draft = Draft("Another title", "Another body")
        await domain.content.ask(EditContent(content_id, draft, None, author))

    async def deleted() -> None:
        await domain.content.ask(DeleteContent(content_id, author))

    async def undeleted() -> None:
        await domain.content.ask(UndeleteContent(content_id, editor))

    async def older_text() -> None:
        await domain.content.ask(RestoreRevision(content_id, 1, None, author))

    def scheduled(publish_at: datetime | None) -> Callable[[], Awaitable[object]]:
        return lambda: domain.content.ask(ScheduleContent(content_id, publish_at, None, None, editor))

    async def due() -> None:
        await domain.rows("update content set publish_at = now() where content_id = $1", content_id)
        await domain.rows("update jobs set run_at = now() where kind = $1", RUN_SCHEDULE.name)
        await domain.work()

    def moved(action: Action, caller: Principal) -> Callable[[], Awaitable[object]]:
        return lambda: domain.move(content_id, action, caller)

    tomorrow = datetime.now(UTC) + timedelta(days=1)
    submit, approve = moved(Action.SUBMIT_FOR_REVIEW, author), moved(Action.APPROVE, editor)
    steps = (
        *(edited, older_text, submit, moved(Action.REJECT, editor), submit, approve, moved(Action.PUBLISH, editor)),
        *(moved(Action.ARCHIVE, editor), moved(Action.RESTORE, author), deleted, undeleted, submit, approve),
        *(scheduled(tomorrow), scheduled(None), scheduled(tomorrow), due),
    )
    for number, step in enumerate(steps, 1):
        await step()
        seen.add(await domain.cache.get(domain.cache.keys.key("content", str(content_id), "generation")))
        assert len(seen - {None}) == number
    announced = {name for _, name, _ in await domain.events()}
    assert announced == {each.name for each in CONTENT_EVENTS}, "add a step for each event of content"


async def test_no_two_versions_that_readers_see_share_a_second(domain: Domain) -> None:
    """They ask by Last-Modified, which has seconds: else an article could change within one and nobody would know."""
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    seen: list[Content] = []
    content = await domain.published(author, editor)
    assert abs((content.updated_at - datetime.now(UTC)).total_seconds()) < 60
    for _ in range(3):
        seen.append(content)
        await domain.move(content.content_id, Action.ARCHIVE, editor)
        await domain.move(content.content_id, Action.RESTORE, editor)
        await domain.move(content.content_id, Action.SUBMIT_FOR_REVIEW, author)
        await domain.move(content.content_id, Action.APPROVE, editor)
        content = await domain.move(content.content_id, Action.PUBLISH, editor)
    seconds = [each.updated_at.replace(microsecond=0) for each in (*seen, content)]
    assert sorted(set(seconds)) == seconds
