"""Mail: asked for once, claimed by one, sent once, and a clear fate for what a server does not take."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from domain import Domain, consume, envelope
from mail_post import PRODUCERS, SENDER, URL, Post, verification

from callboard.actors import mail as module
from callboard.actors.mail import MailSender, Postbox, Sweep
from callboard.actors.mail_monitor import MailMonitor
from callboard.actors.smtp_client import SmtpClient, SmtpSettings, Tls
from callboard.ops.embedded.catcher import Catcher
from callboard.runtime import System, pool, supervisor, worker
from callboard.streams.events import LetterRequested, MailRequested
from callboard.streams.topics import PRIORITY

# The way of a mail --------------------------------------------------------------------------------------------------


async def test_a_requested_mail_is_queued_once_and_sent_once(post: Post, catcher: Catcher) -> None:
    asked = envelope(MailRequested("ada@example.org", "Grüße", "Line one\n.\nLine three", "<p>Hi</p>"))
    for _ in range(3):
        await post.postbox.consume(consume(asked, asked))
    mail_id = module._mail_id(asked)
    for _ in range(3):
        await post.send(mail_id, orders=16)
        await post.due()
    (caught,) = catcher.mails()
    assert (caught.to, caught.subject) == ("ada@example.org", "Grüße")
    assert caught.text.split() == ["Line", "one", ".", "Line", "three"]
    assert "<p>Hi</p>" in caught.html
    row = await post.row(mail_id)
    assert (row["status"], row["data"], row["error"]) == ("sent", "{}", None)
    assert row["sent_at"] is not None


async def test_many_mails_and_many_orders_for_each_send_each_once(post: Post, catcher: Catcher) -> None:
    ids = [await post.ready(subject=f"Number {n}") for n in range(8)]
    await asyncio.gather(*(post.send(mail_id, orders=16) for mail_id in ids))
    assert sorted(mail.subject for mail in catcher.mails()) == [f"Number {n}" for n in range(8)]


async def test_a_queued_mail_goes_out_without_being_asked_twice(domain: Domain, catcher: Catcher) -> None:
    client = SmtpClient(SmtpSettings("127.0.0.1", catcher._port, SENDER, tls=Tls.NONE))
    senders = pool("senders", MailSender, domain.database, domain.signer, client, URL, MailMonitor(), size=5)
    postbox = worker("postbox", Postbox, domain.database, senders, PRODUCERS)
    async with System(supervisor("delivery", senders, postbox)):
        await postbox.ask(consume(*(envelope(MailRequested("a@example.org", str(n), "t")) for n in range(12))))
        await postbox.ask(Sweep())
        async with asyncio.timeout(5):
            while await domain.value("select count(*) from mails where status = 'sent'") < 12:  # noqa: ASYNC110 - its truth is there
                await asyncio.sleep(0.01)
        assert await postbox.ask(Sweep()) == 0
    assert len(catcher.mails()) == 12


async def test_the_sweep_finds_what_is_due_and_nothing_else(post: Post, domain: Domain) -> None:
    ids = [await post.ready() for _ in range(4)]
    handed: list[UUID] = []
    post.postbox._hand_out = handed.extend  # type: ignore[method-assign]
    await domain.rows("update mails set due_at = now() + interval '1 h' where mail_id = $1", ids[0])
    await domain.rows("update mails set status = 'sent' where mail_id = $1", ids[1])
    await domain.rows("update mails set status = 'sending', due_at = now() where mail_id = $1", ids[2])
    assert await post.postbox.sweep(Sweep()) == 2
    assert set(handed) == {ids[2], ids[3]}


async def test_a_claim_that_lapsed_is_sent_again_and_one_that_holds_is_not(
    post: Post, domain: Domain, catcher: Catcher
) -> None:
    mail_id = await post.ready()
    await domain.execute("update mails set status = 'sending', due_at = now() + interval '30 s'")
    await post.send(mail_id, orders=8)
    assert catcher.mails() == []
    await post.due()
    await post.send(mail_id, orders=8)
    assert len(catcher.mails()) == 1


async def test_a_mail_past_its_deadline_is_not_sent(post: Post, catcher: Catcher) -> None:
    now = datetime.now(UTC)
    late = await post.queue(MailRequested("a@example.org", "s", "t"), occurred_at=now - timedelta(seconds=3601))
    prompt = await post.queue(
        MailRequested("a@example.org", "s", "t"), occurred_at=now - timedelta(seconds=301), topic=PRIORITY.name
    )
    ahead = await post.queue(MailRequested("a@example.org", "s", "t"), occurred_at=now + timedelta(days=9))
    for mail_id in (late, prompt):
        await post.send(mail_id, orders=4)
        assert (await post.row(mail_id))["status"] == "expired"
    assert catcher.mails() == []
    assert (await post.row(ahead))["expires_at"] < now + timedelta(seconds=3700)


async def test_who_is_deleted_gets_no_letter(post: Post, domain: Domain) -> None:
    user = await domain.person()
    await domain.execute("update users set deleted_at = now()")
    await post.queue(LetterRequested("content_published", user.user_id, {"content_id": str(uuid4())}))
    assert await domain.value("select count(*) from mails") == 0


# Letters and secrets ------------------------------------------------------------------------------------------------


async def test_the_verification_mail_has_a_link_that_works(post: Post, domain: Domain, catcher: Catcher) -> None:
    user_id = await domain.registered()
    await post.send(await verification(post, domain, user_id))
    (caught,) = catcher.mails()
    link = f"{URL}/verify-email?token={await domain.mail_token(user_id)}"
    assert caught.to == "ada@example.org"
    assert link in caught.text
    assert f'<a href="{link}">' in caught.html


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
        LetterRequested("no_such_letter", UUID(int=0)),
        LetterRequested("../mail", UUID(int=0)),
        LetterRequested("content_published", UUID(int=0)),
        LetterRequested("verify_email", UUID(int=0), {"token_id": "x"}),
        LetterRequested("verify_email", UUID(int=0), {"token_id": str(uuid4())}),
        LetterRequested("verify_email", UUID(int=0)),
        LetterRequested("ready", UUID(int=0)),
    ],
    ids=lambda event: f"{event.letter} {sorted(event.data)}",
)
async def test_a_letter_that_cannot_be_written_is_dead_with_the_reason_and_crashes_nobody(
    post: Post, domain: Domain, catcher: Catcher, event: LetterRequested
) -> None:
    user = await domain.person()
    mail_id = await post.queue(LetterRequested(event.letter, user.user_id, event.data))
    await post.send(mail_id)
    row = await post.row(mail_id)
    assert row["status"] == "dead"
    assert row["error"]
    assert catcher.mails() == []
