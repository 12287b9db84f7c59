"""The rate limiter: GCRA as its definition has it, the same by Redis as by this process alone, and never an error."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.infrastructure.rate_limiter import (
    LOCAL_KEYS,
    CheckLimit,
    LimitBatcher,
    LimitResult,
    LocalLimiter,
    Policy,
    RateLimiter,
    verdict,
)
from callboard.actors.infrastructure.redis import RedisClient, RedisConnector
from callboard.ops.embedded.data_directory import DataDirectory, free_ports
from callboard.ops.embedded.valkey import Valkey
from callboard.runtime import Pool, Props, System, pool, supervisor, worker

POLICY = Policy(5, 3600)  # so long that no busy machine gives anything back


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# Alone ---------------------------------------------------------------------------------------------------------------


def test_a_burst_passes_and_then_the_pace() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock)
    verdicts = [limiter.check("k", POLICY) for _ in range(6)]
    assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False]
    assert [verdict.remaining for verdict in verdicts] == [4, 3, 2, 1, 0, 0]
    assert verdicts[-1].retry_after_s == pytest.approx(720)
    assert verdicts[-1].reset_s == pytest.approx(3600)
    clock.now += 719.9
    assert not limiter.check("k", POLICY).allowed
    clock.now += 0.2
    assert limiter.check("k", POLICY).allowed
    assert not limiter.check("k", POLICY).allowed


def test_what_is_told_to_wait_for_is_enough_and_no_less_is() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock)
    while (verdict := limiter.check("k", Policy(7, 3))).allowed:
        clock.now += 0.01
    clock.now += verdict.retry_after_s - 0.001
    assert not limiter.check("k", Policy(7, 3)).allowed
    clock.now += 0.002
    assert limiter.check("k", Policy(7, 3)).allowed


def test_one_keys_limit_does_not_touch_anothers() -> None:
    limiter = LocalLimiter(Clock())
    while limiter.check("a", POLICY).allowed:
        pass
    assert limiter.check("b", POLICY).remaining == 4


def test_a_million_keys_take_bounded_memory_and_the_newest_are_kept() -> None:
    limiter = LocalLimiter(Clock())
    for number in range(LOCAL_KEYS + 500):
        limiter.check(str(number), POLICY)
    assert len(limiter._arrivals) == LOCAL_KEYS
    assert limiter.check(str(LOCAL_KEYS + 499), POLICY).remaining == 3


@given(st.integers(1, 8), st.integers(1, 20), st.lists(st.integers(0, 5_000), max_size=60))
def test_what_passes_is_what_the_definition_lets_pass(limit: int, window_s: int, waits_ms: list[int]) -> None:
    """GCRA by exact fractions; a case within a microsecond of the edge may go either way."""
    policy, clock = Policy(limit, window_s), Clock()
    limiter = LocalLimiter(clock)
    interval, now, arrival = Fraction(window_s, limit), Fraction(1000), Fraction(0)
    for wait_ms in waits_ms:
        now += Fraction(wait_ms, 1000)
        clock.now = float(now)
        ahead = max(arrival, now) + interval - now
        verdict = limiter.check("k", policy)
        if abs(ahead - window_s) > Fraction(1, 100_000):
            assert verdict.allowed == (ahead <= window_s)
        if verdict.allowed:
            arrival = max(arrival, now) + interval
        assert 0 <= verdict.remaining < limit
        assert verdict.allowed == (verdict.retry_after_s == 0)


@given(st.integers(1, 8), st.lists(st.integers(0, 30_000), max_size=80))
def test_no_window_lets_more_than_twice_its_limit_pass(limit: int, waits_ms: list[int]) -> None:
    policy, clock = Policy(limit, 60), Clock()
    limiter = LocalLimiter(clock)
    passed = []
    for wait_ms in waits_ms:
        clock.now += wait_ms / 1000
        if limiter.check("k", policy).allowed:
            passed.append(clock.now)
    for start in passed:
        assert sum(start <= moment < start + 60 for moment in passed) <= 2 * limit


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 10)), max_size=20))
def test_several_at_once_get_what_they_would_get_one_after_the_other(
    limit: int, bunches: list[tuple[int, int]]
) -> None:
    clock = Clock()
    together, apart, policy = LocalLimiter(clock), LocalLimiter(clock), Policy(limit, 60)
    for wait_ms, count in bunches:
        clock.now += wait_ms / 1000
        free, ahead_s = together.take("k", policy, count)
        for nth in range(1, count + 1):
            one, other = verdict(policy, free, ahead_s, nth), apart.check("k", policy)
            assert (one.allowed, one.remaining) == (other.allowed, other.remaining)
            assert one.reset_s == pytest.approx(other.reset_s, abs=1e-5)
            assert one.retry_after_s == pytest.approx(other.retry_after_s, abs=1e-5)


def test_who_only_looks_is_not_counted() -> None:
    limiter = LocalLimiter(Clock())
    for left in (5, 4, 3, 2, 1):
        assert limiter.check("k", POLICY, count=False).remaining == left
        assert limiter.check("k", POLICY).allowed
    looked = limiter.check("k", POLICY, count=False)
    assert (looked.allowed, looked.retry_after_s) == (False, pytest.approx(720))


def test_a_window_that_has_become_shorter_holds_for_what_was_counted_in_the_longer_one() -> None:
    limiter = LocalLimiter(Clock())
    while limiter.check("k", Policy(10, 3600)).allowed:
        pass
    assert limiter.check("k", Policy(10, 60)).retry_after_s == pytest.approx(6)


# With Redis ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def cache(valkey: Valkey) -> AsyncIterator[RedisClient]:
    cache = RedisClient(valkey.url)
    yield cache
    await cache.close()


def limits_of(cache: RedisClient, size: int = 4) -> Pool[CheckLimit]:
    return pool("limits", Props(RateLimiter, limiter_of(cache)), size=size)


def limiter_of(cache: RedisClient) -> LimitBatcher:
    return LimitBatcher(cache, {"five": POLICY, "fast": Policy(3, 0.3)}, time.monotonic)


async def test_redis_and_this_process_alone_agree(cache: RedisClient) -> None:
    limiter, local, key = limiter_of(cache), LocalLimiter(lambda: 0.0), uuid4().hex
    for _ in range(8):
        by_redis = await limiter.check(CheckLimit("five", key))
        alone = local.check(key, POLICY)
        assert (by_redis.allowed, by_redis.remaining) == (alone.allowed, alone.remaining)
        assert by_redis.reset_s == pytest.approx(alone.reset_s, abs=0.5)
        assert by_redis.retry_after_s == pytest.approx(alone.retry_after_s, abs=0.5)


async def test_processes_share_one_limit_and_count_exactly(valkey: Valkey) -> None:
    caches, key = [RedisClient(valkey.url) for _ in range(4)], uuid4().hex
    workers = [limiter_of(cache) for cache in caches]
    verdicts = await asyncio.gather(*(worker.check(CheckLimit("five", key)) for worker in workers * 5))
    assert sum(verdict.allowed for verdict in verdicts) == 5
    assert sorted(verdict.remaining for verdict in verdicts if verdict.allowed) == [0, 1, 2, 3, 4]
    assert (await workers[0].check(CheckLimit("five", key + "other"))).remaining == 4
    for each in caches:
        await each.close()


async def test_what_is_asked_at_one_moment_is_one_call_and_counts_exactly(
    cache: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter, send_batch, key, other = limiter_of(cache), cache._send_batch, uuid4().hex, uuid4().hex
    sizes: list[int] = []

    async def counted(batch: Any) -> None:
        sizes.append(len(batch))
        await send_batch(batch)

    await limiter.check(CheckLimit("five", uuid4().hex))  # now Redis has the script
    monkeypatch.setattr(cache, "_send_batch", counted)
    verdicts = await asyncio.gather(
        *(limiter.check(CheckLimit("five", key)) for _ in range(50)), limiter.check(CheckLimit("five", other))
    )
    assert [each.remaining for each in verdicts[:5]] == [4, 3, 2, 1, 0]
    assert [each.allowed for each in verdicts[:50]] == [True] * 5 + [False] * 45
    assert verdicts[-1].remaining == 4
    assert sizes == [1]
    assert not (await limiter.check(CheckLimit("five", key, count=False))).allowed


async def test_checks_of_many_callers_wait_for_redis_together_not_one_after_the_other(
    cache: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, send_batch = limits_of(cache, size=1), cache._send_batch
    trips = 0

    async def counted(batch: Any) -> None:
        nonlocal trips
        trips += 1
        await send_batch(batch)

    async with System(supervisor("root", limits)):
        monkeypatch.setattr(cache, "_send_batch", counted)
        verdicts = await asyncio.gather(*(limits.ask(CheckLimit("five", uuid4().hex)) for _ in range(100)))
    assert [each.remaining for each in verdicts] == [4] * 100
    assert trips < 50  # one after the other it would be 100


async def test_who_only_looks_is_not_counted_by_redis_nor_by_this_process_alone(cache: RedisClient) -> None:
    key = uuid4().hex
    for limiter in (limiter_of(cache), limiter_of(away := RedisClient("redis://127.0.0.1:1"))):
        looks = await asyncio.gather(*(limiter.check(CheckLimit("five", key, count=False)) for _ in range(9)))
        assert [(each.allowed, each.remaining) for each in looks] == [(True, 5)] * 9
        assert (await limiter.check(CheckLimit("five", key))).remaining == 4
    await away.close()


async def test_a_redis_that_has_forgotten_the_script_is_taught_it_again(cache: RedisClient) -> None:
    limiter, key = limiter_of(cache), uuid4().hex
    for left in (4, 3, 2):
        await cache.send("SCRIPT", "FLUSH")
        assert (await limiter.check(CheckLimit("five", key))).remaining == left
    assert not limiter.local._arrivals


@pytest.mark.parametrize("value", [b"\xff", b"", b"nan", b"inf", b"-inf", b"1e309", b"0x10", None])
async def test_a_key_that_holds_no_time_is_counted_anew_and_costs_its_neighbours_nothing(
    cache: RedisClient, value: bytes | None
) -> None:
    limiter, keys = limiter_of(cache), (uuid4().hex, uuid4().hex)
    name = f"production:{{callboard}}:rate_limit:{keys[0]}:five"
    await (cache.send("RPUSH", name, "a list") if value is None else cache.send("SET", name, value))
    for left in (4, 3):
        verdicts = await asyncio.gather(*(limiter.check(CheckLimit("five", key)) for key in keys))
        assert [each.remaining for each in verdicts] == [left, left]
    assert not limiter.local._arrivals
    assert await cache.send("PTTL", name) > 0


async def test_a_policy_in_the_shadow_counts_and_tells_but_refuses_nothing(cache: RedisClient) -> None:
    told: list[tuple[str, str, int]] = []
    policies = {"seen": Policy(3, 60, shadow=True)}
    limiter = LimitBatcher(cache, policies, time.monotonic, observe=lambda *what: told.append(what))
    key = uuid4().hex
    verdicts = await asyncio.gather(*(limiter.check(CheckLimit("seen", key)) for _ in range(5)))
    assert all(each.allowed and each.shadow for each in verdicts)
    assert told == [("seen", "allowed", 3), ("seen", "shadowed", 2)]
    policies["seen"] = Policy(3, 60)
    assert not (await limiter.check(CheckLimit("seen", key))).allowed  # it had been counted
    assert told[-1] == ("seen", "refused", 1)


async def test_without_strict_every_limit_is_twice_as_much_at_once_and_then_again_as_it_says(
    cache: RedisClient,
) -> None:
    strict, key = True, uuid4().hex
    limiter = LimitBatcher(cache, {"three": Policy(3, 60)}, time.monotonic, strict=lambda: strict)
    assert (await limiter.check(CheckLimit("three", key))).limit == 3
    strict = False
    told = [await limiter.check(CheckLimit("three", key)) for _ in range(6)]
    assert [each.limit for each in told] == [6] * 6
    assert [each.allowed for each in told] == [True] * 4 + [False] * 2  # the first one took a third of the window
    strict = True
    assert (await limiter.check(CheckLimit("three", key))).limit == 3


async def test_keys_and_policies_do_not_touch_each_other_and_vanish_when_they_are_free_again(
    cache: RedisClient,
) -> None:
    limiter = limiter_of(cache)
    key = uuid4().hex
    while (await limiter.check(CheckLimit("fast", key))).allowed:
        pass
    assert (await limiter.check(CheckLimit("five", key))).remaining == 4
    assert 0 < await cache.send("PTTL", f"production:{{callboard}}:rate_limit:{key}:fast") <= 302


@pytest.fixture
async def own(data: DataDirectory) -> AsyncIterator[Valkey]:
    """A server of the test's own, to be killed."""
    server = Valkey(data, free_ports(1)[0])
    await server.start()
    yield server
    await server.stop()


async def check(limits: Pool[CheckLimit], key: str) -> tuple[LimitResult, float]:
    started = time.monotonic()
    verdict: LimitResult = await limits.ask(CheckLimit("five", key))
    return verdict, time.monotonic() - started


@pytest.mark.servers
async def test_without_redis_this_process_decides_at_once_until_redis_is_back(own: Valkey) -> None:
    cache = RedisClient(own.url)
    limits, guard = limits_of(cache), worker("cache", Props(RedisConnector, cache))
    async with System(supervisor("root", guard, limits)):
        assert (await check(limits, "k"))[0].remaining == 4
        await own._server.stop(signal.SIGKILL, 5)
        answers = [await check(limits, "k") for _ in range(4)]
        assert all(verdict.allowed for verdict, _ in answers)
        assert max(seconds for _, seconds in answers) < 0.3
        assert cache.unavailable.is_set()
        await own.start()
        async with asyncio.timeout(5):
            while cache.unavailable.is_set():  # noqa: ASYNC110 - the guard probes another process
                await asyncio.sleep(0.01)
        # What Redis had counted is on its disk, and counts on.
        assert (await check(limits, "k"))[0].remaining == 3


async def test_a_login_stays_limited_while_redis_is_away() -> None:
    cache = RedisClient(f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    limits = limits_of(cache, size=1)
    async with System(supervisor("root", worker("cache", Props(RedisConnector, cache)), limits)):
        assert [(await check(limits, "k"))[0].allowed for _ in range(7)] == [True] * 5 + [False] * 2


@pytest.mark.servers
async def test_a_redis_that_has_gone_quiet_costs_its_first_caller_alone_and_no_more_than_0_3_s(own: Valkey) -> None:
    cache = RedisClient(own.url)
    limits = limits_of(cache)
    async with System(supervisor("root", worker("cache", Props(RedisConnector, cache)), limits)):
        await check(limits, "k")
        assert own.pid is not None
        os.kill(own.pid, signal.SIGSTOP)
        try:
            answers = [await check(limits, "k") for _ in range(5)]
        finally:
            os.kill(own.pid, signal.SIGCONT)
        assert answers[0][1] < 0.3
        assert max(seconds for _, seconds in answers[1:]) < 0.05
        async with asyncio.timeout(5):
            while cache.unavailable.is_set():  # noqa: ASYNC110 - the guard probes another process
                await asyncio.sleep(0.01)
        await cache.check()
