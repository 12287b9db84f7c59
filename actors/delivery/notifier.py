"""The notifier: requests a notification of the author for events of an article."""

from typing import Any
from uuid import UUID

from msgspec import Struct

from callboard.actors.delivery.events import NotificationRequested
from callboard.actors.editorial.events import ContentEvent, ContentPublished, ContentRejected
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.notification_kinds import Channel, NotificationKind
from callboard.runtime import Actor, Context, on, use_context
from callboard.streams.event_types import ConsumeEvents, Envelope, derive_id
from callboard.streams.outbox import deduplicate, emit
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

CONSUMER = "notifier"


class ContentNotification(Struct, frozen=True):
    """The data of a notification about an article."""

    content_id: UUID
    transition_id: int
    title: str


KINDS = (
    NotificationKind(
        "content_published",
        ContentNotification,
        '"{title}" is published.',
        "/content/{content_id}",
        Channel.MAIL,
        letter="content_published",
        translations={"de": "»{title}« ist veröffentlicht.", "fr": "« {title} » est publié."},
    ),
    NotificationKind(
        "content_rejected",
        ContentNotification,
        'An editor has sent "{title}" back to you.',
        "/content/{content_id}",
        Channel.MAIL,
        letter="content_rejected",
        translations={
            "de": "Die Redaktion hat Ihnen »{title}« zurückgegeben.",
            "fr": "La rédaction vous a renvoyé « {title} ».",
        },
    ),
)

# The kind of notifications, and the action in the editorial history that it reports.
KIND_OF: dict[type[ContentEvent], tuple[str, str]] = {
    ContentPublished: ("content_published", "publish"),
    ContentRejected: ("content_rejected", "reject"),
}


class Notifier(Actor[ConsumeEvents]):
    """Requests notifications. An event and its request are noted in one transaction.

    The event only names the row: author, title and note come from PostgreSQL. An event that the editorial history does
    not know causes no notification.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(ConsumeEvents)
    @retried
    async def consume(self, message: ConsumeEvents) -> None:
        """Derive the request's event id from the event's: a repeated request is for the same notification."""
        async with self.database.transaction() as connection:
            for envelope in await deduplicate(connection, CONSUMER, message.envelopes):
                request = await _request_of(connection, envelope)
                if request is not None:
                    event_id = derive_id(envelope.source, envelope.event_id, CONSUMER)
                    with use_context(Context(envelope.traceparent)):  # a batch has many traces, a notification one
                        await emit(connection, request, event_id=event_id)


async def _request_of(connection: Any, envelope: Envelope) -> NotificationRequested | None:
    event = envelope.event
    if not isinstance(event, ContentEvent) or type(event) not in KIND_OF:
        return None
    kind, action = KIND_OF[type(event)]
    row = await QUERIES.transition(
        connection, content_id=event.content_id, action=action, occurred_at=envelope.occurred_at
    )
    if row is None:  # deleted meanwhile, or it never happened
        return None
    data = {
        "content_id": str(event.content_id),
        "transition_id": str(row["transition_id"]),
        "title": row["title"],
    }
    return NotificationRequested(row["author_id"], kind, data)
