"""Schedules: one job a due time, whoever looks, over gaps and changes of clocks."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import JobKind
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.schedules import Look, Schedule, ScheduleError, Scheduler, last_due, next_due

BERLIN = ZoneInfo("Europe/Berlin")


class Tick(msgspec.Struct, frozen=True):
    due_at: datetime | None = None


TICK = JobKind("tick", Tick)


def dues(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Every due time between the two, as a process finds them that looks once a minute."""
    found: list[datetime] = []
    after = start
    while (due := next_due(cron, zone, after)) is not None and due <= end:
        found.append(due)
        after = due
    return found


def day(year: int, month: int, number: int) -> tuple[datetime, datetime]:
    start = datetime(year, month, number, tzinfo=BERLIN).astimezone(UTC)
    return start - timedelta(seconds=1), datetime(year, month, number, 23, 59, tzinfo=BERLIN).astimezone(UTC)


@pytest.mark.parametrize(
    ("cron", "number", "expected"),
    [
        ("30 2 * * *", (2026, 3, 29), ["01:00"]),  # does not exist: at the end of the gap
        ("*/15 2 * * *", (2026, 3, 29), ["01:00"]),  # none of the four does
        ("0 3 * * *", (2026, 3, 29), ["01:00"]),
        ("30 2 * * *", (2026, 10, 25), ["00:30"]),  # comes twice: once, the first time
        ("*/30 2 * * *", (2026, 10, 25), ["00:00", "00:30"]),
        ("0 3 * * *", (2026, 10, 25), ["02:00"]),
        ("30 2 * * *", (2026, 6, 1), ["00:30"]),
    ],
)
def test_a_local_time_that_does_not_exist_is_the_next_instant_and_one_that_comes_twice_is_once(
    cron: str, number: tuple[int, int, int], expected: list[str]
) -> None:
    start, end = day(*number)
    assert [f"{due:%H:%M}" for due in dues(cron, "Europe/Berlin", start, end)] == expected


@pytest.mark.parametrize(("number", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25)])
def test_hourly_is_every_real_hour(number: tuple[int, int, int], hours: int) -> None:
    start, end = day(*number)
    assert len(dues("0 * * * *", "Europe/Berlin", start, end)) == hours


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 0 * * *", "15 * * * *", "0 1 1 * *", "0 12 * * 1"])
def test_looking_back_finds_what_looking_ahead_has_found(cron: str, zone: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    found = dues(cron, zone, start, start + timedelta(days=366))
    assert found == sorted(set(found))
    for due in found[:: max(1, len(found) // 50)]:
        assert last_due(cron, zone, due - timedelta(seconds=1), due) == due
        assert last_due(cron, zone, due - timedelta(seconds=1), due + timedelta(seconds=30)) == due
        assert last_due(cron, zone, due, due) is None


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("* * * *", "UTC"),
        ("61 * * * *", "UTC"),
        ("0 0 31 2 *", "UTC"),
        ("* * * * * *", "UTC"),
        ("0 0 * * *", "Mars"),
        ("@hourly", "UTC"),
        ("", "UTC"),
    ],
)
def test_what_can_never_be_due_is_refused(cron: str, zone: str) -> None:
    with pytest.raises(ScheduleError):
        Schedule("bad", Tick(), cron, zone)


class Clock:
    """A schedule whose row a test moves through time: `now` is the database's, so the row goes back instead."""

    def __init__(self, database: Database, missed: str = "once", processes: int = 3) -> None:
        self.database = database
        self.queue = JobQueue([TICK])
        schedule = Schedule("tick", Tick(), "0 * * * *", missed=missed)  # type: ignore[arg-type]
        self.schedulers = [Scheduler(database, JobQueue([TICK]), [schedule]) for _ in range(processes)]

    async def look(self) -> int:
        return sum(await asyncio.gather(*(each.look(Look()) for each in self.schedulers)))

    async def pass_hours(self, hours: float) -> None:
        async with self.database.acquire() as connection:
            await connection.execute(
                "update schedules set last_due = last_due - make_interval(secs => $1)", hours * 3600.0
            )

    async def jobs(self) -> list[datetime]:
        async with self.database.acquire() as connection:
            rows = await connection.fetch("select payload->>'due_at' as due_at from jobs order by job_id")
        return [datetime.fromisoformat(row["due_at"]) for row in rows]


async def test_of_any_number_of_processes_one_makes_the_job_and_it_knows_the_time_it_is_for(database: Database) -> None:
    clock = Clock(database, processes=8)
    assert await clock.look() == 0  # a new schedule looks ahead
    await clock.pass_hours(1)
    assert await clock.look() == 1
    assert await clock.look() == 0
    (due,) = await clock.jobs()
    assert (due.minute, due.second, due.microsecond) == (0, 0, 0)
    assert timedelta(0) <= datetime.now(UTC) - due < timedelta(hours=1, minutes=1)


async def test_a_gap_is_made_up_for_by_one_job(database: Database) -> None:
    clock = Clock(database)
    await clock.look()
    await clock.pass_hours(100 * 24)
    assert await clock.look() == 1
    assert await clock.look() == 0
    assert len(await clock.jobs()) == 1


async def test_one_that_skips_makes_none_for_a_gap_and_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(database, missed="skip")
    await clock.look()
    await clock.pass_hours(5)
    monkeypatch.setattr("callboard.actors.infrastructure.schedules.LATE", timedelta(seconds=-1))
    assert await clock.look() == 0
    monkeypatch.setattr("callboard.actors.infrastructure.schedules.LATE", timedelta(hours=2))
    await clock.pass_hours(1)
    assert await clock.look() == 1


async def test_a_disabled_schedule_makes_none_and_one_that_cannot_be_read_stops_no_other(database: Database) -> None:
    clock = Clock(database)
    await clock.look()
    async with database.acquire() as connection:
        await connection.execute(
            "insert into schedules (name, kind, cron, last_due) values ('bad', 'tick', 'nonsense', '2020-01-01')"
        )
    await clock.pass_hours(1)
    assert await clock.look() == 1
    async with database.acquire() as connection:
        await connection.execute("update schedules set enabled = false where name = 'tick'")
    await clock.pass_hours(2)
    assert await clock.look() == 0
