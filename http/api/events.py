"""Events over HTTP: producers send CloudEvents 1.0, each with a producer key."""

from math import ceil
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from callboard.actors.ingestion.errors import EVENTS_NOT_ALLOWED, EVENTS_QUOTA, KEYS_INVALID
from callboard.actors.ingestion.event_ingestion import IngestedEvent, IngestEvents
from callboard.actors.ingestion.producer_keys import KeyHolder
from callboard.actors.ingestion.refs import EVENTS, PRODUCER, IngestionRefs
from callboard.http.api.cloud_events import BINARY, read_events
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.streams.event_parts import BATCH, FORBIDDEN, ID_LIMIT, SOURCE_LIMIT, STRUCTURED, VALUE_LIMIT
from callboard.streams.event_types import UtcDatetime

_LINE = rf"^[^{FORBIDDEN}]*$"
_BASE64_LIMIT = 4 * ceil(VALUE_LIMIT / 3)
_VIEW = {"metric": "page_views", "value": 1, "subject_id": "a", "occurred_at": "2026-01-31T12:00:00Z"}
_Data = Annotated[dict[str, Any], Meta(description="The data of one event.", examples=[_VIEW])]


class CloudEvent(msgspec.Struct, frozen=True):
    """An event in the JSON format of CloudEvents 1.0; /asyncapi.json describes the data of each type."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(min_length=1, max_length=ID_LIMIT, pattern=_LINE, examples=["7f3c"])]
    source: Annotated[str, Meta(min_length=1, max_length=SOURCE_LIMIT, pattern=_LINE, examples=["/my-site"])]
    type: Annotated[str, Meta(min_length=1, max_length=ID_LIMIT, examples=["activity.recorded"])]
    time: Annotated[UtcDatetime | None, Meta(description="The default is the time of the request.")] = None
    datacontenttype: Annotated[str, Meta(max_length=200, examples=["application/json"])] | None = None
    traceparent: Annotated[
        Annotated[str, Meta(max_length=55)] | None, Meta(description="W3C Trace Context.", examples=[None])
    ] = None
    data: Annotated[Any, Meta(description="The data as JSON.", examples=[_VIEW])] = None
    data_base64: Annotated[
        Annotated[str, Meta(max_length=_BASE64_LIMIT)] | None,
        Meta(description="The data as the base64 of JSON, in place of `data`.", examples=[None]),
    ] = None


class IngestionReport(msgspec.Struct, frozen=True):
    """The events of the request, in its order."""

    events: list[IngestedEvent]


async def authenticate(refs: IngestionRefs, key: str) -> KeyHolder:
    """Return the holder of a producer key."""
    return await refs.authenticate(key)


async def send_events(request: HttpRequest[bytes, None, IngestionRefs]) -> Reply[IngestionReport]:
    """Accept events: one in binary mode (`ce-` headers and the data as the body), one in structured mode, or a batch.

    All events of a request are accepted, or none. An event is known by its source and id: sending it again is safe, and
    has no second effect.
    """
    mode, events = read_events(request.headers, request.body, most=request.refs.max_events)
    key_id = request.holder(KeyHolder).key_id
    return Reply(IngestionReport(await request.refs.ingestion.ask(IngestEvents(key_id, mode, events))))


ROUTES = Routes(
    IngestionRefs,
    Route(
        "POST",
        "/events",
        send_events,
        summary="Send events",
        tag="events",
        access=Access.KEY,
        status=202,
        limit=EVENTS,
        caller_limit=PRODUCER,
        authenticate=authenticate,
        errors=(KEYS_INVALID, EVENTS_NOT_ALLOWED, EVENTS_QUOTA),
        consumes={STRUCTURED: CloudEvent, BATCH: tuple[CloudEvent, ...], BINARY: _Data},
        headers={
            "ce-specversion": "Binary mode: `1.0`.",
            "ce-id": "Binary mode: as `id`. Percent-encode spaces, quotes, `%` and what is not ASCII.",
            "ce-source": "Binary mode: as `source`.",
            "ce-type": "Binary mode: as `type`.",
            "ce-time": "Binary mode: as `time`.",
        },
    ),
)
