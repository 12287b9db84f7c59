"""The first words with PostgreSQL: what is wrong is said once for each reason; what no waiting mends ends the start.

And its clock, which is the one that counts.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from callboard.actors.infrastructure import database as module
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.database import Database, DatabaseGuard
from callboard.actors.infrastructure.database_server import DatabaseServer
from callboard.actors.infrastructure.token_signer import Signer
from callboard.ops import schema
from callboard.ops.embedded.postgres import Postgres
from callboard.runtime import Props, System, supervisor, worker


def changed(url: str, *, login: str = "", path: str = "", query: str = "") -> str:
    """A URL with another login, database or options."""
    parts = urlsplit(url)
    own, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login or own}@{host}", path=path or parts.path, query=query))


@asynccontextmanager
async def starting(database: Database, probe_s: float = 0.01) -> AsyncIterator["asyncio.Future[str]"]:
    """A guard that tries, and the reason for which it gives the start up."""
    database.server.breaker = CircuitBreaker("postgresql", first_s=probe_s, last_s=probe_s)
    given_up: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def give_up(reason: str) -> None:
        if not given_up.done():
            given_up.set_result(reason)

    async with System(supervisor("root", worker("database", Props(DatabaseGuard, database, schema.install, give_up)))):
        yield given_up


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"login": "callboard:no-such-word"}, "refuses our login; InvalidPasswordError (28P01)"),
        ({"login": "nobody-here:no-such-word"}, "refuses our login; InvalidPasswordError (28P01)"),
        ({"path": "/no_such_database"}, "does not exist; InvalidCatalogNameError (3D000)"),
        ({"query": "sslmode=require"}, "does not speak TLS as DATABASE_URL asks; ConnectionError"),
        ({"query": "no_such_setting=1"}, "refuses a statement that the start needs; UndefinedObjectError (42704)"),
        (
            {"login": "guest:guest", "path": "/bare"},
            "lacks a privilege that the start needs; Insufficient",
        ),
    ],
    ids=["password", "user", "database", "TLS", "option", "right"],
)
async def test_what_no_waiting_mends_ends_the_start_with_one_line(
    postgres: Postgres, change: dict[str, str], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "callboard")
    operator = await asyncpg.connect(postgres.url)
    if change.get("path") == "/bare":
        await operator.execute("drop database if exists bare with (force)")
        await operator.execute("drop role if exists guest")
        await operator.execute("create role guest login password 'guest'")
        await operator.execute("create database bare")  # where guest may not create anything
    await operator.close()
    async with starting(Database(changed(postgres.url, **change))) as given_up:
        reason = await asyncio.wait_for(given_up, 5)
        assert reason.startswith("DATABASE_URL (127.0.0.1:")
        assert why in reason
        assert "\n" not in reason
        assert "no-such-word" not in reason
    assert [record.getMessage() for record in caplog.records] == [reason]


async def test_a_server_that_is_away_is_named_once_and_again_when_the_reason_changes(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "callboard")
    answers, starting_up = ["refuse"], "the database system is starting up"
    tries = asyncio.Semaphore(0)

    async def prepare(_url: str) -> None:
        tries.release()
        if answers[0] == "refuse":
            raise ConnectionRefusedError(111, "Connection refused")
        raise asyncpg.CannotConnectNowError(starting_up)

    database = Database(changed(postgres.url, login="a:no-such-word"))
    given_up: list[str] = []
    async with System(supervisor("root", worker("database", Props(DatabaseGuard, database, prepare, given_up.append)))):
        for _ in range(5):
            await tries.acquire()
        answers[0] = "start"
        for _ in range(5):
            await tries.acquire()
    address = f"DATABASE_URL ({urlsplit(postgres.url).netloc.rpartition('@')[2]}/callboard)"
    assert [record.getMessage() for record in caplog.records] == [
        f"{address}: the server does not answer; ConnectionRefusedError: [Errno 111] Connection refused",
        f"{address}: the server is shutting down or recovering; CannotConnectNowError (57P03): {starting_up}",
    ]
    assert not given_up  # it may come yet


async def test_a_proxy_whose_server_is_away_is_waited_for_unless_tls_is_demanded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "callboard")

    def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as proxy:
        url = f"postgresql://a:b@127.0.0.1:{proxy.sockets[0].getsockname()[1]}/c"
        # An attempt that its end cuts short leaves an error in asyncpg.
        async with starting(Database(url), probe_s=60) as given_up:
            async with asyncio.timeout(20):
                while "what answers there is not PostgreSQL" not in caplog.text:  # noqa: ASYNC110 - the guard tells nobody
                    await asyncio.sleep(0.01)
            assert not given_up.done()
        async with starting(Database(f"{url}?sslmode=require")) as given_up:
            assert "does not speak TLS" in await asyncio.wait_for(given_up, 20)


async def test_a_login_that_is_refused_later_ends_nothing(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    """A password that is rotated reaches the server before us, or after."""
    caplog.set_level(logging.WARNING, "callboard")
    operator = await asyncpg.connect(postgres.url)
    await operator.execute("drop role if exists rotated; create role rotated superuser login password 'old'")
    database = Database(changed(postgres.url, login="rotated:old", query="sslmode=disable"))
    async with starting(database) as given_up:
        await asyncio.wait_for(database.available.wait(), 5)
        await operator.execute("alter role rotated password 'new'")
        await operator.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotated'")
        database.server.mark_unavailable(module.NO_ANSWER, TimeoutError())
        async with asyncio.timeout(5):
            while "28P01" not in caplog.text:  # noqa: ASYNC110 - the guard tries another process
                await asyncio.sleep(0.01)
        await operator.execute("alter role rotated password 'old'")
        await asyncio.wait_for(database.available.wait(), 5)
        assert not given_up.done()
    await operator.execute("drop role rotated")
    await operator.close()


async def test_the_direct_address_is_named_when_it_is_the_one_that_fails(postgres: Postgres) -> None:
    server = DatabaseServer(postgres.url, direct_url=changed(postgres.url, login="callboard:no-such-word"))
    async with starting(Database(server)) as given_up:
        assert (await asyncio.wait_for(given_up, 5)).startswith("DATABASE_DIRECT_URL (127.0.0.1:")


# Clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("off_s", [600, -600], ids=["ahead", "behind"])
async def test_a_process_whose_clock_is_off_lives_by_the_databases_and_says_so_once(
    postgres: Postgres, off_s: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "callboard")
    off = DatabaseServer(postgres.url, wall=lambda: time.time() + off_s)
    right = DatabaseServer(postgres.url)
    for server in (off, right):
        await server.connect()
    await off.compare_clocks()
    assert off.skew_s == pytest.approx(-off_s, abs=2)
    assert abs(right.skew_s) < 2
    (line,) = [record.getMessage() for record in caplog.records]
    assert ("ahead of" if off_s > 0 else "behind") in line

    signers = [Signer("s" * 64, issuer="callboard", access_ttl_s=60, now=server.now) for server in (off, right)]
    ids = {name: uuid4() for name in ("user_id", "session_id", "token_id")}
    for one, other, server in ((*signers, off), (*reversed(signers), right)):
        token = one.issue(email="ada@example.org", now=server.now(), **ids)
        assert other.read(token).user_id == ids["user_id"]
    for server in (off, right):
        server.disconnect()


async def test_a_wall_clock_that_jumps_changes_nothing_between_two_looks(postgres: Postgres) -> None:
    jumped = [0.0]
    server = DatabaseServer(postgres.url, wall=lambda: time.time() + jumped[0])
    await server.connect()
    jumped[0] = 3600.0
    assert abs(server.now() - datetime.now(UTC)) < timedelta(seconds=5)
    server.disconnect()
