"""Profiles: a user's public description, and the preferences of the user's clients."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.identity.errors import USERS_NOT_FOUND, USERS_STALE
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.runtime import Actor, Request, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.field_rules import apply_rules
from callboard.streams.queries import queries_beside
from callboard.streams.visible_text import visible, visible_rule

QUERIES = queries_beside(__file__)

PERSONAL_DATA = PersonalData(
    "profile",
    {"user_profiles": ("user_id", "avatar_url", "bio", "preferences", "languages")},
    QUERIES.export_profile,
    QUERIES.erase_profile,
)

MAX_URL_LENGTH = 2000  # as schema.sql has it
MAX_PREFERENCES_BYTES = 8192  # as JSON in the stored form
MAX_PREFERENCES_DEPTH = 5
BIO_LENGTH = 0, 2000
Bio = Annotated[str, visible(*BIO_LENGTH, lines=True, examples=("Writes about engines.",))]
read_bio = visible_rule(*BIO_LENGTH, lines=True)


class Profile(msgspec.Struct, frozen=True):
    """A user's profile. `preferences` is any JSON object; the server does not interpret it. `languages` are those in
    which the user reads mails, the best first; at registration they are the browser's.
    """

    user_id: UUID
    avatar_url: str | None
    bio: str | None
    preferences: dict[str, Any]
    updated_at: UtcDatetime
    languages: list[str]

    @property
    def tag(self) -> str:
        """Return the ETag: it differs after every change."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class GetProfile(Request[Profile], frozen=True):
    """Read a user's profile. Raises Problem(USERS_NOT_FOUND)."""

    user_id: UUID


class ReplaceProfile(Request[Profile], frozen=True):
    """Replace a user's profile; None leaves its languages. `tag` is that of the profile that the caller read, or None.

    Raises Problem(REQUEST_INVALID, USERS_NOT_FOUND, USERS_STALE).
    """

    user_id: UUID
    avatar_url: str | None
    bio: str | None
    preferences: dict[str, Any]
    tag: str | None = None
    languages: Sequence[str] | None = None


class Profiles(Actor[GetProfile | ReplaceProfile]):
    """Reads and writes profiles; the workers of the pool share no state."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(GetProfile)
    async def get(self, message: GetProfile) -> Profile:
        """Read one row."""
        async with self.database.acquire() as connection:
            row = await QUERIES.profile_of(connection, user_id=message.user_id)
        return _profile(row)

    @on(ReplaceProfile)
    @retried
    async def put(self, message: ReplaceProfile) -> Profile:
        """The row is locked while the tag is compared."""
        async with self.database.transaction() as connection:
            profile = _profile(await QUERIES.lock_profile(connection, user_id=message.user_id))
            # An earlier release stored preferences in a longer form; a client can put again the value that it read.
            room = max(MAX_PREFERENCES_BYTES, len(msgspec.json.encode(profile.preferences)))
            if faults := profile_faults(message.avatar_url, message.bio, message.preferences, room):
                raise Problem(REQUEST_INVALID, details=tuple(faults))
            if message.tag not in (None, profile.tag):
                raise Problem(USERS_STALE)
            row = await QUERIES.put_profile(
                connection,
                user_id=message.user_id,
                avatar_url=message.avatar_url,
                bio=None if message.bio is None else read_bio(message.bio),
                preferences=msgspec.json.encode(message.preferences).decode(),
                languages=None if message.languages is None else list(message.languages),
            )
        return _profile(row)


def profile_faults(
    avatar_url: str | None, bio: str | None, preferences: Mapping[str, Any], room: int = MAX_PREFERENCES_BYTES
) -> list[FieldError]:
    """Validate a profile; the faults are for its owner to read. `room` limits the bytes of its preferences."""
    faults: list[FieldError] = []
    if avatar_url is not None and not is_web_address(avatar_url):
        faults.append(
            FieldError("avatar_url", f"must begin with https:// or http://, of {MAX_URL_LENGTH} characters at most")
        )
    _, broken = apply_rules(Bio | None, bio)
    faults += [FieldError("bio", each.message) for each in broken]
    if not is_within(preferences, MAX_PREFERENCES_DEPTH):
        faults.append(FieldError("preferences", f"must not be nested deeper than {MAX_PREFERENCES_DEPTH} levels"))
    elif len(msgspec.json.encode(preferences)) > room:
        faults.append(FieldError("preferences", f"must have {room} bytes at most"))
    return faults


def is_web_address(text: str) -> bool:
    """Whether a text is safe as the URL of a picture in a page: http or https, with a host and perhaps a port."""
    if len(text) > MAX_URL_LENGTH or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        is_port = parts.port != 0  # one that is none raises
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None and is_port
    except ValueError:
        return False


def is_within(value: Any, levels: int) -> bool:
    """Whether a JSON value has at most this many levels of objects and lists."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return levels > 0 and all(is_within(each, levels - 1) for each in inner)
    return True


def _profile(row: Any) -> Profile:
    if row is None:
        raise Problem(USERS_NOT_FOUND)
    preferences = msgspec.json.decode(row["preferences"])
    return Profile(row["user_id"], row["avatar_url"], row["bio"], preferences, row["updated_at"], row["languages"])
