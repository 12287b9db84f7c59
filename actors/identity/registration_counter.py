"""The counter of new accounts, for the metrics."""

from collections.abc import Callable
from functools import partial

from callboard.actors.infrastructure.database import Database, retried
from callboard.runtime import Actor, on
from callboard.streams.event_types import ConsumeEvents
from callboard.streams.outbox import deduplicate

CONSUMER = "registrations"


class RegistrationCounter(Actor[ConsumeEvents]):
    """Counts each account once, whatever created it: registration, command and import all write its event.

    `count` gets the number of new accounts, after the commit.
    """

    def __init__(self, database: Database, count: Callable[[int], None]) -> None:
        self.database = database
        self.count = count

    @on(ConsumeEvents)
    @retried
    async def consume(self, message: ConsumeEvents) -> None:
        """Note the events, and count those that are new."""
        async with self.database.transaction() as connection:
            new = await deduplicate(connection, CONSUMER, message.envelopes)
            connection.on_commit(partial(self.count, len(new)))
