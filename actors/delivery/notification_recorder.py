"""The recorder: a requested notification becomes a row of its user, and a mail at once or in the user's digest.

An event, its row and its mail are noted in one transaction. The lock on the user's row of `notification_settings`
numbers the notifications of a user in the order of their commits: whoever has seen a number has seen all below it.
"""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.delivery.email_templates import TEMPLATES
from callboard.actors.delivery.events import NotificationRequested, TemplatedEmailRequested
from callboard.actors.delivery.notification_preferences import Digest
from callboard.actors.delivery.notifications import QUERIES
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.notification_kinds import Channel, NotificationKind, NotificationKinds
from callboard.runtime import Actor, Context, on, use_context
from callboard.streams.consumers import Rejection
from callboard.streams.event_types import ConsumeEvents, Envelope, derive_id
from callboard.streams.outbox import deduplicate, emit

CONSUMER = "notifications"
DIGEST_LETTER = "notification_digest"
MAX_DIGEST = 100  # notifications in one mail: a digest that is full is sent at once


class NotificationRecorder(Actor[ConsumeEvents]):
    """Records notifications, `keep` of each user; those that a digest has not gathered are kept beyond that. It calls
    `ring` after each commit.
    """

    def __init__(
        self, database: Database, kinds: NotificationKinds, *, keep: int, ring: Callable[[], None] = lambda: None
    ) -> None:
        self.ring = ring
        self.database = database
        self.kinds = kinds
        self.keep = keep

    @on(ConsumeEvents)
    @retried
    async def consume(self, message: ConsumeEvents) -> None:
        """Users are locked in one order, so that two recorders do not deadlock."""
        async with self.database.transaction() as connection:
            connection.on_commit(self.ring)
            for envelope in sorted(await deduplicate(connection, CONSUMER, message.envelopes), key=_user_of):
                with use_context(Context(envelope.traceparent)):  # a batch has many traces, a mail one
                    await self._record(connection, envelope)

    async def _record(self, connection: Any, envelope: Envelope) -> None:
        event = envelope.event
        kind = self.kinds.get(event.kind) if isinstance(event, NotificationRequested) else None
        if kind is None or not isinstance(event, NotificationRequested):
            return
        user = await QUERIES.number(
            connection, user_id=event.user_id, kind=kind.name, default=kind.default.value, is_fixed=kind.security
        )
        if user is None or user["channel"] == Channel.NONE:
            return
        notification_id = derive_id(envelope.source, envelope.event_id, CONSUMER)
        is_mailed = user["channel"] == Channel.MAIL
        waits = is_mailed and user["digest"] != Digest.OFF
        data = msgspec.convert(event.data, kind.data, strict=False)
        is_new = await QUERIES.add(
            connection,
            notification_id=notification_id,
            user_id=event.user_id,
            seq=user["seq"],
            kind=kind.name,
            data=msgspec.json.encode(data).decode(),
            waits=waits,
            digest_id=notification_id if is_mailed and not waits and not kind.letter else None,
        )
        if not is_new:
            return
        await QUERIES.trim(connection, user_id=event.user_id, seq=user["seq"], keep=self.keep)
        if waits:
            if await QUERIES.count_waiting(connection, user_id=event.user_id, limit=MAX_DIGEST) == MAX_DIGEST:
                await send_digests(connection, [event.user_id])
        elif is_mailed:
            await _send_mail(connection, event, kind, notification_id)


def admits(kinds: NotificationKinds) -> Callable[[Envelope], Rejection | None]:
    """Return the test of a request: its kind must be declared, and its data must be that of the kind."""

    def admit(envelope: Envelope) -> Rejection | None:
        event = envelope.event
        if not isinstance(event, NotificationRequested):
            return None
        kind = kinds.get(event.kind)
        if kind is None:
            return Rejection("not_allowed", f"no department declares notifications of kind {event.kind!r}")
        try:
            msgspec.convert(event.data, kind.data, strict=False)
        except msgspec.ValidationError as error:
            return Rejection("not_allowed", f"the data of a notification of kind {event.kind!r}: {error}")
        return None

    return admit


async def send_digests(connection: Any, user_ids: Sequence[UUID]) -> int:
    """Gather the waiting notifications of users into a mail each, in the caller's transaction, which holds the locks on
    their rows; return the number of mails.
    """
    mails = 0
    async for row in QUERIES.gather(connection, user_ids=user_ids):
        await _request_digest(connection, row["user_id"], row["digest_id"])
        mails += 1
    return mails


async def _send_mail(
    connection: Any, event: NotificationRequested, kind: NotificationKind, notification_id: UUID
) -> None:
    if not kind.letter:
        await _request_digest(connection, event.user_id, notification_id)
        return
    fields = TEMPLATES[kind.letter].__struct_fields__
    data = {name: value for name, value in event.data.items() if name in fields}
    mail = TemplatedEmailRequested(kind.letter, event.user_id, data)
    await emit(connection, mail, event_id=derive_id(CONSUMER, str(notification_id)))


async def _request_digest(connection: Any, user_id: UUID, digest_id: UUID) -> None:
    mail = TemplatedEmailRequested(DIGEST_LETTER, user_id, {"digest_id": str(digest_id)})
    await emit(connection, mail, event_id=derive_id(CONSUMER, str(digest_id)))


def _user_of(envelope: Envelope) -> str:
    event = envelope.event
    return str(event.user_id) if isinstance(event, NotificationRequested) else ""
