"""The data folder: whose it is, who may reach it, and what a reset removes."""

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from callboard.ops.embedded.data_directory import (
    DataDirectory,
    free_ports,
    open_data_directory,
    port_taken,
    read_running,
)
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.os_user import server_account


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_open_is_refused_in_one_line_that_names_the_process(tmp_path: Path) -> None:
    with open_data_directory(tmp_path / "data"), pytest.raises(EmbeddedError) as refused:
        open_data_directory(tmp_path / "data")
    assert str(refused.value) == f"{tmp_path}/data is in use by another callboard up (process {os.getpid()})"


@pytest.mark.parametrize("name", ["da\nta", "da\x1b[31mta", "da\udcffta"])
def test_a_folder_whose_name_cannot_be_shown_is_refused_by_its_own_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(EmbeddedError) as refused:
        open_data_directory(tmp_path / name)
    assert str(refused.value).startswith("the data folder (--data-dir, CALLBOARD_DATA_DIR) must have a name ")
    assert list(tmp_path.iterdir()) == []


def test_another_process_is_refused_too_also_with_reset(tmp_path: Path) -> None:
    opening = f"open_data_directory(Path({str(tmp_path / 'data')!r}), reset=True)"
    script = f"from callboard.ops.embedded.data_directory import *; {opening}"
    with open_data_directory(tmp_path / "data") as place:
        place.folder("mail").joinpath("one.eml").touch()
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        assert f"is in use by another callboard up (process {os.getpid()})" in done.stderr
        assert (tmp_path / "data/mail/one.eml").exists()


def test_closing_gives_the_folder_back_and_twice_does_no_harm(tmp_path: Path) -> None:
    first = open_data_directory(tmp_path / "data")
    first.close()
    first.close()
    open_data_directory(tmp_path / "data").close()


def test_nobody_else_can_look_into_the_folder(tmp_path: Path) -> None:
    with open_data_directory(tmp_path / "data") as place:
        place.secret("postgres")
        place.write_running({"DATABASE_URL": "postgresql://callboard:secret@127.0.0.1:1/callboard"})
        assert mode(place.data) & 0o066 == 0
        assert mode(place.folder("mail")) == 0o700
        files = [each for each in place.data.rglob("*") if each.is_file()]
        assert len(files) == 4
        assert all(mode(each) == 0o600 for each in files)


def test_a_secret_is_the_same_at_each_start_and_differs_by_name(tmp_path: Path) -> None:
    with open_data_directory(tmp_path / "data") as place:
        first = place.secret("postgres")
        assert first != place.secret("valkey")
    with open_data_directory(tmp_path / "data") as place:
        assert place.secret("postgres") == first


def test_reset_removes_what_callboard_put_there_and_nothing_else(tmp_path: Path) -> None:
    with open_data_directory(tmp_path / "data") as place:
        place.folder("mail").joinpath("one.eml").touch()
        secret = place.secret("postgres")
        (place.data / "notes.txt").touch()
    with open_data_directory(tmp_path / "data", reset=True) as place:
        assert {each.name for each in place.data.iterdir()} == {".callboard", "lock", "notes.txt"}
        assert place.secret("postgres") != secret


@pytest.mark.parametrize("reset", [False, True])
def test_a_folder_of_someone_elses_is_refused_and_left_alone(tmp_path: Path, *, reset: bool) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(EmbeddedError, match="is not empty and not a Callboard data folder"):
        open_data_directory(tmp_path, reset=reset)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_was_killed_while_it_was_made_is_taken(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / ".callboard.123.half").touch()
    with open_data_directory(tmp_path) as place:
        assert {each.name for each in place.data.iterdir()} == {".callboard", "lock"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"^cannot use .*/file/data as data folder: "):
        open_data_directory(tmp_path / "file/data")


def test_running_facts_are_found_while_their_process_lives(tmp_path: Path) -> None:
    assert read_running(tmp_path / "data") is None
    with open_data_directory(tmp_path / "data") as place:
        assert read_running(tmp_path / "data") is None
        place.write_running({"OPS_URL": "http://127.0.0.1:9000"})
        assert read_running(tmp_path / "data") == {"OPS_URL": "http://127.0.0.1:9000", "pid": os.getpid()}
    assert read_running(tmp_path / "data") is None


def test_running_facts_of_a_killed_process_are_ignored(tmp_path: Path) -> None:
    script = (
        "import os; from callboard.ops.embedded.data_directory import *\n"
        f"open_data_directory(Path({str(tmp_path)!r})).write_running({{'A': 'b'}})\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)  # noqa: S603 - our own interpreter
    assert (tmp_path / "running.json").exists()
    assert read_running(tmp_path) is None


def test_free_ports_differ_and_outgoing_connections_cannot_be_given_them() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        ephemeral = probe.getsockname()[1]
    assert max(ports) < ephemeral


def test_a_free_port_is_given_to_nobody_else_before_a_server_listens_there() -> None:
    (port,) = free_ports(1)
    with socket.socket() as probe, pytest.raises(OSError, match="in use"):
        probe.bind(("127.0.0.1", port))
    assert not port_taken("127.0.0.1", port)
    socket.create_server(("127.0.0.1", port)).close()


def test_a_taken_port_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port_taken("127.0.0.1", port)
    assert not port_taken("127.0.0.1", port)


def test_a_port_nobody_could_listen_on_is_one_line() -> None:
    with pytest.raises(EmbeddedError, match=r"^cannot listen on 192\.0\.2\.1:8000: "):
        port_taken("192.0.2.1", 8000)


@pytest.fixture
def closed_place(public_folder: Path) -> DataDirectory:
    (public_folder / "closed").mkdir(mode=0o700)
    return open_data_directory(public_folder / "closed/data")


@pytest.mark.usefixtures("as_root")
def test_what_another_user_must_reach_moves_out_of_a_closed_folder(
    closed_place: DataDirectory, public_folder: Path
) -> None:
    account = server_account()
    assert account is not None
    with closed_place as place:
        link = place.folder("postgres", account)
        assert link.is_symlink()
        home = link.resolve()
        assert home.is_relative_to(public_folder / "callboard")
        assert (home.stat().st_uid, mode(home)) == (account.uid, 0o700)
        assert mode(public_folder / "closed") == 0o700
        assert place.folder("postgres", account) == link
        place.reset()
        assert not link.is_symlink()
        assert not home.parent.exists()


@pytest.mark.usefixtures("as_root")
def test_a_moved_data_folder_keeps_its_servers_data_and_a_copied_one_does_not_share_them(
    closed_place: DataDirectory,
) -> None:
    account = server_account()
    with closed_place as place:
        place.folder("postgres", account)
    moved = place.data.rename(place.data.with_name("moved"))
    with open_data_directory(moved) as place:
        (place.folder("postgres", account) / "kept").touch()
    shutil.copytree(moved, copy := moved.with_name("copy"), symlinks=True)
    with open_data_directory(copy) as place, pytest.raises(EmbeddedError, match="is a copy of"):
        place.reset()
    with open_data_directory(moved) as place:
        assert (place.folder("postgres", account) / "kept").exists()
