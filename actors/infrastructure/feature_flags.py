"""Feature flags: switches for all users and for single ones, in force in every process within a second.

PostgreSQL holds them. `FlagSnapshot` is read in the process, at no cost; the actor `FlagKeeper` keeps it up to date. If
PostgreSQL is unavailable, each process keeps the last known values.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.identity.errors import USERS_NOT_FOUND
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.audit_actions import FLAG_CHANGED
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.errors import FLAGS_FULL, FLAGS_NOT_FOUND
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.runtime import Actor, Message, Request, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERSONAL_DATA = PersonalData(
    "flags", {"feature_flag_overrides": ("user_id",)}, QUERIES.export_overrides, QUERIES.erase_overrides
)

INTERVAL_S = 1.0  # how long after a change a process may learn of it
MOST_OVERRIDES = 10_000  # of one flag: every process holds all of them

log = logging.getLogger(__name__)


class FeatureFlag(msgspec.Struct, frozen=True):
    """A switch that a department declares; its default holds until an admin sets it."""

    name: str
    default: bool = False


class FlagName(StrEnum):
    """Our flags."""

    NEW_UI = "enable_new_ui"
    ADVANCED_SEARCH = "enable_advanced_search"
    VIDEO_UPLOAD = "enable_video_upload"
    MAINTENANCE = "maintenance_mode"  # only admins pass
    STRICT_LIMITS = "rate_limit_strict"  # if off, every rate limit is doubled


OUR_FLAGS = tuple(FeatureFlag(name.value, name is FlagName.STRICT_LIMITS) for name in FlagName)


class Flag(msgspec.Struct, frozen=True):
    """A feature flag: its value for all users, the number of users with an override, and the override of the requested
    user.
    """

    name: str
    is_on: bool
    overrides: int
    user_id: UUID | None = None
    override: bool | None = None


class GetFlag(Request[Flag], frozen=True):
    """Read a flag, and one user's override. Raises Problem(FLAGS_NOT_FOUND)."""

    name: str
    user_id: UUID | None = None


class SetFlag(Request[Flag], frozen=True):
    """Set a flag for all users or for one; None removes that user's override.

    Raises Problem(FLAGS_NOT_FOUND, USERS_NOT_FOUND, FLAGS_FULL).
    """

    name: str
    is_on: bool | None
    user_id: UUID | None = None


class ReadFlags(Message, frozen=True):
    """Check whether a flag has changed elsewhere."""


FlagMessage = GetFlag | SetFlag


class FlagSnapshot:
    """The current values of all flags in this process."""

    def __init__(self, flags: Sequence[FeatureFlag] = OUR_FLAGS) -> None:
        self.defaults = {flag.name: flag.default for flag in flags}
        self._on: Mapping[str, bool] = {}
        self._overrides: Mapping[tuple[str, UUID], bool] = {}

    def is_enabled(self, flag: FeatureFlag | str, user_id: UUID | None = None) -> bool:
        """Whether a flag is on, for a user if one is named. Raises KeyError for an undeclared flag."""
        name = flag if isinstance(flag, str) else flag.name
        if user_id is not None and (override := self._overrides.get((name, user_id))) is not None:
            return override
        default = self.defaults[name]
        return self._on.get(name, default)

    def view(self, user_id: UUID | None) -> dict[str, bool]:
        """Return every flag as it applies to a user, or to an anonymous caller."""
        return {name: self.is_enabled(name, user_id) for name in self.defaults}

    def replace(self, on: Mapping[str, bool], overrides: Mapping[tuple[str, UUID], bool]) -> None:
        """Replace the values by those of PostgreSQL."""
        for name, default in self.defaults.items():
            before, after = self._on.get(name, default), on.get(name, default)
            if before is not after:
                log.info("flag %s is %s", name, "on" if after else "off")
        self._on, self._overrides = on, overrides


class FlagKeeper(Actor[FlagMessage | ReadFlags]):
    """Reads and writes flags, and updates the snapshot."""

    def __init__(self, database: Database, flags: FlagSnapshot) -> None:
        self.database = database
        self.flags = flags
        self.versions: dict[str, tuple[bool, int]] | None = None

    async def on_start(self) -> None:
        """Start the rounds."""
        await self.ref.tell(ReadFlags())
        self.every(INTERVAL_S, ReadFlags())

    @on(ReadFlags)
    async def read(self, _message: ReadFlags) -> None:
        """Overrides are read only if a version shows a change."""
        with suppress(Problem):  # PostgreSQL is unavailable: the last known values stay
            async with self.database.acquire() as connection:
                await self._read(connection)

    async def _read(self, connection: Any) -> None:
        versions = {row["name"]: (row["is_on"], row["version"]) async for row in QUERIES.versions(connection)}
        if versions != self.versions:
            overrides = {(row["name"], row["user_id"]): row["is_on"] async for row in QUERIES.overrides(connection)}
            self.flags.replace({name: is_on for name, (is_on, _) in versions.items()}, overrides)
            self.versions = versions

    @on(GetFlag)
    async def get(self, message: GetFlag) -> Flag:
        """Read from PostgreSQL, so that a client sees its own change made in another process."""
        async with self.database.acquire() as connection:
            return await self._flag(connection, self._declared(message.name), message.user_id)

    @on(SetFlag)
    @retried
    async def set(self, message: SetFlag) -> Flag:
        """In force in this process by the reply."""
        name, user_id = self._declared(message.name), message.user_id
        async with self.database.transaction() as connection:
            is_on = message.is_on if user_id is None else None
            await QUERIES.put_flag(connection, name=name, is_on=is_on, default=self.flags.defaults[name])
            if user_id is not None and message.is_on is None:
                await QUERIES.remove_override(connection, name=name, user_id=user_id)
            elif user_id is not None and not await QUERIES.put_override(
                connection, name=name, user_id=user_id, is_on=message.is_on
            ):
                raise Problem(USERS_NOT_FOUND)
            flag = await self._flag(connection, name, user_id)
            if flag.overrides > MOST_OVERRIDES:
                raise Problem(FLAGS_FULL)
            await audit.record(connection, FLAG_CHANGED, of=user_id, name=name, is_on=message.is_on)
        await self.read(ReadFlags())
        return flag

    async def _flag(self, connection: Any, name: str, user_id: UUID | None) -> Flag:
        row = await QUERIES.flag(connection, name=name, user_id=user_id)
        if row is None:
            return Flag(name, self.flags.defaults[name], overrides=0, user_id=user_id)
        return Flag(name, row["is_on"], row["overrides"], user_id, row["override"])

    def _declared(self, name: str) -> str:
        if name not in self.flags.defaults:
            raise Problem(FLAGS_NOT_FOUND)
        return name
