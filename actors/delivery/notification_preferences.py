"""Preferences: how each user gets each kind of notifications, the digest of their mails, and the links that end mails.

A user who has chosen nothing gets the default of each kind. Unsubscribe links work without a login (RFC 8058), and for
as long as the key that signed them is in the configuration.
"""

import hashlib
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.delivery.errors import NOTIFICATIONS_LINK_INVALID, NOTIFICATIONS_STALE
from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.notification_kinds import DIGEST, Channel, NotificationKinds
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.signing_keys import text_of
from callboard.actors.infrastructure.token_signer import Signer
from callboard.runtime import Actor, Request, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERSONAL_DATA = PersonalData(
    "notification_preferences",
    {"notification_settings": ("user_id", "digest", "channels")},
    QUERIES.export_preferences,
    QUERIES.erase_preferences,
)

UNSUBSCRIBE_PATH = "/notifications/unsubscribe"
UUID_BYTES = 16


class Digest(StrEnum):
    """When notifications are mailed: each at once, or gathered in one mail a day or a week."""

    OFF = "off"
    DAILY = "daily"
    WEEKLY = "weekly"


class NotificationKindView(msgspec.Struct, frozen=True):
    """A kind of notifications, its default channel, and whether that is fixed: it is for those about security."""

    kind: str
    default: Channel
    is_fixed: bool


class Preferences(msgspec.Struct, frozen=True):
    """A user's digest, the channel of every kind, and the kinds that there are."""

    digest: Digest
    channels: dict[str, Channel]
    kinds: tuple[NotificationKindView, ...]

    @property
    def tag(self) -> str:
        """Return the ETag: it differs for other preferences."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class GetPreferences(Request[Preferences], frozen=True):
    """Read a user's preferences."""

    user_id: UUID


class ReplacePreferences(Request[Preferences], frozen=True):
    """Replace a user's preferences; a kind without a channel gets its default. `tag` is that of the preferences that
    the caller read, or None.

    Raises Problem(REQUEST_INVALID, NOTIFICATIONS_STALE).
    """

    user_id: UUID
    digest: Digest
    channels: Mapping[str, Channel]
    tag: str | None = None


class Unsubscribe(Request[None], frozen=True):
    """Stop the mails that an unsubscribe link names; they stay in the app. The same again changes nothing.

    Raises Problem(NOTIFICATIONS_LINK_INVALID).
    """

    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return "Unsubscribe(...)"


class UnsubscribeLinks:
    """Makes and reads the links. `api` is the public URL of the API: mail programs send a POST to the link itself."""

    def __init__(self, signer: Signer, api: str, kinds: NotificationKinds) -> None:
        self._signer = signer
        self._url = f"{api.rstrip('/')}{UNSUBSCRIBE_PATH}?token="
        self.kinds = kinds

    def unsubscribe_url(self, user_id: UUID, kind: str) -> str | None:
        """Return the link that stops a user's mails of a kind, or with DIGEST those of all kinds.

        None for mails that cannot be stopped: those of no kind of notifications, and security notifications.
        """
        declared = self.kinds.get(kind)
        if kind != DIGEST and (declared is None or declared.security):
            return None
        value = user_id.bytes + kind.encode()
        return f"{self._url}{text_of(value)}.{self._signer.unsubscribe_proof(value)}"

    def read(self, token: str) -> tuple[UUID, str]:
        """Return the user and the kind of a link's token. Raises Problem(NOTIFICATIONS_LINK_INVALID)."""
        encoded, _, proof = token.partition(".")
        try:
            value = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
            user_id, kind = UUID(bytes=value[:UUID_BYTES]), value[UUID_BYTES:].decode()
        except ValueError:  # UnicodeDecodeError and binascii.Error too
            raise Problem(NOTIFICATIONS_LINK_INVALID) from None
        if text_of(value) != encoded or not self._signer.is_unsubscribe_proof(value, proof):
            raise Problem(NOTIFICATIONS_LINK_INVALID)
        return user_id, kind


class NotificationPreferences(Actor[GetPreferences | ReplacePreferences | Unsubscribe]):
    """Reads and writes preferences; the workers of the pool share no state.

    A notification that waits for a digest and is no longer to be mailed leaves the digest.
    """

    def __init__(self, database: Database, kinds: NotificationKinds, links: UnsubscribeLinks) -> None:
        self.database = database
        self.kinds = kinds
        self.links = links

    @on(GetPreferences)
    async def get(self, message: GetPreferences) -> Preferences:
        """Read one row, if the user has one."""
        async with self.database.acquire() as connection:
            row = await QUERIES.preferences_of(connection, user_id=message.user_id)
        return self._preferences(row)

    @on(ReplacePreferences)
    @retried
    async def replace(self, message: ReplacePreferences) -> Preferences:
        """The row is locked while the tag is compared."""
        if faults := preference_faults(self.kinds, message.channels):
            raise Problem(REQUEST_INVALID, details=tuple(faults))
        chosen = {
            name: channel for name, channel in message.channels.items() if channel is not self.kinds[name].default
        }
        async with self.database.transaction() as connection:
            current = self._preferences(await QUERIES.lock_preferences(connection, user_id=message.user_id))
            if message.tag not in (None, current.tag):
                raise Problem(NOTIFICATIONS_STALE)
            row = await QUERIES.put_preferences(
                connection,
                user_id=message.user_id,
                digest=message.digest.value,
                channels=msgspec.json.encode(chosen).decode(),
            )
            preferences = self._preferences(row)
            await self._release(connection, message.user_id, preferences)
        return preferences

    @on(Unsubscribe)
    @retried
    async def unsubscribe(self, message: Unsubscribe) -> None:
        """Change each mailed kind of the link to in_app. A user who is gone needs nothing."""
        user_id, named = self.links.read(message.token)
        async with self.database.transaction() as connection:
            row = await QUERIES.lock_preferences(connection, user_id=user_id)
            if row is None:
                return
            current = self._preferences(row)
            ended = {
                name: Channel.IN_APP
                for name, channel in current.channels.items()
                if channel is Channel.MAIL and named in (name, DIGEST) and not self.kinds[name].security
            }
            channels = msgspec.json.decode(row["channels"], type=dict[str, Channel]) | ended
            row = await QUERIES.put_preferences(
                connection, user_id=user_id, digest=row["digest"], channels=msgspec.json.encode(channels).decode()
            )
            await self._release(connection, user_id, self._preferences(row))

    async def _release(self, connection: Any, user_id: UUID, preferences: Preferences) -> None:
        mailed = [name for name, channel in preferences.channels.items() if channel is Channel.MAIL]
        await QUERIES.release_waiting(connection, user_id=user_id, mailed=mailed)

    def _preferences(self, row: Any) -> Preferences:
        """Return the preferences of a row; those of a kind that is no longer declared are kept in it, and not shown."""
        chosen = {} if row is None else msgspec.json.decode(row["channels"], type=dict[str, Channel])
        return Preferences(
            Digest.OFF if row is None else Digest(row["digest"]),
            {name: chosen.get(name, kind.default) for name, kind in self.kinds.items()},
            tuple(NotificationKindView(kind.name, kind.default, kind.security) for kind in self.kinds.values()),
        )


def preference_faults(kinds: NotificationKinds, channels: Mapping[str, Channel]) -> list[FieldError]:
    """Return the kinds that do not exist, and the security notifications that have another channel than theirs."""
    faults = []
    for name, channel in channels.items():
        kind = kinds.get(name)
        if kind is None:
            faults.append(FieldError(f"channels.{name[:100]}", "There is no such kind of notifications."))
        elif kind.security and channel is not kind.default:
            faults.append(FieldError(f"channels.{name}", f"A security notification: must be {kind.default.value}."))
    return faults
