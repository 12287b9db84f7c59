"""Limits over HTTP: what answers say of them, with the real limiter behind the guard."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from callboard.actors.infrastructure.rate_limiter import CheckLimit, LimitBatcher, LimitResult, Policy
from callboard.actors.infrastructure.redis import RedisClient

PATH = "/api/v1/posts"
POST = {"json": {"title": "a"}, "headers": {"Authorization": "Bearer member"}}


@asynccontextmanager
async def limited(open_door: Any, **policies: Policy) -> AsyncIterator[tuple[Any, Counter[tuple[str, str]]]]:
    """A front door with these policies, in a process that has no Redis, and what is told of them."""
    told: Counter[tuple[str, str]] = Counter()

    def observe(policy: str, outcome: str, count: int) -> None:
        told[policy, outcome] += count

    cache = RedisClient("redis://127.0.0.1:1")
    cache.unavailable.set()
    limiter = LimitBatcher(cache, policies, time.monotonic, observe=observe)

    async def check(policy: str, key: str) -> LimitResult:
        return await limiter.check(CheckLimit(policy, key))

    async with open_door(check_limit=check) as door:
        yield door, told
    await cache.close()


async def test_every_answer_that_was_counted_says_how_its_client_stands(open_door: Any) -> None:
    async with limited(open_door, default=Policy(3, 60)) as (door, _):
        for left in (2, 1, 0):
            status, _, response = await door.call("GET", PATH)
            assert status == 200
            assert re.fullmatch(rf'"default";r={left};t=\d+', response.headers["RateLimit"])
            assert response.headers["RateLimit-Policy"] == '"default";q=3;w=60'
        for path, options in ((PATH, {}), (f"{PATH}/search", {}), (f"{PATH}?limit=x", {}), ("/api/v1/fail/bug", {})):
            status, body, response = await door.call("GET", path, **options)
            assert (status, body["error"]["code"]) == (429, "REQUEST_LIMITED_005")
            assert response.headers["RateLimit"] == '"default";r=0;t=60'
            assert 1 <= int(response.headers["Retry-After"]) <= 20


async def test_an_answer_that_is_an_error_was_counted_too(open_door: Any) -> None:
    async with limited(open_door, default=Policy(9, 60)) as (door, _):
        for status, path in ((400, f"{PATH}/search"), (404, f"{PATH}/{'0' * 31}1"), (500, "/api/v1/fail/bug")):
            answer = await door.call("GET", path)
            assert answer[0] == status
            assert "RateLimit" in answer[2].headers


async def test_the_tightest_policy_is_named_first(open_door: Any) -> None:
    async with limited(open_door, default=Policy(3, 60), posts=Policy(100, 60)) as (door, _):
        _, _, response = await door.call("POST", PATH, **POST)
        assert re.findall(r'"(\w+)";r', response.headers["RateLimit"]) == ["default", "posts"]
        assert response.headers["RateLimit-Policy"] == '"default";q=3;w=60, "posts";q=100;w=60'
    async with limited(open_door, default=Policy(100, 60), posts=Policy(1, 60)) as (door, _):
        for status in (201, 429):
            answer = await door.call("POST", PATH, **POST)
            assert answer[0] == status
            assert re.findall(r'"(\w+)";r', answer[2].headers["RateLimit"]) == ["posts", "default"]


async def test_a_limit_by_user_counts_each_of_them_alone_whatever_the_address(open_door: Any) -> None:
    async with limited(open_door, default=Policy(100, 60), remarks=Policy(2, 60)) as (door, told):
        for user, statuses in (("member", [200, 200, 429]), ("editor", [200, 200, 429])):
            sent = {"data": b"x", "headers": {"Authorization": f"Bearer {user}"}}
            assert [(await door.call("POST", "/api/v1/remarks", **sent))[0] for _ in statuses] == statuses
        assert told["remarks", "refused"] == 2


async def test_who_is_refused_by_two_is_told_the_longer_wait(open_door: Any) -> None:
    async with limited(open_door, default=Policy(1, 1000), posts=Policy(1, 10)) as (door, _):
        await door.call("POST", PATH, **POST)
        status, _, response = await door.call("POST", PATH, **POST)
        assert status == 429
        assert 990 <= int(response.headers["Retry-After"]) <= 1000


async def test_requests_at_the_same_moment_are_counted_each(open_door: Any) -> None:
    async with limited(open_door, default=Policy(20, 600)) as (door, told):
        answers = await asyncio.gather(*(door.call("GET", PATH) for _ in range(50)))
        left = [int(re.findall(r"r=(\d+)", response.headers["RateLimit"])[0]) for _, _, response in answers]
        passed = [each for each, (status, _, _) in zip(left, answers, strict=True) if status == 200]
        assert sorted(passed) == list(range(20))
        assert told == {("default", "allowed"): 20, ("default", "refused"): 30}


async def test_a_policy_in_the_shadow_refuses_nobody_and_is_not_shown(open_door: Any) -> None:
    async with limited(open_door, default=Policy(50, 60), posts=Policy(1, 60, shadow=True)) as (door, told):
        for _ in range(3):
            status, _, response = await door.call("POST", PATH, **POST)
            assert status == 201
            assert "posts" not in response.headers["RateLimit"] + response.headers["RateLimit-Policy"]
        assert told["posts", "shadowed"] == 2
    async with limited(open_door, default=Policy(1, 60, shadow=True)) as (door, told):
        for _ in range(3):
            status, _, response = await door.call("GET", PATH)
            assert (status, "RateLimit" in response.headers) == (200, False)
        assert told["default", "shadowed"] == 2


async def test_what_is_no_business_of_limits_is_not_counted(open_door: Any) -> None:
    async with limited(open_door, default=Policy(1, 60)) as (door, told):
        for _ in range(3):
            assert (await door.call("GET", "/health"))[0] == 200
        assert not told
