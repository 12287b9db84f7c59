"""The mail queue: what is asked for once is queued once, sent once, in the order of its priority, or not at all."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from kit.domain import Domain, consume, envelope
from kit.mail_post import URL, Post, verification
from kit.smtp_script import ScriptedSmtpServer

from callboard.actors.delivery.events import PRIORITY, MailRequested, TemplatedEmailRequested
from callboard.actors.delivery.mail_queue import SEND_MAIL, AdoptMails, mail_id_of
from callboard.actors.delivery.smtp_settings import RFC_TIMEOUTS
from callboard.ops.embedded.mail_catcher import Catcher

# The way of a mail --------------------------------------------------------------------------------------------------


async def test_a_requested_mail_is_queued_once_and_sent_once(post: Post, catcher: Catcher) -> None:
    asked = envelope(MailRequested("ada@example.org", "Grüße", "Line one\n.\nLine three", "<p>Hi</p>"))
    for _ in range(3):
        await post.queue_actor.consume(consume(asked, asked))
    mail_id = mail_id_of(asked)
    for _ in range(3):
        await post.send(mail_id, processes=3)
        await post.due()
    (caught,) = catcher.mails()
    assert (caught.to, caught.subject) == ("ada@example.org", "Grüße")
    assert caught.text.split() == ["Line", "one", ".", "Line", "three"]
    assert "<p>Hi</p>" in caught.html
    row = await post.row(mail_id)
    assert (row["status"], row["data"], row["error"]) == ("sent", "{}", None)
    assert row["sent_at"] is not None


async def test_many_mails_are_sent_once_each_by_several_processes(post: Post, catcher: Catcher) -> None:
    post.server.timeouts = RFC_TIMEOUTS  # on a busy machine an answer may take longer than the others' limits
    for n in range(20):
        await post.ready(subject=f"Number {n}")
    sent = "select count(*) from mails where status = 'sent'"
    async with post.working("one"), post.working("two"), post.working("three"), asyncio.timeout(20):
        while await post.domain.value(sent) < 20:  # noqa: ASYNC110 - its truth is in PostgreSQL
            await asyncio.sleep(0.01)
    assert sorted(mail.subject for mail in catcher.mails()) == sorted(f"Number {n}" for n in range(20))


async def test_security_mail_is_sent_before_all_other_mail_and_ours_before_that_of_producers(
    post: Post, domain: Domain, catcher: Catcher
) -> None:
    user = await domain.person()
    for n in range(30):
        await post.ready(subject=f"Bulk {n}")
    await post.queue(TemplatedEmailRequested("export_failed", user.user_id))
    await post.queue(TemplatedEmailRequested("password_changed", user.user_id), topic=PRIORITY.name)
    await post.queue(MailRequested("ada@example.org", "Urgent, says a producer", "t"), topic=PRIORITY.name)
    rows = await domain.rows(
        "select letter, priority from jobs join mails on payload->>'mail_id' = mail_id::text order by priority limit 2"
    )
    assert [(row["letter"], row["priority"]) for row in rows] == [("password_changed", 0), ("export_failed", 1)]
    await post.send()
    first = [mail.subject for mail in reversed(catcher.mails())][:5]  # five are sent at once
    assert {"Your password was changed", "Your data could not be put together"} <= set(first)


async def test_a_mail_is_queued_if_and_only_if_its_event_is_recorded(post: Post, domain: Domain) -> None:
    good, broken = (envelope(MailRequested(to, "s", "t")) for to in ("ada@example.org", f"{'x' * 300}@example.org"))
    with pytest.raises(asyncpg.CheckViolationError):
        await post.queue_actor.consume(consume(good, broken))
    assert await domain.value("select count(*) from mails") == 0
    assert await domain.value("select count(*) from consumed_events") == 0
    assert await domain.value("select count(*) from jobs") == 0


async def test_mails_that_an_earlier_release_has_left_are_sent_with_their_id_and_attempts(
    post: Post, domain: Domain, catcher: Catcher
) -> None:
    data = '{"subject": "Left", "text": "t", "html": ""}'
    insert = (
        "insert into mails (mail_id, recipient, letter, data, status, attempts, due_at, expires_at) "
        "values ($1, 'ada@example.org', '', $2, $3, $4, now() + make_interval(secs => $5), now() + interval '1 h')"
    )
    left, sending, dying = uuid4(), uuid4(), uuid4()
    await domain.rows(insert, left, data, "queued", 0, -120.0)
    await domain.rows(insert, sending, data, "sending", 1, 20.0)  # a process of that release is at it
    await domain.rows(insert, dying, data, "sending", 2, -120.0)
    assert await post.queue_actor.adopt(AdoptMails()) == 2
    assert await post.queue_actor.adopt(AdoptMails()) == 0
    await post.send()
    assert len(catcher.mails()) == 2
    assert (await post.row(left))["attempts"] == 1
    assert (await post.row(dying))["attempts"] == 3
    assert (await post.row(sending))["status"] == "sending"
    message_ids = b"".join(file.read_bytes() for file in catcher._folder.glob("*.eml"))
    assert f"<{left}@".encode() in message_ids


async def test_a_mail_past_its_deadline_is_not_sent(post: Post, catcher: Catcher) -> None:
    now = datetime.now(UTC)
    late = await post.queue(MailRequested("a@example.org", "s", "t"), occurred_at=now - timedelta(seconds=3601))
    prompt = await post.queue(
        MailRequested("a@example.org", "s", "t"), occurred_at=now - timedelta(seconds=301), topic=PRIORITY.name
    )
    for mail_id in (late, prompt):
        await post.send(mail_id, processes=2)
        assert (await post.row(mail_id))["status"] == "expired"
    assert catcher.mails() == []
    ahead = await post.queue(MailRequested("a@example.org", "s", "t"), occurred_at=now + timedelta(days=9))
    assert (await post.row(ahead))["expires_at"] < now + timedelta(seconds=3700)


class BulkStalls(ScriptedSmtpServer):
    """Leaves every mail to bulk@example.org without a reply to its final dot."""

    async def _say(self, writer: asyncio.StreamWriter, word: str) -> str | None:
        if word == "body" and b"<bulk@example.org>" in self.bodies[-1]:
            return None
        return await super()._say(writer, word)


async def test_a_security_mail_is_sent_at_once_while_bulk_mails_fill_every_other_slot(domain: Domain) -> None:
    async with BulkStalls().listening() as script:
        post = Post(domain, script.port, timeouts=RFC_TIMEOUTS)
        for _ in range(SEND_MAIL.slots + 5):
            await post.ready("bulk@example.org")
        user_id = await domain.registered()
        async with post.working(), asyncio.timeout(20):
            while len(script.bodies) < SEND_MAIL.slots - 1:  # noqa: ASYNC110 - the script's side of the wire
                await asyncio.sleep(0.01)
            security = [await verification(post, domain, user_id, topic=PRIORITY.name) for _ in range(3)]
            for mail_id in security:
                while (await post.row(mail_id))["status"] != "sent":  # noqa: ASYNC110 - its truth is in PostgreSQL
                    await asyncio.sleep(0.01)
            assert len(script.bodies) == SEND_MAIL.slots - 1 + len(security)


async def test_who_is_deleted_gets_no_letter(post: Post, domain: Domain) -> None:
    user = await domain.person()
    await domain.execute("update users set deleted_at = now()")
    await post.queue(TemplatedEmailRequested("content_published", user.user_id, {"content_id": str(uuid4())}))
    assert await domain.value("select count(*) from mails") == 0


async def test_a_letter_names_the_account_that_it_is_about_and_a_producers_mail_none(
    post: Post, domain: Domain
) -> None:
    user = await domain.person()
    await post.queue(TemplatedEmailRequested("content_published", user.user_id, {"content_id": str(uuid4())}))
    assert await domain.value("select user_id from mails") == user.user_id
    mail_id = await post.ready()
    assert await domain.value("select user_id from mails where mail_id = $1", mail_id) is None


# Letters and secrets ------------------------------------------------------------------------------------------------


async def test_the_verification_mail_has_a_link_that_works(post: Post, domain: Domain, catcher: Catcher) -> None:
    user_id = await domain.registered()
    await post.send(await verification(post, domain, user_id))
    (caught,) = catcher.mails()
    link = f"{URL}/verify-email?token={await domain.mail_token(user_id)}"
    assert caught.to == "ada@example.org"
    assert link in caught.text
    assert f'<a href="{link}" style=' in caught.html


async def test_anothers_secret_is_not_sent_to_an_address_of_ones_own(
    post: Post, domain: Domain, catcher: Catcher
) -> None:
    victim = await domain.registered("victim@example.org")
    thief = await domain.registered("thief@example.org")
    mail_id = await verification(post, domain, thief, token_of=victim)
    await post.send(mail_id)
    assert catcher.mails() == []
    assert (await post.row(mail_id))["status"] == "dead"


@pytest.mark.parametrize(
    "event",
    [
        TemplatedEmailRequested("no_such_letter", UUID(int=0)),
        TemplatedEmailRequested("../mail", UUID(int=0)),
        TemplatedEmailRequested("content_published", UUID(int=0)),
        TemplatedEmailRequested("verify_email", UUID(int=0), {"token_id": "x"}),
        TemplatedEmailRequested("verify_email", UUID(int=0), {"token_id": str(uuid4())}),
        TemplatedEmailRequested("verify_email", UUID(int=0)),
        TemplatedEmailRequested("ready", UUID(int=0)),
    ],
    ids=lambda event: f"{event.letter} {sorted(event.data)}",
)
async def test_a_letter_that_cannot_be_written_is_dead_with_the_reason_and_crashes_nobody(
    post: Post, domain: Domain, catcher: Catcher, event: TemplatedEmailRequested
) -> None:
    user = await domain.person()
    mail_id = await post.queue(TemplatedEmailRequested(event.letter, user.user_id, event.data))
    await post.send(mail_id)
    row = await post.row(mail_id)
    assert row["status"] == "dead"
    assert row["error"]
    assert catcher.mails() == []
