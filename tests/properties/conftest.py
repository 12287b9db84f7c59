"""One PostgreSQL for the properties of the job queue; each test finds its tables empty."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from kit.domain import EMPTY

from callboard.actors.infrastructure.database import Database
from callboard.ops import schema
from callboard.ops.embedded.data_directory import DataDirectory, free_ports, open_data_directory
from callboard.ops.embedded.postgres import Postgres

EFFECTS = "create table if not exists job_effects (job_id bigint not null, lease_id bigint not null, note text)"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def jobs_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDirectory]:
    with open_data_directory(tmp_path_factory.mktemp("jobs") / "data") as place:
        yield place
        place.reset()


@pytest.fixture(scope="session")
async def jobs_postgres(jobs_place: DataDirectory) -> AsyncIterator[Postgres]:
    server = Postgres(jobs_place, free_ports(1)[0])
    await server.start()
    connection = await asyncpg.connect(server.url)
    await connection.execute("alter database callboard set synchronous_commit = off")  # nothing here is to last
    await connection.close()
    await schema.install(server.url)
    connection = await asyncpg.connect(server.url)
    await connection.execute(EFFECTS)
    await connection.close()
    yield server
    await server.stop()


@pytest.fixture
async def database(jobs_postgres: Postgres) -> AsyncIterator[Database]:
    database = Database(jobs_postgres.url, size=20, statement_timeout_s=30.0)
    await database.connect()
    async with database.acquire() as connection:
        await connection.execute(EMPTY)
        await connection.execute("delete from job_effects")
    yield database
    database.disconnect()


@pytest.fixture
def url(jobs_postgres: Postgres) -> str:
    return jobs_postgres.url
