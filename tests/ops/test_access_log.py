"""The access log, and the bounded files of `callboard up`."""

import json
import logging
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kit.logging_state import kept_logging
from kit.running import Up, request, until

from callboard.ops import logs
from callboard.ops.access_log import MOST_FAILED, AccessLog

LOW, HIGH = f"0{'1' * 31}", f"f{'1' * 31}"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with kept_logging():
        logs.configure("info", tmp_path / "log", file_bytes=4_000, files=3)
        yield tmp_path / "log"


def exchange(trace_id: str) -> Any:
    return SimpleNamespace(
        trace_id=trace_id,
        traceparent=f"00-{trace_id}-{'2' * 16}-01",
        method="GET",
        template="/api/v1/users/{user_id}",
        caller=SimpleNamespace(user_id="0f4b"),
        ip="192.0.2.1",
        user_agent="agent",
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_has_the_trace_the_caller_the_duration_and_where_it_came_from(path: Path) -> None:
    AccessLog(1.0)(exchange(HIGH), 200, 0.0123456)
    (line,) = lines(path)
    assert line.pop("timestamp")
    assert line == {
        "level": "INFO",
        "logger": "callboard.access",
        "message": "GET /api/v1/users/{user_id} 200",
        "trace_id": HIGH,
        "span_id": "2" * 16,
        "user_id": "0f4b",
        "action": "http.request",
        "duration_ms": 12.346,
        "context": {"ip_address": "192.0.2.1", "user_agent": "agent"},
    }


def test_a_request_to_a_running_up_has_its_line_and_one_that_is_not_chosen_has_none(up: Up) -> None:
    ada, rest = up.join(), secrets.token_hex(12)
    url, agent = f"{up.api}/users/me?secret=1", "agent/7"
    for first, path in (("f" * 8, url), ("0" * 8, url), ("0" * 8, f"{up.api}/users/me")):
        headers = {"traceparent": f"00-{first}{rest}-{'2' * 16}-01", "User-Agent": agent}
        request("GET", path, token=ada["token"], headers=headers)

    def written() -> list[dict[str, Any]]:
        found = [each for each in up.log() if each["logger"] == "callboard.access" and each["trace_id"].endswith(rest)]
        return found if len(found) > 1 else []

    refused, answered = until("the lines", written)
    assert refused["message"] == "GET /api/v1/users/me 400", "the pattern: no query stands in a log"
    assert answered["message"] == "GET /api/v1/users/me 200"
    assert (answered["trace_id"], answered["user_id"]) == (f"{'0' * 8}{rest}", ada["user_id"])
    assert answered["context"] == {"ip_address": "127.0.0.1", "user_agent": agent}
    assert (answered["action"], answered["level"]) == ("http.request", "INFO")
    assert 0 < answered["duration_ms"] < 60_000
    assert len(answered["span_id"]) == 16
    said = json.dumps([refused, answered])
    assert ada["token"] not in said
    assert "secret" not in said


@pytest.mark.parametrize(("share", "seen"), [(1.0, [LOW, HIGH]), (0.5, [LOW]), (0.0, [])])
def test_a_share_is_chosen_by_the_trace_and_each_failure_has_a_line(path: Path, share: float, seen: list[str]) -> None:
    access = AccessLog(share)
    for trace_id in (LOW, HIGH):
        access(exchange(trace_id), 404, 0.001)
    assert [line["trace_id"] for line in lines(path)] == seen
    access(exchange(HIGH), 500, 0.001)
    assert lines(path)[-1]["message"].endswith(" 500")


def test_a_flood_of_refusals_is_not_written_down_one_by_one(path: Path) -> None:
    """Seen to fail with a line for each: it cost more than the refusal."""
    now = 100.0
    access = AccessLog(0.0, lambda: now)
    for _ in range(1_000):
        access(exchange(HIGH), 503, 0.001)
    assert len(lines(path)) == MOST_FAILED
    now += 1.0
    access(exchange(HIGH), 503, 0.001)
    assert len(lines(path)) == MOST_FAILED + 1


def test_files_are_bounded_in_size_and_number(path: Path) -> None:
    for number in range(500):
        logging.getLogger("callboard.some").info("line %d, %s", number, "x" * 50)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2", "log.3"]
    assert all(file.stat().st_size <= 4_000 for file in files)
    newest = [line["message"].split(",")[0] for file in reversed(files) for line in lines(file)]
    assert newest == [f"line {number}" for number in range(500 - len(newest), 500)], "the newest are kept, in order"
