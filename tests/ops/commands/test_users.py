"""`callboard users list` and `disable`, and an import of any size that may be cut off at any moment."""

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import bcrypt
import pytest
from argon2 import PasswordHasher as Argon2Hasher
from kit.commands import Said, run_command
from kit.running import PASSWORD, Command, Up

from callboard.ops.commands.user_import import BATCH

HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
EVENTS = "select count(*) from outbox where type = 'user.registered' and convert_from(value, 'UTF8') like $1"


def run(up: Up, *arguments: str) -> Said:
    return run_command("users", *arguments, up=up)


def jsonl(*entries: Any) -> bytes:
    return b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in entries)


def table(*rows: dict[str, str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


@pytest.fixture
def domain_name() -> str:
    """Addresses of this test's own, in the database that all share."""
    return f"{uuid4().hex[:10]}.example.org"


async def fetch(up: Up, query: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(up.facts["DATABASE_URL"])
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


# Importing -----------------------------------------------------------------------------------------------------------


async def test_an_imported_account_logs_in_with_its_old_password_and_has_a_new_hash(
    up: Up, tmp_path: Path, domain_name: str
) -> None:
    email = f"ada@{domain_name}"
    path = tmp_path / "people.csv"
    since = "2019-05-04T03:02:01+00:00"
    path.write_bytes(
        table(
            {"email": email, "full_name": "Ada", "password_hash": HASH, "is_verified": "true", "created_at": since},
            {"email": f"x@{domain_name}", "full_name": "Xi", "password_hash": "", "is_verified": "", "created_at": ""},
        )
    )
    ran = run(up, "import", str(path))
    assert ran.status == 0
    login = up.log_in(email)
    me = up.call("GET", "/users/me", token=login).data
    assert (me["full_name"], me["role"], me["created_at"][:19]) == ("Ada", "member", since[:19])
    ((renewed,),) = await fetch(up, "select password_hash from users where email = $1", email)
    assert renewed.startswith("$argon2id$")
    assert up.log_in(email)
    assert up.call("POST", "/auth/login", body={"email": f"x@{domain_name}", "password": PASSWORD}).status == 401
    assert up.mails_to(f"x@{domain_name}") == []
    assert await fetch(up, EVENTS, f"%{domain_name}%") == [(2,)]
    assert HASH not in ran.errors


async def test_bad_lines_are_told_by_number_and_field_and_the_others_imported(
    up: Up, tmp_path: Path, domain_name: str
) -> None:
    path, errors = tmp_path / "people.jsonl", tmp_path / "errors.jsonl"
    entries = [{"email": f"p{n}@{domain_name}", "full_name": "Pe"} for n in range(3)]
    path.write_bytes(jsonl(entries[0], {"email": "nobody", "password_hash": "x"}, *entries[1:], entries[0]))
    ran = run(up, "import", str(path), "--errors", str(errors))
    assert ran.status == 1
    assert "3 imported, 1 there already, 1 bad" in ran.output
    assert "callboard: line 2: full_name: Is missing." in ran.errors
    told = [json.loads(line) for line in errors.read_text().splitlines()]
    assert [(each["line"], each["field"]) for each in told] == [(2, "email"), (2, "full_name"), (5, "email")]
    assert "callboard: line 5: email: has an account already, which is left as it is" in ran.errors
    assert await fetch(up, "select count(*) from users where email like $1", f"%{domain_name}") == [(3,)]
    again = run(up, "import", str(path), "--json")
    *faults, total = map(json.loads, again.output.splitlines())
    assert sorted((each["line"], each["field"]) for each in faults) == [
        (1, "email"),
        (2, "email"),
        (2, "full_name"),
        *((number, "email") for number in (3, 4, 5)),
    ]
    assert total == {"imported": 0, "there": 4, "bad": 1, "is_complete": True}
    apart = run(up, "import", str(path), "--json", "--errors", str(errors))
    assert [json.loads(line) for line in apart.output.splitlines()] == [total]


async def test_who_is_to_verify_is_mailed_a_link_that_works_when_asked_for(
    up: Up, tmp_path: Path, domain_name: str
) -> None:
    path = tmp_path / "people.jsonl"
    new, known = f"new@{domain_name}", f"known@{domain_name}"
    path.write_bytes(
        jsonl(
            {"email": new, "full_name": "New", "password_hash": HASH},
            {"email": known, "full_name": "ProcessIdentity", "is_verified": True},
        )
    )
    assert run(up, "import", str(path), "--send-verification").status == 0
    assert up.call("POST", "/auth/verify-email", body={"token": up.mail_token(new)}).status == 200
    assert up.log_in(new)
    assert up.mails_to(known) == []


def test_where_there_is_no_terminal_progress_is_a_line_a_tenth(up: Up, tmp_path: Path, domain_name: str) -> None:
    count = 20 * BATCH
    path = tmp_path / "people.jsonl"
    path.write_bytes(jsonl(*({"email": f"p{n:05}@{domain_name}", "full_name": "Pe"} for n in range(count))))
    ran = run(up, "import", str(path))
    assert ran.errors.splitlines() == [
        f"callboard: {10 * tenth} %: {2 * tenth * BATCH} imported, 0 there already, 0 bad" for tenth in range(1, 11)
    ]


def test_an_import_may_come_through_a_pipe(up: Up, tmp_path: Path, domain_name: str) -> None:
    path = tmp_path / "people.jsonl"
    os.mkfifo(path)
    command = Command("users", "import", str(path), environment={"CALLBOARD_DATA_DIR": str(up.data)})
    path.write_bytes(jsonl({"email": f"p@{domain_name}", "full_name": "Pe"}))
    assert command.wait() == 0, command.errors
    assert command.output == "1 imported, 0 there already, 0 bad\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_an_import_that_is_cut_off_is_completed_by_making_it_again(
    up: Up, tmp_path: Path, domain_name: str, number: signal.Signals
) -> None:
    count = 10 * BATCH
    path = tmp_path / "people.jsonl"
    path.write_bytes(jsonl(*({"email": f"p{n}@{domain_name}", "full_name": "Pe"} for n in range(count))))
    command = Command("users", "import", str(path), environment={"CALLBOARD_DATA_DIR": str(up.data)})
    counting = "select count(*) from users where email like $1"

    connection = await asyncpg.connect(up.facts["DATABASE_URL"])
    try:
        while not 0 < await connection.fetchval(counting, f"%{domain_name}") < count:
            assert command.process.poll() is None, command.errors
    finally:
        command.signal(number)
        status = command.wait()
        await connection.close()
    assert status == (130 if number == signal.SIGINT else -number)
    ((done,),) = await fetch(up, counting, f"%{domain_name}")
    assert done % BATCH == 0, "a batch is there whole or not at all"
    assert 0 < done < count
    ran = run(up, "import", str(path))
    assert ran.status == 0
    assert f"{count - done} imported, {done} there already, 0 bad" in ran.output
    pattern = f"%{domain_name}%"
    profiles = "select count(*) from user_profiles where user_id in (select user_id from users where email like $1)"
    assert await fetch(up, counting, pattern) == await fetch(up, profiles, pattern) == [(count,)]
    assert await fetch(up, EVENTS, pattern) == [(count,)]


async def test_an_imported_argon2_hash_verifies_too(up: Up, tmp_path: Path, domain_name: str) -> None:
    path = tmp_path / "people.ndjson"
    hashed = Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    path.write_bytes(
        jsonl({"email": f"a@{domain_name}", "full_name": "Al", "password_hash": hashed, "is_verified": True})
    )
    assert run(up, "import", str(path)).status == 0
    assert up.log_in(f"a@{domain_name}")


def in_a_terminal(up: Up, *arguments: str) -> str:
    """What a command shows on a terminal, from its beginning to its end."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    environment = os.environ | {"CALLBOARD_DATA_DIR": str(up.data), "TERM": "xterm"}
    process = subprocess.Popen(  # noqa: S603 - a command of ours
        [sys.executable, "-m", "callboard.ops", "users", *arguments],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:  # EIO is a terminal's end
        while part := terminal.read(65536):
            shown += part
    process.wait(20)
    return shown.decode()


def test_an_import_in_a_terminal_shows_how_far_it_has_come_and_each_bad_line(
    up: Up, tmp_path: Path, domain_name: str
) -> None:
    path = tmp_path / "people.jsonl"
    entries: list[Any] = [{"email": f"p{n}@{domain_name}", "full_name": "Pe"} for n in range(20 * BATCH)]
    entries[BATCH] = {"email": "nobody", "full_name": "[bold]"}
    path.write_bytes(jsonl(*entries))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", in_a_terminal(up, "import", str(path)))
    shares = [int(share) for share in re.findall(r"(\d+)%", shown)]
    assert shares == sorted(shares)
    assert len(set(shares)) > 2
    assert (shares[0], shares[-1]) == (0, 100)
    assert f"callboard: line {BATCH + 1}: email: " in shown
    assert re.search(r"\d+ imported, 0 there already, 1 bad", shown)
    assert shown.splitlines()[-1] == f"{20 * BATCH - 1} imported, 0 there already, 1 bad"


MEASURE = """
import io, resource
from callboard.ops.commands.user_import import read_lines
class Endless(io.RawIOBase):
    left, rest = 15_000, b""
    def readable(self): return True
    def readinto(self, into):
        while len(self.rest) < len(into) and self.left:
            self.left -= 1
            self.rest += b'{"email": "nobody", "full_name": "%s"}\\n' % (b"x" * 1000)
        part, self.rest = self.rest[:len(into)], self.rest[len(into):]
        into[:len(part)] = part
        return len(part)
lines = read_lines(io.BufferedReader(Endless()), "jsonl")
next(lines)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in lines)
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.long
def test_a_file_of_any_length_is_read_in_bounded_memory() -> None:
    ran = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)  # noqa: S603 - our own
    count, grown_kib = map(int, ran.stdout.split())
    assert count == 14_999
    assert grown_kib < 5_000  # of 15 MB


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("people.txt", b"", "neither .csv nor .jsonl"),
        ("people.csv", b"", "must name the columns"),
        ("people.csv", b"mail,name\n", "must name the columns"),
        ("people.csv", b"email,full_name,email\n", "'email' twice"),
        ("people.csv", b"email;full_name\n", "separated by commas"),
        ("people.csv", b'email,"full_name\na@example.org,Ada\n', "a quote that is not closed"),
        ("people.csv", b"\xff\xfee\0m\0a\0i\0l\0", "is not UTF-8"),
        ("people.csv", b"x" * 70_000, "has more than"),
        ("people.csv", "email,full_name,\x1b[31m\u202e\0\n".encode(), "\\u001b[31m\\u202e\\u0000"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_and_status_2(
    up: Up, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ran = run(up, "import", str(tmp_path / name))
    assert ran.status == 2
    assert said in ran.errors
    assert ran.errors.startswith("callboard: ")


# Disabling and listing -----------------------------------------------------------------------------------------------


def test_who_is_disabled_is_refused_from_the_next_request_on(up: Up) -> None:
    account = up.join()
    assert up.call("GET", "/users/me", token=account["token"]).status == 200
    disabled = run(up, "disable", account["email"].upper())
    assert disabled.status == 0
    assert "is disabled" in disabled.output
    assert up.call("GET", "/users/me", token=account["token"]).status == 401
    answer = up.call("POST", "/auth/login", body={"email": account["email"], "password": PASSWORD})
    assert (answer.status, answer.code) == (403, "AUTH_INACTIVE_007")
    enabled = run(up, "disable", account["email"], "--enable")
    assert enabled.status == 0
    assert "is enabled" in enabled.output
    assert up.log_in(account["email"])


def test_who_has_seen_enough_of_a_list_hears_of_no_broken_pipe(up: Up) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as nobody:  # noqa: PTH123 - a descriptor
        ended = subprocess.run(  # noqa: S603 - a command of ours
            [sys.executable, "-m", "callboard.ops", "users", "list", "--json", "--data-dir", str(up.data)],
            stdout=nobody,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_who_is_not_there_is_not_disabled(up: Up) -> None:
    ran = run(up, "disable", "nobody@example.org")
    assert ran.status == 1
    assert ran.errors == "callboard: There is no account with the address nobody@example.org.\n"


def test_accounts_are_listed_by_filter_as_a_table_and_as_json(
    up: Up, domain_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callboard.ops.commands import user_commands  # noqa: PLC0415 - what is patched

    monkeypatch.setattr(user_commands, "PAGE", 2)
    emails = [up.register(f"p{n}@{domain_name}")["email"] for n in range(5)]
    listed = run(up, "list", "--q", domain_name, "--json")
    assert listed.status == 0
    assert [json.loads(line)["email"] for line in listed.output.splitlines()] == emails[::-1]
    shown = run(up, "list", "--q", domain_name, "--no-verified", "--active", "--role", "member")
    assert shown.status == 0
    assert all(email in shown.output for email in emails)
    assert run(up, "list", "--q", domain_name, "--verified", "--json") == (0, "", "")
