"""The embedded PostgreSQL: it keeps its rows through every kind of end."""

import os
import signal
from pathlib import Path

import anyio
import asyncpg
import pytest

from callboard.ops.embedded import binaries, leftover_processes, postgres
from callboard.ops.embedded.data_directory import DataDirectory, free_ports, open_data_directory
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.postgres import Postgres


async def ask(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def kill(server: Postgres) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    with anyio.fail_after(5):
        assert await server.exited() == "was ended by SIGKILL"


async def test_it_keeps_its_rows_and_its_port_when_it_is_killed(place: DataDirectory) -> None:
    server = Postgres(place, free_ports(1)[0])
    await server.start()
    try:
        assert await ask(server.url, "show fsync") == "on"
        await ask(server.url, "create table kept as select 7 as n")
        # A connection with a statement in flight: its backend outlives the postmaster.
        busy = await asyncpg.connect(server.url)
        task_failed = anyio.Event()

        async def work() -> None:
            with pytest.raises((asyncpg.PostgresError, OSError)):
                await busy.fetchval("select count(*) from generate_series(1, 1000000000)")
            task_failed.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            while (
                await ask(server.url, "select count(*) from pg_stat_activity where query like '%generate_series(1%'")
                != 2
            ):
                pass
            await kill(server)
            await server.start()
            await task_failed.wait()
        assert await ask(server.url, "select n from kept") == 7
    finally:
        await server.stop()
    await server.start()
    try:
        assert await ask(server.url, "select n from kept") == 7
    finally:
        await server.stop()


async def test_a_stopped_process_is_ended_by_force_with_its_children(
    place: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "STOP_GRACE_S", 0.2)
    server = Postgres(place, free_ports(1)[0])
    await server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    await server.stop()
    assert server.pid is None
    assert not leftover_processes._living_in(place.folder("postgres"), "postgres")


async def test_nobody_gets_in_without_the_password_and_a_lost_one_is_told_at_once(place: DataDirectory) -> None:
    server = Postgres(place, free_ports(1)[0])
    await server.start()
    try:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url.replace(place.secret("postgres"), "guess"))
    finally:
        await server.stop()
    assert not list(place.folder("postgres").glob("password*"))
    (place.folder("secrets") / "postgres").unlink()
    server = Postgres(place, free_ports(1)[0])
    with pytest.raises(EmbeddedError, match="does not know the password"):
        await server.start()
    assert server.pid is None


async def test_an_interrupted_initdb_and_a_dead_servers_pid_file_do_not_stop_a_start(place: DataDirectory) -> None:
    server = Postgres(place, free_ports(1)[0])
    half = place.folder("postgres") / "cluster.half"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    await server.start()
    await server.stop()
    # The id of a process that lives, but is no PostgreSQL.
    pid_file = place.folder("postgres") / "cluster/postmaster.pid"
    pid_file.write_text(f"{os.getppid()}\n{pid_file.parent}\n0\n1\n\n127.0.0.1\n0 0\nready\n")
    await server.start()
    await server.stop()


async def test_a_cluster_of_another_major_version_is_one_line(place: DataDirectory) -> None:
    cluster = place.folder("postgres") / "cluster"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedError, match=r"was made by PostgreSQL 12, and .* is \d+: install PostgreSQL 12, or"):
        Postgres(place, 1)


@pytest.mark.usefixtures("as_root")
async def test_it_runs_with_its_data_folder_behind_a_closed_one(public_folder: Path) -> None:
    (public_folder / "closed").mkdir(mode=0o700)
    with open_data_directory(public_folder / "closed/data") as place:
        server = Postgres(place, free_ports(1)[0])
        await server.start()
        try:
            assert await ask(server.url, "select 1") == 1
        finally:
            await server.stop()
        place.reset()


async def test_this_machines_own_postgres_serves_when_the_wheel_is_missing(
    place: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "wheel_folder", lambda _: None)
    try:
        server = Postgres(place, free_ports(1)[0])
    except EmbeddedError:
        pytest.skip("this machine has no PostgreSQL of its own")
    await server.start()
    try:
        version = await ask(server.url, "select current_setting('server_version_num')::int / 10000")
        assert version == server._programs.major
        assert await ask(server.url, "select lower('ÄRGER')") == "ärger"
    finally:
        await server.stop()
