"""A PostgreSQL that is there and cannot do its work for a while: every such state passes, and leaves nothing behind."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from kit.domain import refused

from callboard.actors.errors import SERVER_TIMEOUT, SERVER_UNAVAILABLE, DegradedError, Problem
from callboard.actors.infrastructure import database_connection
from callboard.actors.infrastructure.database import Database, DatabaseGuard, PoolSettings, TransactionConflict, retried
from callboard.actors.infrastructure.postgres_errors import LOST, NO_ANSWER
from callboard.ops.embedded.postgres import Postgres
from callboard.runtime import Actor, Crashed, Props, Request, System, on, supervisor, worker

PASSING = ("53100", "53200", "53300", "53400", "55P03", "55006", "58030", "58000", "25P03", "57P05", "26000")


async def nothing(_url: str) -> None:
    """No schema is needed here."""


@pytest.fixture(scope="module")
async def url(postgres: Postgres) -> AsyncIterator[str]:
    """A database of this module's own on the shared server, whose settings may be changed."""
    connection = await asyncpg.connect(postgres.url)
    await connection.execute("drop database if exists states")
    await connection.execute("create database states")
    await connection.execute("alter database states set deadlock_timeout = '10ms'")
    url = f"{postgres.url.rpartition('/')[0]}/states"
    states = await asyncpg.connect(url)
    await states.execute("create table notes (note_id int primary key, text text)")
    await states.close()
    yield url
    await connection.execute("drop database states with (force)")
    await connection.close()


@asynccontextmanager
async def guarded(database: Database) -> AsyncIterator[list[Crashed]]:
    """A database with its guard; nothing may crash."""
    crashes: list[Crashed] = []
    async with System(supervisor("root", worker("database", Props(DatabaseGuard, database, nothing)))) as system:
        system.subscribe(lambda event: crashes.append(event) if isinstance(event, Crashed) else None)
        await asyncio.wait_for(database.available.wait(), 5)
        yield crashes
    assert not crashes


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """Connected, and empty."""
    database = Database(f"{url}?sslmode=disable", size=3, pools={"search": PoolSettings(2, 0.2)})
    async with guarded(database):
        async with database.acquire() as connection:
            await connection.execute("truncate notes; insert into notes values (1, ''), (2, '')")
        yield database


async def raise_state(connection: Any, state: str) -> None:
    await connection.execute(f"do $$ begin raise exception 'so it is' using errcode = '{state}'; end $$")


@pytest.mark.parametrize("state", PASSING)
@pytest.mark.parametrize("begun", [False, True], ids=["a statement", "a transaction"])
async def test_a_state_that_passes_is_503_and_the_next_call_works(
    database: Database, state: str, *, begun: bool
) -> None:
    with refused(SERVER_UNAVAILABLE) as caught:
        async with database.transaction() if begun else database.acquire() as connection:
            await raise_state(connection, state)
    assert caught.value.retry_after_s
    assert database.available.is_set()  # the server is there, and others go on
    async with database.transaction() as connection:
        await connection.execute("update notes set text = 'works'")


async def test_a_state_that_passes_is_logged_once_and_shown_by_the_check(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "callboard")
    for _ in range(5):
        with refused(SERVER_UNAVAILABLE):
            async with database.acquire() as connection:
                await raise_state(connection, "53100")
    assert [record.getMessage() for record in caplog.records] == [
        "PostgreSQL: the server's disk is full; DiskFullError (53100): so it is"
    ]
    with pytest.raises(DegradedError, match="disk is full"):
        await database.check()


async def test_a_statement_that_takes_too_long_is_logged_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "callboard")
    for _ in range(3):
        with refused(SERVER_TIMEOUT):
            async with database.acquire() as connection:
                await raise_state(connection, "57014")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("PostgreSQL: the statement took too long; QueryCanceledError (57014)")


async def test_a_server_that_comes_and_goes_is_logged_once_for_each_reason(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "callboard.actors")
    database = Database(url)
    for _ in range(5):
        await database.connect()
        for why, error in ((LOST, ConnectionResetError(104, "reset")), (NO_ANSWER, TimeoutError("slow"))):
            database.server.mark_unavailable(why, error)
            await database.connect()
    database.disconnect()
    assert [record.getMessage() for record in caplog.records] == [
        "PostgreSQL is available",
        "PostgreSQL is unavailable: the connection is lost; ConnectionResetError: [Errno 104] reset",
        "PostgreSQL is available",
        "PostgreSQL is unavailable: the server does not answer; TimeoutError: slow",
        "PostgreSQL is available",
    ]


async def test_a_caller_who_gives_up_twice_leaves_no_error_that_nobody_awaits(database: Database) -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with database.acquire() as connection:
            begun.set_result(connection.get_server_pid())
            await connection.execute("select pg_sleep(60)")

    task = asyncio.create_task(work())
    backend = await begun
    await asyncio.sleep(0)
    os.kill(backend, signal.SIGSTOP)
    try:
        task.cancel()
        await asyncio.sleep(0)  # asyncpg asks the server to cancel the statement, and waits for its answer
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while left := [each for each in asyncio.all_tasks() if "release" in repr(each.get_coro())]:
            await asyncio.wait(left)
        del left
        gc.collect()
    finally:
        os.kill(backend, signal.SIGCONT)
    assert said == []


async def test_an_error_of_the_statement_itself_is_still_the_callers(database: Database) -> None:
    for state in ("23505", "P0001", "42601", "22012"):
        with pytest.raises(asyncpg.PostgresError) as caught:
            async with database.transaction() as connection:
                await raise_state(connection, state)
        assert caught.value.sqlstate == state
    await database.check()


async def test_a_failover_to_a_read_only_server_is_503_for_writes_and_over_with_its_end(
    database: Database, url: str
) -> None:
    """Connections that were made meanwhile would go on refusing writes: the setting, and a demoted server, stay."""

    async def write() -> None:
        async with database.transaction() as connection:
            await connection.execute("update notes set text = 'written'")

    operator = await asyncpg.connect(url)
    try:
        await operator.execute("alter database states set default_transaction_read_only = on")
        database.server.expire()
        await asyncio.gather(*database.server._expiring)
        database.server._expired_at = 0.0
        for _ in range(3):
            with refused(SERVER_UNAVAILABLE):
                await write()
            async with database.acquire() as connection:
                assert await connection.fetchval("select count(*) from notes") == 2  # reads go on
        with pytest.raises(DegradedError, match="read-only"):
            await database.check()
        await asyncio.gather(*database.server._expiring)
        database.server._expired_at = 1e9
        with refused(SERVER_UNAVAILABLE):  # over a connection that outlives the state
            await write()
        database.server._expired_at = 0.0
    finally:
        await operator.execute("set default_transaction_read_only = off")
        await operator.execute("alter database states reset default_transaction_read_only")
        await operator.close()

    async with asyncio.timeout(1):
        while True:
            try:
                await write()
            except Problem:
                await asyncio.sleep(0.05)
            else:
                break


async def test_a_lock_that_is_not_to_be_had_is_503_and_no_bug(database: Database) -> None:
    async with database.transaction() as holder:
        await holder.execute("lock table notes in access exclusive mode")
        with refused(SERVER_UNAVAILABLE):
            async with database.transaction() as connection:
                await connection.execute("set local lock_timeout = '10ms'")
                await connection.execute("update notes set text = 'late'")


async def test_a_session_that_an_operator_ends_is_503_and_the_pool_is_whole_again(database: Database, url: str) -> None:
    operator = await asyncpg.connect(url)
    with refused(SERVER_UNAVAILABLE):
        async with database.transaction() as connection:
            await operator.execute("select pg_terminate_backend($1)", connection.get_server_pid())
            await connection.execute("select 1")
    await operator.close()
    await asyncio.wait_for(database.available.wait(), 5)
    await database.check()


async def test_the_locks_of_a_process_that_is_frozen_in_a_transaction_pass_to_others(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail without the limit of an idle transaction: the other waited until its statement was ended."""
    monkeypatch.setattr(database_connection, "IDLE_TRANSACTION_MS", 100)
    database = Database(f"{url}?sslmode=disable", size=1)
    async with guarded(database):
        other = await asyncpg.connect(url, server_settings={"statement_timeout": "20s"})
        with refused(SERVER_UNAVAILABLE):
            async with database.transaction() as connection:
                await connection.execute("update notes set text = 'frozen'")
                await other.execute("update notes set text = 'free'")
                await connection.execute("update notes set text = 'thawed'")
        assert {row["text"] for row in await other.fetch("select text from notes")} == {"free"}
        await other.close()
        await asyncio.wait_for(database.available.wait(), 5)


# Lost races ------------------------------------------------------------------------------------------------------


class Swap(Request[None], frozen=True):
    """Change two rows, in this order."""

    first: int
    second: int


class Swapper(Actor[Swap]):
    def __init__(self, database: Database, between: Callable[[], Awaitable[Any]]) -> None:
        self.database = database
        self.between = between
        self.tries = 0

    @on(Swap)
    @retried
    async def swap(self, message: Swap) -> None:
        self.tries += 1
        async with self.database.transaction() as connection:
            await connection.execute("update notes set text = text || 'x' where note_id = $1", message.first)
            if self.tries == 1:
                await self.between()
            await connection.execute("update notes set text = text || 'x' where note_id = $1", message.second)


async def test_two_transactions_that_block_each_other_both_succeed_in_the_end(database: Database) -> None:
    meeting = asyncio.Barrier(2)
    one, two = (worker(name, Props(Swapper, database, meeting.wait)) for name in ("one", "two"))
    async with System(supervisor("root", one, two)):
        await asyncio.gather(one.ask(Swap(1, 2)), two.ask(Swap(2, 1)))
    async with database.acquire() as connection:
        assert await connection.fetch("select text from notes") == [("xx",), ("xx",)]


async def test_a_serialization_failure_is_503_after_three_tries_and_no_crash(database: Database) -> None:
    tries = 0

    class Loser(Actor[Swap]):
        @on(Swap)
        @retried
        async def swap(self, _message: Swap) -> None:
            nonlocal tries
            tries += 1
            async with database.transaction() as connection:
                await raise_state(connection, "40001")

    loser = worker("loser", Loser)
    async with System(supervisor("root", loser)):
        with refused(SERVER_UNAVAILABLE) as caught:
            await loser.ask(Swap(1, 2))
    assert isinstance(caught.value, TransactionConflict)
    assert tries == 3


async def test_a_migration_under_a_running_process_is_a_lost_race_and_not_a_bug(database: Database) -> None:
    async def change(width: str) -> None:
        other = await asyncpg.connect(database.url)
        await other.execute(f"alter table notes alter column text type {width}")
        await other.close()

    async with database.acquire() as connection:
        await connection.fetch("select * from notes")
    await change("varchar(9)")
    with pytest.raises(TransactionConflict):
        async with database.transaction() as connection:
            await connection.fetch("select * from notes")
    async with database.transaction() as connection:
        assert len(await connection.fetch("select * from notes")) == 2
    await change("text")


# Kinds of work ---------------------------------------------------------------------------------------------------


async def test_a_flood_of_one_kind_of_work_takes_no_connection_of_another(database: Database) -> None:
    searches = database.pool("search")
    release = asyncio.Event()

    async def search() -> None:
        async with searches.acquire():
            await release.wait()

    flood = [asyncio.create_task(search()) for _ in range(14)]
    await asyncio.sleep(0)
    async with asyncio.timeout(0.9):  # less than anybody waits for a connection
        for _ in range(20):
            async with database.acquire() as connection:
                assert await connection.fetchval("select 1") == 1
    release.set()
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert {getattr(result, "code", None) for result in results} <= {None, SERVER_UNAVAILABLE}
    assert database.pool("unknown") is database


async def test_each_kind_of_work_has_a_limit_of_its_own_for_a_statement(database: Database) -> None:
    async with database.acquire() as connection:
        assert await connection.fetchval("show statement_timeout") == "1300ms"
    async with database.pool("search").acquire() as connection:
        assert await connection.fetchval("show statement_timeout") == "200ms"
        with refused(SERVER_TIMEOUT):
            async with database.pool("search").acquire() as other:
                await other.execute("select pg_sleep(5)")
    assert database.available.is_set()


async def test_all_connections_taken_is_503_and_over_at_once(postgres: Postgres, url: str) -> None:
    """A role that may have one connection stands for a server that has no more: the same state, 53300."""
    operator = await asyncpg.connect(postgres.url)
    await operator.execute("drop role if exists few; create role few login password 'few' connection limit 2")
    try:
        address = url.replace(urlsplit(url).netloc.rpartition("@")[0], "few:few") + "?sslmode=disable"
        database = Database(address, size=5)
        async with guarded(database):
            async with database.acquire(), database.acquire():
                with refused(SERVER_UNAVAILABLE):
                    await database.check()
                assert database.available.is_set()  # those that have a connection go on
            async with database.acquire() as connection:
                await connection.execute("select 1")
    finally:
        await operator.execute("drop role few")
        await operator.close()
