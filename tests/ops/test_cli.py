"""The command line: its help, its refusals in one line, and the accounts it makes."""

import contextlib
from pathlib import Path

import asyncpg
import pytest
from kit.commands import run_command
from kit.running import PASSWORD, Up

from callboard.ops.cli import main
from callboard.ops.commands import context


def exit_status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    status = ended.value.code
    assert isinstance(status, int)
    return status


def test_an_argument_that_is_no_utf_8_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("users", "list", "--q", "\udcff") == 2
    assert capsys.readouterr().err == "callboard: arguments must be UTF-8\n"


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("--help") == 0
    said = capsys.readouterr().out
    for command in ("up", "serve", "demo", "users"):
        assert f"\n    {command} " in said


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dance",),
        ("up", "--nonsense"),
        ("users",),
        ("users", "dance"),
        ("users", "create-admin", "--email", "a@b.c"),
    ],
)
def test_an_unknown_or_incomplete_command_is_usage_and_status_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(*arguments) == 2
    assert capsys.readouterr().err.startswith("usage: callboard")


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo",),
        ("users", "create-admin", "--email", "a@example.org", "--password", PASSWORD, "--full-name", "Ada"),
    ],
)
def test_without_a_running_system_it_says_so_in_one_line(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert exit_status(*arguments, "--data-dir", str(tmp_path)) == 2
    said = capsys.readouterr().err
    assert said.startswith("callboard: no")
    assert said.count("\n") == 1
    assert "callboard up" in said


@pytest.mark.parametrize(
    ("email", "password", "fault"),
    [
        ("ada@example.org", "Short1", "8 characters"),
        ("ada@example.org", "no-upper-case-7", "upper case"),
        ("ada@example.org", "No-Digit-Here", "digit"),
        ("not an address", PASSWORD, "email"),
    ],
)
def test_a_weak_password_or_a_bad_address_is_named_and_makes_no_one_an_admin(
    up: Up, email: str, password: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    account = ("--email", email, "--password", password, "--full-name", "Grace Fly")
    assert exit_status("users", "create-admin", *account, "--data-dir", str(up.data)) == 2
    said = capsys.readouterr()
    assert said.err.startswith("callboard: ")
    assert fault in said.err
    assert password not in said.err + said.out
    assert "is an admin" not in said.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("users", "list"),
        ("users", "create-admin", "--email", "a@example.org", "--password", PASSWORD, "--full-name", "Ada"),
        ("users", "disable", "a@example.org"),
        ("users", "role", "a@example.org", "editor"),
        ("audit",),
        ("jobs", "kinds"),
        ("jobs", "list"),
        ("migrate", "status"),
        ("migrate", "up"),
        ("migrate", "down"),
        ("doctor", "--indexes"),
    ],
)
def test_a_database_that_is_away_is_one_line_which_names_it_and_status_2(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "url").write_text("postgresql://callboard:hidden-word@127.0.0.1:1/board\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(context, "CONNECT_S", 0.2)
    assert exit_status(*arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("callboard: DATABASE_URL (127.0.0.1:1/board): the server does not answer")
    assert said.err.count("\n") == 1
    assert not said.out
    assert "hidden" not in said.err


async def test_an_account_that_exists_becomes_an_admin_and_keeps_its_password(up: Up) -> None:
    account = up.join()
    other = ("--email", account["email"], "--password", "Another-Word-8", "--full-name", "Grace Fly")
    assert run_command("users", "create-admin", *other, up=up).status == 0
    assert up.log_in(account["email"], PASSWORD)
    connection = await asyncpg.connect(up.facts["DATABASE_URL"])
    try:
        row = await connection.fetchrow("select role, is_verified from users where email = $1", account["email"])
    finally:
        with contextlib.suppress(OSError):
            await connection.close()
    assert tuple(row) == ("admin", True)
