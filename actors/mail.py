"""Mail: a queue in PostgreSQL, filled from the streams, emptied by a pool of senders, each mail claimed by one of them.

A mail is sent once, but for a crash between the server's acceptance and our note of it: then there is one more copy,
with the same Message-ID.
"""

from pathlib import Path
from typing import Any
from uuid import UUID

import aiosmtplib
import aiosql
import msgspec

from callboard.actors.database import Database
from callboard.actors.letters import Letter, UnknownLetterError, compose, message, one_line
from callboard.actors.mail_producers import MailProducers
from callboard.actors.tokens import Signer
from callboard.runtime import Actor, MailboxFullError, Message, Ref, Request, on
from callboard.streams.events import Consume, Envelope, LetterRequested, MailRequested, derive_id
from callboard.streams.outbox import fresh
from callboard.streams.topics import MAIL, PRIORITY

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("mail.sql"), "asyncpg")

CONSUMER = "mail"
SWEEP_INTERVAL_S = 1.0
LEASE_S = 30.0  # how long a claim holds; longer than SMTP_TIMEOUT_S for each step of a delivery
SMTP_TIMEOUT_S = 5.0
MAX_ATTEMPTS = 3
READY = ""  # the name of a letter that a producer has written itself; no event can ask for one of our own by it


class SmtpSettings(msgspec.Struct, frozen=True):
    """Where mail goes out, and in whose name."""

    host: str
    port: int
    sender: str
    username: str | None = None
    password: str | None = None
    starttls: bool = False

    def __repr__(self) -> str:
        """Without the password."""
        return f"SmtpSettings({self.host}:{self.port})"


class SendMail(Message, frozen=True):
    """Send a mail of the queue, if it is due and nobody else has claimed it."""

    mail_id: UUID


class Sweep(Request[int], frozen=True):
    """Hand what is due to the senders; the reply is how many were."""


class Postbox(Actor[Consume | Sweep]):
    """Puts requested mails into the queue, once each, and wakes the senders; with none here, other processes' send."""

    def __init__(self, database: Database, senders: Ref[SendMail] | None, producers: MailProducers) -> None:
        self.database = database
        self.senders = senders
        self.producers = producers

    async def on_start(self) -> None:
        """Look after what an earlier process has left, and what must be tried again."""
        if self.senders is not None:
            self.every(SWEEP_INTERVAL_S, Sweep())

    @on(Consume)
    async def consume(self, message: Consume) -> None:
        """Memory and queue are one transaction; a sender hears of a mail only after that."""
        async with self.database.transaction() as connection:
            new = await fresh(connection, CONSUMER, message.envelopes)
            await self.producers.reserve(connection, new)
            queued = [_mail_id(envelope) for envelope in new if await self._queue(connection, envelope)]
        self._hand_out(queued)

    async def _queue(self, connection: Any, envelope: Envelope) -> bool:
        event = envelope.event
        if isinstance(event, MailRequested):
            recipient, letter = event.to, READY
            data = {"subject": event.subject, "text": event.text, "html": event.html or ""}
        elif isinstance(event, LetterRequested):
            token_id = _token_id(event.data)
            user = await QUERIES.address_of(connection, user_id=event.user_id, token_id=token_id)
            if user is None:  # deleted meanwhile: there is nobody to write to
                return False
            recipient, letter = user["email"], event.letter
            data = {**event.data, "full_name": user["full_name"]}
        else:
            return False
        deadline_s = (PRIORITY if envelope.topic == PRIORITY.name else MAIL).deadline_s or 0.0
        await QUERIES.add_mail(
            connection,
            mail_id=_mail_id(envelope),
            recipient=recipient,
            letter=letter,
            data=msgspec.json.encode(data).decode(),
            occurred_at=envelope.occurred_at,
            deadline_s=deadline_s,
        )
        return True

    @on(Sweep)
    async def sweep(self, _message: Sweep) -> int:
        """Retries, claims that lapsed with the process that held them, and what found the senders' mailboxes full."""
        if self.database.away.is_set():
            return 0
        async with self.database.acquire() as connection:
            due = [row["mail_id"] async for row in QUERIES.due_mails(connection, limit=100)]
        self._hand_out(due)
        return len(due)

    def _hand_out(self, mail_ids: list[UUID]) -> None:
        if self.senders is None:
            return
        for mail_id in mail_ids:
            try:
                self.senders.tell_nowait(SendMail(mail_id))
            except MailboxFullError:
                return  # they have enough to do; the sweep comes back to the rest


def _mail_id(envelope: Envelope) -> UUID:
    return derive_id(envelope.source, envelope.event_id)


def _token_id(data: dict[str, str]) -> UUID | None:
    """The token that a letter names; None for what is none, which no token has."""
    try:
        return UUID(data["token_id"])
    except (KeyError, ValueError):
        return None


class MailSender(Actor[SendMail]):
    """Claims a mail, writes it, sends it, and marks what became of it."""

    def __init__(self, database: Database, signer: Signer, smtp: SmtpSettings, public_url: str) -> None:
        self.database = database
        self.signer = signer
        self.smtp = smtp
        self.public_url = public_url

    @on(SendMail)
    async def send(self, order: SendMail) -> None:
        """No connection to the database is held while the SMTP server is spoken to."""
        async with self.database.acquire() as connection:
            mail = await QUERIES.claim_mail(connection, mail_id=order.mail_id, lease_s=LEASE_S)
            if mail is None or mail["status"] == "expired":
                return
            letter = await self._compose(connection, mail)
            if isinstance(letter, str):
                await QUERIES.mark_dead(connection, mail_id=order.mail_id, error=letter)
                return
        error = await self._deliver(letter, mail)
        async with self.database.acquire() as connection:
            await _mark(connection, mail, error)

    async def _compose(self, connection: Any, mail: Any) -> Letter | str:
        """The letter, or why there cannot be one."""
        data: dict[str, str] = msgspec.json.decode(mail["data"])
        if mail["letter"] == READY:
            return Letter(one_line(data["subject"]), data["text"], data["html"] or None)
        data["public_url"] = self.public_url
        if "token_id" in data:
            token_id = _token_id(data)
            owner = await QUERIES.letter_owner(connection, token_id=token_id, purpose=mail["letter"])
            # Whoever can write to the topic must not have another's secret sent to an address of their own.
            if token_id is None or owner is None or owner["email"] != mail["recipient"]:
                return "the letter's token is not the recipient's"
            token = self.signer.mail_token_of(token_id, owner["token_hash"])
            if token is None:
                return "the letter's token was made under a key that is gone"
            data["token"] = token
        try:
            return compose(mail["letter"], data)
        except UnknownLetterError as error:
            return str(error)

    async def _deliver(self, letter: Letter, mail: Any) -> Exception | None:
        smtp = self.smtp
        try:
            await aiosmtplib.send(
                message(letter, sender=smtp.sender, recipient=mail["recipient"], mail_id=mail["mail_id"]),
                hostname=smtp.host,
                port=smtp.port,
                username=smtp.username,
                password=smtp.password,
                start_tls=smtp.starttls,
                timeout=SMTP_TIMEOUT_S,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return error
        return None


class Fate(msgspec.Struct, frozen=True):
    """What becomes of a mail that was not accepted: tried again in `delay_s`, or never when that is None."""

    attempts: int
    delay_s: float | None


PERMANENT = 500
# What a server answers before it has heard of any mail is about the two servers, however final it sounds.
ABOUT_US = (aiosmtplib.SMTPConnectResponseError, aiosmtplib.SMTPHeloError, aiosmtplib.SMTPAuthenticationError)


def fate(error: Exception, attempts: int, age_s: float) -> Fate:
    """RFC 5321, 4.2.1: 4yz may pass, 5yz will not. A server that is away is no attempt: the mail waits for it.

    The nth refused attempt is followed by a wait of 2 ** n seconds, and the third is the last; a server that is away
    is asked again after half the mail's age, from 1 to 60 s.
    """
    if isinstance(error, ValueError):
        code = PERMANENT
    elif isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        code = min(refusal.code for refusal in error.recipients)
    elif isinstance(error, aiosmtplib.SMTPResponseException) and not isinstance(error, ABOUT_US):
        code = error.code
    else:
        code = aiosmtplib.SMTPStatus.domain_unavailable
    if code == aiosmtplib.SMTPStatus.domain_unavailable:
        return Fate(attempts, min(60.0, max(1.0, age_s / 2)))
    permanent = code >= PERMANENT
    attempts += 1
    return Fate(attempts, None if permanent or attempts >= MAX_ATTEMPTS else 2.0**attempts)


async def _mark(connection: Any, mail: Any, error: Exception | None) -> None:
    if error is None:
        await QUERIES.mark_sent(connection, mail_id=mail["mail_id"])
        return
    outcome = fate(error, mail["attempts"], mail["age_s"])
    reason = f"{type(error).__name__}: {error}"[:500]
    if outcome.delay_s is None:
        await QUERIES.mark_dead(connection, mail_id=mail["mail_id"], error=reason)
    else:
        await QUERIES.mark_due(
            connection,
            mail_id=mail["mail_id"],
            delay_s=outcome.delay_s,
            attempts=outcome.attempts,
            error=reason,
        )
