"""The operator plane's routes: the tree, the settings, the dead letters, the metrics, and the caught mails."""

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.database import Database
from callboard.actors.errors import REQUEST_CURSOR_INVALID
from callboard.http.call import Call, Listing, Page, Raw, Reply
from callboard.http.cursors import decode_cursor, encode_cursor
from callboard.http.routing import Access, Route
from callboard.ops.config import Config
from callboard.ops.embedded.catcher import Mail
from callboard.ops.metrics import CONTENT_TYPE, Metrics
from callboard.runtime import System, TreeNode
from callboard.streams.dead_letters import DeadLetter, list_dead_letters


class Plane(msgspec.Struct, frozen=True):
    """What the operator plane shows; `mails` is there only with the embedded catcher."""

    system: Callable[[], System]
    config: Config
    database: Database
    metrics: Metrics
    mails: Callable[[], list[Mail]] | None


class DeadLetterView(msgspec.Struct, frozen=True):
    """A dead letter. Key and value stand as text when they are UTF-8, and as base64 in any case."""

    dead_letter_id: UUID
    consumer: str
    topic: str
    partition: int
    offset: int
    key: str | None
    value: str | None
    value_base64: str | None
    headers: list[tuple[str, str | None]]
    reason: str
    detail: str
    created_at: datetime


async def tree(call: Call[None, None, Plane]) -> Reply[TreeNode]:
    """The supervision tree as of now."""
    return Reply(call.services.system().dump())


async def config(call: Call[None, None, Plane]) -> Reply[dict[str, Any]]:
    """The settings in force, by their names in the environment, without secrets."""
    return Reply(call.services.config.shown())


async def mailbox(call: Call[None, None, Plane]) -> Reply[list[Mail]]:
    """The mails that the embedded catcher has caught, newest first."""
    return Reply(call.services.mails() if call.services.mails else [])


async def metrics(call: Call[None, None, Plane]) -> Raw:
    """Prometheus' text format."""
    return Raw(call.services.metrics.page(), CONTENT_TYPE)


async def dead_letters(call: Call[None, Page, Plane]) -> Listing[DeadLetterView]:
    """The dead letters that wait for a decision, newest first."""
    query = call.query
    after = decode_cursor(query.cursor, (datetime, UUID)) if query.cursor else None
    async with call.services.database.acquire() as connection:
        found = await list_dead_letters(connection, limit=query.limit + 1, after=after)
    shown = found[: query.limit]
    more = len(found) > query.limit
    cursor = encode_cursor(shown[-1].created_at, shown[-1].dead_letter_id) if more else None
    return Listing([_view(letter) for letter in shown], limit=query.limit, next_cursor=cursor)


def _view(letter: DeadLetter) -> DeadLetterView:
    return DeadLetterView(
        dead_letter_id=letter.dead_letter_id,
        consumer=letter.consumer,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        key=_text(letter.key),
        value=_text(letter.value),
        value_base64=None if letter.value is None else base64.b64encode(letter.value).decode(),
        headers=letter.headers,
        reason=letter.reason,
        detail=letter.detail,
        created_at=letter.created_at,
    )


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


ROUTES: tuple[Route[Plane], ...] = (
    Route("GET", "/tree", tree, summary="The supervision tree", tag="operators", access=Access.PUBLIC),
    Route("GET", "/config", config, summary="The settings in force", tag="operators", access=Access.PUBLIC),
    Route(
        "GET",
        "/dead-letters",
        dead_letters,
        summary="Dead letters",
        tag="operators",
        access=Access.PUBLIC,
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route("GET", "/metrics", metrics, summary="Metrics", tag="operators", access=Access.PUBLIC, absolute=True),
)
MAILBOX: Route[Plane] = Route("GET", "/mailbox", mailbox, summary="Caught mails", tag="operators", access=Access.PUBLIC)
