"""The stream of notifications over HTTP, as server-sent events.

Each event's id is the number of a notification among those of its user; the first event, `ready`, has the number from
which the stream goes on. So a client that connects again with the last id misses nothing and gets nothing twice.
"""

import re
from random import randint
from uuid import UUID

import msgspec

from callboard.actors.delivery.errors import NOTIFICATIONS_TOO_MANY_STREAMS
from callboard.actors.delivery.notification_streams import Start, Subscription
from callboard.actors.delivery.refs import DeliveryRefs
from callboard.http.server.client_ip import rate_limit_address
from callboard.http.server.headers import TIMEOUT, timeout_s
from callboard.http.server.request import HttpRequest, RawReply
from callboard.http.server.response import LiveBody
from callboard.http.server.routing import Access, Route, Routes
from callboard.http.server.server_sent_events import CONTENT_TYPE, HEADERS, HEARTBEAT, encode_event

RETRY_MS = 1_000, 5_000  # chosen for each stream: after a restart not all clients come at once
EVENT_ID = re.compile(r"(?P<seq>[0-9]{1,18})\.(?P<user>[0-9a-f]{12})")


class Ready(msgspec.Struct, frozen=True):
    """The first event: the number of unread notifications, and whether the stream follows the client's last event
    without a gap. If not, the client lists its notifications anew.
    """

    unread: int
    is_resumed: bool


class NotificationEvents(LiveBody):
    """The body of one stream."""

    __slots__ = ("_start", "_subscription")

    def __init__(self, subscription: Subscription, start: Start) -> None:
        self._subscription = subscription
        self._start: Start | None = start

    async def next(self) -> bytes | None:
        """Return the first event, notifications, or a heartbeat."""
        user_id, start = self._subscription.user_id, self._start
        if start is not None:
            self._start = None
            data = msgspec.json.encode(Ready(start.unread, start.is_resumed))
            return encode_event("ready", data, event_id_of(start.position, user_id), randint(*RETRY_MS))  # noqa: S311 - no secret
        found = await self._subscription.next()
        if not found:
            return None if found is None else HEARTBEAT
        return b"".join(
            encode_event("notification", msgspec.json.encode(each.notification), event_id_of(each.seq, user_id))
            for each in found
        )

    def end(self) -> None:
        """See LiveBody."""
        self._subscription.end()

    def close(self) -> None:
        """See LiveBody."""
        self._subscription.close()


def event_id_of(seq: int, user_id: UUID) -> str:
    """Return an event's id, which means nothing in the stream of another user."""
    return f"{seq}.{user_id.hex[:12]}"


def read_event_id(text: str | None, user_id: UUID) -> int | None:
    """Return the number in an event's id; None for the id of another user, and for any other text."""
    match = EVENT_ID.fullmatch(text or "")
    return int(match["seq"]) if match is not None and match["user"] == user_id.hex[:12] else None


async def stream(request: HttpRequest[None, None, DeliveryRefs]) -> RawReply:
    """Stream your notifications as server-sent events.

    The first event is `ready`: with `is_resumed` the stream goes on after Last-Event-ID; without it, list your
    notifications anew. Each `notification` has the form that the list gives. The stream ends with its session, after
    the life of an access token, and after X-Request-Timeout: connect again with the id of the last event.
    """
    who = request.identity
    subscription, start = await request.refs.streams.open(
        who.user_id,
        who.session_id,
        rate_limit_address(request.ip),
        after=read_event_id(request.header("Last-Event-ID"), who.user_id),
        life_s=timeout_s(request.headers) if TIMEOUT in request.headers else None,
    )
    return RawReply(NotificationEvents(subscription, start), CONTENT_TYPE, headers=HEADERS)


ROUTES = Routes(
    DeliveryRefs,
    Route(
        "GET",
        "/notifications/stream",
        stream,
        summary="Stream your notifications",
        tag="notifications",
        access=Access.USER,
        errors=(NOTIFICATIONS_TOO_MANY_STREAMS,),
        content_type=CONTENT_TYPE,
    ),
)
