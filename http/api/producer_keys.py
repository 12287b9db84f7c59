"""Producer keys over HTTP, for admins: creation and revocation need a password that was confirmed lately."""

from typing import Annotated

from msgspec import Meta

from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.actors.identity.errors import AUTH_STEP_UP_REQUIRED
from callboard.actors.ingestion.errors import KEYS_FULL, KEYS_NAME_TAKEN, KEYS_NOT_FOUND
from callboard.actors.ingestion.producer_keys import (
    MAX_SOURCES,
    CreateKey,
    HourlyBytes,
    HourlyEvents,
    KeyName,
    ListKeys,
    NewProducerKey,
    ProducerKey,
    RevokeKey,
    Source,
)
from callboard.actors.ingestion.refs import IngestionRefs
from callboard.http.server.pagination import BY_TIME
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, Reply
from callboard.http.server.routing import Access, Route, Routes


class KeyBody(Body, frozen=True, kw_only=True):
    """A producer's name, and what it may send. A source that ends with `*` stands for all with this beginning."""

    name: Annotated[KeyName, Meta(examples=["Web shop"])]
    types: Annotated[tuple[str, ...], Meta(min_length=1, max_length=20, examples=[["activity.recorded"]])]
    sources: Annotated[tuple[Source, ...], Meta(min_length=1, max_length=MAX_SOURCES, examples=[["/shop/*"]])]
    hourly_events: HourlyEvents | None = None
    hourly_bytes: HourlyBytes | None = None


class KeyQuery(Page, frozen=True, kw_only=True):
    """Keys, newest first."""

    cursor: Annotated[str, BY_TIME.meta] | None = None


async def create(request: HttpRequest[KeyBody, None, IngestionRefs]) -> Reply[NewProducerKey]:
    """Create a producer key. Its text is in this response, and cannot be read again."""
    body = request.body
    message = CreateKey(
        body.name, body.types, body.sources, body.hourly_events, body.hourly_bytes, caller=request.identity
    )
    return Reply(await request.refs.keys.ask(message))


async def list_keys(request: HttpRequest[None, KeyQuery, IngestionRefs]) -> PageReply[ProducerKey]:
    """List producer keys, revoked ones too, newest first."""
    query = request.query
    before, before_id = BY_TIME.decode(query.cursor) if query.cursor else (None, None)
    found = await request.refs.keys.ask(ListKeys(query.limit + 1, before, before_id))
    return BY_TIME.page(found, query.limit, lambda last: (last.created_at, last.key_id))


async def revoke(request: HttpRequest[None, None, IngestionRefs]) -> Reply[None]:
    """Revoke a producer key: it is refused from the next request on."""
    await request.refs.keys.ask(RevokeKey(request.uuid("key_id"), caller=request.identity))
    return Reply(None)


ROUTES = Routes(
    IngestionRefs,
    Route(
        "POST",
        "/producer-keys",
        create,
        summary="Create a producer key",
        tag="events",
        access=Access.ADMIN,
        status=201,
        shows_secret=True,
        errors=(KEYS_NAME_TAKEN, KEYS_FULL, AUTH_STEP_UP_REQUIRED),
    ),
    Route(
        "GET",
        "/producer-keys",
        list_keys,
        summary="List producer keys",
        tag="events",
        access=Access.ADMIN,
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route(
        "DELETE",
        "/producer-keys/{key_id}",
        revoke,
        summary="Revoke a producer key",
        tag="events",
        access=Access.ADMIN,
        status=204,
        errors=(KEYS_NOT_FOUND, AUTH_STEP_UP_REQUIRED),
    ),
)
