"""Notifications of a user: the list, the number of unread ones, and reading them."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.delivery.errors import NOTIFICATIONS_NOT_FOUND
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.notification_kinds import NotificationKinds
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERSONAL_DATA = PersonalData(
    "notifications",
    {"notifications": ("user_id", "data", "digest_id")},
    QUERIES.export_notifications,
    QUERIES.erase_notifications,
)


class Notification(msgspec.Struct, frozen=True):
    """A notification: `text` is for people, in a language of the user's profile; `link` is a path of the site or empty,
    and `data` depends on the kind.
    """

    notification_id: UUID
    kind: str
    text: str
    link: str
    data: dict[str, Any]
    created_at: UtcDatetime
    read_at: UtcDatetime | None


class NumberedNotification(msgspec.Struct, frozen=True):
    """A notification, with its number among those of its user."""

    seq: int
    notification: Notification


class UnreadCount(msgspec.Struct, frozen=True):
    """The number of unread notifications."""

    unread: int


class ListNotifications(Request[list[NumberedNotification]], frozen=True):
    """List a user's notifications, newest first, from before the number `before`."""

    user_id: UUID
    limit: int
    only_unread: bool = False
    before: int | None = None


class CountUnread(Request[UnreadCount], frozen=True):
    """Count a user's unread notifications."""

    user_id: UUID


class MarkRead(Request[Notification], frozen=True):
    """Mark one notification read; the time of its first reading stays. Raises Problem(NOTIFICATIONS_NOT_FOUND)."""

    user_id: UUID
    notification_id: UUID


class MarkAllRead(Request[UnreadCount], frozen=True):
    """Mark all notifications of a user read; the reply counts those that have come meanwhile."""

    user_id: UUID


NotificationMessage = ListNotifications | CountUnread | MarkRead | MarkAllRead


class Notifications(Actor[NotificationMessage]):
    """Reads and marks notifications; the workers of the pool share no state."""

    def __init__(self, database: Database, kinds: NotificationKinds) -> None:
        self.database = database
        self.kinds = kinds

    @on(ListNotifications)
    async def list_newest(self, message: ListNotifications) -> list[NumberedNotification]:
        """Read one page."""
        async with self.database.acquire() as connection:
            rows = QUERIES.list_notifications(
                connection,
                user_id=message.user_id,
                only_unread=message.only_unread,
                before=message.before,
                limit=message.limit,
            )
            return [NumberedNotification(row["seq"], notification_of(row, self.kinds)) async for row in rows]

    @on(CountUnread)
    async def count(self, message: CountUnread) -> UnreadCount:
        """Count them: a user has few."""
        async with self.database.acquire() as connection:
            return UnreadCount(await QUERIES.count_unread(connection, user_id=message.user_id))

    @on(MarkRead)
    async def mark(self, message: MarkRead) -> Notification:
        """One statement."""
        async with self.database.acquire() as connection:
            row = await QUERIES.mark_read(connection, user_id=message.user_id, notification_id=message.notification_id)
        if row is None:
            raise Problem(NOTIFICATIONS_NOT_FOUND)
        return notification_of(row, self.kinds)

    @on(MarkAllRead)
    async def mark_all(self, message: MarkAllRead) -> UnreadCount:
        """Mark, then count."""
        async with self.database.acquire() as connection:
            await QUERIES.mark_all_read(connection, user_id=message.user_id)
            return UnreadCount(await QUERIES.count_unread(connection, user_id=message.user_id))


def notification_of(row: Any, kinds: NotificationKinds) -> Notification:
    """Return the notification of a row, in a language of its user. One of a kind that is no longer declared has no
    text.
    """
    data = msgspec.json.decode(row["data"], type=dict[str, Any])
    kind = kinds.get(row["kind"])
    text, link = ("", "") if kind is None else kind.describe(data, row["languages"] or ())
    created_at: datetime = row["created_at"]
    return Notification(row["notification_id"], row["kind"], text, link, data, created_at, row["read_at"])
