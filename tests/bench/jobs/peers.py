"""The peers, as their manuals have them: procrastinate with 20 at once, its done jobs deleted; pgqueuer by hundreds."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
from ours import EFFECT, MessageAccounting


class Procrastinate:
    """procrastinate 3."""

    title = "procrastinate"

    @asynccontextmanager
    async def _app(self, url: str, ledger: MessageAccounting, task: str) -> AsyncIterator[tuple[Any, Any]]:
        import procrastinate  # noqa: PLC0415 - one peer may be missing

        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=4, max_size=24))
        pool = await asyncpg.create_pool(url, min_size=0, max_size=20)

        @app.task(name="bench")
        async def bench(n: int) -> None:
            if task == "effect":
                await pool.execute(EFFECT, n)
            ledger.note(n)

        async with app.open_async():
            yield app, bench
        await pool.close()

    async def install(self, url: str) -> None:
        """Make its tables."""
        async with self._app(url, MessageAccounting(), "noop") as (app, _):
            await app.schema_manager.apply_schema_async()

    async def fill(self, url: str, count: int) -> None:
        """Enqueue so many."""
        async with self._app(url, MessageAccounting(), "noop") as (_, task):
            for n in range(0, count, 1000):
                await task.batch_defer_async(*({"n": n + i} for i in range(min(1000, count - n))))

    async def drain(self, url: str, task: str) -> MessageAccounting:
        """Work until nothing is left."""
        ledger = MessageAccounting()
        async with self._app(url, ledger, task) as (app, _):
            await app.run_worker_async(
                concurrency=20, wait=False, delete_jobs="always", install_signal_handlers=False, listen_notify=False
            )
        return ledger

    async def enqueue_rates(self, url: str, singles: int = 1500) -> dict[str, float]:
        """As ours; it has no way to enqueue in a caller's asyncpg transaction."""
        async with self._app(url, MessageAccounting(), "noop") as (_, task):
            began = time.perf_counter()
            for n in range(singles):
                await task.defer_async(n=n)
            one = singles / (time.perf_counter() - began)
            began = time.perf_counter()
            for _ in range(5):
                await task.batch_defer_async(*({"n": n} for n in range(1000)))
            return {"enqueue_one": one, "enqueue_many": 5000 / (time.perf_counter() - began)}

    async def latencies(self, url: str, count: int = 60, rate: float = 20.0) -> list[float]:
        """Seconds from a commit to its job's start."""
        ledger = MessageAccounting()
        committed: dict[int, float] = {}
        async with self._app(url, ledger, "noop") as (app, task):
            working = asyncio.create_task(
                app.run_worker_async(concurrency=20, delete_jobs="always", install_signal_handlers=False)
            )
            await asyncio.sleep(0.5)
            for n in range(count):
                await task.defer_async(n=n)
                committed[n] = time.time()
                await asyncio.sleep(1 / rate)
            await asyncio.sleep(0.2)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        return sorted(ledger.starts[n] - committed[n] for n in committed if n in ledger.starts)

    async def claim_times(self, url: str, claims: int = 20) -> list[float]:
        """Seconds that one fetch takes: it takes one job."""
        times = []
        async with self._app(url, MessageAccounting(), "noop") as (app, _):
            worker_id = await app.job_manager.register_worker()
            for _ in range(claims):
                began = time.perf_counter()
                await app.job_manager.fetch_job(queues=None, worker_id=worker_id)
                times.append(time.perf_counter() - began)
        return times


class PgQueuer:
    """pgqueuer 1."""

    title = "pgqueuer"

    @asynccontextmanager
    async def _queries(self, url: str) -> AsyncIterator[tuple[Any, Any]]:
        from pgqueuer.db import AsyncpgPoolDriver  # noqa: PLC0415 - one peer may be missing
        from pgqueuer.queries import Queries  # noqa: PLC0415 - the same

        pool = await asyncpg.create_pool(url, min_size=4, max_size=24)
        try:
            driver = AsyncpgPoolDriver(pool)
            yield driver, Queries(driver)
        finally:
            pool.terminate()

    async def install(self, url: str) -> None:
        """Make its tables."""
        async with self._queries(url) as (_, queries):
            await queries.install()

    async def fill(self, url: str, count: int) -> None:
        """Enqueue so many."""
        async with self._queries(url) as (_, queries):
            for n in range(0, count, 1000):
                size = min(1000, count - n)
                await queries.enqueue(["bench"] * size, [str(n + i).encode() for i in range(size)], [0] * size)

    async def drain(self, url: str, task: str) -> MessageAccounting:
        """Work until nothing is left."""
        from pgqueuer.qm import QueueManager  # noqa: PLC0415 - the same
        from pgqueuer.types import QueueExecutionMode  # noqa: PLC0415 - the same

        ledger = MessageAccounting()
        async with self._queries(url) as (_, queries):
            effects = await asyncpg.create_pool(url, min_size=0, max_size=20)
            manager = QueueManager(queries)

            @manager.entrypoint("bench")
            async def bench(job: Any) -> None:
                n = int(job.payload)
                if task == "effect":
                    await effects.execute(EFFECT, n)
                ledger.note(n)

            await manager.run(batch_size=100, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(seconds=1))
            effects.terminate()
        return ledger

    async def enqueue_rates(self, url: str, singles: int = 1500) -> dict[str, float]:
        """As ours."""
        from pgqueuer.db import AsyncpgDriver  # noqa: PLC0415 - the same
        from pgqueuer.queries import Queries  # noqa: PLC0415 - the same

        async with self._queries(url) as (_, queries):
            began = time.perf_counter()
            for n in range(singles):
                await queries.enqueue("bench", str(n).encode())
            one = singles / (time.perf_counter() - began)
            began = time.perf_counter()
            for _ in range(5):
                await queries.enqueue(["bench"] * 1000, [str(n).encode() for n in range(1000)], [0] * 1000)
            many = 5000 / (time.perf_counter() - began)
        connection = await asyncpg.connect(url)
        inner = Queries(AsyncpgDriver(connection))
        async with connection.transaction():
            began = time.perf_counter()
            for n in range(singles):
                await inner.enqueue("bench", str(n).encode())
            within = singles / (time.perf_counter() - began)
        await connection.close()
        return {"enqueue_one": one, "enqueue_many": many, "enqueue_within": within}

    async def latencies(self, url: str, count: int = 60, rate: float = 20.0) -> list[float]:
        """Seconds from a commit to its job's start."""
        from pgqueuer.db import AsyncpgDriver  # noqa: PLC0415 - the same
        from pgqueuer.qm import QueueManager  # noqa: PLC0415 - the same
        from pgqueuer.queries import Queries  # noqa: PLC0415 - the same

        ledger = MessageAccounting()
        committed: dict[int, float] = {}
        async with self._queries(url) as (_, queries):
            connection = await asyncpg.connect(url)
            manager = QueueManager(Queries(AsyncpgDriver(connection)))

            @manager.entrypoint("bench")
            async def bench(job: Any) -> None:
                ledger.note(int(job.payload))

            working = asyncio.create_task(manager.run(batch_size=100))
            await asyncio.sleep(1.0)
            for n in range(count):
                await queries.enqueue("bench", str(n).encode())
                committed[n] = time.time()
                await asyncio.sleep(1 / rate)
            await asyncio.sleep(0.3)
            manager.shutdown.set()
            await asyncio.wait((working,), timeout=5)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            connection.terminate()
        return sorted(ledger.starts[n] - committed[n] for n in committed if n in ledger.starts)

    async def claim_times(self, url: str, claims: int = 5) -> list[float]:
        """Seconds of a claim of 100 by job, each rolled back so that all are alike."""
        from pgqueuer.db import AsyncpgDriver  # noqa: PLC0415 - the same
        from pgqueuer.queries import EntrypointExecutionParameter, Queries  # noqa: PLC0415 - the same

        connection = await asyncpg.connect(url)
        queries, times = Queries(AsyncpgDriver(connection)), []
        for _ in range(claims):
            transaction = connection.transaction()
            await transaction.start()
            began = time.perf_counter()
            rows = await queries.dequeue(
                batch_size=100,
                entrypoints={"bench": EntrypointExecutionParameter(concurrency_limit=0)},
                queue_manager_id=uuid4(),
                global_concurrency_limit=None,
                heartbeat_timeout=timedelta(seconds=30),
            )
            times.append((time.perf_counter() - began) / max(1, len(rows)))
            await transaction.rollback()
        await connection.close()
        return times
