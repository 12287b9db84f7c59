"""Drills: clients that misbehave by the hundred, hostile bodies, and a fuzzer, while others go on."""

import asyncio
import gzip
import io
import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from kit.drills import SEED
from kit.fuzz_command import calls_of, fuzz
from kit.running import Up, one_up, request
from kit.slow_clients import ARTICLE, ENVIRONMENT, IDLE, LARGE, SLOW, UNREAD, Crowd

from callboard.ops.descriptors import raise_limit

pytestmark = pytest.mark.servers

HEALTH_S, GROWS_MB = 0.1, 150.0
MISBEHAVE_S = 12.0
SLOW_CLIENTS = 200
FUZZED = ("/content", "/comments", "/categories", "/tags", "/users/me")
READ = "/api/v1/content"
TIMES = 2.0
DEEP = "[" * 100_000 + "]" * 100_000
WIDE = "<p>" + "".join(f"<b a{n}>" for n in range(2_000)) + "".join(f"<p>x{n}" for n in range(2_000))
NESTED = "<div>" * 30_000
HOSTILE: dict[str, tuple[dict[str, str], bytes]] = {
    "deep JSON": ({}, DEEP.encode()),
    "deep title": ({}, f'{{"title": {DEEP}, "body": "b"}}'.encode()),
    "markup that grows": ({}, json.dumps({"title": "a", "body": WIDE}).encode()),
    "nested markup": ({}, json.dumps({"title": "a", "body": NESTED}).encode()),
    "a large number": ({}, b'{"title": ' + b"9" * 200_000 + b"}"),
    "many keys": ({}, json.dumps({f"k{n}": n for n in range(50_000)}).encode()),
    "invalid text": ({}, b'{"title": "\xff\xfe", "body": "' + b"\\u0000" * 30_000 + b'"}'),
    "a bomb": ({"Content-Encoding": "gzip"}, gzip.compress(b"a" * (50 << 20))),
    "too much": ({}, b'{"title": "' + b"a" * (8 << 20) + b'"}'),
}


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    raise_limit(UNREAD + IDLE + SLOW + 500)
    with one_up(ENVIRONMENT) as running:
        running.people()
        running.execute(LARGE, ARTICLE)
        yield running


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


async def send_hostile(up: Up, token: str, statuses: Counter[str]) -> None:
    """Send every hostile body, again and again."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        while True:
            for name, (more, body) in HOSTILE.items():
                try:
                    async with session.post(
                        f"{up.api}/content", data=io.BytesIO(body), headers=headers | more
                    ) as response:
                        await response.read()
                        statuses[f"{name}: {response.status}"] += 1
                except aiohttp.ClientError:  # the server has answered, and closed, before it had all
                    statuses[f"{name}: closed"] += 1


async def test_promise_26_hostile_bodies_and_clients_that_never_read_or_are_idle(up: Up) -> None:
    """/health and memory stay as they were."""
    _, _, author = await asyncio.to_thread(up.people)
    process, crowd, statuses = psutil.Process(up.pid), Crowd(up.api), Counter[str]()
    quiet, before = await crowd.health(2.0), process.memory_info().rss
    async with crowd.misbehave():
        hostile = [asyncio.create_task(send_hostile(up, author, statuses)) for _ in range(2)]
        times, most, ends_at = [], before, time.monotonic() + MISBEHAVE_S
        while time.monotonic() < ends_at:
            times += await crowd.health(1.0)
            most = max(most, process.memory_info().rss)
        assert not [each for each in hostile if each.done()]
        for each in hostile:
            each.cancel()
        await asyncio.gather(*hostile, return_exceptions=True)
    grown = (most - before) / (1 << 20)
    print(  # noqa: T201 - the measurement
        f"\npromise 26: /health p99 {p99(quiet) * 1000:.0f} ms, then {p99(times) * 1000:.0f} ms (limit 100), the "
        f"slowest {max(times) * 1000:.0f} ms, memory grew {grown:.0f} MB (limit 150); {dict(statuses)}"
    )
    assert not [each for each in statuses if ": 5" in each and "503" not in each]
    assert {each.partition(":")[0] for each in statuses} == set(HOSTILE)
    assert p99(times) < HEALTH_S
    assert grown < GROWS_MB


async def test_promise_16_a_fuzzer_with_200_slow_clients(up: Up, tmp_path: Path) -> None:
    """No request breaks the contract, and others wait less than twice as long as without the slow clients."""
    document = (await asyncio.to_thread(request, "GET", f"{up.facts['HTTP_URL']}/openapi.json")).body
    calls = [call for call in calls_of(document, "member") if any(each in call for each in FUZZED)]
    crowd = Crowd(up.api)

    async def beside() -> tuple[list[float], str]:
        """How long others wait while the fuzzer runs, and what it says."""
        fuzzing = asyncio.ensure_future(
            asyncio.to_thread(fuzz, up, "member", calls, tmp_path, phases="examples,fuzzing", examples="5")
        )
        times: list[float] = []
        while not fuzzing.done():
            times += await crowd.health(1.0, READ)
        ran = fuzzing.result()
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return times, ran.stdout

    alone, _ = await beside()
    async with crowd.misbehave(unread=SLOW_CLIENTS // 2, idle=0, slow=SLOW_CLIENTS // 2):
        among, said = await beside()
    print(  # noqa: T201 - the measurement
        f"\npromise 16: {len(calls)} calls fuzzed, the others' p99 {p99(alone) * 1000:.1f} ms, among slow clients "
        f"{p99(among) * 1000:.1f} ms (limit {TIMES:g} times); seed {SEED}"
    )
    assert f"Tested: {len(calls)}" in said
    assert p99(among) < TIMES * p99(alone)
