"""Claims: how many jobs of which kinds a process asks for, from where on, and how it reads them."""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosql

from callboard.actors.database import Database
from callboard.actors.errors import SERVER_TIMEOUT, Problem
from callboard.actors.job_counts import JobCounts
from callboard.actors.job_kinds import JITTER, JobHandler, Priority

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("job_worker.sql"), "asyncpg")

MIN_BATCH, MAX_BATCH = 10, 500
FULL_INTERVAL_S = 1.0  # at least so often a claim begins at the beginning
FAIR_EVERY = 8
# Free slots are collected for so long each, so that jobs that take no time are not claimed one by one: about what it
# takes to handle one.
GATHER_S, MAX_GATHER_S = 0.0001, 0.01
LIMITS_TTL_S = 1.0  # for how long a process believes which kinds have a limit; the claim itself looks again
FIRST_PROBE_S, LAST_PROBE_S = 1.0, 60.0
BEGINNING = (datetime(2000, 1, 1, tzinfo=UTC), 0)

Floor = tuple[datetime, int]


class Gate:
    """Keeps a kind's jobs back while a server that all of them need is away, and lets them come again by and by."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._wait_s = 0.0
        self._closed_until = 0.0
        self._open: int | None = None  # slots; None is all of them

    def away(self, now: float) -> None:
        """Close it, for twice as long as the last time; what was on its way at the same time says nothing new."""
        if now < self._closed_until:
            return
        self._wait_s = min(LAST_PROBE_S, max(FIRST_PROBE_S, 2 * self._wait_s))
        self._closed_until = now + self._wait_s * (1 + JITTER * self._rng.random())
        self._open = 1

    def here(self, now: float, slots: int) -> None:
        """Open twice as many slots: a job has found the server."""
        if self._open is None or now < self._closed_until:
            return
        self._open *= 2
        if self._open >= slots:
            self._open, self._wait_s = None, 0.0

    def allows(self, now: float, slots: int) -> int:
        """How many jobs may run."""
        if self._open is None:
            return slots
        return 0 if now < self._closed_until else min(slots, self._open)

    def opens_in(self, now: float) -> float | None:
        """Seconds until a probe may go; None when it is not closed."""
        return self._closed_until - now if self._open is not None and now < self._closed_until else None


class KindClaims:
    """What a process knows of one kind: its free slots, its floors, whose turn it is, and that nothing waits."""

    def __init__(self, handler: JobHandler[Any], rng: random.Random) -> None:
        self.handler = handler
        self.kind = handler.kind
        self.running = 0
        self.gate = Gate(rng)
        self.drained = False  # a full claim has left nothing: there is no need to ask before somebody rings
        self.asked = 0
        self.full = True  # whether the claim under way begins at the beginning
        self.floors: dict[int, Floor] = {}
        self.claimed_at = 0.0
        self.gathers = False  # whether a timer is set for the end of the gathering
        self._full_at = 0.0
        self._turn = 0

    def free(self, now: float) -> int:
        """How many more jobs may be claimed."""
        return max(0, self.gate.allows(now, self.handler.slots) - self.running)

    def ready(self, now: float) -> bool:
        """Whether to claim now. While jobs of the kind run, what is freed is gathered, so that one claim fills it."""
        return self.free(now) > 0 and (not self.running or now >= self.claimed_at + self.gather_s)

    @property
    def gather_s(self) -> float:
        """For how long free slots are collected."""
        return min(MAX_GATHER_S, self.handler.slots * GATHER_S)

    def ask(self, now: float, most: int) -> int:
        """Begin a claim: how many to ask for."""
        self.asked = min(self.free(now), most)
        self.full = not self.floors or now - self._full_at >= FULL_INTERVAL_S
        if self.full:
            self._full_at = now
        self._turn += 1
        return self.asked

    @property
    def fair(self) -> bool:
        """Whether this claim takes the oldest job of any class first."""
        return self._turn % FAIR_EVERY == 0

    def floor(self, priority: int) -> Floor:
        """From where on to look."""
        return BEGINNING if self.full else self.floors.get(priority, BEGINNING)

    def note(self, rows: Sequence[Any]) -> None:
        """Take the last row of each class for its floor, also when it lies further back than the last floor did."""
        floors: dict[int, Floor] = {}
        for row in rows:
            place = row["run_at"], row["job_id"]
            floors[row["priority"]] = max(place, floors.get(row["priority"], place))
        if len(rows) >= self.asked:
            self.floors |= floors
        elif self.full:
            self.drained = True
            self.floors |= floors
        else:
            self._full_at = -FULL_INTERVAL_S  # nothing more beyond the floors: look at all of it next
            self.floors.clear()


class Claims:
    """Claims jobs for a process. One caller at a time."""

    def __init__(self, database: Database, worker: str, counts: JobCounts) -> None:
        self.database = database
        self.worker = worker
        self.counts = counts
        self.batch = MAX_BATCH
        self._limits: dict[str, int] = {}
        self._limits_at = -LIMITS_TTL_S

    async def claim(self, kinds: Sequence[KindClaims], now: float) -> list[tuple[KindClaims, list[Any]]]:
        """Claim for all kinds that have free slots; the rows of each in the order in which they are to start.

        After a statement that took too long the next one asks for half as much. Raises Problem.
        """
        await self._look_at_limits(kinds, now)
        limited = [each for each in kinds if self._limits.get(each.kind.name, each.kind.max_running) > 0]
        free = [each for each in kinds if each not in limited]
        try:
            found = await self._claim_free(free, now) if free else []
            for each in limited:
                found += await self._claim_limited(each, now)
        except Problem as problem:
            if problem.code is SERVER_TIMEOUT:
                self.batch = max(MIN_BATCH, self.batch // 2)
            raise
        self.batch = min(MAX_BATCH, self.batch * 2)
        return found

    async def _claim_free(self, kinds: Sequence[KindClaims], now: float) -> list[tuple[KindClaims, list[Any]]]:
        left = self.batch
        for each in kinds:
            left -= each.ask(now, left)
        asking = [each for each in kinds if each.asked]
        async with self.database.acquire() as connection:
            rows = await self._run(connection, asking, limited=False)
        return _dealt(asking, rows)

    async def _claim_limited(self, each: KindClaims, now: float) -> list[tuple[KindClaims, list[Any]]]:
        """Lock, count and claim in three statements: a count in the claim itself would not see its rivals'."""
        kind = each.kind
        async with self.database.transaction() as connection:
            if not await QUERIES.lock_limit(connection, kind=kind.name):
                return []
            row = await QUERIES.running_of(connection, kind=kind.name, max_running=kind.max_running)
            room = self.batch if row["allowed"] == 0 else row["allowed"] - row["running"]
            if room < 1 or not each.ask(now, min(room, self.batch)):
                return []
            rows = await self._run(connection, [each], limited=True)
        return _dealt([each], rows)

    async def claim_suspect(self, kinds: Sequence[KindClaims]) -> Any:
        """Claim the oldest job whose lease was lost; None when none is due."""
        free = [each for each in kinds if self._limits.get(each.kind.name, each.kind.max_running) == 0]
        async with self.database.acquire() as connection:
            row = await self._suspect(connection, free, limited=False)
        for each in kinds:
            if row is None and each not in free:
                async with self.database.transaction() as connection:
                    if not await QUERIES.lock_limit(connection, kind=each.kind.name):
                        continue
                    count = await QUERIES.running_of(connection, kind=each.kind.name, max_running=each.kind.max_running)
                    if count["allowed"] == 0 or count["running"] < count["allowed"]:
                        row = await self._suspect(connection, [each], limited=True)
        return row

    async def _suspect(self, connection: Any, kinds: Sequence[KindClaims], *, limited: bool) -> Any:
        rows = QUERIES.claim_suspect(
            connection,
            worker=self.worker,
            limited=limited,
            kinds=[each.kind.name for each in kinds],
            versions=[each.kind.version for each in kinds],
            lease_s=[each.kind.lease_s for each in kinds],
            max_running=[each.kind.max_running for each in kinds],
        )
        return next(iter([row async for row in rows]), None)

    async def suspects_due(self, kinds: Iterable[KindClaims]) -> bool:
        """Whether a job whose lease was lost waits to be claimed alone."""
        async with self.database.acquire() as connection:
            return bool(await QUERIES.suspects_due(connection, kinds=[each.kind.name for each in kinds]))

    async def next_due(self, kinds: Iterable[KindClaims]) -> float | None:
        """In how many seconds the next job is due; None when none waits."""
        async with self.database.acquire() as connection:
            due: float | None = await QUERIES.next_due(connection, kinds=[each.kind.name for each in kinds])
            return due

    async def _run(self, connection: Any, kinds: Sequence[KindClaims], *, limited: bool) -> list[Any]:
        floors = [[each.floor(priority) for each in kinds] for priority in Priority]
        rows = [
            row
            async for row in QUERIES.claim(
                connection,
                worker=self.worker,
                limited=limited,
                kinds=[each.kind.name for each in kinds],
                versions=[each.kind.version for each in kinds],
                free=[each.asked for each in kinds],
                lease_s=[each.kind.lease_s for each in kinds],
                max_running=[each.kind.max_running for each in kinds],
                fair=[each.fair for each in kinds],
                **{f"from_at_{n}": [at for at, _ in floors[n]] for n in range(3)},
                **{f"from_id_{n}": [job_id for _, job_id in floors[n]] for n in range(3)},
            )
        ]
        if not rows:
            self.counts.empty_claims += 1
        return rows

    async def _look_at_limits(self, kinds: Sequence[KindClaims], now: float) -> None:
        if now - self._limits_at < LIMITS_TTL_S:
            return
        async with self.database.acquire() as connection:
            rows = [row async for row in QUERIES.limits_of(connection, kinds=[each.kind.name for each in kinds])]
        self._limits = {row["kind"]: row["max_running"] for row in rows if row["max_running"] is not None}
        self._limits_at = now


def _dealt(kinds: Sequence[KindClaims], rows: list[Any]) -> list[tuple[KindClaims, list[Any]]]:
    """The rows of each kind, those that start first in front; each kind notes where it has come to."""
    of_kind: dict[str, list[Any]] = {each.kind.name: [] for each in kinds}
    for row in sorted(rows, key=lambda row: (row["priority"], row["run_at"], row["job_id"])):
        of_kind[row["kind"]].append(row)
    for each in kinds:
        each.note(of_kind[each.kind.name])
    return [(each, of_kind[each.kind.name]) for each in kinds if of_kind[each.kind.name]]
