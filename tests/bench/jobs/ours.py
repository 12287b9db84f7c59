"""Callboard's queue as it is measured: the worker of the product, with its actors, counts and traces."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.hints import Hints
from callboard.actors.infrastructure.job_claims import Claims, KindClaims
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import Job, JobGroup, JobKind, Outcome, job_pool, on_job, on_job_group
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.job_sweeper import JobSweeper
from callboard.actors.infrastructure.job_worker import JobWorker
from callboard.runtime import Actor, Props, System, supervisor, worker

BATCH = 100
EFFECT = "insert into bench_effects (job) values ($1)"


class Work(msgspec.Struct, frozen=True):
    """A payload as small as the peers'."""

    n: int


class MessageAccounting:
    """When the first job started and the last one ended, and how many there were."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        self.count = 0
        self.starts: dict[int, float] = {}

    def note(self, n: int) -> None:
        """Count one."""
        self.last = time.time()
        self.first = self.first or self.last
        self.count += 1
        if n >= 0:
            self.starts[n] = self.last


class NoOp(Actor[Job[Work]]):
    """Does nothing."""

    concurrency = BATCH

    def __init__(self, ledger: MessageAccounting) -> None:
        self.ledger = ledger

    @on_job
    async def work(self, job: Job[Work]) -> Outcome:
        self.ledger.note(job.payload.n)
        return None


class Effect(NoOp):
    """Has an effect in the transaction of its end."""

    concurrency = 20

    @on_job
    async def work(self, job: Job[Work]) -> Outcome:
        async with job.finish() as connection:
            await connection.execute(EFFECT, job.payload.n)
        self.ledger.note(job.payload.n)
        return None


class GroupedEffect(Actor[JobGroup[Work]]):
    """The same for twenty at once."""

    concurrency = 5

    def __init__(self, ledger: MessageAccounting) -> None:
        self.ledger = ledger

    @on_job_group
    async def work(self, group: JobGroup[Work]) -> Outcome:
        async with group.finish() as (connection, _held):
            await connection.executemany(EFFECT, [(job.payload.n,) for job in group.jobs])
        for job in group.jobs:
            self.ledger.note(job.payload.n)
        return None


ACTORS: dict[str, Any] = {"noop": NoOp, "effect": Effect, "group": GroupedEffect}


def kind_of(task: str) -> JobKind[Work]:
    """The kind of a task."""
    return JobKind("bench", Work, slots=1, group=20 if task == "group" else 1)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[Database, JobQueue]]:
    """A pool, and a queue that knows the kind."""
    database = Database(url, size=24)
    await database.connect()
    try:
        yield database, JobQueue([kind_of("noop")])
    finally:
        database.disconnect()


async def fill(url: str, count: int) -> None:
    """Enqueue so many."""
    async with connected(url) as (database, queue):
        for n in range(0, count, 1000):
            async with database.transaction() as connection:
                await queue.enqueue_many(connection, [Work(n + i) for i in range(min(1000, count - n))])


async def drain(url: str, task: str, seconds: float = 60.0) -> MessageAccounting:
    """Work until nothing is left."""
    ledger = MessageAccounting()
    async with connected(url) as (database, queue):
        handler = job_pool(kind_of(task), Props(ACTORS[task], ledger))
        counts = JobCounts()

        class Runner(JobWorker):
            def __init__(self) -> None:
                super().__init__(database, queue, [handler], counts, name="bench")

        sweeper = worker("sweeper", Props(JobSweeper, database, queue, [handler.kind], counts))
        async with (
            System(supervisor("bench", handler.pool, sweeper, worker("worker", Runner))),
            asyncio.timeout(seconds),
        ):
            while True:
                await asyncio.sleep(0.05)
                async with database.acquire() as connection:
                    if not await connection.fetchval("select exists (select from jobs where kind = 'bench')"):
                        return ledger


async def enqueue_rates(url: str, singles: int = 1500) -> dict[str, float]:
    """Jobs a second: one in its own transaction, a thousand in one call, and within one open transaction."""
    async with connected(url) as (database, queue):
        began = time.perf_counter()
        for n in range(singles):
            await queue.submit(database, Work(n))
        one = singles / (time.perf_counter() - began)
        works = [Work(n) for n in range(1000)]
        began = time.perf_counter()
        for _ in range(5):
            async with database.transaction() as connection:
                await queue.enqueue_many(connection, works)
        many = 5000 / (time.perf_counter() - began)
        async with database.transaction() as connection:
            began = time.perf_counter()
            for n in range(singles):
                await queue.enqueue(connection, Work(n))
            within = singles / (time.perf_counter() - began)
        return {"enqueue_one": one, "enqueue_many": many, "enqueue_within": within}


async def latencies(url: str, count: int = 60, rate: float = 20.0) -> list[float]:
    """Seconds from a commit to its job's start, in a process that also enqueues."""
    ledger = MessageAccounting()
    committed: dict[int, float] = {}
    async with connected(url) as (database, queue):
        handler = job_pool(kind_of("noop"), Props(NoOp, ledger))
        counts = JobCounts()

        class Runner(JobWorker):
            def __init__(self) -> None:
                super().__init__(database, queue, [handler], counts, name="bench")

        class OwnHints(Hints):
            def __init__(self) -> None:
                super().__init__(database, queue, listens=True)

        async with System(supervisor("bench", handler.pool, worker("hints", OwnHints), worker("worker", Runner))):
            await asyncio.sleep(0.5)
            for n in range(count):
                await queue.submit(database, Work(n))
                committed[n] = time.time()
                await asyncio.sleep(1 / rate)
            await asyncio.sleep(0.2)
    return sorted(ledger.starts[n] - committed[n] for n in committed if n in ledger.starts)


async def claim_times(url: str, claims: int = 5) -> list[float]:
    """Seconds that a claim of 100 takes, each rolled back so that all are alike."""
    times = []
    async with connected(url) as (database, _):
        handler = job_pool(kind_of("noop"), Props(NoOp, MessageAccounting()))
        claimer = Claims(database, "bench", JobCounts())
        for _ in range(claims):
            lane = KindClaims(handler)
            lane.ask(0.0, BATCH)
            async with database.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                began = time.perf_counter()
                rows = await claimer._run(connection, [lane], limited=False)
                times.append((time.perf_counter() - began) / max(1, len(rows)))
                await transaction.rollback()
    return times


async def claims_under_a_snapshot(url: str, count: int) -> tuple[float, float]:
    """Seconds of a claim, at first and at last, while a snapshot is held and so many jobs are claimed and done."""
    await fill(url, count)
    holder = Database(url, size=1)
    await holder.connect()
    async with connected(url) as (database, _), holder.acquire() as held:
        snapshot = held.transaction(isolation="repeatable_read")
        await snapshot.start()
        await held.fetchval("select count(*) from pg_class")
        handler = job_pool(kind_of("noop"), Props(NoOp, MessageAccounting()))
        claimer, lane = Claims(database, "bench", JobCounts()), KindClaims(handler)
        times: list[float] = []
        while True:
            began = time.perf_counter()
            found = await claimer.claim([lane], asyncio.get_running_loop().time())
            took = time.perf_counter() - began
            rows = [row for _, some in found for row in some]
            if len(rows) < BATCH:
                break
            times.append(took)
            async with database.acquire() as connection:
                await connection.execute("delete from jobs where job_id = any($1)", [row["job_id"] for row in rows])
        await snapshot.rollback()
    holder.disconnect()
    tenth = max(1, len(times) // 10)
    return sum(times[:tenth]) / tenth, sum(times[-tenth:]) / tenth


async def wake(url: str, claimers: int, jobs: int = 60) -> float:
    """Seconds until so many claimers that wake at once for one job have all answered; the mean of some jobs."""
    async with connected(url) as (database, queue):
        handler = job_pool(kind_of("noop"), Props(NoOp, MessageAccounting()))
        lanes = [KindClaims(handler) for _ in range(claimers)]
        claims = [Claims(database, "bench", JobCounts()) for _ in range(claimers)]
        spent = 0.0
        for n in range(jobs):
            async with database.transaction() as connection:
                await connection.execute("delete from jobs")
                await queue.enqueue(connection, Work(n))
            now = asyncio.get_running_loop().time()
            began = time.perf_counter()
            await asyncio.gather(*(each.claim([lane], now) for each, lane in zip(claims, lanes, strict=True)))
            spent += time.perf_counter() - began
    return spent / jobs
