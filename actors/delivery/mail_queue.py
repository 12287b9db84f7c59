"""The mail queue: what has been asked to be sent becomes a row of `mails` and a job, both in one transaction."""

from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.delivery.mail_producers import MailProducers
from callboard.actors.delivery.mail_retries import MAX_ATTEMPTS
from callboard.actors.delivery.smtp_client import RFC_TIMEOUTS
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.job_kinds import Backoff, EndedJob, JobKind, Priority
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.runtime import Actor, Context, Request, on, use_context
from callboard.streams.event_types import ConsumeEvents, Envelope, MailRequested, TemplatedEmailRequested, derive_id
from callboard.streams.outbox import fresh
from callboard.streams.queries import queries_beside
from callboard.streams.topics import MAIL, PRIORITY

QUERIES = queries_beside(__file__, "mail")

PERSONAL_DATA = PersonalData(
    "mails", {"mails": ("recipient", "data", "error", "user_id")}, QUERIES.export_mails, QUERIES.erase_mails
)

CONSUMER = "mail"
READY = ""  # the template's name of a mail that a producer has written itself; no event can ask for a template by it
ADOPT_EVERY_S = 60.0


class SendMail(msgspec.Struct, frozen=True):
    """The job: send one mail of the table."""

    mail_id: UUID


class AdoptMails(Request[int], frozen=True):
    """Make jobs for mails that a process of an earlier release has queued and left; the reply is how many there were.

    For one release: then the earlier one is gone.
    """


async def _mark_dead(connection: Any, job: EndedJob[SendMail]) -> None:
    await QUERIES.mark_ended(connection, mail_id=job.payload.mail_id, status="dead", error=job.error)


async def _mark_expired(connection: Any, job: EndedJob[SendMail]) -> None:
    await QUERIES.mark_ended(connection, mail_id=job.payload.mail_id, status="expired", error=None)


SEND_MAIL: JobKind[SendMail] = JobKind(
    "mail",
    SendMail,
    slots=5,
    timeout_s=RFC_TIMEOUTS.whole_s + 30.0,
    max_attempts=MAX_ATTEMPTS,
    backoff=Backoff(base_s=2.0, cap_s=8.0),
    on_dead=_mark_dead,
    on_expired=_mark_expired,
    outlives_deadline=True,  # a server may take ten minutes for the final dot, whatever the mail's deadline is
)


class MailQueue(Actor[ConsumeEvents | AdoptMails]):
    """Puts requested mails into the queue, once each."""

    def __init__(self, database: Database, jobs: JobQueue, producers: MailProducers) -> None:
        self.database = database
        self.jobs = jobs
        self.producers = producers

    async def on_start(self) -> None:
        """Look after what processes of an earlier release leave."""
        self.every(ADOPT_EVERY_S, AdoptMails())

    @on(ConsumeEvents)
    @retried
    async def consume(self, message: ConsumeEvents) -> None:
        """That an event was seen, its mail and its job are one transaction."""
        async with self.database.transaction() as connection:
            new = await fresh(connection, CONSUMER, message.envelopes)
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
            if found is None:  # deleted meanwhile: there is nobody to write to
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
        if expires_at is not None:  # else it is there already
            with use_context(Context(envelope.traceparent)):  # a batch has many traces, a mail one
                await self.jobs.enqueue(
                    connection, SendMail(mail_id), priority=priority_of(envelope), deadline=expires_at
                )

    @on(AdoptMails)
    @retried
    async def adopt(self, _message: AdoptMails) -> int:
        """Each keeps its id, its attempts and its deadline."""
        if self.database.away.is_set():
            return 0
        async with self.database.transaction() as connection:
            adopted: int = await QUERIES.adopt_mails(connection, max_attempts=MAX_ATTEMPTS, limit=1_000)
        if adopted:
            self.jobs.ring()
        return adopted


def priority_of(envelope: Envelope) -> Priority:
    """Our security mail before our other mail before that of producers."""
    if isinstance(envelope.event, MailRequested):
        return Priority.BULK
    return Priority.SECURITY if envelope.topic == PRIORITY.name else Priority.NORMAL


def mail_id_of(envelope: Envelope) -> UUID:
    """The id of an event's mail, and so its Message-ID."""
    return derive_id(envelope.source, envelope.event_id)


def _token_id(data: dict[str, str]) -> UUID | None:
    """The token that an event names; None for what is none, which no token has."""
    try:
        return UUID(data["token_id"])
    except (KeyError, ValueError):
        return None
