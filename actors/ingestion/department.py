"""The department ingestion: producers send events over HTTP, each with a key."""

from collections import Counter
from typing import Annotated

from msgspec import Meta, Struct

from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.department import Branch, Child, Department
from callboard.actors.figures import Figure, by_label
from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.infrastructure.retention import Retain
from callboard.actors.ingestion.errors import ERRORS
from callboard.actors.ingestion.event_ingestion import EventIngestion
from callboard.actors.ingestion.producer_keys import (
    HOURLY_BYTES,
    HOURLY_EVENTS,
    MAX_KEYS,
    HourlyBytes,
    HourlyEvents,
    KeyUses,
    ProducerKeys,
)
from callboard.actors.ingestion.refs import EVENTS, PRODUCER, IngestionRefs
from callboard.actors.settings import Count, Days, Settings
from callboard.runtime import Props, pool


class IngestionSettings(Settings, frozen=True, kw_only=True):
    """The limits of producers."""

    producer_max_keys: Annotated[Count, Meta(description="producer keys that are not revoked, at most")] = MAX_KEYS
    producer_events_per_hour: Annotated[
        HourlyEvents, Meta(description="events that a producer key may send in an hour, unless it says otherwise")
    ] = HOURLY_EVENTS
    producer_bytes_per_hour: Annotated[
        HourlyBytes, Meta(description="bytes of data that a producer key may send in an hour, unless it says otherwise")
    ] = HOURLY_BYTES
    producer_batch_events: Annotated[
        int, Meta(ge=1, le=10_000, description="events that a producer may send in one request")
    ] = 500
    producer_key_retention_days: Annotated[Days, Meta(description="days to keep revoked producer keys")] = 365
    rate_limit_producer: Annotated[Count, Meta(description="requests with events per minute, by producer key")] = (
        PRODUCER.limit
    )
    rate_limit_events: Annotated[Count, Meta(description="requests with events per minute, by address")] = EVENTS.limit


class IngestionNeeds(Struct, frozen=True):
    """The needs of ingestion: with delivery it applies the rules of mail producers."""

    infrastructure: Infrastructure
    identity: IdentityRefs
    delivery: DeliveryRefs | None = None


def build(settings: IngestionSettings, needs: IngestionNeeds) -> Branch[IngestionRefs]:
    """Construct the actors."""
    database = needs.infrastructure.database
    new_keys = Props(
        ProducerKeys,
        *(database, needs.identity),
        max_keys=settings.producer_max_keys,
        hourly_events=settings.producer_events_per_hour,
        hourly_bytes=settings.producer_bytes_per_hour,
    )
    keys = pool("producer_keys", new_keys, size=4)
    counts: Counter[str] = Counter()
    ingestion = pool("event_ingestion", Props(EventIngestion, database, needs.delivery, counts, KeyUses()), size=4)
    return Branch(
        refs=IngestionRefs(keys, ingestion, settings.producer_batch_events),
        children=(Child(keys), Child(ingestion)),
        figures=(
            Figure(
                "callboard_ingested_events",
                "Events of producers over HTTP by outcome: accepted, duplicate, not_allowed, over_quota, invalid, "
                "revoked.",
                by_label(counts),
                ("outcome",),
            ),
        ),
    )


INGESTION = Department(
    name="ingestion",
    settings=IngestionSettings,
    needs=IngestionNeeds,
    offers=IngestionRefs,
    build=build,
    errors=ERRORS,
    limits=(EVENTS, PRODUCER),
    retention=(Retain("producer_keys", "producer_keys", "revoked_at", 365, "producer_key_retention_days"),),
)
