"""Behind PgBouncer in transaction mode: requests work, nothing stays in a session, and limits hold all the same."""

import asyncio
import contextlib
from collections.abc import Iterator

import asyncpg
import pytest
from kit.domain import Domain, refused
from kit.pooler import MISSING, PGBOUNCER, pgbouncer

from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.errors import SERVER_TIMEOUT, SERVER_UNAVAILABLE, DegradedError
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.database_server import DatabaseServer, Pooler
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.redis import RedisClient
from callboard.ops.embedded.postgres import Postgres

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason=MISSING)


@pytest.fixture(scope="module")
def pooler(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a pooler before the shared server."""
    with pgbouncer(postgres.url, tmp_path_factory.mktemp("pooler")) as url:
        yield url


async def connected(server: DatabaseServer, size: int = 6) -> Database:
    database = Database(server, size=size)
    async with asyncio.timeout(10):
        while True:
            try:
                await database.connect()
            except OSError:
                await asyncio.sleep(0.05)  # the pooler is just starting
            else:
                return database


async def test_a_pooler_is_seen_by_itself_and_a_server_is_not_taken_for_one(pooler: str, postgres: Postgres) -> None:
    through, direct = DatabaseServer(pooler), DatabaseServer(f"{postgres.url}?sslmode=disable")
    for server, is_pooled in ((through, True), (direct, False)):
        database = await connected(server)
        assert server.pooled is is_pooled
        with pytest.raises(DegradedError) if is_pooled else contextlib.nullcontext():  # there is no address past it
            await database.check()
        database.disconnect()


async def test_many_at_once_share_few_sessions_and_each_gets_its_own_answer(
    pooler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.actors.infrastructure.database.ACQUIRE_TIMEOUT_S", 60.0)  # of a busy machine
    database = await connected(DatabaseServer(pooler, pooler=Pooler.TRANSACTION), size=12)

    async def ask(n: int) -> tuple[int, int]:
        async with database.acquire() as connection:
            single = await connection.fetchval("select $1::int", n)
        async with database.transaction() as connection:
            row = await connection.fetchrow("select $1::int * 2 as twice, $2::text", n, "text")
        return single, row["twice"]

    answers = await asyncio.gather(*(ask(n) for n in range(60)))
    assert answers == [(n, 2 * n) for n in range(60)]
    database.disconnect()


@pytest.mark.parametrize("begun", [False, True], ids=["a statement", "a transaction"])
async def test_a_slow_statement_is_ended_and_its_limit_stays_with_nobody(pooler: str, *, begun: bool) -> None:
    server = DatabaseServer(pooler)
    database = await connected(server)
    database.statement_timeout_s = 0.2
    with refused(SERVER_TIMEOUT):
        async with database.transaction() if begun else database.acquire() as connection:
            await connection.fetchval("select pg_sleep(30)", timeout=20)
    assert database.available.is_set()
    async with database.transaction() as connection:
        assert await connection.fetchval("show statement_timeout") == "200ms"
    database.disconnect()

    others = [await asyncpg.connect(pooler, statement_cache_size=0) for _ in range(3)]  # who share all its sessions
    transactions = [other.transaction() for other in others]
    for transaction in transactions:
        await transaction.start()
    limits = [await other.fetchval("show statement_timeout") for other in others]
    left = [await other.fetchval("select count(*) from pg_prepared_statements where name <> ''") for other in others]
    for transaction, other in zip(transactions, others, strict=True):
        await transaction.rollback()
        await other.close()
    assert (limits, left) == (["0"] * 3, [0] * 3)


async def test_the_walk_of_an_article_works_through_it(pooler: str, database: Database, cache: RedisClient) -> None:
    through = await connected(DatabaseServer(pooler, direct_url=database.url))
    domain = Domain(through, cache)
    async with domain.playing():
        author, editor = await domain.person(), await domain.person(Role.EDITOR)
        content = await domain.published(author, editor)
        await domain.move(content.content_id, Action.ARCHIVE, editor)
        assert [kind for _, kind, _ in await domain.events()][-1] == "content.archived"
        with pytest.raises(Exception, match="constraint"):
            async with through.transaction() as connection:
                await connection.execute("insert into categories (slug, name) values ('A B', '')")
    through.disconnect()


async def test_without_an_address_past_the_pooler_one_line_and_ready_name_the_setting(
    pooler: str, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    for direct_url, lines in (("", 1), (postgres.url, 0)):
        caplog.clear()
        database = await connected(DatabaseServer(pooler, direct_url=direct_url))
        assert [each.message.startswith("DATABASE_DIRECT_URL is missing") for each in caplog.records].count(
            True
        ) == lines
        with refused(SERVER_UNAVAILABLE) if lines else contextlib.nullcontext():
            async with database.session("a lease", timeout_s=5, statement_timeout_s=5) as session:
                assert await session.fetchval("select 1") == 1
        with pytest.raises(DegradedError, match="DIRECT_URL is missing") if lines else contextlib.nullcontext():
            await database.check()
        database.disconnect()
