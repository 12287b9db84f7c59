"""The notifier: turns what has happened to an author's article into a letter to the author."""

from uuid import NAMESPACE_URL, uuid5

from callboard.actors.database import Database, retried
from callboard.runtime import Actor, Context, on, use_context
from callboard.streams.events import Consume, ContentEvent, ContentPublished, ContentRejected, LetterRequested
from callboard.streams.outbox import emit, fresh

CONSUMER = "notifier"

LETTER_FOR: dict[type[ContentEvent], str] = {
    ContentPublished: "content_published",
    ContentRejected: "content_rejected",
}


class Notifier(Actor[Consume]):
    """Asks for letters. That an event was seen and that its letter is asked for is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(Consume)
    @retried
    async def consume(self, message: Consume) -> None:
        """The letter's event id follows from the event's: whoever asks twice asks for the same letter."""
        async with self.database.transaction() as connection:
            for envelope in await fresh(connection, CONSUMER, message.envelopes):
                event = envelope.event
                if not isinstance(event, ContentEvent) or type(event) not in LETTER_FOR:
                    continue
                data = {"title": event.title, "content_id": str(event.content_id), "note": event.note or ""}
                letter = LetterRequested(LETTER_FOR[type(event)], event.author_id, data)
                event_id = uuid5(NAMESPACE_URL, f"{envelope.source}/{envelope.event_id}/{CONSUMER}")
                with use_context(Context(envelope.traceparent)):  # a batch has many traces, a letter one
                    await emit(connection, letter, event_id=event_id)
