"""Backfills: a new column or table is filled from old rows by a job, in short fenced steps beside the requests.

A change of stored data is made in five steps, each in a release or a migration of its own that can be taken back:

1. add       the new column, empty, and have every write fill both
2. backfill  the rows that were there before: `backfill` in the handler of a job that the migration enqueues
3. verify    that no row is left; the job is done only then
4. switch    all reads to the new column, and make it `not null`
5. drop      the old column
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from callboard.actors.errors import SERVER_TIMEOUT, Problem
from callboard.actors.infrastructure.job_kinds import Job, Later, Outcome, Permanent
from callboard.streams.adaptive_batch import AdaptiveBatch

K = TypeVar("K")

MAX_BATCH = 500
LEFT_DELAY_S = 5.0


class Filled(msgspec.Struct, Generic[K], frozen=True):
    """A batch: the number of its rows, and the key of the last."""

    rows: int
    last: K | None


class Backfill(msgspec.Struct, Generic[K], frozen=True):
    """`fill(connection, after, limit)` fills the next rows in the order of their key; a row that is filled stays as it
    is. `left(connection)` counts the rows that are not filled.
    """

    fill: Callable[[Any, K | None, int], Awaitable[Filled[K]]]
    left: Callable[[Any], Awaitable[int]]


async def backfill(job: Job[Any], how: Backfill[Any], *, max_batch: int = MAX_BATCH) -> Outcome:
    """Fill rows from the last cursor on, and verify that none is left; if some are, begin again from the first."""
    batch = AdaptiveBatch(max_batch)
    after, done = job.cursor or (None, 0)
    while True:
        size, began = batch.size, time.monotonic()
        try:
            async with job.step() as step:
                filled = await how.fill(step.connection, after, size)
                after, done = filled.last if filled.rows else after, done + filled.rows
                step.report(done, cursor=(after, done))
        except Problem as problem:
            if problem.code is not SERVER_TIMEOUT:
                raise
            if not batch.timed_out():
                return Permanent("one row takes too long")
            continue
        if filled.rows < size:
            break
        batch.succeeded(filled.rows, time.monotonic() - began)
    async with job.step() as step:
        left = await how.left(step.connection)
        step.report(done, cursor=(None, done))
    return Later(LEFT_DELAY_S, "rows are not filled yet") if left else None
