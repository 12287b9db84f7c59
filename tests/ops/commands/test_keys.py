"""`callboard keys`: an operator adds, lists and revokes the keys of producers on the running servers."""

import json
import secrets
from typing import Any

import pytest
from kit.running import Up, request

from callboard.ops.cli import main

EVENT = {
    "specversion": "1.0",
    "id": "1",
    "type": "activity.recorded",
    "data": {"metric": "m", "value": 1, "subject_id": "s", "occurred_at": "2026-03-01T10:00:00Z"},
}


def run(up: Up, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(("keys", *arguments, "--data-dir", str(up.data)))
    status = ended.value.code
    assert isinstance(status, int)
    return status


def send(up: Up, key: str, source: str) -> int:
    headers = {"Content-Type": "application/cloudevents+json"}
    return request(
        "POST", f"{up.api}/events", token=key, raw=json.dumps(EVENT | {"source": source}).encode(), headers=headers
    ).status


def test_a_key_that_an_operator_adds_works_until_it_is_revoked(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    name, source = f"Shop {secrets.token_hex(6)}", f"/shop/{secrets.token_hex(6)}"
    types = ("--type", "activity.recorded", "--type", "mail.requested")
    assert run(up, "add", name, *types, "--source", source, "--hourly-events", "5") == 0
    key = capsys.readouterr().out.strip()
    assert send(up, key, source) == 202
    assert run(up, "list", "--json") == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (mine,) = [each for each in listed if each["name"] == name]
    assert (mine["types"], mine["sources"], mine["hourly_events"]) == (
        ["activity.recorded", "mail.requested"],
        [source],
        5,
    )
    assert mine["used_at"]
    assert key[-43:] not in json.dumps(listed)
    assert run(up, "list") == 0
    assert name in capsys.readouterr().out
    assert run(up, "revoke", mine["key_id"]) == 0
    assert send(up, key, source) == 401


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["add", "x", "--type", "user.deleted", "--source", "/x"], 2, "types[0] Must be one of"),
        (["add", "x", "--type", "activity.recorded", "--source", "callboard"], 2, "sources[0] Only Callboard"),
        (["add", "\u200b", "--type", "activity.recorded", "--source", "/x"], 2, "name must show something"),
        (["add", "x", "--type", "activity.recorded", "--source", ""], 2, "sources[0] must not be empty"),
        (["add", "x", "--type", "activity.recorded", "--source", "/x", "--hourly-events", "0"], 2, "hourly_events"),
        (["revoke", "00000000-0000-0000-0000-000000000000"], 1, "There is no such producer key."),
    ],
)
def test_what_is_wrong_is_one_line(
    up: Up, arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(up, *arguments) == status
    errors: Any = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
