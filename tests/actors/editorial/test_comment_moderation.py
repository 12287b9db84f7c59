"""Moderation of comments: reports come to editors once, a decision ends them, and the history says whose it was."""

import json
from typing import Any
from uuid import UUID, uuid4

import msgspec
from kit.domain import Domain, at_once, consume, envelope, refused
from kit.remarks import FIRST, FIRST_ID, comment, delete, edit, hide, show

from callboard.actors.delivery.events import NotificationRequested
from callboard.actors.delivery.notifications import ListNotifications
from callboard.actors.editorial import comment_moderation, comments
from callboard.actors.editorial.comment_moderation import (
    ListDecisions,
    ListReported,
    ListReports,
    Report,
    ReportComment,
    ReportedComment,
    ReportReason,
)
from callboard.actors.editorial.comment_rules import Comment
from callboard.actors.editorial.errors import COMMENT_ILLEGAL_MODERATION, COMMENT_NOT_FOUND, COMMENT_OWN_REPORT
from callboard.actors.editorial.workflow import Content
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.identity.erasure import erase_user
from callboard.actors.infrastructure.errors import QUOTA_RATE
from callboard.actors.infrastructure.principals import Principal
from callboard.ops.departments import OURS, declared_by

PERSONAL_DATA = declared_by(OURS).personal_data


async def report(domain: Domain, of: Comment, by: Principal, note: str | None = None) -> Report:
    return await domain.comment_moderation.ask(ReportComment(of.comment_id, ReportReason.SPAM, note, by))


async def reported(domain: Domain, editor: Principal, **more: Any) -> list[ReportedComment]:
    page = {"limit": 100, "after": FIRST, "after_id": FIRST_ID} | more
    return await domain.comment_moderation.ask(ListReported(editor, **page))


async def test_a_reported_comment_waits_in_the_list_until_an_editor_hides_or_keeps_it(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    kept, hidden, quiet = [await comment(domain, article, reader) for _ in range(3)]
    await report(domain, kept, author, "look")
    await report(domain, hidden, author)
    await report(domain, hidden, editor)
    first, second = await reported(domain, editor)
    assert (first.comment.comment_id, first.reports, first.author_name) == (kept.comment_id, 1, "Some One")
    assert (second.comment.comment_id, second.comment.body, second.reports) == (hidden.comment_id, "Well said", 2)
    of_hidden = await domain.comment_moderation.ask(ListReports(hidden.comment_id, 10))
    assert second.reported_at < of_hidden[1].created_at  # the time of the first report
    await domain.move(article.content_id, Action.ARCHIVE, editor)
    await domain.rows("update content set deleted_at = now()")
    assert await reported(domain, editor) == []
    await domain.rows("update content set deleted_at = null")
    assert (await show(domain, kept, editor, "harmless")).status == "visible"
    assert (await hide(domain, hidden, editor, "advertisement")).status == "hidden"
    assert await reported(domain, editor) == []
    (closed,) = await domain.comment_moderation.ask(ListReports(kept.comment_id, 10))
    assert (closed.reporter_id, closed.note) == (author.user_id, "look")
    assert closed.closed_at is not None
    history = await domain.comment_moderation.ask(ListDecisions(hidden.comment_id, 10))
    assert [(each.action, each.reason, each.actor_id) for each in history] == [
        ("hide", "advertisement", editor.user_id)
    ]
    with refused(COMMENT_ILLEGAL_MODERATION):
        await show(domain, quiet, editor)
    with refused(COMMENT_ILLEGAL_MODERATION):
        await hide(domain, hidden, editor)
    assert (await show(domain, hidden, editor)).status == "visible"


async def test_a_member_reports_a_comment_once_and_again_after_a_decision_only_if_it_has_changed(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    made = await comment(domain, article, reader)
    won, lost = await at_once(*(report(domain, made, author) for _ in range(5)))
    assert lost == []
    assert len({each.report_id for each in won}) == 1
    await show(domain, made, editor)
    assert (await report(domain, made, author)).closed_at is not None
    assert await reported(domain, editor) == []
    await edit(domain, made, reader, "Buy many lanterns")
    again = await report(domain, made, author, "worse")
    assert (again.report_id, again.note, again.closed_at) == (won[0].report_id, "worse", None)
    assert [each.reports for each in await reported(domain, editor)] == [1]


async def test_only_what_a_member_can_read_is_reported_and_never_their_own(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    made, hidden, gone = [await comment(domain, article, reader) for _ in range(3)]
    with refused(COMMENT_OWN_REPORT):
        await report(domain, made, reader)
    await hide(domain, hidden, editor)
    await delete(domain, gone, reader)
    for each in (hidden, gone):
        for caller in (author, editor):
            with refused(COMMENT_NOT_FOUND):
                await report(domain, each, caller)
    await domain.move(article.content_id, Action.ARCHIVE, editor)
    with refused(COMMENT_NOT_FOUND):
        await report(domain, made, await domain.person())
    assert await domain.value("select count(*) from comment_reports") == 0


async def test_a_deleted_comment_has_no_open_report_and_cannot_be_moderated(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    made = await comment(domain, article, reader)
    await comment(domain, article, author, to=made)
    await report(domain, made, author)
    await delete(domain, made, reader)
    assert await reported(domain, editor) == []
    assert await domain.value("select count(*) from comment_reports where closed_at is null") == 0
    for change in (hide, show):
        with refused(COMMENT_NOT_FOUND):
            await change(domain, made, editor)


async def test_a_report_and_a_decision_at_once_leave_no_open_report_of_a_hidden_comment(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    for turn in range(10):
        made = await comment(domain, article, reader)
        asks = [report(domain, made, author), hide(domain, made, editor)]
        await at_once(*(asks if turn % 2 else asks[::-1]))
        query = "select count(*) from comment_reports where comment_id = $1 and closed_at is null"
        assert await domain.value(query, made.comment_id) == 0


async def test_of_many_decisions_at_once_one_is_in_the_history_and_told(
    domain: Domain, article: Content, reader: Principal, editor: Principal
) -> None:
    made = await comment(domain, article, reader)
    won, lost = await at_once(*(hide(domain, made, editor, str(n)) for n in range(8)))
    assert (len(won), len(lost)) == (1, 7)
    assert len(await domain.events("comment.hidden")) == 1
    assert len(await domain.comment_moderation.ask(ListDecisions(made.comment_id, 10))) == 1


async def test_pages_of_reported_comments_of_reports_and_of_decisions_hold_each_once(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    made = [await comment(domain, article, reader) for _ in range(5)]
    for each in made:
        await report(domain, each, author)
    await domain.execute("update comments set reported_at = date_trunc('day', reported_at)")
    position: dict[str, Any] = {}
    seen: list[UUID] = []
    while page := await reported(domain, editor, limit=2, **position):
        seen += [each.comment.comment_id for each in page]
        position = {"after": page[-1].reported_at, "after_id": page[-1].comment.comment_id}
    assert seen == sorted(each.comment_id for each in made)
    one = made[0]
    for _ in range(2):
        await report(domain, one, await domain.person())
        await hide(domain, one, editor)
        await show(domain, one, editor)
    decisions = await domain.comment_moderation.ask(ListDecisions(one.comment_id, 10))
    reports = await domain.comment_moderation.ask(ListReports(one.comment_id, 10))
    assert [each.action for each in decisions] == ["hide", "show"] * 2
    assert len(reports) == 3
    after = decisions[1].moderation_id
    assert await domain.comment_moderation.ask(ListDecisions(one.comment_id, 1, after)) == decisions[2:3]
    assert await domain.comment_moderation.ask(ListReports(one.comment_id, 1, reports[0].report_id)) == reports[1:2]
    for asked in (ListDecisions(uuid4(), 1), ListReports(uuid4(), 1)):
        with refused(COMMENT_NOT_FOUND):
            await domain.comment_moderation.ask(asked)


async def test_reports_are_bounded_by_the_hour(
    domain: Domain, article: Content, reader: Principal, author: Principal
) -> None:
    one, other = await comment(domain, article, reader), await comment(domain, article, reader)
    await report(domain, one, author)
    await domain.execute("update user_rates set used = 60 where name = 'comment_reports'")
    with refused(QUOTA_RATE):
        await report(domain, other, author)
    assert (await report(domain, one, author)).closed_at is None
    assert await domain.value("select count(*) from comments where reported_at is not null") == 1


# Notifications -------------------------------------------------------------------------------------------------------


async def notified(domain: Domain) -> list[tuple[str, str]]:
    """The notifications about comments that were requested since the last call: each user, and the text."""
    events = [value for _, _, value in await domain.events("notification.requested")]
    await domain.execute("delete from outbox")
    kinds = {kind.name: kind for kind in (comments.ANSWERED, comments.COMMENTED)}
    return sorted(
        (each["user_id"], domain.kinds[each["kind"]].describe(each["data"])[0])
        for each in events
        if each["kind"] in kinds
    )


async def test_the_authors_of_the_article_and_of_the_answered_comment_are_notified_and_nobody_of_their_own(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    commented, answered = 'Somebody commented on "On the engine".', 'Somebody answered your comment on "On the engine".'
    hers, theirs = str(reader.user_id), str(author.user_id)
    first = await comment(domain, article, reader)
    assert await notified(domain) == [(theirs, commented)]
    own = await comment(domain, article, author)
    assert await notified(domain) == []
    await comment(domain, article, author, to=first)
    assert await notified(domain) == [(hers, answered)]
    await comment(domain, article, editor, to=first)
    assert await notified(domain) == sorted([(hers, answered), (theirs, commented)])
    await comment(domain, article, reader, to=first)
    assert await notified(domain) == [(theirs, commented)]
    await comment(domain, article, editor, to=own)
    assert await notified(domain) == [(theirs, answered)]
    await comment(domain, article, author, to=own)
    assert await notified(domain) == []


async def test_a_notification_of_a_comment_is_one_that_its_recorder_takes(
    domain: Domain, article: Content, reader: Principal, author: Principal
) -> None:
    await comment(domain, article, reader)
    ((_, _, value),) = await domain.events("notification.requested")
    event = msgspec.convert(value, NotificationRequested)
    await domain.recorder.ask(consume(envelope(event)))
    (shown,) = await domain.notifications.ask(ListNotifications(author.user_id, 10))
    assert shown.notification.link == f"/content/{article.content_id}"


# Retention and personal data -----------------------------------------------------------------------------------------


async def test_retention_takes_the_text_of_deleted_comments_and_the_whole_of_those_without_replies(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    answered, alone, lately, above = [await comment(domain, article, reader) for _ in range(4)]
    await comment(domain, article, author, to=answered)
    hidden = await comment(domain, article, author, to=above)
    await hide(domain, hidden, editor)
    for each in (answered, alone, above):
        await delete(domain, each, reader)
    await domain.execute("update comments set deleted_at = now() - interval '31 days' where deleted_at is not null")
    await delete(domain, lately, reader)
    await domain.clean_up()
    left = await domain.rows("select comment_id, body from comments where author_id = $1", reader.user_id)
    assert {row["comment_id"]: row["body"] for row in left} == {
        answered.comment_id: None,
        lately.comment_id: "Well said",
    }
    assert await domain.value("select count(*) from comments where author_id = $1", author.user_id) == 1
    assert await domain.value("select visible from comment_counts") == 1
    assert await domain.value("select comment_rows from user_usage where user_id = $1", reader.user_id) == 2


async def test_an_archive_has_a_user_s_comments_reports_and_decisions_and_nothing_of_another(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    made = await comment(domain, article, reader)
    await comment(domain, article, reader, to=made)
    await delete(domain, made, reader)
    other = await comment(domain, article, author)
    await report(domain, other, reader, "my note")
    await hide(domain, other, editor, "my reason")
    parts = {each.name: each for each in (comments.PERSONAL_DATA, *comment_moderation.PERSONAL_DATA)}

    async def archive(name: str, user: Principal) -> list[Any]:
        found: list[Any] = []
        after = None
        async with domain.database.acquire() as connection:
            while rows := [
                row async for row in parts[name].export(connection, user_id=user.user_id, after=after, limit=1)
            ]:
                found += [json.loads(row["document"]) for row in rows]
                after = rows[-1]["cursor"]
        return found

    assert sorted(each["parent_id"] is None for each in await archive("comments", reader)) == [False, True]
    assert [each["note"] for each in await archive("comment_reports", reader)] == ["my note"]
    assert [each["reason"] for each in await archive("comment_moderations", editor)] == ["my reason"]
    assert [len(await archive(name, author)) for name in parts] == [1, 0, 0]


async def test_an_erasure_takes_what_nobody_could_read_and_leaves_the_threads_of_others(
    domain: Domain, article: Content, reader: Principal, author: Principal, editor: Principal
) -> None:
    public, answered, hidden, alone = [await comment(domain, article, reader) for _ in range(4)]
    for each in (answered, hidden):
        await comment(domain, article, author, to=each)
    for each in (answered, alone):
        await delete(domain, each, reader)
    await hide(domain, hidden, editor)
    await report(domain, public, author)
    await domain.rows("update users set deleted_at = now() where user_id in ($1, $2)", reader.user_id, author.user_id)
    async with domain.database.acquire() as connection:
        await erase_user(connection, reader.user_id, PERSONAL_DATA, limit=1)
    left = await domain.rows("select comment_id, body from comments where author_id = $1", reader.user_id)
    assert {row["comment_id"]: row["body"] for row in left} == {
        public.comment_id: "Well said",
        answered.comment_id: None,
        hidden.comment_id: None,
    }
    assert await domain.value("select visible from comment_counts") == 3
    async with domain.database.acquire() as connection:
        await erase_user(connection, author.user_id, PERSONAL_DATA, limit=1)
    assert await domain.value("select count(*) from comment_reports") == 0
