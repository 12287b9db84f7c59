"""Mail: asked for once, claimed by one, sent once, and a clear fate for what a server does not take."""

import asyncio
import email
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from domain import Domain, consume, envelope
from smtp_script import Script

from callboard.actors import mail as module
from callboard.actors.letters import UnknownLetterError, as_html, compose, one_line
from callboard.actors.mail import MailSender, Postbox, SendMail, SmtpSettings, Sweep
from callboard.actors.mail_producers import MailProducers, parse_mail_producers
from callboard.ops.embedded.catcher import Catcher
from callboard.ops.embedded.place import Place, free_ports
from callboard.runtime import System, pool, supervisor, worker
from callboard.streams.events import LetterRequested, MailRequested
from callboard.streams.topics import PRIORITY

PRODUCERS = MailProducers(parse_mail_producers("/tests 1000000/day *"))
URL = "https://board.example"
SENDER = "Callboard <board@example.org>"


class Post:
    """Workers that all claim from one queue, and the server that they send to."""

    def __init__(self, domain: Domain, port: int) -> None:
        self.domain = domain
        self.smtp = SmtpSettings("127.0.0.1", port, SENDER)
        self.senders = [MailSender(domain.database, domain.signer, self.smtp, URL) for _ in range(5)]
        self.postbox = Postbox(domain.database, pool("nobody", MailSender, size=1), PRODUCERS)
        self.postbox._hand_out = lambda _: None  # type: ignore[method-assign] - these tests hand out themselves

    async def queue(self, event: Any, **facts: Any) -> UUID:
        """Have a mail queued as the streams would, and give its id."""
        asked = envelope(event, **facts)
        await self.postbox.consume(consume(asked))
        return module._mail_id(asked)

    async def ready(self, to: str = "ada@example.org", subject: str = "Hello", text: str = "A text") -> UUID:
        return await self.queue(MailRequested(to, subject, text))

    async def send(self, mail_id: UUID, orders: int = 1) -> None:
        """So many orders for one mail at once, among five workers."""
        await asyncio.gather(*(self.senders[n % 5].send(SendMail(mail_id)) for n in range(orders)))

    async def row(self, mail_id: UUID) -> dict[str, Any]:
        query = "select *, extract(epoch from due_at - now())::float8 as due_s from mails where mail_id = $1"
        (row,) = await self.domain.rows(query, mail_id)
        return row

    async def due(self) -> None:
        """Let the time pass that something is waited for."""
        await self.domain.execute(
            "update mails set due_at = now() - interval '1 s' where status in ('queued','sending')"
        )


@pytest.fixture
async def catcher(data: Place) -> AsyncIterator[Catcher]:
    catcher = Catcher(data, free_ports(1)[0])
    await catcher.start()
    yield catcher
    await catcher.stop()


@pytest.fixture
def post(domain: Domain, catcher: Catcher) -> Post:
    return Post(domain, catcher._port)


@asynccontextmanager
async def misbehaving(domain: Domain, **answers: str | None) -> AsyncIterator[tuple[Post, Script]]:
    script = Script(**answers)
    server = await asyncio.start_server(script.talk, "127.0.0.1", 0)
    async with server:
        yield Post(domain, server.sockets[0].getsockname()[1]), script


# The way of a mail ---------------------------------------------------------------------------------------------------


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
    smtp = SmtpSettings("127.0.0.1", catcher._port, SENDER)
    senders = pool("senders", MailSender, domain.database, domain.signer, smtp, URL, size=5)
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
    await post.queue(LetterRequested("content_published", user.user_id, {"title": "t", "content_id": "c"}))
    assert await domain.value("select count(*) from mails") == 0


# Letters and secrets -------------------------------------------------------------------------------------------------


async def verification(post: Post, domain: Domain, user_id: UUID, token_of: UUID | None = None) -> UUID:
    query = "select token_id from mail_tokens where user_id = $1"
    token_id = await domain.value(query, token_of or user_id)
    return await post.queue(LetterRequested("verify_email", user_id, {"token_id": str(token_id)}))


async def test_the_verification_mail_has_a_link_that_works(post: Post, domain: Domain, catcher: Catcher) -> None:
    user_id = await domain.registered()
    await post.send(await verification(post, domain, user_id))
    (caught,) = catcher.mails()
    link = f"{URL}/verify-email?token={await domain.mail_token(user_id)}"
    assert caught.to == "ada@example.org"
    assert link in caught.text
    assert f'<a href="{link}">' in caught.html
    assert "Ada Lovelace" in caught.text


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


@pytest.mark.parametrize("name", ["content_published", "content_rejected", "verify_email"])
def test_every_letter_renders(name: str) -> None:
    data = {"full_name": "Ada", "title": "A\nBcc: x@y.z <b>", "content_id": "c", "note": "n", "token": "t"}
    letter = compose(name, data | {"public_url": URL})
    assert "\n" not in letter.subject
    assert "Ada" in letter.text
    assert URL in letter.text
    assert letter.html is not None
    assert "<b>" not in letter.html
    with pytest.raises(UnknownLetterError):
        compose(name, {})


def test_a_name_in_a_letter_is_one_line_and_no_link() -> None:
    name = "Ada,\n\nyour account is locked: https://evil.example/login\n\n"
    letter = compose("verify_email", {"full_name": name, "token": "t", "public_url": URL})
    assert letter.text.startswith("Hello Ada, your account is locked: evil.example/login,\n")
    assert letter.html is not None
    assert re.findall(r'href="([^"]*)"', letter.html) == [f"{URL}/verify-email?token=t"]


def test_a_subject_is_one_line_and_text_becomes_harmless_html() -> None:
    assert one_line("a\r\nBcc: b\tc\x0bd\u2028e") == "a Bcc: b c d e"
    assert len(one_line("x" * 5000)) == 200
    html = as_html('<script>\n\nhttps://a.example/?x=1&y="2"')
    assert "<script>" not in html
    assert 'href="https://a.example/?x=1&amp;y=&quot;2&quot;"' in html


# The wire ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["x\r\nBcc: all@example.org", "x\nX-Evil: 1", "x\r\n\r\nbody", "\x85x\u2028Bcc: a"])
async def test_a_subject_begins_no_header(domain: Domain, subject: str) -> None:
    async with misbehaving(domain) as (post, script):
        await post.send(await post.ready(subject=subject))
        (body,) = script.bodies
        parsed = email.message_from_bytes(body)
        assert set(parsed) == {*("From", "To", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version")} | {
            name for name in parsed if name.startswith("Content-")
        }
        assert [line for line in script.commands if line.startswith("RCPT")] == ["RCPT TO:<ada@example.org>"]


@pytest.mark.parametrize(
    "to",
    [
        "a@example.org\r\nBcc: b@example.org",
        "a@example.org\n",
        "root,b@example.org",
        "<a@example.org>",
        "a b@example.org",
    ],
)
async def test_a_recipient_is_one_address_or_the_mail_is_dead(domain: Domain, to: str) -> None:
    async with misbehaving(domain) as (post, script):
        mail_id = await post.ready(to)
        await post.send(mail_id)
        recipients = [line for line in script.commands if line.startswith("RCPT")]
        assert len(recipients) <= 1
        assert all("Bcc" not in email.message_from_bytes(body) for body in script.bodies)
        assert (await post.row(mail_id))["status"] in ("dead", "sent")
        assert not any("<root>" in line or "<b@example.org>" in line for line in recipients)


async def test_two_copies_of_a_mail_can_be_known_by_their_message_id(domain: Domain) -> None:
    async with misbehaving(domain) as (post, script):
        mail_id = await post.ready()
        for _ in range(2):
            await post.send(mail_id)
            await domain.execute(
                'update mails set status = \'queued\', due_at = now(), data = \'{"subject":"","text":"","html":""}\''
            )
        ids = [email.message_from_bytes(body)["Message-ID"] for body in script.bodies]
        assert ids == [f"<{mail_id}@example.org>"] * 2


@pytest.mark.parametrize("where", ["MAIL", "RCPT", "DATA", "body"])
async def test_what_may_pass_is_tried_three_times_each_after_twice_the_wait(domain: Domain, where: str) -> None:
    async with misbehaving(domain, **{where: "450 later"}) as (post, _):
        mail_id = await post.ready()
        for attempt in (1, 2):
            await post.send(mail_id, orders=4)
            row = await post.row(mail_id)
            assert (row["status"], row["attempts"]) == ("queued", attempt)
            assert 2**attempt - 1 < row["due_s"] <= 2**attempt
            assert "450" in row["error"] or "later" in row["error"]
            await post.send(mail_id)  # before its time: nothing
            assert (await post.row(mail_id))["attempts"] == attempt
            await post.due()
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "dead"


async def test_what_passed_the_second_time_is_sent(domain: Domain) -> None:
    async with misbehaving(domain, RCPT="450 later") as (post, script):
        mail_id = await post.ready()
        await post.send(mail_id)
        script.answers["RCPT"] = "250 ok"
        await post.due()
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "sent"
        assert len(script.bodies) == 1


@pytest.mark.parametrize(
    ("where", "answer"),
    [
        ("MAIL", "550 no"),
        ("RCPT", "550 no such user"),
        ("RCPT", "501 bad address"),
        ("DATA", "554 no"),
        ("body", "552 no"),
    ],
)
async def test_what_will_never_pass_is_dead_at_once(domain: Domain, where: str, answer: str) -> None:
    async with misbehaving(domain, **{where: answer}) as (post, _):
        mail_id = await post.ready()
        await post.send(mail_id)
        row = await post.row(mail_id)
        assert row["status"] == "dead"
        assert answer[4:] in row["error"]


@pytest.mark.parametrize(
    "answers",
    [{"greeting": "421 busy"}, {"MAIL": "421 busy"}, {"RCPT": "421 busy"}, {"greeting": "554 no mail here"}]
    + [{where: None} for where in ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "body")],
    ids=str,
)
async def test_a_server_that_is_away_or_stalls_is_no_attempt_and_the_mail_waits(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str | None]
) -> None:
    monkeypatch.setattr(module, "SMTP_TIMEOUT_S", 0.1)
    async with misbehaving(domain, **answers) as (post, _):
        mail_id = await post.ready()
        for _ in range(4):
            await post.send(mail_id)
            row = await post.row(mail_id)
            assert (row["status"], row["attempts"]) == ("queued", 0)
            assert 0 < row["due_s"] <= 1
            await post.due()


@pytest.mark.parametrize("ending", [None, "500 what"])
async def test_a_mail_that_was_taken_is_sent_however_the_server_parts(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, ending: str | None
) -> None:
    monkeypatch.setattr(module, "SMTP_TIMEOUT_S", 0.1)
    async with misbehaving(domain, QUIT=ending) as (post, script):
        mail_id = await post.ready()
        for _ in range(2):
            await post.send(mail_id)
            assert (await post.row(mail_id))["status"] == "sent"
            await post.due()
        assert len(script.bodies) == 1


async def test_a_server_that_is_not_there_keeps_the_mail_queued(domain: Domain) -> None:
    post = Post(domain, free_ports(1)[0])
    mail_id = await post.ready()
    for _ in range(5):
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "queued"
        await post.due()
    assert (await post.row(mail_id))["attempts"] == 0


def test_the_settings_show_no_password() -> None:
    assert "hidden" not in repr(SmtpSettings("h", 25, SENDER, "user", "hidden"))
