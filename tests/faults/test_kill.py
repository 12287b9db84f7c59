"""SIGKILL of `callboard up` while people write: what was acknowledged is there afterwards, once, and so are its mails.

The oracle notes for every write whether it was acknowledged (ok), refused (fail), or is unknown because the answer
never came. What an outside producer had handed to the embedded broker may be lost with it, for that keeps everything
in memory: this is documented, and not looked at here.
"""

import asyncio
import contextlib
import io
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from kit.killing import crowd, is_ready, verify
from kit.oracle import Oracle
from kit.running import Up, gone, succession, until, working_in
from rich.console import Console

from callboard.ops import demo


@asynccontextmanager
async def main_job(up: Up, oracle: Oracle) -> AsyncIterator[None]:
    """The demo, as it is, with the oracle at its every call."""
    original = demo.Scenario.call

    async def call(play: demo.Scenario, method: str, path: str, expected: int, **options: Any) -> Any:
        body, status, data = options.get("body"), None, None
        if path == "/auth/verify-email":
            oracle.tokens[body["token"]] = next(iter(oracle.users.keys() - oracle.verified.keys()))
        try:
            data = await original(play, method, path, expected, **options)
            status = expected
        finally:
            oracle.note(method, path, body, status, data)
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo.Scenario, "call", call)
        playing = asyncio.create_task(demo.play(demo.Target.of(up.demo_facts()), Console(file=io.StringIO())))
        yield
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError, OSError):
            await playing


CROWDS: dict[str, tuple[Callable[[Up, Oracle], Any], tuple[float, float]]] = {
    "fifty writers": (crowd, (0.6, 2.0)),
    "the main job": (main_job, (0.01, 0.6)),
}


@pytest.fixture(scope="module")
def folder() -> Iterator[list[Up]]:
    """The living `up` is the last; each test that kills it adds its successor."""
    with succession() as held:
        yield held


@pytest.mark.parametrize("case", CROWDS)
async def test_a_killed_process_has_lost_nothing_that_it_acknowledged(folder: list[Up], case: str) -> None:
    up, oracle = folder[-1].ready(), Oracle()
    play, (earliest_s, latest_s) = CROWDS[case]
    seed = random.SystemRandom().randrange(1 << 32)
    moment_s = random.Random(seed).uniform(earliest_s, latest_s)  # noqa: S311 - a moment, no secret
    print(f"{case}: seed {seed}, SIGKILL after {moment_s:.3f} s")  # noqa: T201 - to play it again

    async with play(up, oracle):
        await asyncio.sleep(moment_s)
        family = up.family()
        up.kill()
    assert gone(family) == []
    assert working_in(up.data) == []
    killed_at = datetime.now(UTC)

    folder.append(again := Up(up.data, environment={"HTTP_PORT": up.environment["HTTP_PORT"]}))
    until("readiness", lambda: is_ready(again))
    print(f"ready {time.monotonic() - again.began:.1f} s after the second start; {dict(oracle.counts())}")  # noqa: T201
    again.ready()
    await verify(again, oracle, killed_at)
