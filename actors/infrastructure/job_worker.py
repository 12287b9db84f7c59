"""The worker: one claiming loop in each process. It starts claimed jobs at once, and renews their leases."""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import Any

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_attempts import Attempts
from callboard.actors.infrastructure.job_claims import GATHER_S, Claims, KindClaims
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import JobHandler
from callboard.actors.infrastructure.job_leases import LeaseKeeper
from callboard.actors.infrastructure.job_loops import DATABASE_ERRORS, Trouble, repeat
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.job_runs import RunningJob, RunningJobs
from callboard.actors.infrastructure.job_writer import JobWriter
from callboard.runtime import Actor

POLL_S = 1.0
QUIET_POLL_S = 5.0  # if notices arrive, and there was no work lately
BUSY_POLL_S = 0.25  # if no notices arrive, and there was work lately
LATELY_S = 10.0
POLL_INTERVAL_S = 0.5  # while there is work
LAST_S = 0.5  # for jobs that are cancelled at the stop to end, and for the last outcomes to be written
ALONE_S = 10.0  # a job whose lease was lost runs alone for this time
LATE_S = 0.001  # the margin by our clock before a due job is asked for
DRAIN_S = 2.0  # how long a process waits for its running jobs before that

log = logging.getLogger(__name__)


class JobWorker(Actor[None]):
    """Runs the jobs of its handlers' kinds. At a stop or crash its running jobs go back to the queue."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        handlers: Sequence[JobHandler[Any]],
        counts: JobCounts,
        *,
        name: str,
        grace_s: float = 2.0,
        rng: random.Random | None = None,
        effects: Database | None = None,
    ) -> None:
        rng = rng or random.Random()  # noqa: S311 - jitter
        self.database = database
        self.queue = queue
        self.counts = counts
        self.grace_s = grace_s
        self.kinds = [KindClaims(handler) for handler in handlers]
        self.runs = RunningJobs(database, effects or database)
        self.claims = Claims(database, name, counts)
        self.writer = JobWriter(database, self.runs, counts, rng)
        self.leases = LeaseKeeper(self.runs, [each.kind for each in self.kinds])
        self.attempts = Attempts(self.runs, self.writer, counts, self._has_ended)
        self._bell = asyncio.Event()
        self._rings = 0
        self._worked_at = 0.0
        self._looked_at = 0.0
        self._claimed_at = 0.0
        self._due_since = -inf  # when the newest of the jobs became due that were so at the last look
        self._suspects = False  # the same for a job with a lost lease
        self._suspects_from = 0.0
        self._alone: RunningJob | None = None
        self._draining = False

    # Loops -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claim, renew leases and write outcomes, each in its own loop, until the actor stops."""
        self.queue.bells.append(self.ring)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(repeat(self._claim, Trouble(log, "jobs cannot be claimed")))
            loops.create_task(self.leases.run())
            loops.create_task(self.writer.run())
            loops.create_task(self._ring_for_keys())

    def ring(self) -> None:
        """Look for work."""
        for each in self.kinds:
            each.look_again()
        self._rings += 1
        self._bell.set()

    async def _ring_for_keys(self) -> None:
        while True:
            await self.writer.freed.wait()
            self.writer.freed.clear()
            self.ring()

    async def _claim(self) -> float:
        """Claim once, and rest if there was nothing."""
        await self.database.available.wait()
        self._bell.clear()
        try:
            if not await self._claim_once():
                await self._rest()
        except DATABASE_ERRORS:
            self.counts.failed_claims += 1
            raise
        return 0.0

    async def _claim_once(self) -> int:
        """Return how many kinds got jobs, or are to be asked for again."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self.writer.full or self._is_alone(now):
            return 0
        if self._suspects and await self._claim_alone():
            return 1
        for each in self.kinds:
            each.slots = each.handler.slots
        kinds = [each for each in self.kinds if not each.drained and each.ready(now)]
        if not kinds:
            return 0
        rings = self._rings
        self._claimed_at = now
        found = await self.claims.claim(kinds, now)
        if self._rings != rings:  # the announced jobs may have come after the claim had looked
            for each in kinds:
                each.look_again()
        for each, rows in found:
            self.attempts.begin(each, rows, now)
            self._worked_at = now
        if now - self._looked_at >= POLL_INTERVAL_S and not all(each.drained for each in kinds):
            await self._look()
        # Nothing came beyond the floors: the next claim starts from the beginning.
        return len(found) or sum(not each.drained and not each.full for each in kinds)

    def _is_alone(self, now: float) -> bool:
        return self._alone is not None and now - self._alone.started_at < ALONE_S

    async def _claim_alone(self) -> bool:
        """Run a job with a lost lease while no other job runs, if one may run."""
        loop = asyncio.get_running_loop()
        until = loop.time() + DRAIN_S
        self._draining = True
        try:
            while self.runs.by_id and loop.time() < until:
                await self._wait(until - loop.time())
        finally:
            self._draining = False
        sent_at = loop.time()
        row = await self.claims.claim_suspect(self.kinds)
        if row is None:
            self._suspects, self._suspects_from = False, loop.time() + POLL_INTERVAL_S
            return False
        (kind,) = (each for each in self.kinds if each.kind.name == row["kind"])
        self.attempts.begin(kind, [row], sent_at)
        self._worked_at = loop.time()
        self._alone = self.runs.by_id.get(row["job_id"])
        return True

    def _has_ended(self, each: KindClaims, run: RunningJob) -> None:
        if self._alone is run:
            self._alone = None
            self.ring()
        elif self._draining:
            self._bell.set()
        elif not each.drained and not self._bell.is_set():
            self._gather(each)

    def _gather(self, each: KindClaims) -> None:
        """Fill free slots: at once if many are free, else after a short time for more to follow."""
        loop = asyncio.get_running_loop()
        if each.ready(loop.time()):
            self._bell.set()
        elif not each.gathers:
            each.gathers = True
            loop.call_at(each.claimed_at + GATHER_S, self._gathered, each)

    def _gathered(self, each: KindClaims) -> None:
        each.gathers = False
        self._bell.set()

    # Rest ------------------------------------------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Wait for a ring, for a due job, or for a free slot. Without rings that is one statement a poll."""
        loop = asyncio.get_running_loop()
        tried_at = self._claimed_at  # what was due by then, a claim has left: it is paused, say
        while True:
            due_s = None
            if not self._is_alone(loop.time()) and not self._bell.is_set() and self._has_to_look(loop.time()):
                due_s = await self._look()
                if self._suspects or self._due_since > tried_at:
                    break
            poll_s = self._poll_s(loop.time())
            if await self._wait(poll_s if due_s is None else min(poll_s, due_s)):
                return
            if due_s is not None and due_s <= poll_s:
                break
            if any(not each.drained and each.ready(loop.time()) for each in self.kinds):
                return
            tried_at = -inf
        for each in self.kinds:
            each.look_again()

    def _has_to_look(self, now: float) -> bool:
        return any(each.drained for each in self.kinds) or now - self._looked_at >= POLL_INTERVAL_S

    async def _look(self) -> float | None:
        """Read the waiting jobs; return in how many seconds the next one is due, if there is one."""
        seen = await self.claims.look(self.kinds)
        self._looked_at = now = asyncio.get_running_loop().time()
        if seen.limits_changed:
            self.ring()
        self._due_since = -inf if seen.due_for_s is None else now - seen.due_for_s
        self._suspects = seen.suspect_s is not None and seen.suspect_s <= 0 and now >= self._suspects_from
        waits = [each for each in (seen.next_s, seen.suspect_s) if each is not None and each > 0]
        return min(waits) + LATE_S if waits else None

    def _poll_s(self, now: float) -> float:
        """Return how long to rest."""
        lately = now - self._worked_at < LATELY_S
        poll_s = POLL_S
        if lately != self.queue.hinted:
            poll_s = BUSY_POLL_S if lately else QUIET_POLL_S
        return min([poll_s, *(probe_s for each in self.kinds if (probe_s := each.breaker.probe_in(now)) is not None)])

    async def _wait(self, seconds: float) -> bool:
        """Whether a ring came within this many seconds."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, seconds), self._bell.set)
        try:
            await self._bell.wait()
            return loop.time() < timer.when()
        finally:
            timer.cancel()
            self._bell.clear()

    # Stop ------------------------------------------------------------------------------------------------------------

    async def on_stop(self) -> None:
        """Wait for running jobs, for `grace_s` at most; release the rest, whose attempts do not count."""
        if self.ring in self.queue.bells:
            self.queue.bells.remove(self.ring)
        loops = [asyncio.ensure_future(each) for each in (self.leases.run(), self.writer.run())]
        try:
            await self._in_hand_gone(self.grace_s)
            for run in list(self.runs.by_id.values()):
                if not run.finishing:
                    run.stop("stopping")
            await self._in_hand_gone(LAST_S)
        finally:
            for each in loops:
                each.cancel()
            await asyncio.wait(loops)
        if not self.database.unavailable.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self.writer.write_all()

    async def _in_hand_gone(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.runs.none.wait()
