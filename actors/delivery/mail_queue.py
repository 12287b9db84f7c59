"""The mail queue: a request for a mail becomes a row of `mails` and a job, in one transaction."""

from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.delivery.events import MAIL, PRIORITY, MailRequested, TemplatedEmailRequested
from callboard.actors.delivery.mail_producers import MailProducers
from callboard.actors.delivery.mail_retries import MAX_ATTEMPTS
from callboard.actors.delivery.smtp_settings import RFC_TIMEOUTS
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.job_kinds import Backoff, EndedJob, JobKind, Priority
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.runtime import Actor, Context, Request, on, use_context
from callboard.streams.event_types import ConsumeEvents, Envelope, derive_id
from callboard.streams.outbox import deduplicate
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__, "mail")

PERSONAL_DATA = PersonalData(
    "mails", {"mails": ("recipient", "data", "error", "user_id")}, QUERIES.export_mails, QUERIES.erase_mails
)

CONSUMER = "mail"
READY = ""  # the template name of a mail that a producer has written; no event can request a template by this name
ADOPT_EVERY_S = 60.0


class SendMail(msgspec.Struct, frozen=True):
    """The job: send one mail of the table."""

    mail_id: UUID


class AdoptMails(Request[int], frozen=True):
    """Make jobs for mails that a process of an earlier release has left in the queue; the reply is their number.

    Needed for one release: then no earlier one runs.
    """


async def _mark_dead(connection: Any, job: EndedJob[SendMail]) -> None:
    await QUERIES.mark_ended(connection, mail_id=job.payload.mail_id, status="dead", error=job.error)


async def _mark_expired(connection: Any, job: EndedJob[SendMail]) -> None:
    await QUERIES.mark_ended(connection, mail_id=job.payload.mail_id, status="expired", error=None)


SEND_MAIL: JobKind[SendMail] = JobKind(
    "mail",
    SendMail,
    slots=5,
    reserved=1,
    timeout_s=RFC_TIMEOUTS.before_dot_s + RFC_TIMEOUTS.whole_s + 30.0,  # two servers, but only one final dot
    max_attempts=MAX_ATTEMPTS,
    backoff=Backoff(base_s=2.0, cap_s=8.0),
    on_dead=_mark_dead,
    on_expired=_mark_expired,
    outlives_deadline=True,  # a server may take ten minutes to reply to the final dot, even past the mail's deadline
)


class MailQueue(Actor[ConsumeEvents | AdoptMails]):
    """Puts each requested mail into the queue once."""

    def __init__(self, database: Database, jobs: JobQueue, producers: MailProducers) -> None:
        self.database = database
        self.jobs = jobs
        self.producers = producers

    async def on_start(self) -> None:
        """Adopt mails of an earlier release."""
        self.every(ADOPT_EVERY_S, AdoptMails())

    @on(ConsumeEvents)
    @retried
    async def consume(self, message: ConsumeEvents) -> None:
        """Note the events and add their mails and jobs, in one transaction."""
        async with self.database.transaction() as connection:
            new = await deduplicate(connection, CONSUMER, message.envelopes)
            await self.producers.reserve(connection, new)
            for envelope in new:
                await self._queue(connection, envelope)

    async def _queue(self, connection: Any, envelope: Envelope) -> None:
        event = envelope.event
        if isinstance(event, MailRequested):
            recipient, template, user_id = event.to, READY, None
            data = {"subject": event.subject, "text": event.text, "html": event.html or ""}
        elif isinstance(event, TemplatedEmailRequested):
            found = await QUERIES.address_of(connection, user_id=event.user_id, token_id=_token_id(event.data))
            if found is None:  # the user was deleted meanwhile: there is no recipient
                return
            recipient, template, user_id = found, event.letter, event.user_id
            data = {**event.data, "user_id": str(event.user_id)}
        else:
            return
        mail_id = mail_id_of(envelope)
        expires_at = await QUERIES.add_mail(
            connection,
            mail_id=mail_id,
            recipient=recipient,
            letter=template,
            data=msgspec.json.encode(data).decode(),
            user_id=user_id,
            occurred_at=envelope.occurred_at,
            deadline_s=(PRIORITY if envelope.topic == PRIORITY.name else MAIL).deadline_s or 0.0,
        )
        if expires_at is not None:  # else the mail exists already
            with use_context(Context(envelope.traceparent)):  # a batch has many traces, a mail one
                await self.jobs.enqueue(
                    connection, SendMail(mail_id), priority=priority_of(envelope), deadline=expires_at
                )

    @on(AdoptMails)
    @retried
    async def adopt(self, _message: AdoptMails) -> int:
        """Each mail keeps its id, its attempts and its deadline."""
        if self.database.unavailable.is_set():
            return 0
        async with self.database.transaction() as connection:
            adopted: int = await QUERIES.adopt_mails(connection, max_attempts=MAX_ATTEMPTS, limit=1_000)
        if adopted:
            self.jobs.ring()
        return adopted


def priority_of(envelope: Envelope) -> Priority:
    """Return the priority: our security mails first, then our other mails, then those of producers."""
    if isinstance(envelope.event, MailRequested):
        return Priority.BULK
    return Priority.SECURITY if envelope.topic == PRIORITY.name else Priority.NORMAL


def mail_id_of(envelope: Envelope) -> UUID:
    """Return the id of an event's mail; its Message-ID is derived from it."""
    return derive_id(envelope.source, envelope.event_id)


def _token_id(data: dict[str, str]) -> UUID | None:
    """Parse the token id of an event; None if it is not a UUID."""
    try:
        return UUID(data["token_id"])
    except (KeyError, ValueError):
        return None
