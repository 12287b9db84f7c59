"""The worker: one claiming loop in each process, which starts at once what it claims, and keeps the leases."""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import asyncpg
import msgspec

from callboard.actors.database import Database
from callboard.actors.errors import SERVER_OVERLOADED, SERVER_TIMEOUT, SERVER_UNAVAILABLE, Problem
from callboard.actors.job_claims import Claims, KindClaims
from callboard.actors.job_counts import JobCounts
from callboard.actors.job_kinds import (
    Done,
    EndedJob,
    JobGroup,
    JobHandler,
    Later,
    LeaseLostError,
    Permanent,
    Raised,
    Retry,
)
from callboard.actors.job_outcomes import failure
from callboard.actors.job_queue import JobQueue
from callboard.actors.job_runs import RunningJob, RunningJobs
from callboard.actors.job_writer import JobWriter
from callboard.runtime import Actor, AskTimeoutError, Context, RuntimeFault, use_context

POLL_S = 1.0
QUIET_POLL_S = 5.0  # where notices come, and there was no work lately
BUSY_POLL_S = 0.25  # where no notice comes, and there was work lately
LATELY_S = 10.0
AGAIN_S = 0.25  # after the database was away
LAST_S = 0.5  # for what is cancelled at the stop to end, and for the last outcomes to be written
ALONE_S = 10.0  # a job whose lease was lost runs for so long without company
DRAIN_S = 2.0  # and so long a process waits for that with what it has in hand
SUSPECTS_EVERY_S = 0.5
LOOKS = 12  # in the time of a lease, for leases that are over: a job that is claimed meanwhile is trusted for longer
PASSES = frozenset({SERVER_UNAVAILABLE, SERVER_TIMEOUT, SERVER_OVERLOADED})

log = logging.getLogger(__name__)


class JobWorker(Actor[None]):
    """Runs the jobs of its handlers' kinds. What it has in hand when it stops or crashes goes back to the queue."""

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
        self.database = database
        self.queue = queue
        self.counts = counts
        self.grace_s = grace_s
        self.rng = rng or random.Random()  # noqa: S311 - jitter
        self.kinds = {handler.kind.name: KindClaims(handler, self.rng) for handler in handlers}
        self.runs = RunningJobs(database, effects or database)
        self.claims = Claims(database, name, counts)
        self.writer = JobWriter(database, self.runs, counts, self.rng)
        self._bell = asyncio.Event()
        self._emptied = asyncio.Event()  # nothing is in hand
        self._worked_at = 0.0
        self._alone: RunningJob | None = None
        self._suspects_at = 0.0
        self._draining = False
        self._said: str | None = None

    # The loops -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claim, keep the leases, and write, each in a loop of its own, until the actor stops."""
        self.queue.bells.append(self.ring)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._claim_on())
            loops.create_task(self._keep_leases())
            loops.create_task(self._let_go())
            loops.create_task(self.writer.run())
            loops.create_task(self._ring_for_keys())

    def ring(self) -> None:
        """There may be work: look."""
        for each in self.kinds.values():
            each.drained = False
        self._bell.set()

    async def _ring_for_keys(self) -> None:
        while True:
            await self.writer.freed.wait()
            self.writer.freed.clear()
            self.ring()

    async def _claim_on(self) -> None:
        while True:
            await self.database.back.wait()
            self._bell.clear()
            try:
                if not await self._claim_once():
                    await self._rest()
                self._said = None
            except (Problem, asyncpg.PostgresError) as error:
                self.counts.failed_claims += 1
                self._say(error)
                await asyncio.sleep(AGAIN_S)

    def _say(self, error: Exception) -> None:
        reason = failure(error).reason
        if reason != self._said and not isinstance(error, Problem):
            log.error("jobs cannot be claimed: %s", reason)
        self._said = reason

    async def _claim_once(self) -> int:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self.writer.full or not self.kinds:
            return 0
        if self._alone is not None and now - self._alone.started_at < ALONE_S:
            return 0
        if now >= self._suspects_at and await self._claim_alone():
            return 1
        kinds = [each for each in self.kinds.values() if not each.drained and each.ready(now)]
        if not kinds:
            return 0
        sent_at = loop.time()
        found = await self.claims.claim(kinds, now)
        for each, rows in found:
            self._begin(each, rows, sent_at)
        # Beyond the floors nothing has come: the claim that follows begins at the beginning.
        return sum(len(rows) for _, rows in found) or sum(not each.drained and not each.full for each in kinds)

    async def _claim_alone(self) -> bool:
        """Run a job whose lease was lost while nothing else is in hand, if one is due."""
        loop = asyncio.get_running_loop()
        self._suspects_at = loop.time() + SUSPECTS_EVERY_S
        kinds = list(self.kinds.values())
        if not await self.claims.suspects_due(kinds):
            return False
        until = loop.time() + DRAIN_S
        self._draining = True
        try:
            while self.runs.by_id and loop.time() < until:
                await self._wait(until - loop.time())
        finally:
            self._draining = False
        sent_at = loop.time()
        row = await self.claims.claim_suspect(kinds)
        if row is None:
            return False
        self._begin(self.kinds[row["kind"]], [row], sent_at)
        self._alone = self.runs.by_id.get(row["job_id"])
        self._suspects_at = 0.0
        return True

    async def _rest(self) -> None:
        """Wait for a ring, for the next job that is due, or for the next look."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        lately = now - self._worked_at < LATELY_S
        poll_s = POLL_S
        if lately != self.queue.hinted:
            poll_s = BUSY_POLL_S if lately else QUIET_POLL_S
        idle = [each for each in self.kinds.values() if each.drained]
        if idle and not self._bell.is_set() and self._alone is None:
            due_s = await self.claims.next_due(idle)
            if due_s is not None:
                poll_s = min(poll_s, max(0.0, due_s) + 0.001)
        for each in self.kinds.values():
            opens_s = each.gate.opens_in(now)
            if opens_s is not None:
                poll_s = min(poll_s, opens_s)
        if not await self._wait(poll_s):
            self.ring()

    async def _wait(self, seconds: float) -> bool:
        """Whether somebody rang within so many seconds."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, seconds), self._bell.set)
        try:
            await self._bell.wait()
            return loop.time() < timer.when()
        finally:
            timer.cancel()
            self._bell.clear()

    async def _keep_leases(self) -> None:
        """Renew every third of the shortest lease."""
        every_s = min([each.kind.lease_s for each in self.kinds.values()] or [POLL_S]) / 3
        pause_s = every_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.runs.renew()
                pause_s = every_s
            except (Problem, asyncpg.PostgresError) as error:
                self._say(error)
                pause_s = min(AGAIN_S, every_s / 3)

    async def _let_go(self) -> None:
        """Stop what is not to be relied on any more, whatever a renewal under way is waiting for."""
        loop = asyncio.get_running_loop()
        every_s = min([each.kind.lease_s for each in self.kinds.values()] or [POLL_S]) / LOOKS
        while True:
            earliest = self.runs.distrust()
            await asyncio.sleep(every_s if earliest is None else min(every_s, max(0.0, earliest - loop.time())))

    # Running ---------------------------------------------------------------------------------------------------------

    def _begin(self, each: KindClaims, rows: list[Any], sent_at: float) -> None:
        now = asyncio.get_running_loop().time()
        self._worked_at = each.claimed_at = now
        kind, size = each.kind, each.kind.group
        self.counts.add(kind.name, "claims")
        self.counts.add(kind.name, "attempts", len(rows))
        runs: list[tuple[RunningJob, Any]] = []
        for row in rows:
            self.counts.spend(kind.name, "waited", max(0.0, row["waited_s"]))
            run = self._taken(each, row, sent_at, now)
            if run is not None:
                runs.append((run, row))
        if size == 1:
            for run, row in runs:
                ends = row["left_s"] is not None and not kind.outlives_deadline
                deadline = now + row["left_s"] if ends else None
                self._hand_over(each, run.job, (run,), deadline)
        else:
            for n in range(0, len(runs), size):
                self._hand_over_group(each, tuple(run for run, _ in runs[n : n + size]))

    def _taken(self, each: KindClaims, row: Any, sent_at: float, now: float) -> RunningJob | None:
        """The job of a row, in hand; None when it needs no handler: it is past its deadline, or cannot be read."""
        kind = each.kind
        payload, unreadable = None, ""
        try:
            payload = msgspec.json.decode(row["payload"], type=kind.payload)
        except msgspec.MsgspecError as error:
            unreadable = f"the payload cannot be read: {error}"
        run = RunningJob(self.runs.make(row, payload), kind, row, sent_at, now)
        if payload is None:
            self.writer.write(run, Permanent(unreadable))
            return None
        if row["expired"]:
            self.writer.write(run, EndedJob(row["job_id"], payload, row["attempts"] - 1, "past its deadline"))
            return None
        each.running += 1
        self.runs.by_id[run.job.job_id] = run
        self._emptied.clear()
        return run

    def _hand_over_group(self, each: KindClaims, runs: tuple[RunningJob, ...]) -> None:
        self._hand_over(each, JobGroup(tuple(run.job for run in runs)), runs, None)

    def _hand_over(self, each: KindClaims, message: Any, runs: tuple[RunningJob, ...], deadline: float | None) -> None:
        try:
            with use_context(Context(runs[0].traceparent, deadline)):
                reply = each.handler.pool.ask(message, timeout_s=each.kind.timeout_s)
        except RuntimeFault as error:  # the pool stops, or its mailboxes are full: another will run it
            for run in runs:
                self._end(each, run, Later(1.0, type(error).__name__))
            return
        for run in runs:
            run.reply = reply
        reply.add_done_callback(partial(self._handled, each, runs))

    def _handled(self, each: KindClaims, runs: tuple[RunningJob, ...], reply: "asyncio.Future[Any]") -> None:
        """A handler has ended, or nobody waits for it any more."""
        error = None if reply.cancelled() else reply.exception()
        outcome = reply.result() if error is None and not reply.cancelled() else error
        if len(runs) > 1 and (reply.cancelled() or not isinstance(outcome, Done | Later | None)):
            for run in runs:  # again, one by one: each is judged by itself
                if run.ended or run.stopped is not None or reply.cancelled():
                    self._end(each, run, outcome, cancelled=reply.cancelled())
                else:
                    self._hand_over_group(each, (run,))
            return
        for run in runs:
            self._end(each, run, outcome, cancelled=reply.cancelled())

    def _end(self, each: KindClaims, run: RunningJob, outcome: Any, *, cancelled: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        kind, slots = each.kind, each.handler.slots
        each.running -= 1
        if self.runs.by_id.get(run.job.job_id) is run:
            del self.runs.by_id[run.job.job_id]
        self.counts.spend(kind.name, "run", now - run.started_at)
        if run.ended:
            self.counts.end(kind.name, "done")
            each.gate.here(now, slots)
        elif cancelled and run.stopped == "lease":  # somebody else's by now, or the sweep's
            self.counts.end(kind.name, "stale")
        else:
            self.writer.write(run, _why_cancelled(run) if cancelled else self._judge(each, outcome, now))
        if self._alone is run:
            self._alone = None
            self.ring()
        elif self._draining or not self.runs.by_id:
            self._bell.set()
        elif not each.drained:
            self._ring_for_slots(each, now)
        if not self.runs.by_id:
            self._emptied.set()
            self.writer.hurry()

    def _ring_for_slots(self, each: KindClaims, now: float) -> None:
        """Have the slots that are free filled: at once if they are many, else when some more had time to follow."""
        if each.ready(now):
            self._bell.set()
        elif not each.gathers:
            each.gathers = True
            asyncio.get_running_loop().call_later(1.1 * each.gather_s, self._gathered, each)

    def _gathered(self, each: KindClaims) -> None:
        each.gathers = False
        self._bell.set()

    def _judge(self, each: KindClaims, outcome: Any, now: float) -> Any:
        """Turn what a handler has answered or raised into an outcome. A server of ours that is away is no attempt."""
        if isinstance(outcome, Raised):
            outcome = outcome.error
        if isinstance(outcome, Later):
            if outcome.away:
                each.gate.away(now)
            return outcome
        if isinstance(outcome, LeaseLostError):
            return outcome
        if isinstance(outcome, each.kind.permanent):
            return Permanent(failure(outcome).error)
        if isinstance(outcome, Problem) and outcome.code in PASSES:
            return Later(1.0, outcome.code.name)
        each.gate.here(now, each.handler.slots)
        if isinstance(outcome, AskTimeoutError):
            return Retry("the attempt took too long")
        return outcome

    # The end ---------------------------------------------------------------------------------------------------------

    async def on_stop(self) -> None:
        """Wait for what is in hand, for `grace_s` at most; give the rest back with its attempt."""
        if self.ring in self.queue.bells:
            self.queue.bells.remove(self.ring)
        loops = [asyncio.ensure_future(each) for each in (self._keep_leases(), self._let_go(), self.writer.run())]
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
        if not self.database.away.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self.writer.write_all()

    async def _in_hand_gone(self, seconds: float) -> None:
        if self.runs.by_id:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._emptied.wait()


def _why_cancelled(run: RunningJob) -> Any:
    """What a cancelled handler means: asked for, the end of the process, or of its group; else it did so itself."""
    if run.stopped == "cancelled":
        return "cancelled"
    if run.stopped == "stopping" or run.kind.group > 1:
        return Later(0.0, "it was stopped")
    return Retry("the handler was cancelled")
