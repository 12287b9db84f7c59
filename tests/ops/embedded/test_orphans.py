import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import callboard.ops
from callboard.ops.embedded import orphans
from callboard.ops.embedded.account import Account, reachable, server_account
from callboard.ops.embedded.orphans import Known, birth, end, is_alive, known
from callboard.ops.embedded.place import read_running

SCRIPT = Path(__file__).with_name("start_servers.py")


class Up:
    """A process that runs all embedded servers."""

    def __init__(self, data: Path, *options: str, **how: Any) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
            [sys.executable, "-B", SCRIPT, data, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            **how,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.communicate()[1])
        said = json.loads(line)
        self.servers = [process for pid in said.pop("pids") if (process := known(pid))]
        self.environment: dict[str, str] = said

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def finish(self) -> str:
        return self.process.communicate("", timeout=20)[0]


@contextlib.contextmanager
def up(data: Path, *options: str, **how: Any) -> Iterator[Up]:
    running = Up(data, *options, **how)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.finish()


async def execute(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@pytest.fixture
def data(public_folder: Path) -> Iterator[Path]:
    """A data folder for other processes; emptied at the end, with what they put elsewhere."""
    yield public_folder / "data"
    with up(public_folder / "data", "--reset"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere orphans are ended by the next start alone")
def test_sigkill_of_the_parent_leaves_no_orphan(data: Path) -> None:
    with up(data) as first:
        assert len(first.servers) == 3
        first.kill()
        assert all(orphans._wait(each, 5) for each in first.servers)


async def test_after_sigkill_the_next_start_recovers_at_once(data: Path) -> None:
    with up(data) as first:
        assert read_running(data) is not None
        await execute(first.environment["DATABASE_URL"], "create table kept as select 7 as n")
        first.kill()
        assert read_running(data) is None
        with up(data) as second:
            assert await execute(second.environment["DATABASE_URL"], "select n from kept") == 7
            facts = read_running(data)
            assert facts is not None
            assert facts["DATABASE_URL"] == second.environment["DATABASE_URL"]
            assert second.finish() == "stopped\n"
            assert not any(is_alive(each) for each in second.servers)


def test_a_second_one_on_the_folder_is_refused_and_the_first_goes_on(data: Path) -> None:
    with up(data) as first:
        with pytest.raises(RuntimeError, match=f"is in use by another callboard up .process {first.process.pid}."):
            Up(data)
        assert all(is_alive(each) for each in first.servers)


def test_reset_ends_what_still_runs_on_the_folder(data: Path) -> None:
    # Its parent lives on, so the kernel ends nothing; only the lock is free.
    with up(data) as first:
        first.process.send_signal(signal.SIGSTOP)
        (data / "lock").unlink()
        with up(data, "--reset") as second:
            assert not any(is_alive(each) for each in first.servers)
            assert all(is_alive(each) for each in second.servers)
            assert second.finish() == "stopped\n"
        first.kill()


@pytest.mark.usefixtures("as_root")
async def test_all_of_it_works_for_a_user_who_is_not_root(public_folder: Path) -> None:
    nobody = server_account()
    needed = (Path(sys.executable), Path(callboard.ops.__file__), SCRIPT, Path(pytest.__file__))
    if not all(reachable(each, nobody, os.R_OK) for each in needed):
        pytest.skip("another user cannot reach this checkout or its .venv")
    assert nobody is not None
    home = public_folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.uid, nobody.gid)
    with up(home / "data", **as_user(nobody)) as first:
        await execute(first.environment["DATABASE_URL"], "create table kept as select 7 as n")
        assert (home / "data").stat().st_uid == nobody.uid
        first.kill()
        with up(home / "data", **as_user(nobody)) as second:
            assert await execute(second.environment["DATABASE_URL"], "select n from kept") == 7
            assert second.finish() == "stopped\n"
    with up(home / "data") as third:  # root takes over a user's folder: PostgreSQL stays that user's
        assert await execute(third.environment["DATABASE_URL"], "select n from kept") == 7
        assert third.finish() == "stopped\n"


def as_user(account: Account) -> dict[str, Any]:
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def test_a_process_is_known_by_its_birth_and_not_by_its_id_alone() -> None:
    me = known(os.getpid())
    assert me is not None
    assert is_alive(me)
    assert not is_alive(Known(me.pid, "another life"))
    assert end(Known(me.pid, "another life"), signal.SIGKILL, 1)
    assert pwd.getpwuid(os.geteuid())


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])  # noqa: S603 - our own interpreter
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert birth(child.pid) is None
    child.wait()
