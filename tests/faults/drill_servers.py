"""Drills: a server is killed, stopped or taken while twenty people write. `make faults` plays them."""

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import Iterator

import asyncpg
import pytest
from kit.drills import CLIENT_S, Stage, drill, staged
from kit.running import request
from kit.server_states import (
    State,
    dies,
    hangs,
    is_slow,
    postgres_disk_is_full,
    postgres_is_read_only,
    postgres_refuses_connections,
    redis_is_loading,
    redis_is_out_of_memory,
    redis_is_read_only,
    topics_are_removed,
)

pytestmark = pytest.mark.servers

ASKED_S = 1.8 + CLIENT_S  # REQUEST_TIMEOUT_MS
END_OTHERS = "select pg_terminate_backend(pid) from pg_stat_activity where application_name <> 'drill'"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as made:
        yield made


async def accepts_writes(url: str) -> None:
    """Wait until PostgreSQL takes a connection and a write."""
    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
            connection = await asyncpg.connect(url, timeout=1)
            await connection.execute("create temporary table t (n integer)")
            await connection.close()
            return
        await asyncio.sleep(0.02)


async def test_promise_3_postgresql_is_killed(stage: Stage) -> None:
    """Seen to fail with an attempt to connect each 10 s: writes again 7.0 s after its return."""
    async with drill(stage) as play:
        play.signal("postgres", signal.SIGKILL)
        await accepts_writes(stage.up.facts["DATABASE_URL"])
        back_at = time.monotonic()
        again_s = await play.first_success(back_at)
    await play.verify()
    play.report("promise 3", f"writes again {again_s:.2f} s after its return (limit 3)")
    assert again_s < 3


async def test_promise_4_postgresql_is_stopped_for_5_s(stage: Stage) -> None:
    async with drill(stage) as play:
        stopped_at = time.monotonic()
        play.signal("postgres", signal.SIGSTOP)
        await asyncio.sleep(5)
        play.signal("postgres", signal.SIGCONT)
        back_at = time.monotonic()
        again_s = await play.first_success(back_at)
    longest_s = max(each.took for each in play.between(stopped_at, back_at - 2))
    await play.verify()
    worst_s = max(play.health)
    waited = f"503 within {longest_s:.2f} s (limit {ASKED_S:g}), recovered in {again_s:.2f} s (limit 1)"
    play.report("promise 4", f"{waited}, /health in {worst_s:.3f} s at most")
    assert longest_s < ASKED_S
    assert {each.status for each in play.between(stopped_at + 0.1, back_at - 2)} == {503}
    assert again_s < 1
    assert worst_s < 0.1 + CLIENT_S


REDIS_FAULTS: dict[str, State] = {
    "hangs": hangs("valkey"),
    "is killed": dies("valkey"),
    "takes 1 s a reply": is_slow("valkey", 1.0),
    "takes 0.15 s a reply": is_slow("valkey", 0.15),
    "is read-only": redis_is_read_only,
    "is out of memory": redis_is_out_of_memory,
    "is loading": redis_is_loading,
}


@pytest.mark.parametrize("how", REDIS_FAULTS)
async def test_promise_5_redis_cannot_work(stage: Stage, how: str) -> None:
    """No write waits longer than 0.3 s for it, and logins stay limited."""
    email = (await asyncio.to_thread(stage.up.join))["email"]
    body = {"email": email, "password": "Wrong-Wings-7"}

    def log_in() -> int:
        return request("POST", f"{stage.up.api}/auth/login", body=body).status

    async with drill(stage) as play:
        usual = sorted(each.took for each in play.client.seen)
        began_at = time.monotonic()
        async with REDIS_FAULTS[how](stage.up):
            logins = [await asyncio.to_thread(log_in) for _ in range(15)]
            await asyncio.sleep(3)
            ended_at = time.monotonic()
    during = sorted(each.took for each in play.between(began_at, ended_at))
    added_s, longest_s = p99(during) - p99(usual), during[-1] - usual[len(usual) // 2]
    await play.verify()
    added = (
        f"p99 grew by {added_s:.3f} s (limit 0.3), the longest write by {longest_s:.3f} s (limit 0.3 and {CLIENT_S})"
    )
    play.report(f"promise 5, redis {how}", f"{added}, logins {dict(Counter(logins))}")
    assert added_s < 0.3
    assert longest_s < 0.3 + CLIENT_S
    assert set(logins) <= {401, 429}
    assert 429 in logins
    assert {each.status for each in play.between(began_at, ended_at)} <= {200, 201}


def p99(times: list[float]) -> float:
    return times[len(times) * 99 // 100]


BROKER_FAULTS: dict[str, tuple[State, float]] = {
    "is stopped for 10 s": (hangs("broker"), 10.0),
    "is killed": (dies("broker"), 3.0),
    "takes 0.4 s a reply": (is_slow("broker", 0.4), 5.0),
    "loses its topics": (topics_are_removed, 3.0),
}


@pytest.mark.parametrize("how", BROKER_FAULTS)
async def test_promise_6_the_broker_cannot_work(stage: Stage, how: str) -> None:
    """No event is lost, and each has its effect once."""
    state, lasts_s = BROKER_FAULTS[how]
    async with drill(stage) as play:
        async with state(stage.up):
            await asyncio.sleep(lasts_s)
        back_at = time.monotonic()
    drained_s = await play.verify()
    await play.no_event_overtook_another()
    play.report(f"promise 6, the broker {how}", f"drained in {drained_s:.1f} s after the load (limit 10)")
    assert drained_s < 10
    assert {each.status for each in play.between(0.0, back_at)} <= {200, 201}


POSTGRES_FAULTS: dict[str, State] = {
    "is read-only": postgres_is_read_only,
    "has a full disk": postgres_disk_is_full,
    "refuses connections": postgres_refuses_connections,
    "takes 0.4 s a reply": is_slow("postgres", 0.4),
}


@pytest.mark.parametrize("how", POSTGRES_FAULTS)
async def test_promise_21_postgresql_cannot_work(stage: Stage, how: str) -> None:
    """It spends no restart and makes no dead letter."""
    async with drill(stage) as play:
        before, dead = play.restarts(), await play.dead_letters()
        began_at = time.monotonic()
        async with POSTGRES_FAULTS[how](stage.up):
            await asyncio.sleep(5)
        back_at = time.monotonic()
        again_s = await play.first_success(back_at)
    longest_s = max(each.took for each in play.between(began_at, back_at))
    await play.verify()
    restarted, died = play.restarts() - before, await play.dead_letters() - dead
    waited = f"answers within {longest_s:.2f} s (limit {ASKED_S:g}), writes again after {again_s:.2f} s (limit 1)"
    play.report(f"promise 21, postgresql {how}", f"{waited}, restarted {dict(restarted)}, dead letters {died}")
    assert longest_s < ASKED_S
    assert again_s < 1
    assert {each.status for each in play.between(began_at, back_at)} <= {200, 201, 503}
    assert (dict(restarted), died) == ({}, 0)


async def test_promise_15_every_connection_of_postgresql_is_taken(stage: Stage) -> None:
    url = stage.up.facts["DATABASE_URL"]
    async with drill(stage) as play:
        taken, before = [], play.restarts()
        ender = await asyncpg.connect(url, server_settings={"application_name": "drill"})
        try:
            taken_at = None
            while taken_at is None or time.monotonic() < taken_at + 3:
                try:
                    taken.append(await asyncpg.connect(url, server_settings={"application_name": "drill"}))
                except asyncpg.TooManyConnectionsError:
                    taken_at = taken_at or time.monotonic()
                    await ender.execute(END_OTHERS)
        finally:
            await asyncio.gather(ender.close(), *(each.close() for each in taken))
        free_at = time.monotonic()
        again_s = await play.first_success(free_at)
    await play.verify()
    restarted = play.restarts() - before
    play.report(
        "promise 15",
        f"{len(taken)} taken, writes {again_s:.2f} s after their return (limit 2), restarted {dict(restarted)}",
    )
    assert again_s < 2
    assert not restarted
