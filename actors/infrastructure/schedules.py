"""Schedules: rows with the times of recurring jobs. Every process checks; one moves the row and enqueues the job.

    PURGE_HOURLY = Schedule("retention", PurgeExpired(), "0 * * * *")

The times are a cron expression's, in UTC unless a zone is named. A local time that does not exist runs at the next
instant that does, a repeated one runs once; an expression with `*` hours follows elapsed time instead.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_loops import Trouble, repeat
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.runtime import Actor, Request, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

POLL_INTERVAL_S = 5.0  # to see rows that an operator has changed
AGAIN_S = 1.0  # after the database was unavailable
LATE = timedelta(seconds=60)  # a job that is overdue for longer was missed
MAX_SHIFT = timedelta(hours=26)  # between a local time and its instant, or a zone's change of clocks
FIELDS = 5
UNREADABLE = (CronSimError, ZoneInfoNotFoundError, ValueError, OSError)

log = logging.getLogger(__name__)


class ScheduleError(ValueError):
    """The cron expression or the zone is invalid."""


class Schedule(msgspec.Struct, frozen=True):
    """A recurring job. With `missed` "once" one job makes up for a gap, with "skip" none.

    If the payload has a field `due_at`, it is set to the job's due time.
    """

    name: str
    payload: msgspec.Struct
    cron: str
    zone: str = "UTC"
    missed: Literal["once", "skip"] = "once"

    def __post_init__(self) -> None:
        """Refuse a schedule that is never due. Raises ScheduleError."""
        check_cron(self.cron, self.zone)


def check_cron(cron: str, zone: str) -> None:
    """Raise ScheduleError unless both are valid. Five fields: minute, hour, day, month, weekday."""
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
    """Return the last due time after `after` and not after `until`; None if there is none."""
    for due in _instants(cron, zone, until, reverse=True):
        if due <= until:
            return due if due > after else None
    return None


def next_due(cron: str, zone: str, after: datetime) -> datetime | None:
    """Return the first due time after `after`; None if there is none in the next fifty years."""
    for due in _instants(cron, zone, after, reverse=False):
        if due > after:
            return due
    return None


def _instants(cron: str, zone: str, start: datetime, *, reverse: bool) -> Iterator[datetime]:
    """Yield due times in UTC, from a little before `start`, in one direction."""
    where = ZoneInfo(zone)
    margin = timedelta(seconds=1) if reverse else timedelta(0)
    if zone == "UTC" or cron.split()[1].startswith("*"):
        local = (start + margin).astimezone(where if zone != "UTC" else UTC)
        for due in CronSim(cron, local, reverse=reverse):
            yield due.astimezone(UTC)
        return
    # They are local times without a zone, and are then converted.
    wall = start.astimezone(where).replace(tzinfo=None) + (MAX_SHIFT if reverse else -MAX_SHIFT)
    for due in CronSim(cron, wall, reverse=reverse):
        yield _instant_of(due, where)


def _instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first instant at which clocks show this local time; for a skipped time it is the end of the gap."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == wall:
        return first
    # In a gap fold 0 has the offset before the change: find the change, at which clocks skip this time.
    low, high = first - MAX_SHIFT, first
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)  # clocks change at whole seconds


class Look(Request[int], frozen=True):
    """Enqueue due jobs; the reply is their number."""


class Scheduler(Actor[Look]):
    """Checks when the next schedule is due. Its clock is the database's, and so the same in every process."""

    def __init__(self, database: Database, queue: JobQueue, schedules: Sequence[Schedule]) -> None:
        self.database = database
        self.queue = queue
        self.schedules = schedules
        self._declared = False
        self._next: dict[tuple[str, str, str, datetime], datetime | None] = {}
        self._trouble = Trouble(log, "schedules cannot be read")
        self._said: set[str] = set()

    async def run(self) -> None:
        """Check, and sleep until the next one is due, until the actor stops."""
        await repeat(self._look_and_wait, self._trouble, AGAIN_S)

    async def _look_and_wait(self) -> float:
        await self.database.available.wait()
        return (await self._look())[1]

    @on(Look)
    async def look(self, _message: Look) -> int:
        """Check each schedule by itself: a bad row stops no other. Raises Problem."""
        return (await self._look())[0]

    async def _look(self) -> tuple[int, float]:
        """Return how many jobs were enqueued, and the seconds until the next check."""
        await self._declare()
        async with self.database.acquire() as connection:
            rows = [row async for row in QUERIES.enabled_schedules(connection, kinds=list(self.queue.kinds))]
        made = 0
        for row in rows:
            made += await self._make(row)
        waits = [(due - row["now"]).total_seconds() for row in rows if (due := self._next_due(row)) is not None]
        return made, min([POLL_INTERVAL_S, *(each for each in waits if each > 0)])

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

    def _next_due(self, row: Any) -> datetime | None:
        """Return the first time after a row's last, computed once for each. None if the row is unreadable."""
        key = row["name"], row["cron"], row["zone"], row["last_due"]
        if key not in self._next:
            if len(self._next) > 10 * (1 + len(self.schedules)):
                self._next.clear()
            try:
                self._next[key] = next_due(row["cron"], row["zone"], row["last_due"])
            except UNREADABLE as error:
                self._say(row["name"], f"the schedule {row['name']} cannot be read: {error}")
                self._next[key] = None
        return self._next[key]

    def _due(self, row: Any) -> datetime | None:
        """Return the due time of a row now."""
        due = self._next_due(row)
        if due is None or due > row["now"]:
            return None
        return last_due(row["cron"], row["zone"], row["last_due"], row["now"])

    async def _make(self, row: Any) -> int:
        try:
            due = self._due(row)
            payload = None if due is None else scheduled(self.queue, row, due)
        except msgspec.MsgspecError as error:
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
    """Return the payload of a schedule's job for a due time. Raises MsgspecError."""
    kind = queue.kinds[row["kind"]]
    payload: msgspec.Struct = msgspec.json.decode(row["payload"], type=kind.payload)
    if "due_at" in kind.payload.__struct_fields__:
        payload = msgspec.structs.replace(payload, due_at=due)
    return payload
