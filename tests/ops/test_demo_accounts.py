"""The demo's accounts: made once, when they are asked for, and afterwards as the admins leave them."""

from pathlib import Path

import pytest
from kit.commands import Said, run_command
from kit.running import Up, data_folder, until


def users(data: Path, *words: str) -> Said:
    said = run_command("users", *words, "--data-dir", str(data))
    assert said.status == 0, said.errors
    return said


def started(data: Path, *options: str) -> Up:
    return Up(data, *options).ready(60)


@pytest.mark.servers
def test_what_becomes_of_a_demo_account_outlives_a_restart_with_the_demo_asked_for() -> None:
    with data_folder() as data:
        up = started(data, "--demo")
        try:
            assert "The main job: 18 steps" in up.output
            password = up.facts["EDITOR_PASSWORD"]
            assert password in up.output
            assert up.log_in("admin@example.org", password)
            users(data, "disable", "author@example.org")
            assert "editor@example.org is a member" in users(data, "role", "editor@example.org", "member").output
        finally:
            up.end()
        again = Up(data, "--demo")
        try:
            until("the play's end", lambda: "callboard users role" in again.errors + again.output, 60)
            facts = until("its facts", lambda: again.facts, 30)
            again.api = f"{facts['HTTP_URL']}/api/v1"
            # These three, and the author of each play, of whom the second may be about to register.
            until("five accounts", lambda: users(data, "list").output.count("@example.org") == 5)
            table = users(data, "list").output
            row = next(line for line in table.splitlines() if "editor@example.org" in line)
            assert "member" in row
            body = {"email": "author@example.org", "password": password}
            assert again.call("POST", "/auth/login", body=body).code == "AUTH_INACTIVE_007"
        finally:
            again.end()
