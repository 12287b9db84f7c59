"""The notifier: requests a mail to the author for events of an article."""

from typing import Any
from uuid import UUID

from msgspec import Struct

from callboard.actors.delivery.events import TemplatedEmailRequested
from callboard.actors.editorial.events import ContentEvent, ContentPublished, ContentRejected
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.notice_kinds import Channel, NoticeKind
from callboard.runtime import Actor, Context, on, use_context
from callboard.streams.event_types import ConsumeEvents, Envelope, derive_id
from callboard.streams.outbox import deduplicate, emit
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

CONSUMER = "notifier"


class ContentNotice(Struct, frozen=True):
    """The data of a notice about an article."""

    content_id: UUID
    transition_id: int
    title: str


NOTICES = (
    NoticeKind(
        "content_published",
        ContentNotice,
        '"{title}" is published.',
        "/content/{content_id}",
        Channel.MAIL,
        letter="content_published",
    ),
    NoticeKind(
        "content_rejected",
        ContentNotice,
        'An editor has sent "{title}" back to you.',
        "/content/{content_id}",
        Channel.MAIL,
        letter="content_rejected",
    ),
)

# The template, and the action in the editorial history that it reports.
TEMPLATE_OF: dict[type[ContentEvent], tuple[str, str]] = {
    ContentPublished: ("content_published", "publish"),
    ContentRejected: ("content_rejected", "reject"),
}


class Notifier(Actor[ConsumeEvents]):
    """Requests mails. An event and its request are noted in one transaction.

    The event only names the row: author, title and note come from PostgreSQL. An event that the editorial history does
    not know causes no mail.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(ConsumeEvents)
    @retried
    async def consume(self, message: ConsumeEvents) -> None:
        """Derive the mail's event id from the event's: a repeated request is for the same mail."""
        async with self.database.transaction() as connection:
            for envelope in await deduplicate(connection, CONSUMER, message.envelopes):
                letter = await _request_of(connection, envelope)
                if letter is not None:
                    event_id = derive_id(envelope.source, envelope.event_id, CONSUMER)
                    with use_context(Context(envelope.traceparent)):  # a batch has many traces, a mail one
                        await emit(connection, letter, event_id=event_id)


async def _request_of(connection: Any, envelope: Envelope) -> TemplatedEmailRequested | None:
    event = envelope.event
    if not isinstance(event, ContentEvent) or type(event) not in TEMPLATE_OF:
        return None
    letter, action = TEMPLATE_OF[type(event)]
    row = await QUERIES.transition(
        connection, content_id=event.content_id, action=action, occurred_at=envelope.occurred_at
    )
    if row is None:  # deleted meanwhile, or it never happened
        return None
    data = {"content_id": str(event.content_id), "transition_id": str(row["transition_id"])}
    return TemplatedEmailRequested(letter, row["author_id"], data)
