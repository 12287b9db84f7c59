"""Drills: the wall clock of a process jumps an hour, or is ten minutes off from its start. Its timers, expiries and
limits do not notice.
"""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import libfaketime
import pytest
from kit.drills import SEED, Beside
from kit.running import CallboardProcess, Up, one_up, request
from kit.twins import twins

pytestmark = pytest.mark.servers

PRELOADED = Path(libfaketime.__file__).with_name("vendor") / "libfaketime" / "src" / "libfaketime.so.1"
TOKEN_S = 8
TIMER_S = 4.0
JUMPS = ("+3600s", "-3600s")
OFF_S = 1.0
WRONG = ("+600s", "-600s")
ALL = "front,streams,workers"


class Clock:
    """The file that says by how much the wall clock of a process is off; it is read at each look at the clock."""

    def __init__(self, path: Path, offset: str = "+0s") -> None:
        self.path = path
        self.environment = {
            "LD_PRELOAD": str(PRELOADED),
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.jump(offset)

    def jump(self, offset: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(f"{offset}\n", encoding="ascii")
        new.rename(self.path)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def up(clock: Clock) -> Iterator[Up]:
    limits = {"RATE_LIMIT_LOGIN": "6", "ACCESS_TOKEN_TTL_S": str(TOKEN_S)}
    with one_up(clock.environment | limits) as running:
        yield running


def shown_clock(up: CallboardProcess) -> datetime:
    """The process's wall clock, as it tells it in its answers."""
    answer = request("GET", f"{up.operators}/health")
    return datetime.strptime(answer.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)


def approved(up: CallboardProcess, editor: str, author: str) -> str:
    """An article that may be published."""
    content_id = up.call("POST", "/content", token=author, body={"title": "On time", "body": "a"}).data["content_id"]
    for token, action in ((author, "submit_for_review"), (editor, "approve")):
        answer = up.call("POST", f"/content/{content_id}/transitions", token=token, body={"action": action})
        assert answer.status == 200, answer
    return str(content_id)


def seconds_until(what: str, seen: Any, since: float, within_s: float = 30.0) -> float:
    """The seconds from `since` until something is seen."""
    while not seen():
        assert time.monotonic() < since + within_s, f"{what} did not come"
        time.sleep(0.02)
    return time.monotonic() - since


@pytest.mark.parametrize("jump", JUMPS)
async def test_promise_14_the_wall_clock_jumps_an_hour(up: Up, clock: Clock, jump: str) -> None:
    """Seen to fail with the process's own clock in place of the database's: a new token was refused after the jump."""
    await asyncio.to_thread(play, up, clock, jump)


def play(up: Up, clock: Clock, jump: str) -> None:
    """A token, a limit and a timer begin before the jump and end after it."""
    wrong = {"email": "nobody@example.org", "password": "Wrong-Wings-7"}
    _, editor, author = up.people()
    content_id = approved(up, editor, author)
    began = time.monotonic()
    due = datetime.now(UTC) + timedelta(seconds=TIMER_S)
    schedule = {"publish_at": due.isoformat().replace("+00:00", "Z")}
    path = f"/content/{content_id}"
    answer = up.call("PUT", f"{path}/schedule", token=editor, body=schedule)
    assert answer.status == 200, answer
    token_at, token = time.monotonic(), up.log_in(up._people[1])
    statuses = [up.call("POST", "/auth/login", body=wrong).status for _ in range(4)]
    assert statuses[-1] == 429, statuses

    clock.jump(jump)
    assert abs((shown_clock(up) - datetime.now(UTC)).total_seconds()) > 3000  # it has jumped
    limited = [up.call("POST", "/auth/login", body=wrong) for _ in range(5)]
    assert up.call("GET", "/users/me", token=token).status == 200
    fired_s = seconds_until("the publication", lambda: up.call("GET", path).status == 200, began)
    expired_s = seconds_until("the expiry", lambda: up.call("GET", "/users/me", token=token).status == 401, token_at)
    retry_after_s = max(int(each.headers["Retry-After"]) for each in limited)
    print(  # noqa: T201 - the measurement
        f"\npromise 14, {jump}: a timer of {TIMER_S:g} s after {fired_s:.2f} s, a token of {TOKEN_S} s ends after "
        f"{expired_s:.2f} s, the limit holds (Retry-After {retry_after_s}); seed {SEED}"
    )
    assert abs(fired_s - TIMER_S) < OFF_S
    assert -OFF_S < expired_s - TOKEN_S < OFF_S
    assert {each.status for each in limited} == {429}
    assert 0 < retry_after_s <= 60
    assert request("GET", f"{up.operators}/ready").status == 200


@pytest.mark.parametrize("offset", WRONG)
def test_promise_25_the_clock_of_one_process_is_ten_minutes_off(offset: str, tmp_path: Path) -> None:
    """Its jobs run, its tokens and limits hold and end in time in both processes, and it warns once."""
    clock = Clock(tmp_path / "clock", offset)
    limits = {"RATE_LIMIT_LOGIN": "10", "ACCESS_TOKEN_TTL_S": str(TOKEN_S)}
    with one_up() as up, twins(up, 1, **limits) as group:
        wrong = group.start(ROLES=ALL, **clock.environment)
        right = group.sites[0]
        assert abs((shown_clock(wrong) - datetime.now(UTC)).total_seconds()) > 500
        emails = Beside(up, wrong, group.environment["DATABASE_URL"])
        people = emails.people()
        fired_s = fires(wrong, right, people)
        ends_s = [expires(one, (wrong, right), emails.addresses[1]) for one in (wrong, right)]
        guess = {"email": "nobody@example.org", "password": "Wrong-Wings-7"}
        guesses = [each.call("POST", "/auth/login", body=guess).status for _ in range(8) for each in (wrong, right)]
        told = [line for line in wrong.errors.splitlines() if "synchronise it by NTP" in line]
    print(  # noqa: T201 - the measurement
        f"\npromise 25, {offset}: a timer of {TIMER_S:g} s after {fired_s:.2f} s, tokens of {TOKEN_S} s end after "
        f"{ends_s[0]:.2f} and {ends_s[1]:.2f} s, of 16 log-ins {guesses.count(429)} were refused, {len(told)} warning; "
        f"seed {SEED}"
    )
    assert abs(fired_s - TIMER_S) < OFF_S
    assert all(abs(each - TOKEN_S) < OFF_S for each in ends_s)
    assert guesses[-2:] == [429, 429]
    assert len(told) == 1


def fires(wrong: CallboardProcess, right: CallboardProcess, people: tuple[str, str, str]) -> float:
    """The seconds after which the wrong process publishes what was scheduled over the right one."""
    _, editor, author = people
    content_id = approved(right, editor, author)
    began, due = time.monotonic(), datetime.now(UTC) + timedelta(seconds=TIMER_S)
    answer = right.call("PUT", f"/content/{content_id}/schedule", token=editor, body={"publish_at": due.isoformat()})
    assert answer.status == 200, answer
    return seconds_until("the publication", lambda: wrong.call("GET", f"/content/{content_id}").status == 200, began)


def expires(one: CallboardProcess, both: tuple[CallboardProcess, ...], email: str) -> float:
    """The seconds until both processes refuse a token of one of them; neither does so before."""
    began, token = time.monotonic(), one.log_in(email)

    def statuses() -> set[int]:
        return {each.call("GET", "/users/me", token=token).status for each in both}

    while time.monotonic() < began + TOKEN_S - OFF_S:
        assert statuses() == {200}
    return seconds_until("the expiry", lambda: statuses() == {401}, began)
