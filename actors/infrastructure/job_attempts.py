"""Attempts: claimed jobs go to the actors of their pools, and the end of each attempt becomes an outcome."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from callboard.actors.errors import SERVER_OVERLOADED, SERVER_TIMEOUT, SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.job_claims import KindClaims
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import (
    Done,
    EndedJob,
    JobGroup,
    Later,
    LeaseLostError,
    Permanent,
    Raised,
    Retry,
)
from callboard.actors.infrastructure.job_outcomes import failure
from callboard.actors.infrastructure.job_runs import RunningJob, RunningJobs
from callboard.actors.infrastructure.job_writer import JobWriter
from callboard.runtime import AskTimeoutError, Context, RuntimeFault, use_context

PASSES = frozenset({SERVER_UNAVAILABLE, SERVER_TIMEOUT, SERVER_OVERLOADED})


class Attempts:
    """Starts and ends the jobs of a process. `ended` is called for each job that leaves the process."""

    def __init__(
        self,
        runs: RunningJobs,
        writer: JobWriter,
        counts: JobCounts,
        ended: Callable[[KindClaims, RunningJob], None],
    ) -> None:
        self.runs = runs
        self.writer = writer
        self.counts = counts
        self.ended = ended

    def begin(self, each: KindClaims, rows: Sequence[Any], sent_at: float) -> None:
        """Start the jobs of a claim that was sent at this time (the loop's)."""
        now = asyncio.get_running_loop().time()
        each.claimed_at = now
        kind, size = each.kind, each.kind.group
        self.counts.add(kind.name, "claims")
        self.counts.add(kind.name, "attempts", len(rows))
        self.counts.spend(kind.name, "waited", sum(max(0.0, row["waited_s"]) for row in rows))
        taken = [(self._take(each, row, sent_at, now), row["left_s"]) for row in rows]
        runs = [(run, left_s) for run, left_s in taken if run is not None]
        if size == 1:
            for run, left_s in runs:
                ends = left_s is not None and not kind.outlives_deadline
                self._hand_over(each, run.job, (run,), now + left_s if ends else None)
        else:
            for n in range(0, len(runs), size):
                self._hand_over_group(each, tuple(run for run, _ in runs[n : n + size]))

    def _take(self, each: KindClaims, row: Any, sent_at: float, now: float) -> RunningJob | None:
        """Return the job of a row; None if it needs no handler: it is past its deadline, or unreadable."""
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
        run.begin_span(row["left_s"])
        each.started(run)
        self.runs.add(run)
        return run

    def _hand_over_group(self, each: KindClaims, runs: tuple[RunningJob, ...]) -> None:
        self._hand_over(each, JobGroup(tuple(run.job for run in runs)), runs, None)

    def _hand_over(self, each: KindClaims, message: Any, runs: tuple[RunningJob, ...], deadline: float | None) -> None:
        try:
            with use_context(Context(runs[0].traceparent, deadline)):
                reply = each.handler.pool.ask(message, timeout_s=each.kind.timeout_s)
        except RuntimeFault as error:  # the pool stops, or its mailboxes are full: another process will run it
            for run in runs:
                self._end(each, run, Later(1.0, type(error).__name__))
            return
        for run in runs:
            run.reply = reply
        reply.add_done_callback(partial(self._handled, each, runs))

    def _handled(self, each: KindClaims, runs: tuple[RunningJob, ...], reply: "asyncio.Future[Any]") -> None:
        """Handle the end of a handler, or of the wait for it."""
        cancelled = reply.cancelled()
        error = None if cancelled else reply.exception()
        outcome = error if cancelled or error is not None else reply.result()
        if len(runs) > 1 and (cancelled or not isinstance(outcome, Done | Later | None)):
            for run in runs:  # again, one by one: each has its own outcome
                if run.ended or run.stopped is not None or cancelled:
                    self._end(each, run, outcome, cancelled=cancelled)
                else:
                    self._hand_over_group(each, (run,))
            return
        for run in runs:
            self._end(each, run, outcome, cancelled=cancelled)

    def _end(self, each: KindClaims, run: RunningJob, outcome: Any, *, cancelled: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        name = each.kind.name
        each.ended(run)
        self.runs.remove(run)
        self.counts.spend(name, "run", now - run.started_at)
        if run.span is not None:
            error = asyncio.CancelledError() if cancelled else outcome
            run.span.end(error if isinstance(error, BaseException) else None)
        if run.ended:
            self.counts.end(name, "done")
            each.breaker.succeeded(now, each.slots)
        elif cancelled and run.stopped == "lease":  # another process or the sweeper has it by now
            self.counts.end(name, "stale")
        else:
            self.writer.write(run, _why_cancelled(run) if cancelled else _judge(each, outcome, now))
        if not self.runs.by_id:
            self.writer.hurry()
        self.ended(each, run)


def _judge(each: KindClaims, outcome: Any, now: float) -> Any:
    """Convert a handler's reply or error to an outcome. If a server of ours is unavailable, no attempt is counted."""
    if outcome is None or isinstance(outcome, Done):
        each.breaker.succeeded(now, each.slots)
        return outcome
    if isinstance(outcome, Raised):
        outcome = outcome.error
    if isinstance(outcome, Later):
        if outcome.away:
            each.breaker.failed(now, outcome.reason)
        return outcome
    if isinstance(outcome, LeaseLostError):
        return outcome
    if isinstance(outcome, each.kind.permanent):
        return Permanent(failure(outcome).error)
    if isinstance(outcome, Problem) and outcome.code in PASSES:
        return Later(1.0, outcome.code.name)
    each.breaker.succeeded(now, each.slots)
    return Retry("the attempt took too long") if isinstance(outcome, AskTimeoutError) else outcome


def _why_cancelled(run: RunningJob) -> Any:
    """Return the reason of a cancellation: an operator's request, the end of the process or of its group, or the
    handler's own.
    """
    if run.stopped == "cancelled":
        return "cancelled"
    if run.stopped == "stopping" or run.kind.group > 1:
        return Later(0.0, "it was stopped")
    return Retry("the handler was cancelled")
