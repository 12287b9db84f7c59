"""States of the servers that pass: each holds while a block runs, and is made by the server itself wherever it can be.

A slow server is one that is stopped again and again; a replica is read-only; a server with a limit of memory refuses.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil
import redis.asyncio
from aiokafka.admin import AIOKafkaAdminClient

from callboard.ops.embedded.data_directory import free_ports, open_data_directory
from callboard.ops.embedded.valkey import Valkey
from kit.running import Up, data_folder

State = Callable[[Up], AbstractAsyncContextManager[None]]

RUNS_S = 0.02  # how long a slow server runs between two stops
RELEASE_S = 5.0
KEYS = 20_000  # to load
NO_ROOM = """
create or replace function no_room() returns trigger language plpgsql as
$$ begin raise exception 'could not extend file' using errcode = '53100'; end $$
"""
TABLES = """
select c.oid::regclass::text from pg_class as c
where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and c.relname <> 'alembic_version'
"""
FILL = "for i = 1, tonumber(ARGV[1]) do redis.call('SET', 'filler:' .. i, i) end"


def signal_server(up: Up, server: str, number: signal.Signals) -> None:
    """Signal a server and all its processes."""
    parent = psutil.Process(up.server_pids()[server])
    for each in (parent, *parent.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(number)


def hangs(server: str) -> State:
    """A server that does not respond."""

    @asynccontextmanager
    async def state(up: Up) -> AsyncIterator[None]:
        signal_server(up, server, signal.SIGSTOP)
        try:
            yield
        finally:
            signal_server(up, server, signal.SIGCONT)

    return state


def dies(server: str) -> State:
    """A server that is killed, and is back a moment later."""

    @asynccontextmanager
    async def state(up: Up) -> AsyncIterator[None]:
        signal_server(up, server, signal.SIGKILL)
        yield

    return state


def is_slow(server: str, reply_s: float) -> State:
    """A server that takes up to so long for each reply."""

    @asynccontextmanager
    async def state(up: Up) -> AsyncIterator[None]:
        async def stop_and_go() -> None:
            try:
                while True:
                    signal_server(up, server, signal.SIGSTOP)
                    await asyncio.sleep(reply_s)
                    signal_server(up, server, signal.SIGCONT)
                    await asyncio.sleep(RUNS_S)
            finally:
                signal_server(up, server, signal.SIGCONT)

        task = asyncio.create_task(stop_and_go())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    return state


# PostgreSQL ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def operator(up: Up, database: str = "") -> AsyncIterator[Any]:
    """A connection of an operator, which may write whatever the others may."""
    url = up.facts["DATABASE_URL"]
    url = f"{url.rpartition('/')[0]}/{database}" if database else url
    connection = await asyncpg.connect(url, server_settings={"application_name": "drill"})
    try:
        await connection.execute("set default_transaction_read_only = off")
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def postgres_is_read_only(up: Up) -> AsyncIterator[None]:
    """As after a failover to a standby."""
    async with operator(up) as connection:
        await connection.execute("alter system set default_transaction_read_only = on")
        await connection.execute("select pg_reload_conf()")
        try:
            yield
        finally:
            await connection.execute("alter system reset default_transaction_read_only")
            await connection.execute("select pg_reload_conf()")


@asynccontextmanager
async def postgres_disk_is_full(up: Up) -> AsyncIterator[None]:
    """Every write is refused as if there were no room for it."""
    async with operator(up) as connection:
        await connection.execute(NO_ROOM)
        tables = [row[0] for row in await connection.fetch(TABLES)]
        made = "before insert or update or delete"
        for table in tables:
            await connection.execute(f"create trigger no_room {made} on {table} execute function no_room()")
        try:
            yield
        finally:
            for table in tables:
                await connection.execute(f"drop trigger no_room on {table}")


@asynccontextmanager
async def postgres_refuses_connections(up: Up) -> AsyncIterator[None]:
    """As in a restore: no session goes on, and none begins."""
    name = up.facts["DATABASE_URL"].rpartition("/")[2]
    async with operator(up, "postgres") as connection:
        await connection.execute(f"alter database {name} allow_connections false")
        try:
            await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
            yield
        finally:
            await connection.execute(f"alter database {name} allow_connections true")


@asynccontextmanager
async def postgres_has_no_connection_left(up: Up) -> AsyncIterator[None]:
    """Other clients hold every connection that it gives."""
    taken: list[Any] = []

    async def take() -> None:
        while True:
            try:
                taken.append(await asyncpg.connect(up.facts["DATABASE_URL"], server_settings=DRILL))
            except asyncpg.TooManyConnectionsError:
                await ender.execute(END_OTHERS)
                await asyncio.sleep(0.01)

    async with operator(up) as ender:
        task = asyncio.create_task(take())
        try:
            while len(await ender.fetch(OTHERS)) > 0 or not taken:  # noqa: ASYNC110 - another's state
                await asyncio.sleep(0.02)
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            await asyncio.gather(*(each.close() for each in taken))


DRILL = {"application_name": "drill"}
OTHERS = """
select from pg_stat_activity
where backend_type = 'client backend' and application_name <> 'drill' and pid <> pg_backend_pid()
"""
END_OTHERS = OTHERS.replace("select from", "select pg_terminate_backend(pid) from")


# Redis --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def redis_operator(up: Up) -> AsyncIterator[Any]:
    """A connection of an operator."""
    client = redis.asyncio.Redis.from_url(up.facts["REDIS_URL"])
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def redis_is_read_only(up: Up) -> AsyncIterator[None]:
    """As after a failover: it is a replica, whose master is away."""
    async with redis_operator(up) as client:
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            await client.execute_command("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def redis_is_out_of_memory(up: Up) -> AsyncIterator[None]:
    """It refuses every write."""
    async with redis_operator(up) as client:
        usual = await client.config_get("maxmemory", "maxmemory-policy")
        await client.config_set("maxmemory-policy", "noeviction", "maxmemory", "1kb")
        try:
            yield
        finally:
            await client.config_set("maxmemory", usual["maxmemory"], "maxmemory-policy", usual["maxmemory-policy"])


@asynccontextmanager
async def redis_is_loading(up: Up) -> AsyncIterator[None]:
    """It loads a large file, here its master's, and is empty afterwards."""
    (port,) = free_ports(1)
    with data_folder() as folder, open_data_directory(folder) as data:
        master = Valkey(data, port)
        await master.start()
        try:
            async with redis_operator(up) as client, redis.asyncio.Redis.from_url(master.url) as other:
                await other.config_set("repl-diskless-sync-delay", "0")
                await other.eval(FILL, 0, str(KEYS))
                await client.config_set("masterauth", urlsplit(master.url).password, "key-load-delay", "2000")
                await client.config_set("loading-process-events-interval-bytes", "1024")
                await client.execute_command("REPLICAOF", "127.0.0.1", str(port))
                await _until(client, is_loading=True)
                try:
                    yield
                finally:
                    await client.config_set("key-load-delay", "0")
                    await _until(client, is_loading=False)
                    await client.execute_command("REPLICAOF", "NO", "ONE")
                    await client.flushall()
        finally:
            await master.stop()


async def _until(client: Any, *, is_loading: bool) -> None:
    async with asyncio.timeout(RELEASE_S):
        while bool((await client.info("persistence"))["loading"]) is not is_loading:  # noqa: ASYNC110 - another's state
            await asyncio.sleep(0.02)


# Kafka --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def topics_are_removed(up: Up) -> AsyncIterator[None]:
    """An operator has deleted every topic, with its records."""
    admin = AIOKafkaAdminClient(bootstrap_servers=up.facts["KAFKA_BROKERS"])
    await admin.start()
    try:
        await admin.delete_topics(await admin.list_topics())
        yield
    finally:
        await admin.close()


# Uploads ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def uploads_are_away(up: Up) -> AsyncIterator[None]:
    """The folder of uploads is not mounted."""
    folder = up.data / "uploads"
    await asyncio.to_thread(folder.rename, folder.with_name("uploads.away"))
    try:
        yield
    finally:
        await asyncio.to_thread(_bring_back, folder)


def _bring_back(folder: Path) -> None:
    if folder.exists():
        folder.rmdir()
    folder.with_name("uploads.away").rename(folder)


POSTGRES: dict[str, State] = {
    "postgresql hangs": hangs("postgres"),
    "postgresql takes 0.4 s a reply": is_slow("postgres", 0.4),
    "postgresql is read-only": postgres_is_read_only,
    "postgresql has a full disk": postgres_disk_is_full,
    "postgresql refuses connections": postgres_refuses_connections,
    "postgresql has no connection left": postgres_has_no_connection_left,
}
REDIS: dict[str, State] = {
    "redis hangs": hangs("valkey"),
    "redis takes 1 s a reply": is_slow("valkey", 1.0),
    "redis takes 0.15 s a reply": is_slow("valkey", 0.15),
    "redis is read-only": redis_is_read_only,
    "redis is out of memory": redis_is_out_of_memory,
    "redis is loading": redis_is_loading,
}
OTHERS_STATES: dict[str, State] = {"kafka hangs": hangs("broker"), "uploads are away": uploads_are_away}
