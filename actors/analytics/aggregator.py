"""The aggregator: counts each event of producers once, however often it is delivered, in the live counters."""

import logging
from collections import Counter

from callboard.actors.analytics.events import ActivityRecorded
from callboard.actors.analytics.live_counters import (
    REFUSED_EVENTS,
    Reason,
    Refused,
    SourcedActivity,
    StatBounds,
    count_events,
)
from callboard.actors.infrastructure.database import Database, retried
from callboard.runtime import Actor, on
from callboard.streams.event_types import ConsumeEvents
from callboard.streams.outbox import deduplicate

CONSUMER = "aggregator"
MAX_TOLD = 1_000

log = logging.getLogger(__name__)


class Aggregator(Actor[ConsumeEvents]):
    """Notes events and counts them in one transaction; adds to `refused` those that are not counted, by reason."""

    def __init__(self, database: Database, bounds: StatBounds, refused: Counter[str] | None = None) -> None:
        self.database = database
        self.bounds = bounds
        self.refused: Counter[str] = Counter() if refused is None else refused
        self._told: set[tuple[Reason, str]] = set()

    @on(ConsumeEvents)
    async def consume(self, message: ConsumeEvents) -> None:
        """Count the new events of a batch, and log each new reason for which some are not counted."""
        self._tell(await self._count(message))

    @retried
    async def _count(self, message: ConsumeEvents) -> Refused:
        async with self.database.transaction() as connection:
            events = [
                SourcedActivity(envelope.source, envelope.event)
                for envelope in await deduplicate(connection, CONSUMER, message.envelopes)
                if isinstance(envelope.event, ActivityRecorded)
            ]
            return await count_events(connection, self.bounds, events) if events else Refused()

    def _tell(self, refused: Refused) -> None:
        for (reason, whose), count in refused.items():
            self.refused[reason] += count
            if (reason, whose) not in self._told and len(self._told) < MAX_TOLD:
                self._told.add((reason, whose))
                log.warning(
                    "%d events of %s are not counted: %s (further ones are only counted, as %s)",
                    count,
                    whose,
                    reason,
                    REFUSED_EVENTS,
                )
