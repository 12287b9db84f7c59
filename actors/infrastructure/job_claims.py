"""Claims: the kinds and numbers of jobs that a process asks for, the floors of its search, and the parsing of rows."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from callboard.actors.errors import SERVER_TIMEOUT, Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import JobHandler, Priority
from callboard.actors.infrastructure.job_runs import RunningJob
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__, "job_worker")

MIN_BATCH, MAX_BATCH = 10, 500
FULL_INTERVAL_S = 1.0  # a claim starts from the beginning at least this often
FAIR_EVERY = 8
# Free slots are collected until half of all are free, or for this time: short jobs are not claimed one by one.
GATHER_S = 0.01
BEGINNING = (datetime(2000, 1, 1, tzinfo=UTC), 0)

Floor = tuple[datetime, int]


class KindClaims:
    """The claiming state of one kind in this process: its free slots, its floors, whose turn it is, and whether its
    queue is empty.
    """

    def __init__(self, handler: JobHandler[Any]) -> None:
        self.handler = handler
        self.kind = handler.kind
        self.running = 0
        self.others = 0  # those of them that are no security jobs
        self.slots = handler.slots  # the limits at the last claim
        self.breaker = handler.breaker
        self.drained = False  # a full claim left nothing: the next claim can wait for a ring
        self.only_others = False  # a full claim left no security job: the reserved slots can wait for a ring
        self.asked = 0
        self.asked_others = 0
        self.full = True  # whether the current claim starts from the beginning
        self.floors: dict[int, Floor] = {}
        self.claimed_at = 0.0
        self.gathers = False  # whether a timer for the end of the gathering is set
        self._full_at = 0.0
        self._turn = 0

    def started(self, run: RunningJob) -> None:
        """Count a running job."""
        self.running += 1
        self.others += run.priority != Priority.SECURITY

    def ended(self, run: RunningJob) -> None:
        """Count it no longer."""
        self.running -= 1
        self.others -= run.priority != Priority.SECURITY

    def look_again(self) -> None:
        """Expect work."""
        self.drained = self.only_others = False

    def free(self, now: float) -> int:
        """Return how many more jobs may be claimed. While one job probes an unavailable server, a reserved slot too may
        probe it.
        """
        allowed = self.breaker.allows(now, self.slots)
        return max(0, min(self.slots, allowed + self.reserved if allowed else 0) - self.running)

    def free_for_others(self, now: float) -> int:
        """Return how many of them may be other than security jobs."""
        allowed = min(self.breaker.allows(now, self.slots), self.slots - self.reserved)
        return min(self.free(now), max(0, allowed - self.others))

    @property
    def reserved(self) -> int:
        """Return the slots that only security jobs may take; one slot is for all jobs."""
        return min(self.kind.reserved, self.slots - 1)

    def ready(self, now: float) -> bool:
        """Whether to claim now. While jobs of the kind run, freed slots are collected, so that one claim fills them."""
        free = self.free_for_others(now) if self.only_others else self.free(now)
        return free > 0 and (not self.running or 2 * free >= self.slots or now >= self.claimed_at + GATHER_S)

    def ask(self, now: float, most: int) -> int:
        """Begin a claim; return how many to ask for."""
        self.slots = self.handler.slots
        self.asked = min(self.free(now), most)
        self.asked_others = min(self.free_for_others(now), self.asked)
        self.full = not self.floors or now - self._full_at >= FULL_INTERVAL_S
        if self.full:
            self._full_at = now
        self._turn += 1
        return self.asked

    def skip(self) -> None:
        """Ask for nothing, and rest: others claim jobs of the kind just now, or as many run as may."""
        self.full = True

    @property
    def fair(self) -> bool:
        """Whether this claim takes the oldest job of any class first; never into a reserved slot."""
        return self._turn % FAIR_EVERY == 0 and self.asked_others == self.asked

    def floor(self, priority: int) -> Floor:
        """Return the floors of the search."""
        return BEGINNING if self.full else self.floors.get(priority, BEGINNING)

    def note(self, rows: Sequence[Any]) -> None:
        """Take the last row of each class as its floor, even if it is further back than the last floor."""
        floors: dict[int, Floor] = {}
        for row in rows:
            place = row["run_at"], row["job_id"]
            floors[row["priority"]] = max(place, floors.get(row["priority"], place))
        if len(rows) >= self.asked:
            self.floors |= floors
        elif self.full:
            others = sum(row["priority"] != Priority.SECURITY for row in rows)
            self.only_others = self.asked_others < self.asked and others >= self.asked_others
            self.drained = not self.only_others
            self.floors |= floors
        else:
            self._full_at = -FULL_INTERVAL_S  # nothing beyond the floors: the next claim reads from the beginning
            self.floors.clear()


class QueueState(msgspec.Struct, frozen=True):
    """The result of one look at the queue: for how many seconds the newest of the due jobs has been due (None: none),
    in how many seconds the next one is (None: none waits), the same for the oldest job with a lost lease, and whether
    operators have changed a limit since.
    """

    due_for_s: float | None
    next_s: float | None
    suspect_s: float | None
    limits_changed: bool


class Claims:
    """Claims jobs for a process. One caller at a time."""

    def __init__(self, database: Database, worker: str, counts: JobCounts) -> None:
        self.database = database
        self.worker = worker
        self.counts = counts
        self.batch = MAX_BATCH
        self.limits: dict[str, int] = {}  # the operators' limits at the last look; the claim itself reads them again

    async def claim(self, kinds: Sequence[KindClaims], now: float) -> list[tuple[KindClaims, list[Any]]]:
        """Claim for all kinds with free slots; return the rows of each in starting order.

        After a statement that took too long the next one asks for half as many. Raises Problem.
        """
        limited = [each for each in kinds if self._is_limited(each)]
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
        return _by_kind(asking, rows)

    async def _claim_limited(self, each: KindClaims, now: float) -> list[tuple[KindClaims, list[Any]]]:
        """Lock, count and claim in three statements: a count within the claim would not see its rivals'."""
        kind = each.kind
        async with self.database.transaction() as connection:
            if not await QUERIES.lock_limit(connection, kind=kind.name):
                each.skip()
                return []
            row = await QUERIES.running_of(connection, kind=kind.name, max_running=kind.max_running)
            room = self.batch if row["allowed"] == 0 else row["allowed"] - row["running"]
            if room < 1 or not each.ask(now, min(room, self.batch)):
                each.skip()
                return []
            rows = await self._run(connection, [each], limited=True)
        return _by_kind([each], rows)

    async def claim_suspect(self, kinds: Sequence[KindClaims]) -> Any:
        """Claim the oldest job with a lost lease; None if none is due."""
        free = [each for each in kinds if not self._is_limited(each)]
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

    async def look(self, kinds: Iterable[KindClaims]) -> QueueState:
        """Read waiting jobs and operators' limits in one statement."""
        async with self.database.acquire() as connection:
            row = await QUERIES.look(connection, kinds=[each.kind.name for each in kinds])
        limits = msgspec.json.decode(row["limits"], type=dict[str, int])
        changed, self.limits = limits != self.limits, limits
        return QueueState(row["due_for_s"], row["next_s"], row["suspect_s"], changed)

    def _is_limited(self, each: KindClaims) -> bool:
        return self.limits.get(each.kind.name, each.kind.max_running) > 0

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
                others=[each.asked_others for each in kinds],
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


def _by_kind(kinds: Sequence[KindClaims], rows: list[Any]) -> list[tuple[KindClaims, list[Any]]]:
    """Return the rows of each kind in starting order; each kind notes its new floors."""
    of_kind: dict[str, list[Any]] = {each.kind.name: [] for each in kinds}
    for row in sorted(rows, key=lambda row: (row["priority"], row["run_at"], row["job_id"])):
        of_kind[row["kind"]].append(row)
    for each in kinds:
        each.note(of_kind[each.kind.name])
    return [(each, of_kind[each.kind.name]) for each in kinds if of_kind[each.kind.name]]
