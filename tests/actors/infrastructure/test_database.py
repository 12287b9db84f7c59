"""PostgreSQL away, quiet, or full: always an answer, soon, and all is well again when it is back."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psutil
import pytest
from kit.domain import refused

from callboard.actors.errors import SERVER_TIMEOUT, SERVER_UNAVAILABLE
from callboard.actors.infrastructure import database as module
from callboard.actors.infrastructure.database import Database, DatabaseGuard
from callboard.ops import schema
from callboard.ops.embedded.data_directory import DataDirectory, free_ports, open_data_directory
from callboard.ops.embedded.postgres import Postgres
from callboard.runtime import (
    Actor,
    AskTimeoutError,
    Context,
    Crashed,
    Props,
    Request,
    System,
    on,
    pool,
    supervisor,
    use_context,
    worker,
)

SLOW = "select pg_sleep(1)"  # longer than any of these tests waits for it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    with open_data_directory(tmp_path_factory.mktemp("away") / "data") as place:
        yield place
        place.reset()


@pytest.fixture(scope="module")
async def cluster(folder: DataDirectory) -> AsyncIterator[Postgres]:
    """A server of this module's own, to be killed."""
    server = Postgres(folder, free_ports(1)[0])
    yield server
    await server.stop()


@pytest.fixture
async def server(cluster: Postgres) -> Postgres:
    """The same, running, whatever the test before has done to it."""
    if cluster.pid is None:
        await cluster.start()
    return cluster


@asynccontextmanager
async def guarded(url: str, size: int = 5) -> AsyncIterator[Database]:
    """A database with its guard; no actor may have crashed.

    Without TLS, which the server does not speak anyway: asyncpg's request for it, broken off by a dying server, ends
    as an exception that nobody retrieves, in whatever test comes next.
    """
    database, crashes = Database(f"{url}?sslmode=disable", size=size), []
    async with System(supervisor("root", worker("database", Props(DatabaseGuard, database, schema.install)))) as system:
        system.subscribe(lambda event: crashes.append(event) if isinstance(event, Crashed) else None)
        await asyncio.wait_for(database.available.wait(), 5)
        yield database
    assert not crashes


@contextmanager
def stopped(server: Postgres) -> Iterator[None]:
    """Every process of the server stands still."""
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for each in processes:
        os.kill(each.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGCONT)


async def kill(server: Postgres) -> None:
    """And see its backends gone: each answers on until it has noticed that the postmaster died."""
    pid = server._server.pid
    backends = [] if pid is None else psutil.Process(pid).children(recursive=True)
    await server._server.stop(signal.SIGKILL, 5)
    await asyncio.to_thread(psutil.wait_procs, backends, 5)


async def count(database: Database, state: str) -> int:
    async with database.acquire() as connection:
        query = "select count(*) from pg_stat_activity where datname = current_database() and state like $1"
        return int(await connection.fetchval(query, state)) - (state == "active")


async def until(database: Database, wanted: int, state: str) -> None:
    async with asyncio.timeout(5):
        while await count(database, state) != wanted:  # noqa: ASYNC110 - the truth is in another process
            await asyncio.sleep(0.01)


async def is_whole(database: Database) -> None:
    """Every connection of the pool can be had at once, and none is in a transaction."""
    assert await count(database, "idle in transaction%") == 0
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(database.size):
            connection = await stack.enter_async_context(database.acquire())
            assert not connection.is_in_transaction()


async def test_before_it_is_connected_every_call_is_refused_at_once() -> None:
    database = Database("postgresql://127.0.0.1:1/none")
    with refused(SERVER_UNAVAILABLE) as caught:
        await database.check()
    assert caught.value.retry_after_s


async def test_a_server_that_comes_late_is_connected_and_gets_the_schema(server: Postgres) -> None:
    await server.stop()
    database = Database(f"{server.url}?sslmode=disable")
    async with System(supervisor("root", worker("database", Props(DatabaseGuard, database, schema.install)))):
        with refused(SERVER_UNAVAILABLE):
            await database.check()
        await server.start()
        await asyncio.wait_for(database.available.wait(), 5)
        async with database.acquire() as connection:
            assert await connection.fetchval("select count(*) from users") == 0


async def test_while_it_is_away_calls_are_refused_at_once_and_when_it_is_back_they_work_again(
    server: Postgres,
) -> None:
    async with guarded(server.url) as database:
        for _ in range(2):
            await database.check()
            await kill(server)
            for _ in range(20):
                started = time.monotonic()
                with refused(SERVER_UNAVAILABLE):
                    await database.check()
                assert time.monotonic() - started < 0.25
            await server.start()
            returned = time.monotonic()
            await asyncio.wait_for(database.available.wait(), 5)
            assert time.monotonic() - returned < 2
        await is_whole(database)


async def test_those_in_the_middle_of_something_are_refused_when_it_dies(server: Postgres) -> None:
    async with guarded(server.url) as database:

        async def work() -> None:
            async with database.transaction() as connection:
                await connection.execute(SLOW)

        working = [asyncio.create_task(work()) for _ in range(4)]
        await until(database, 4, "active")
        await kill(server)
        for task in working:
            with refused(SERVER_UNAVAILABLE):
                await asyncio.wait_for(task, 1)
        await server.start()
        await asyncio.wait_for(database.available.wait(), 5)
        await is_whole(database)


async def test_one_who_holds_a_connection_across_a_reconnection_is_refused_and_harms_nobody(server: Postgres) -> None:
    async with guarded(server.url) as database:
        with refused(SERVER_UNAVAILABLE):
            async with database.transaction() as connection:
                await kill(server)
                while database.available.is_set():  # a connection attempt may hang a moment on a dying server
                    with refused(SERVER_UNAVAILABLE):
                        await database.check()
                await server.start()
                await asyncio.wait_for(database.available.wait(), 5)
                await connection.execute("select 1")
        assert database.available.is_set()
        await is_whole(database)


@pytest.mark.parametrize("begun", [False, True], ids=["from outside", "in a transaction"])
async def test_a_server_that_stands_still_is_an_answer_in_time_and_no_loss(server: Postgres, *, begun: bool) -> None:
    async with guarded(server.url) as database:

        async def work(ready: asyncio.Event, go: asyncio.Event) -> None:
            async with database.transaction() as connection:
                if begun:
                    await connection.execute("select 1")
                ready.set()
                await go.wait()
                await connection.execute("select 1")

        ready, go = [asyncio.Event() for _ in range(3)], asyncio.Event()
        working = [asyncio.create_task(work(each, go)) for each in ready] if begun else []
        for each in ready if begun else ():
            await each.wait()
        with stopped(server):
            started = time.monotonic()
            go.set()
            working += [asyncio.create_task(database.check()) for _ in range(4)]
            results = await asyncio.gather(*working, return_exceptions=True)
            assert time.monotonic() - started < 2.5
            assert {getattr(result, "code", result) for result in results} == {SERVER_UNAVAILABLE}
            started = time.monotonic()
            with refused(SERVER_UNAVAILABLE):
                await database.check()
            assert time.monotonic() - started < 0.1
        await asyncio.wait_for(database.available.wait(), 5)
        await until(database, 0, "idle in transaction%")
        await is_whole(database)


async def test_a_caller_who_gives_up_while_it_stands_still_is_cancelled_and_nothing_else(server: Postgres) -> None:
    async with guarded(server.url) as database:
        ready = asyncio.Event()

        async def work() -> None:
            async with database.transaction() as connection:
                await connection.execute("select 1")
                ready.set()
                await connection.execute("select 2")
                await connection.execute(SLOW)

        task = asyncio.create_task(work())
        await ready.wait()
        with stopped(server):
            task.cancel()
            started = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - started < 2.5
        await asyncio.wait_for(database.available.wait(), 5)
        await is_whole(database)


class Sleep(Request[None], frozen=True):
    """Write a row, and sleep on it."""


class Sleeper(Actor[Sleep]):
    def __init__(self, database: Database) -> None:
        self.database = database

    @on(Sleep)
    async def sleep(self, _message: Sleep) -> None:
        async with self.database.transaction() as connection:
            await connection.execute("insert into categories (slug, name) values ('s', gen_random_uuid())")
            await connection.execute(SLOW)


async def test_a_cancelled_transaction_leaves_no_trace_and_its_connection_free(server: Postgres) -> None:
    async with guarded(server.url) as database:
        sleepers = pool("sleepers", Props(Sleeper, database), size=4)
        async with System(supervisor("more", sleepers)):
            for _ in range(3):
                asked = [asyncio.ensure_future(sleepers.ask(Sleep())) for _ in range(4)]
                await until(database, 4, "active")  # one sleeps, the others wait for its row
                for task in asked:
                    task.cancel()
                results = await asyncio.gather(*asked, return_exceptions=True)
                assert all(isinstance(result, asyncio.CancelledError) for result in results)
                await until(database, 0, "active")
                await until(database, 0, "idle in transaction%")
        await is_whole(database)
        async with database.acquire() as connection:
            assert await connection.fetchval("select count(*) from categories") == 0


async def test_cancelled_at_any_moment_a_transaction_leaves_the_pool_whole(server: Postgres) -> None:
    async with guarded(server.url) as database:

        async def work() -> None:
            async with database.transaction() as connection:
                await connection.execute("select 1")
                await connection.execute("select 2")

        for turns in range(40):
            task = asyncio.create_task(work())
            for _ in range(turns):
                await asyncio.sleep(0)  # one turn of the loop, not a wait
            task.cancel()
            await asyncio.wait((task,), timeout=5)
            assert task.done()
            await is_whole(database)
            assert database.available.is_set()


async def test_when_all_connections_are_taken_one_is_refused_in_time_and_the_server_is_not_called_away(
    server: Postgres,
) -> None:
    async with guarded(server.url, size=2) as database:
        async with database.acquire(), database.acquire():
            started = time.monotonic()
            with refused(SERVER_UNAVAILABLE):
                await database.check()
            assert time.monotonic() - started < module.ACQUIRE_TIMEOUT_S + 0.5
            assert database.available.is_set()
        await database.check()


async def test_an_error_of_a_statement_is_the_callers_and_says_nothing_about_the_server(server: Postgres) -> None:
    async with guarded(server.url) as database:
        with pytest.raises(ZeroDivisionError):
            async with database.transaction():
                raise ZeroDivisionError
        for statement in ("selec 1", "select 1/0", "insert into categories (slug, name) values ('A B', '')"):
            with pytest.raises(Exception, match=r"syntax|zero|constraint"):
                async with database.transaction() as connection:
                    await connection.execute(statement)
        assert database.available.is_set()
        await is_whole(database)


async def test_a_timeout_of_the_callers_own_is_theirs_and_says_nothing_about_the_server(server: Postgres) -> None:
    async def work(database: Database, patience_s: float) -> Any:
        async with asyncio.timeout(patience_s), database.transaction() as connection:
            return await connection.fetchval(SLOW)

    async with guarded(server.url) as database:
        with pytest.raises(TimeoutError):
            await work(database, 0.05)
        assert database.available.is_set()
        await is_whole(database)


async def test_an_ask_that_times_out_in_a_transaction_says_nothing_about_the_server(server: Postgres) -> None:
    async with guarded(server.url) as database:
        with pytest.raises(AskTimeoutError):
            async with database.transaction():
                raise AskTimeoutError("somebody", Sleep())
        assert database.available.is_set()
        await is_whole(database)


@pytest.mark.parametrize("begun", [False, True], ids=["a statement", "in a transaction"])
async def test_a_slow_statement_is_ended_by_the_server_itself_and_the_server_is_not_called_away(
    server: Postgres, *, begun: bool
) -> None:
    async with guarded(server.url, size=2) as database:
        started = time.monotonic()
        with refused(SERVER_TIMEOUT):
            async with database.transaction() if begun else database.acquire() as connection:
                await connection.execute("select pg_sleep(30)", timeout=20)  # so that it is not ended by us
        assert time.monotonic() - started < module.STATEMENT_TIMEOUT_S + 0.5
        assert database.available.is_set()
        assert await count(database, "active") == 0
        await is_whole(database)


async def test_a_statement_ends_with_its_request_and_the_next_one_has_the_usual_time(server: Postgres) -> None:
    async with guarded(server.url, size=1) as database:

        async def limit() -> str:
            async with database.acquire() as connection:
                return str(await connection.fetchval("show statement_timeout"))

        usual = await limit()
        started = time.monotonic()
        with use_context(Context(deadline=asyncio.get_running_loop().time() + 0.2)), refused(SERVER_TIMEOUT):
            async with database.transaction() as connection:
                await connection.execute("select pg_sleep(30)", timeout=20)
        assert time.monotonic() - started < 0.7
        assert await limit() == usual
        with use_context(Context(deadline=asyncio.get_running_loop().time())), refused(SERVER_TIMEOUT):
            await database.check()
        assert await limit() == usual
        await is_whole(database)


async def test_only_a_request_that_has_less_than_the_usual_time_pays_for_a_limit_of_its_own(server: Postgres) -> None:
    async with guarded(server.url, size=1) as database:
        set_limits = 0

        def notice(record: Any) -> None:
            nonlocal set_limits
            set_limits += record.query.startswith("set statement_timeout")

        async with database.acquire() as connection:
            connection.add_query_logger(notice)
        loop = asyncio.get_running_loop()
        for left_s, seen in ((None, 0), (10, 0), (0.9, 1), (10, 2), (None, 2)):
            with use_context(Context(deadline=left_s and loop.time() + left_s)):
                await database.check()
            assert set_limits == seen
