"""Streams of notifications: a subscription reads its user's rows in PostgreSQL from its own position on.

Rows are numbered in the order of their commits, so a position misses nothing and repeats nothing, in any process. What
wakes a subscription is only a hint; a watcher looks each second in any case. A subscription buffers nothing: while its
client does not read, it does not read either.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from enum import StrEnum
from random import uniform
from typing import Any
from uuid import UUID

from msgspec import Struct

from callboard.actors.delivery.errors import NOTIFICATIONS_TOO_MANY_STREAMS
from callboard.actors.delivery.notifications import QUERIES, NumberedNotification, notification_of
from callboard.actors.errors import Problem
from callboard.actors.figures import Figure, by_label
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_loops import Trouble, repeat
from callboard.actors.infrastructure.notification_kinds import NotificationKinds
from callboard.runtime import Actor

CHANNEL = "callboard_notifications"
TICK_S = 1.0  # the interval of looking for new rows and ended sessions
PACE_S = 0.05  # the least time between two looks
HEARTBEAT_S = 15.0  # proxies close connections that are silent for longer than 30 s
BATCH = 20  # notifications in one piece
RETRY_S = 10.0

EndedAmong = Callable[[Collection[UUID]], Awaitable[Collection[UUID]]]  # of these sessions

log = logging.getLogger(__name__)


class End(StrEnum):
    """The reason for the end of a stream."""

    CLOSED = "closed"  # by the client, or by a server that stops
    SESSION = "session"
    AGE = "age"


class Bounds(Struct, frozen=True):
    """The streams of one user, and of one address, in a process."""

    per_user: int = 10
    per_address: int = 200


class Start(Struct, frozen=True):
    """The position from which a stream goes on, and the unread notifications. `is_resumed` says that nothing lies
    between the position that the client gave and this one: else it must list its notifications anew.
    """

    position: int
    unread: int
    is_resumed: bool


class Subscription:
    """One open stream; `next` is called by one task. Its owner closes it."""

    __slots__ = (
        "_beat_at",
        "_beats",
        "_position",
        "_streams",
        "_target",
        "_waiter",
        "address",
        "end_reason",
        "ends_at",
        "session_id",
        "user_id",
    )

    def __init__(
        self, streams: "NotificationStreams", user_id: UUID, session_id: UUID, address: str, life_s: float
    ) -> None:
        now = asyncio.get_running_loop().time()
        self.user_id = user_id
        self.session_id = session_id
        self.address = address
        self.ends_at = now + life_s
        self.end_reason: End | None = None
        self._streams = streams
        self._position = self._target = 0  # the last number that was sent, and the last that is known
        self._beat_at = now + uniform(0.5, 1.0) * HEARTBEAT_S  # noqa: S311 - so that not all beat at once
        self._beats = False
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> Sequence[NumberedNotification] | None:
        """Return the next notifications, none for a heartbeat, or None at the end. It waits while PostgreSQL is
        unavailable.
        """
        while self.end_reason is None:
            if self._beats:
                self._beats = False
                return ()
            if self._target > self._position and (found := await self._read()):
                return found
            if self.end_reason is None and not self._beats:
                await self._wait()
        return None

    async def _read(self) -> Sequence[NumberedNotification]:
        target = self._target
        try:
            found = await self._streams.read(self.user_id, self._position)
        except Problem:  # it passes: the watcher announces the target again
            return ()
        self._position = found[-1].seq if len(found) == BATCH else max(target, *(each.seq for each in found), 0)
        self._beat_at = asyncio.get_running_loop().time() + HEARTBEAT_S
        return found

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def begin(self, position: int, target: int) -> None:
        """Start at a position."""
        self._position = position
        self.announce(target)

    def announce(self, target: int) -> None:
        """Note the last number of the user's notifications."""
        self._target = max(self._target, target)
        if self._target > self._position:
            self._wake()

    def look(self, now: float) -> None:
        """Beat, or end, if it is time."""
        if now >= self.ends_at:
            self.end(End.AGE)
        elif now >= self._beat_at:
            self._beat_at = now + HEARTBEAT_S
            self._beats = True
            self._wake()

    def end(self, reason: End = End.CLOSED) -> None:
        """Have `next` return None."""
        self.end_reason = self.end_reason or reason
        self._wake()

    def close(self) -> None:
        """Leave the open streams; again does nothing."""
        self.end()
        self._streams.discard(self)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class NotificationStreams:
    """The open streams of a process, and their counts for the metrics."""

    def __init__(self, database: Database, kinds: NotificationKinds, bounds: Bounds, life_s: float) -> None:
        self.database = database
        self.kinds = kinds
        self.bounds = bounds
        self.life_s = life_s
        self.tellers: list[Callable[[], None]] = []
        self.hinted = False
        self.rung = asyncio.Event()
        self.occupied = asyncio.Event()  # set while there is a stream
        self.sent = 0
        self.refused: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._by_user: dict[UUID, set[Subscription]] = {}
        self._by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return the number of open streams."""
        return sum(map(len, self._by_user.values()))

    def ring(self) -> None:
        """Announce new notifications to this process and the others, after their commit."""
        self.wake()
        for tell in self.tellers:
            tell()

    def wake(self) -> None:
        """Have the watcher look at once."""
        self.rung.set()

    async def open(
        self,
        user_id: UUID,
        session_id: UUID,
        address: str,
        *,
        after: int | None = None,
        life_s: float | None = None,
    ) -> tuple[Subscription, Start]:
        """Open a stream from after a number, or from now. It ends with its session, and after the life of an access
        token or `life_s`.

        Raises Problem(NOTIFICATIONS_TOO_MANY_STREAMS), and the database's.
        """
        life_s = self.life_s if life_s is None else min(life_s, self.life_s)
        subscription = Subscription(self, user_id, session_id, address, life_s)
        self._add(subscription)
        try:
            async with self.database.acquire() as connection:
                row = await QUERIES.stream_start(connection, user_id=user_id)
        except BaseException:
            self.discard(subscription)
            raise
        last, first = row["last_seq"], row["first_seq"]
        position = last if after is None or after > last else after
        is_resumed = after == position and (position == last or (first is not None and first <= position + 1))
        subscription.begin(position, last)
        return subscription, Start(position, row["unread"], is_resumed)

    def _add(self, subscription: Subscription) -> None:
        of_user = self._by_user.get(subscription.user_id, set())
        by_bound = {
            "user": len(of_user) >= self.bounds.per_user,
            "address": self._by_address[subscription.address] >= self.bounds.per_address,
        }
        for bound, is_reached in by_bound.items():
            if is_reached:
                self.refused[bound] += 1
                raise Problem(NOTIFICATIONS_TOO_MANY_STREAMS, retry_after_s=RETRY_S)
        of_user.add(subscription)
        self._by_user[subscription.user_id] = of_user
        self._by_address[subscription.address] += 1
        self.occupied.set()

    def discard(self, subscription: Subscription) -> None:
        """Remove a stream."""
        of_user = self._by_user.get(subscription.user_id, set())
        if subscription not in of_user:
            return
        of_user.discard(subscription)
        self.ended[subscription.end_reason or End.CLOSED] += 1
        self._by_address[subscription.address] -= 1
        if not self._by_address[subscription.address]:
            del self._by_address[subscription.address]
        if not of_user:
            del self._by_user[subscription.user_id]
        if not self._by_user:
            self.occupied.clear()

    async def read(self, user_id: UUID, after: int) -> Sequence[NumberedNotification]:
        """Return the next notifications of a user, oldest first, BATCH at most."""
        async with self.database.acquire() as connection:
            rows = QUERIES.after(connection, user_id=user_id, after=after, limit=BATCH)
            found = [NumberedNotification(row["seq"], notification_of(row, self.kinds)) async for row in rows]
        self.sent += len(found)
        return found

    def look(self, now: float) -> None:
        """Beat those that have been silent, and end those whose time is over."""
        for subscription in self._all():
            subscription.look(now)

    async def announce(self) -> None:
        """Tell each stream the last number of its user."""
        async with self.database.acquire() as connection:
            rows: list[Any] = [row async for row in QUERIES.last_numbers(connection, user_ids=list(self._by_user))]
        for row in rows:
            for subscription in self._by_user.get(row["user_id"], ()):
                subscription.announce(row["last_seq"])

    async def end_with_sessions(self, ended_among: EndedAmong) -> None:
        """End the streams of sessions that have ended."""
        of_session: dict[UUID, list[Subscription]] = {}
        for subscription in self._all():
            of_session.setdefault(subscription.session_id, []).append(subscription)
        for session_id in await ended_among(of_session):
            for subscription in of_session[session_id]:
                subscription.end(End.SESSION)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Return the figures for the metrics."""
        return (
            Figure(
                "callboard_notification_streams",
                "Open streams of notifications.",
                lambda: {(): float(len(self))},
                is_counter=False,
            ),
            Figure(
                "callboard_notification_streams_ended",
                "Streams that have ended by reason: closed (by the client or a stop), session, age.",
                by_label(self.ended),
                ("reason",),
            ),
            Figure(
                "callboard_notification_streams_refused",
                "Streams that were refused at a bound: of one user, or of one address.",
                by_label(self.refused),
                ("bound",),
            ),
            Figure(
                "callboard_notifications_streamed",
                "Notifications sent on streams.",
                lambda: {(): float(self.sent)},
            ),
        )

    def _all(self) -> list[Subscription]:
        return [subscription for of_user in self._by_user.values() for subscription in of_user]


class StreamWatcher(Actor[None]):
    """Wakes the streams of a process: when it is rung, and each second."""

    def __init__(self, streams: NotificationStreams, ended_among: EndedAmong) -> None:
        self.streams = streams
        self.ended_among = ended_among
        self._looked_at = 0.0
        self._trouble = Trouble(log, "streams of notifications cannot be served")

    async def run(self) -> None:
        """Look until stopped; a process without a stream asks nothing."""
        await repeat(self._look, self._trouble)

    async def _look(self) -> float:
        streams, loop = self.streams, asyncio.get_running_loop()
        await streams.occupied.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._looked_at + TICK_S - loop.time()):
                await streams.rung.wait()
        streams.rung.clear()
        now = loop.time()
        streams.look(now)
        if now >= self._looked_at + TICK_S:
            self._looked_at = now
            await streams.end_with_sessions(self.ended_among)
        await streams.announce()
        return PACE_S
