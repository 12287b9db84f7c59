"""Quotas: a user has and does so much and no more, whatever comes at once, and counts only go down where they may."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from kit.domain import Domain, at_once, refused

from callboard.actors.editorial.content_cache import ContentCache
from callboard.actors.editorial.errors import CONTENT_CATEGORY_UNKNOWN
from callboard.actors.editorial.html_sanitizer import HtmlSanitizer
from callboard.actors.editorial.workflow import (
    Content,
    ContentWorkflow,
    CreateContent,
    DeleteContent,
    Draft,
    EditContent,
    TransitionContent,
)
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.infrastructure import quotas as module
from callboard.actors.infrastructure.errors import QUOTA_CONTENT, QUOTA_RATE
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.quotas import Quotas, count_use
from callboard.runtime import Props, Ref, System, pool, supervisor

BIG = 1_000_000


class CallboardProcess:
    """Content with quotas of the test's own."""

    def __init__(self, domain: Domain, quotas: Quotas) -> None:
        self.domain = domain
        cache = ContentCache(domain.database, domain.cache)
        self.content: Ref[CreateContent | EditContent | DeleteContent | TransitionContent] = pool(
            "content",
            Props(ContentWorkflow, domain.database, cache, domain.jobs, HtmlSanitizer(), quotas=quotas),
            size=16,
        )

    async def draft(self, author: Principal, body: str = "b") -> Content:
        return await self.content.ask(CreateContent(uuid4(), Draft("t", body), author))

    async def usage(self, user_id: UUID) -> tuple[int, int]:
        rows = await self.domain.rows("select content_rows, content_bytes from user_usage where user_id = $1", user_id)
        return (rows[0]["content_rows"], rows[0]["content_bytes"]) if rows else (0, 0)


@pytest.fixture
def quotas() -> Quotas:
    return Quotas(content_rows=5, content_bytes=3_000, drafts_per_hour=BIG)


@pytest.fixture
async def site(domain: Domain, quotas: Quotas) -> AsyncIterator[CallboardProcess]:
    site = CallboardProcess(domain, quotas)
    async with System(supervisor("content only", site.content)):  # type: ignore[arg-type]
        yield site


async def test_of_sixteen_drafts_at_once_as_many_are_made_as_there_is_room_for(
    domain: Domain, site: CallboardProcess
) -> None:
    ada, eve = await domain.person(), await domain.person()
    won, lost = await at_once(*(site.draft(ada) for _ in range(16)))
    assert (len(won), set(lost)) == (5, {QUOTA_CONTENT})
    assert (await site.usage(ada.user_id))[0] == 5
    assert await site.draft(eve)


async def test_what_is_deleted_makes_room_and_what_failed_takes_none(domain: Domain, site: CallboardProcess) -> None:
    ada = await domain.person()
    made = [await site.draft(ada) for _ in range(5)]
    with refused(QUOTA_CONTENT):
        await site.draft(ada)
    await site.content.ask(DeleteContent(made[0].content_id, ada))
    for _ in range(3):
        with refused(CONTENT_CATEGORY_UNKNOWN):
            await site.content.ask(CreateContent(uuid4(), Draft("t", "b", uuid4()), ada))
    assert await site.draft(ada)


async def test_bytes_count_by_what_is_stored_and_an_edit_that_makes_less_of_it_is_never_refused(
    domain: Domain, site: CallboardProcess
) -> None:
    ada = await domain.person()
    first, second = await site.draft(ada, "a" * 900), await site.draft(ada, "a")
    with refused(QUOTA_CONTENT):  # as sent and as shown: twice 900 and twice 700
        await site.content.ask(EditContent(second.content_id, Draft("t", "ä" * 400), 1, ada))
    await domain.execute("update content set body = repeat('x', 9000) where title = 't' and length(body) = 1")
    with refused(QUOTA_CONTENT):
        await site.content.ask(EditContent(first.content_id, Draft("t", "a" * 901), 1, ada))
    assert await site.content.ask(EditContent(first.content_id, Draft("t", "a" * 899), 1, ada))


async def test_the_counters_agree_with_the_rows_whatever_is_done_at_once(
    domain: Domain, site: CallboardProcess
) -> None:
    people = [await domain.person() for _ in range(3)]

    async def some(nth: int) -> None:
        author = people[nth % 3]
        made = await site.draft(author, "x" * nth)
        if nth % 2:
            made = await site.content.ask(EditContent(made.content_id, Draft("longer", "ü" * nth), 1, author))
        if nth % 3 == 0:
            await site.content.ask(DeleteContent(made.content_id, author))

    await asyncio.gather(*(some(nth) for nth in range(12)))
    await domain.execute("update content set status = 'archived', version = version + 1")
    counted = await domain.rows(
        "select author_id as user_id, count(*) as rows, sum(content_size(content)) as bytes from content group by 1"
    )
    for row in counted:
        assert await site.usage(row["user_id"]) == (row["rows"], row["bytes"])
    await domain.execute("delete from content")
    assert {await site.usage(person.user_id) for person in people} == {(0, 0)}


async def test_an_editors_edit_counts_for_the_author(domain: Domain, site: CallboardProcess) -> None:
    ada, editor = await domain.person(), await domain.person(Role.EDITOR)
    made = await site.draft(ada)
    await site.content.ask(EditContent(made.content_id, Draft("t", "b" * 50), 1, editor))
    assert await site.usage(ada.user_id) == (1, 101)
    assert await site.usage(editor.user_id) == (0, 0)


@pytest.mark.parametrize("quotas", [Quotas(drafts_per_hour=3)])
async def test_drafts_are_counted_though_they_are_deleted(domain: Domain, site: CallboardProcess) -> None:
    ada = await domain.person()
    for _ in range(3):
        made = await site.draft(ada)
        await site.content.ask(DeleteContent(made.content_id, ada))
    with refused(QUOTA_RATE) as caught:
        await site.draft(ada)
    assert caught.value.retry_after_s


@pytest.mark.parametrize("quotas", [Quotas(transitions_per_hour=4)])
async def test_lines_of_the_history_are_counted_by_the_user_who_adds_them(
    domain: Domain, site: CallboardProcess
) -> None:
    ada, editor = await domain.person(), await domain.person(Role.EDITOR)
    made = await site.draft(ada)
    for _ in range(4):
        await site.content.ask(TransitionContent(made.content_id, Action.SUBMIT_FOR_REVIEW, "n" * 2000, ada))
        await site.content.ask(TransitionContent(made.content_id, Action.REJECT, None, editor))
    with refused(QUOTA_RATE):
        await site.content.ask(TransitionContent(made.content_id, Action.SUBMIT_FOR_REVIEW, None, ada))
    assert await domain.value("select count(*) from content_transitions") == 8


async def use(domain: Domain, user_id: UUID, most: int = 4, window_s: float = 600) -> None:
    async with domain.database.transaction() as connection:
        await count_use(connection, "things", user_id, most=most, window_s=window_s)


async def test_of_sixteen_at_once_as_many_pass_as_may_in_a_window(domain: Domain) -> None:
    ada = await domain.person()
    won, lost = await at_once(*(use(domain, ada.user_id) for _ in range(16)))
    assert (len(won), set(lost)) == (4, {QUOTA_RATE})
    assert await domain.value("select used from user_rates") == 4


@pytest.mark.parametrize(
    ("ago_s", "into_s", "pass_now"),
    [(600, 0, 0), (600, 300, 2), (600, 599, 3), (1200, 0, 4), (0, 300, 0)],
    ids=["a window later", "and a half", "nearly two", "two", "the same"],
)
async def test_a_burst_at_the_end_of_a_period_still_counts_in_the_next(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, ago_s: int, into_s: int, pass_now: int
) -> None:
    """Time stands still at `into_s` of a period; four were used in one that began `ago_s` before it."""
    ada = await domain.person()
    async with domain.database.acquire() as connection:
        begin = await connection.fetchval("select date_bin('600 s', now(), 'epoch')")
    moment = begin + timedelta(seconds=into_s)
    await domain.rows(
        "insert into user_rates (user_id, name, period, used) values ($1, 'things', $2, 4)",
        ada.user_id,
        begin - timedelta(seconds=ago_s),
    )
    passed = await at_a_moment(domain, ada.user_id, moment, monkeypatch)
    assert passed == pass_now


async def at_a_moment(domain: Domain, user_id: UUID, moment: object, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many of five pass when PostgreSQL's clock stands at a moment: in a schema with a `now()` of its own."""
    sql = module.QUERIES.use.sql.replace("now()", f"'{moment}'::timestamptz")

    class Frozen:
        async def use(self, connection: object, **values: object) -> object:
            order = [values[name] for name in ("user_id", "name", "window_s")]
            return await connection.fetchrow(sql, *order)  # type: ignore[attr-defined]

    monkeypatch.setattr(module, "QUERIES", Frozen())
    passed = 0
    for _ in range(5):
        won, _ = await at_once(use(domain, user_id))
        passed += len(won)
    return passed
