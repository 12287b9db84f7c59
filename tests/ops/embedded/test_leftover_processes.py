"""What is left when we are killed: nothing, and the next start recovers."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import asyncpg
import pytest

from callboard.ops.embedded import leftover_processes
from callboard.ops.embedded.data_directory import free_ports, open_data_directory, read_running
from callboard.ops.embedded.leftover_processes import ProcessIdentity, end, identify, is_alive, start_time
from callboard.ops.embedded.mail_catcher import Catcher
from callboard.ops.embedded.os_user import reachable, server_account

SCRIPT = Path(__file__).with_name("start_servers.py")


class Up:
    """A process that runs all embedded servers."""

    def __init__(self, data: Path, *options: str, prefix: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
            [*prefix, sys.executable, "-B", SCRIPT, data, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.communicate()[1])
        said = json.loads(line)
        self.servers = [process for pid in said.pop("pids") if (process := identify(pid))]
        self.environment: dict[str, str] = said

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def finish(self) -> str:
        return self.process.communicate("", timeout=20)[0]


@contextlib.contextmanager
def up(data: Path, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[Up]:
    running = Up(data, *options, prefix=prefix)
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
def data(public_folder: Path) -> Path:
    """A data folder for other processes."""
    return public_folder / "data"


async def test_after_sigkill_the_next_start_recovers_at_once(data: Path) -> None:
    with up(data) as first:
        assert read_running(data) is not None
        await execute(first.environment["DATABASE_URL"], "create table kept as select 7 as n")
        message = EmailMessage()
        message["Subject"] = "kept"
        message["From"] = message["To"] = "reader@example.com"
        environment = first.environment
        await aiosmtplib.send(message, hostname=environment["SMTP_HOST"], port=int(environment["SMTP_PORT"]))
        first.kill()
        assert read_running(data) is None
        with up(data) as second:
            assert await execute(second.environment["DATABASE_URL"], "select n from kept") == 7
            facts = read_running(data)
            assert facts is not None
            assert facts["DATABASE_URL"] == second.environment["DATABASE_URL"]
            assert second.finish() == "stopped\n"
            assert not any(is_alive(each) for each in second.servers)
    with open_data_directory(data) as place:
        catcher = Catcher(place, free_ports(1)[0])
        await catcher.start()
        await catcher.stop()
        assert [mail.subject for mail in catcher.mails()] == ["kept"]


def test_a_second_one_on_the_folder_is_refused_and_sigkill_of_the_first_leaves_no_orphan(data: Path) -> None:
    with up(data) as first:
        with pytest.raises(RuntimeError, match=f"is in use by another callboard up .process {first.process.pid}."):
            Up(data)
        assert [is_alive(each) for each in first.servers] == [True] * 3
        first.kill()
        if sys.platform == "linux":  # elsewhere the next start ends them
            assert all(leftover_processes._wait(each, 5) for each in first.servers)


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
    assert nobody is not None
    if shutil.which("setpriv") is None:
        pytest.skip("this machine has no setpriv")
    if not reachable(Path(sys.prefix), nobody):
        pytest.skip("this checkout is in a folder that is closed to others: another user cannot run programs from it")
    # The interpreter and the checkout may be under /root: a user who may read everything, and is still not root.
    ids = (f"--reuid={nobody.uid}", f"--regid={nobody.gid}", "--clear-groups")
    user = ("setpriv", *ids, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    home = public_folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.uid, nobody.gid)
    with up(home / "data", prefix=user) as first:
        await execute(first.environment["DATABASE_URL"], "create table kept as select 7 as n")
        assert (home / "data").stat().st_uid == nobody.uid
        first.kill()
        with up(home / "data", prefix=user) as second:
            assert await execute(second.environment["DATABASE_URL"], "select n from kept") == 7
            assert second.finish() == "stopped\n"
    with up(home / "data") as third:  # root takes over a user's folder: PostgreSQL stays that user's
        assert await execute(third.environment["DATABASE_URL"], "select n from kept") == 7
        assert third.finish() == "stopped\n"


def test_a_process_is_known_by_its_birth_and_not_by_its_id_alone() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert is_alive(me)
    assert not is_alive(ProcessIdentity(me.pid, "another life"))
    assert end(ProcessIdentity(me.pid, "another life"), signal.SIGKILL, 1)


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(child.pid) is None
    child.wait()
