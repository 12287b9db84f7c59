"""Schedules: rows that say when which job is due. Every process looks; one moves the row and enqueues the job.

    PURGE_HOURLY = Schedule("retention", PurgeExpired(), "0 * * * *")

The times are a cron expression's, in UTC unless a zone is named. A local time that does not exist runs at the next
instant that does, one that comes twice runs once; an expression whose hours are a star follows real hours instead.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg
import msgspec
from cronsim import CronSim, CronSimError

from callboard.actors.database import Database
from callboard.actors.errors import Problem
from callboard.actors.job_queue import JobQueue
from callboard.actors.queries import queries_beside
from callboard.runtime import Actor, Request, on

QUERIES = queries_beside(__file__)

LOOK_EVERY_S = 1.0
LATE = timedelta(seconds=60)  # what is due for longer than this was missed
MAX_SHIFT = timedelta(hours=26)  # between a local time and the instant it stands for, or a zone's change of clocks
FIELDS = 5

log = logging.getLogger(__name__)


class ScheduleError(ValueError):
    """A cron expression or a zone that there is not."""


class Schedule(msgspec.Struct, frozen=True):
    """A job that is due again and again. With `missed` "once" a gap is made up for by one job, with "skip" by none.

    If the payload has a field `due_at`, it is set to the time that the job is for.
    """

    name: str
    payload: msgspec.Struct
    cron: str
    zone: str = "UTC"
    missed: Literal["once", "skip"] = "once"

    def __post_init__(self) -> None:
        """Refuse what would never be due. Raises ScheduleError."""
        check_cron(self.cron, self.zone)


def check_cron(cron: str, zone: str) -> None:
    """Raise ScheduleError unless both can be read. Five fields: minute, hour, day, month, weekday."""
    if len(cron.split()) != FIELDS:
        raise ScheduleError(f"{cron!r} has not the {FIELDS} fields minute, hour, day, month, weekday")
    try:
        CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ScheduleError(f"{cron!r} cannot be read: {error}") from error
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"there is no time zone {zone!r}") from error


def last_due(cron: str, zone: str, after: datetime, until: datetime) -> datetime | None:
    """The last due time after `after` and not after `until`; None when there is none."""
    for due in _instants(cron, zone, until, reverse=True):
        if due <= until:
            return due if due > after else None
    return None


def next_due(cron: str, zone: str, after: datetime) -> datetime | None:
    """The first due time after `after`; None when there is none in the next fifty years."""
    for due in _instants(cron, zone, after, reverse=False):
        if due > after:
            return due
    return None


def _instants(cron: str, zone: str, start: datetime, *, reverse: bool) -> Iterator[datetime]:
    """Due times in UTC, from somewhat on the near side of `start`, in one direction."""
    where = ZoneInfo(zone)
    margin = timedelta(seconds=1) if reverse else timedelta(0)
    if zone == "UTC" or cron.split()[1].startswith("*"):
        local = (start + margin).astimezone(where if zone != "UTC" else UTC)
        for due in CronSim(cron, local, reverse=reverse):
            yield due.astimezone(UTC)
        return
    # As local times without a zone, each of which is then put where it belongs.
    wall = start.astimezone(where).replace(tzinfo=None) + (MAX_SHIFT if reverse else -MAX_SHIFT)
    for due in CronSim(cron, wall, reverse=reverse):
        yield _instant_of(due, where)


def _instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which clocks show this local time; one that they leave out is the end of the gap."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == wall:
        return first
    # In a gap fold 0 has the offset before the change: find the change, at which clocks jump over this time.
    low, high = first - MAX_SHIFT, first
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)  # clocks change at whole seconds


class Look(Request[int], frozen=True):
    """Enqueue what is due; the reply is how many jobs were."""


class Scheduler(Actor[Look]):
    """Looks each second. Its clock is the database's, and so the same in every process."""

    def __init__(self, database: Database, queue: JobQueue, schedules: Sequence[Schedule]) -> None:
        self.database = database
        self.queue = queue
        self.schedules = schedules
        self._declared = False
        self._next: dict[tuple[str, str, str, datetime], datetime | None] = {}
        self._said: set[str] = set()

    async def on_start(self) -> None:
        """Begin to look."""
        self.every(LOOK_EVERY_S, Look())

    @on(Look)
    async def look(self, _message: Look) -> int:
        """Each schedule by itself: a bad row stops no other."""
        if self.database.away.is_set():
            return 0
        made = 0
        try:
            await self._declare()
            async with self.database.acquire() as connection:
                rows = [row async for row in QUERIES.enabled_schedules(connection, kinds=list(self.queue.kinds))]
            for row in rows:
                made += await self._make(row)
        except (Problem, asyncpg.PostgresError) as error:
            if not isinstance(error, Problem):
                self._say("schedules", f"schedules cannot be looked at: {type(error).__name__}")
        return made

    async def _declare(self) -> None:
        if self._declared:
            return
        async with self.database.transaction() as connection:
            for each in self.schedules:
                await QUERIES.declare(
                    connection,
                    name=each.name,
                    kind=self.queue.kind_of(each.payload).name,
                    payload=msgspec.json.encode(each.payload).decode(),
                    cron=each.cron,
                    zone=each.zone,
                    missed=each.missed,
                )
        self._declared = True

    def _due(self, row: Any) -> datetime | None:
        """The time for which a row is due now; looked up again only when its next time has come."""
        key = row["name"], row["cron"], row["zone"], row["last_due"]
        if key not in self._next:
            if len(self._next) > 10 * (1 + len(self.schedules)):
                self._next.clear()
            self._next[key] = next_due(row["cron"], row["zone"], row["last_due"])
        due: datetime | None = self._next[key]
        if due is None or due > row["now"]:
            return None
        return last_due(row["cron"], row["zone"], row["last_due"], row["now"])

    async def _make(self, row: Any) -> int:
        try:
            due = self._due(row)
            payload = None if due is None else scheduled(self.queue, row, due)
        except (ScheduleError, CronSimError, ZoneInfoNotFoundError, msgspec.MsgspecError) as error:
            self._say(row["name"], f"the schedule {row['name']} cannot be read: {error}")
            return 0
        if due is None or payload is None:
            return 0
        skipped = row["missed"] == "skip" and row["now"] - due > LATE
        async with self.database.transaction() as connection:
            if not await QUERIES.move_on(connection, name=row["name"], old_due=row["last_due"], due=due):
                return 0
            if not skipped:
                await self.queue.enqueue(connection, payload)
        return not skipped

    def _say(self, what: str, line: str) -> None:
        if what not in self._said:
            self._said.add(what)
            log.warning(line)


def scheduled(queue: JobQueue, row: Any, due: datetime) -> msgspec.Struct:
    """The payload of a schedule's job for a due time. Raises MsgspecError."""
    kind = queue.kinds[row["kind"]]
    payload: msgspec.Struct = msgspec.json.decode(row["payload"], type=kind.payload)
    if "due_at" in kind.payload.__struct_fields__:
        payload = msgspec.structs.replace(payload, due_at=due)
    return payload
