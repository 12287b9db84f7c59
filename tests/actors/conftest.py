"""One PostgreSQL and one Valkey for all tests of the actors; each test finds every table empty."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from kit.domain import EMPTY, Domain
from kit.mail_post import Post
from kit.property_examples import examples
from kit.s3 import S3Server, s3_server

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.redis import RedisClient
from callboard.actors.infrastructure.s3_store import S3Store
from callboard.ops import schema
from callboard.ops.embedded.data_directory import DataDirectory, free_ports, open_data_directory
from callboard.ops.embedded.mail_catcher import Catcher
from callboard.ops.embedded.postgres import Postgres
from callboard.ops.embedded.valkey import Valkey

# The fixtures' database is shared by the examples of one test on purpose: each makes rows of its own.
settings.register_profile(
    "actors", deadline=None, max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    with open_data_directory(tmp_path_factory.mktemp("actors") / "data") as place:
        yield place
        place.reset()


@pytest.fixture(scope="session")
async def postgres(place: DataDirectory) -> AsyncIterator[Postgres]:
    server = Postgres(place, free_ports(1)[0])
    await server.start()
    connection = await asyncpg.connect(server.url)
    await connection.execute("alter database callboard set synchronous_commit = off")  # nothing here is to last
    await connection.close()
    await schema.install(server.url)
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def valkey(place: DataDirectory) -> AsyncIterator[Valkey]:
    server = Valkey(place, free_ports(1)[0])
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def connected(postgres: Postgres) -> AsyncIterator[Database]:
    """One pool for all tests: connecting is most of what a short one would cost."""
    database = Database(postgres.url, size=20, statement_timeout_s=30.0)  # a busy machine is slow, and not at fault
    await database.connect()
    yield database
    database.disconnect()


@pytest.fixture
async def database(connected: Database) -> Database:
    if connected.unavailable.is_set():  # a test ended in this state, or the machine stood still: no guard is here
        await connected.connect()
    async with connected.acquire() as connection:
        await connection.execute(EMPTY)
    return connected


@pytest.fixture
async def cache(valkey: Valkey) -> RedisClient:
    """An empty Redis; whoever plays a domain with it closes it."""
    cache = RedisClient(valkey.url)
    await cache.send("FLUSHDB")
    return cache


@pytest.fixture
async def domain(database: Database, cache: RedisClient) -> AsyncIterator[Domain]:
    domain = Domain(database, cache)
    async with domain.playing():
        yield domain


@pytest.fixture
async def other(domain: Domain, valkey: Valkey) -> AsyncIterator[Domain]:
    """Another process beside `domain`, on the same servers."""
    other = Domain(domain.database, RedisClient(valkey.url))
    async with other.playing():
        yield other


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    """A data folder for a server of the test's own."""
    with open_data_directory(tmp_path / "data") as place:
        yield place
        place.reset()


@pytest.fixture
async def catcher(data: DataDirectory) -> AsyncIterator[Catcher]:
    catcher = Catcher(data, free_ports(1)[0])
    await catcher.start()
    yield catcher
    await catcher.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
async def bucket(s3: S3Server) -> AsyncIterator[S3Store]:
    """A store that is open: making its client takes a while."""
    store = s3.store()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def post(domain: Domain, catcher: Catcher) -> Post:
    return Post(domain, catcher._port)
