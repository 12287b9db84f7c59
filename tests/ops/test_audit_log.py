"""`callboard audit`: security events for operators, as a table or as JSON, and clear words for what is wrong."""

import json
from typing import Any

import pytest
from kit.running import PASSWORD, Up

from callboard.ops.cli import main


def audit(up: Up, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(("audit", *arguments, "--data-dir", str(up.data)))
    said = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.out, said.err


def entries(up: Up, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    status, out, err = audit(up, capsys, "--json", *arguments)
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_the_command_lists_what_the_api_lists_newest_first(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    admin, _, _ = up.people()
    ada = up.join()
    assert up.call("POST", "/auth/logout", token=ada["token"]).status == 204
    for user in (ada["email"], ada["user_id"]):
        found = entries(up, capsys, "--user", user)
        assert [each["action"] for each in found] == ["session.revoked", "login.succeeded", "email.verified"]
        assert {each["user_id"] for each in found} == {ada["user_id"]}
        assert {each["ip"] for each in found} == {"127.0.0.1"}
    listed = up.call("GET", f"/audit?user_id={ada['user_id']}", token=admin).data
    assert [each["audit_id"] for each in listed] == [each["audit_id"] for each in found]
    assert [each["action"] for each in entries(up, capsys, "--user", ada["user_id"], "--limit", "1")] == [
        "session.revoked"
    ]
    only = entries(up, capsys, "--user", ada["user_id"], "--action", "email.verified")
    assert [each["action"] for each in only] == ["email.verified"]
    at = only[0]["occurred_at"]
    assert entries(up, capsys, "--user", ada["user_id"], "--until", at) == []
    assert len(entries(up, capsys, "--user", ada["user_id"], "--since", at)) == 3


def test_a_table_shows_the_events_and_paints_no_terminal(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    ada = up.join()
    up.execute(
        "insert into audit_log (action, actor, user_id, user_agent, detail) "
        "values ('login.failed', 'anonymous', $1, $2, '{\"count\": 3}')",
        ada["user_id"],
        "\x1b[31m[bold]evil\x1b]0;title\x07",
    )
    status, out, _ = audit(up, capsys, "--user", ada["user_id"])
    assert status == 0
    assert "login.failed" in out
    assert "count=3" in out
    assert "[bold]evil" in out.replace("\n", "")
    assert not {"\x1b", "\x07"} & set(out)


def test_what_an_operator_did_at_the_command_line_is_listed_as_theirs(
    up: Up, capsys: pytest.CaptureFixture[str]
) -> None:
    ada = up.join()
    with pytest.raises(SystemExit):
        main(("users", "role", ada["email"], "editor", "--data-dir", str(up.data)))
    (entry,) = entries(up, capsys, "--user", ada["email"], "--action", "user.promoted")
    assert (entry["actor"], entry["actor_id"]) == ("operator", None)
    assert entry["user_agent"].startswith("callboard")
    assert entry["detail"] == {"old_role": "member", "new_role": "editor"}


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (("--action", "nope"), 2, "--action must be one of dead_letter.dropped"),
        (("--since", "yesterday"), 2, "--since must be a time with a zone"),
        (("--since", "2026-01-31T12:00:00"), 2, "--since must be a time with a zone"),
        (("--until", "0001-01-01T00:00:00+10:00"), 2, "--until must be in the years 2 to 9998"),
        (("--since", "9999-12-31T23:59:59Z"), 2, "--since must be in the years 2 to 9998"),
        (("--limit", "0"), 2, "1 or more"),
        (("--limit", "-1"), 2, "1 or more"),
        (("--limit", "many"), 2, "1 or more"),
        (("--user", "nobody@example.org"), 1, "There is no account with the address nobody@example.org."),
        (("--user", "a@[\x1b[31m"), 1, "There is no account"),
    ],
)
def test_what_is_wrong_with_the_command_is_one_line(
    up: Up, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, word: str
) -> None:
    ended, out, err = audit(up, capsys, *arguments)
    assert (ended, out) == (status, "")
    assert word in err
    assert "Traceback" not in err
    assert "\x1b" not in err


def test_a_member_and_an_editor_may_not_read_the_log(up: Up) -> None:
    _, editor, member = up.people()
    for token in (editor, member):
        assert up.call("GET", "/audit", token=token).status == 403
    assert up.call("GET", "/audit").status == 401
    assert PASSWORD not in str(up.call("GET", "/audit?limit=100", token=up.people()[0]).body)
