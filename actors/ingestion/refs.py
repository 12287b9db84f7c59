"""The offers of ingestion to its routes, and its limits."""

from msgspec import Struct

from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.actors.ingestion.event_ingestion import IngestEvents
from callboard.actors.ingestion.producer_keys import AuthenticateKey, KeyHolder, KeyMessage
from callboard.runtime import Ref

# Requests with events: by address, before the key is read, and by key.
EVENTS = RateLimit("events", 3_000, 60, "rate_limit_events")
PRODUCER = RateLimit("producer", 600, 60, "rate_limit_producer")


class IngestionRefs(Struct, frozen=True):
    """References to producer keys and to ingestion, and the most events of a request."""

    keys: Ref[KeyMessage]
    ingestion: Ref[IngestEvents]
    max_events: int

    async def authenticate(self, key: str) -> KeyHolder:
        """Return the holder of a key. Raises Problem(KEYS_INVALID)."""
        return await self.keys.ask(AuthenticateKey(key))
