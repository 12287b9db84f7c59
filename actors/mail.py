"""Mail: a queue in PostgreSQL, filled from the streams, emptied by a pool of senders, each mail claimed by one of them.

A mail is sent once. One more copy, of the same Message-ID, can follow each attempt whose outcome nobody knows: a
process that was killed between the final dot and the note of the reply, or a server that gave no reply to it. There
are three attempts at most.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import aiosql
import msgspec

from callboard.actors.database import Database
from callboard.actors.email_templates import (
    ContentEmail,
    EmailTemplate,
    Facts,
    SecretLink,
    UnknownEmailError,
    read_template,
    render,
)
from callboard.actors.mail_message import OutgoingMail, RenderedEmail, encode_mail
from callboard.actors.mail_monitor import MailMonitor
from callboard.actors.mail_producers import MailProducers
from callboard.actors.mail_retries import MAX_ATTEMPTS, decide, reason_of
from callboard.actors.smtp_client import SmtpClient, SmtpError
from callboard.actors.tokens import Signer
from callboard.runtime import Actor, MailboxFullError, Message, Ref, Request, on
from callboard.streams.events import Consume, Envelope, LetterRequested, MailRequested, derive_id
from callboard.streams.outbox import fresh
from callboard.streams.topics import MAIL, PRIORITY

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("mail.sql"), "asyncpg")

CONSUMER = "mail"
SWEEP_INTERVAL_S = 1.0
LEASE_S = 30.0  # how long a claim holds; it is renewed while a delivery goes on
READY = ""  # the name of a mail that a producer has written itself; no event can ask for one of our own by it


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
            found = await QUERIES.address_of(connection, user_id=event.user_id, token_id=_token_id(event.data))
            if found is None:  # deleted meanwhile: there is nobody to write to
                return False
            recipient, letter, data = found, event.letter, {**event.data, "user_id": str(event.user_id)}
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


class UnwritableError(Exception):
    """A mail that can never be written; the text says why, and names no address."""


class MailSender(Actor[SendMail]):
    """Claims a mail, writes it, sends it, and marks the outcome. `link_url` begins every link."""

    def __init__(
        self, database: Database, signer: Signer, client: SmtpClient, link_url: str, monitor: MailMonitor
    ) -> None:
        self.database = database
        self.signer = signer
        self.client = client
        self.link_url = link_url.rstrip("/")
        self.monitor = monitor

    @on(SendMail)
    async def send(self, order: SendMail) -> None:
        """No connection to the database is held while the SMTP server is spoken to."""
        async with self.database.acquire() as connection:
            mail = await QUERIES.claim_mail(connection, mail_id=order.mail_id, lease_s=LEASE_S)
            if mail is None:
                return
            if mail["status"] == "expired":
                self.monitor.expired()
                return
            try:
                if mail["attempts"] > MAX_ATTEMPTS:
                    raise UnwritableError("its sender crashed each time")  # noqa: TRY301 - one end for both
                outgoing = await self._write(connection, mail)
            except UnwritableError as unwritable:
                await QUERIES.mark_dead(connection, mail_id=order.mail_id, error=str(unwritable))
                self.monitor.unwritable(str(unwritable))
                return
        error = await self._deliver(outgoing, mail)
        async with self.database.acquire() as connection:
            await self._mark(connection, mail, error)

    async def _write(self, connection: Any, mail: Any) -> OutgoingMail:
        """The mail as it goes out. Raises UnwritableError, whatever is wrong with it."""
        try:
            data: dict[str, str] = msgspec.json.decode(mail["data"])
            if mail["letter"] == READY:
                email = RenderedEmail(data["subject"], data["text"], data["html"] or None)
            else:
                user_id = UUID(data.pop("user_id"))
                template = read_template(mail["letter"], data)
                facts = await self._facts(connection, mail, template, user_id)
                email = render(mail["letter"], template, facts)
            return encode_mail(
                email,
                sender=self.client.settings.sender,
                recipient=mail["recipient"],
                mail_id=mail["mail_id"],
                sent_at=datetime.now(UTC),
            )
        except (UnknownEmailError, UnwritableError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UnwritableError(f"{type(error).__name__}: {error}"[:500]) from error

    async def _facts(self, connection: Any, mail: Any, template: EmailTemplate, user_id: UUID) -> Facts:
        """The truth for one of our mails, from PostgreSQL. Raises UnwritableError."""
        token, title, note = None, "", ""
        if isinstance(template, SecretLink):
            token = await self._secret(connection, mail, template.token_id)
        elif isinstance(template, ContentEmail):
            article = await QUERIES.article(
                connection,
                content_id=template.content_id,
                transition_id=template.transition_id,
                author_id=user_id,
            )
            if article is None:
                raise UnwritableError("the article is not there, or not the recipient's")
            title, note = article["title"], article["note"] or ""
        full_name = await QUERIES.proved_name(connection, user_id=user_id, recipient=mail["recipient"])
        return Facts(link_url=self.link_url, full_name=full_name, token=token, title=title, note=note)

    async def _secret(self, connection: Any, mail: Any, token_id: UUID) -> str:
        """The secret of a token. Whoever can write to the topic must not have another's sent to themselves."""
        owner = await QUERIES.token_owner(connection, token_id=token_id, purpose=mail["letter"])
        if owner is None or owner["email"] != mail["recipient"]:
            raise UnwritableError("the mail's token is not the recipient's")
        token = self.signer.mail_token_of(token_id, owner["token_hash"])
        if token is None:
            raise UnwritableError("the mail's token was made under a key that is gone")
        return token

    async def _deliver(self, outgoing: OutgoingMail, mail: Any) -> SmtpError | None:
        """The error, or None for a mail that was accepted. The claim is renewed meanwhile."""
        try:
            async with self._renewing(mail["mail_id"]):
                await self.client.send(sender=outgoing.sender, recipient=outgoing.recipient, content=outgoing.content)
        except SmtpError as error:
            return error
        return None

    @asynccontextmanager
    async def _renewing(self, mail_id: UUID) -> AsyncIterator[None]:
        renewal = asyncio.create_task(self._renew(mail_id))
        try:
            yield
        finally:
            renewal.cancel()
            with suppress(asyncio.CancelledError):
                await renewal

    async def _renew(self, mail_id: UUID) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            async with self.database.acquire() as connection:
                await QUERIES.renew_mail(connection, mail_id=mail_id, lease_s=LEASE_S)

    async def _mark(self, connection: Any, mail: Any, error: SmtpError | None) -> None:
        mail_id = mail["mail_id"]
        if error is None:
            await QUERIES.mark_sent(connection, mail_id=mail_id)
            self.monitor.accepted()
            return
        reason = reason_of(error)
        decision = decide(reason, attempts=mail["attempts"], age_s=mail["age_s"], left_s=mail["left_s"])
        said = f"{reason}: {error}"[:500]
        if decision.delay_s is None:
            await QUERIES.mark_dead(connection, mail_id=mail_id, error=said)
            self.monitor.failed("dead", reason, error)
            return
        await QUERIES.mark_due(
            connection,
            mail_id=mail_id,
            delay_s=decision.delay_s,
            attempts=mail["attempts"] if decision.counts else mail["attempts"] - 1,
            error=said,
        )
        self.monitor.failed("failed" if decision.counts else "delayed", reason, error)
