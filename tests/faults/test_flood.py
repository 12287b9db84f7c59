"""A flood of logins from everywhere: each is checked or refused in time, and whoever does not log in hardly notices."""

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from running import Up, data_folder

LOGINS = 200  # a second, some three times what two cores can check
READS = 100  # a second, of those who are logged in already
PHASE_S = 2.5
REFUSED = (429, 503)
DEADLINE_MS = 10_000  # of a request
# Everybody here has the same two cores, the crowd too, and each hop of a read waits its turn.
SHARED_S = 0.04
ROUNDS = 4  # other work on this machine can spoil one; without the low priority of hashing each takes seconds


@pytest.fixture(scope="module")
def flooded() -> Iterator[Up]:
    """With its usual limits for logins, and the test for its proxy: everybody has an address of their own."""
    environment = {"TRUSTED_PROXIES": "127.0.0.0/8", "RATE_LIMIT_LOGIN": "10"}
    with data_folder() as data:
        up = Up(data, environment=environment)
        try:
            yield up.ready()
        finally:
            up.end()


async def paced(a_second: float, seconds: float) -> AsyncIterator[int]:
    """Numbers at an even pace, whether or not what came of the last ones is done."""
    began = time.monotonic()
    for number in range(int(a_second * seconds)):
        await asyncio.sleep(began + number / a_second - time.monotonic())
        yield number


class Crowd:
    """Those who log in, and those who read."""

    def __init__(self, client: aiohttp.ClientSession, up: Up, token: str) -> None:
        self.client = client
        self.api = up.api
        self.token = token
        self.statuses: Counter[int] = Counter()
        self.slowest: Counter[int] = Counter()  # in ms, by status
        self.bots = itertools.count()

    async def log_in(self) -> None:
        number = next(self.bots)
        forwarded = {"X-Forwarded-For": f"203.0.{number % 100}.{number % 250}"}
        body = {"email": f"bot{number}@example.org", "password": "Wrong-Password-1"}
        began = time.monotonic()
        async with self.client.post(f"{self.api}/auth/login", json=body, headers=forwarded) as response:
            await response.read()
            if response.status in REFUSED:
                assert int(response.headers["Retry-After"]) >= 1
        self.statuses[response.status] += 1
        took_ms = round((time.monotonic() - began) * 1000)
        self.slowest[response.status] = max(self.slowest[response.status], took_ms)

    async def read(self) -> float:
        """The seconds it took."""
        began = time.monotonic()
        async with self.client.get(
            f"{self.api}/users/me", headers={"Authorization": f"Bearer {self.token}"}
        ) as response:
            await response.read()
        assert response.status == 200
        return time.monotonic() - began

    async def reads(self) -> list[float]:
        """How long readers wait, each."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.read()) async for _ in paced(READS, PHASE_S)]
        return [task.result() for task in tasks]

    @asynccontextmanager
    async def flood(self) -> AsyncIterator[None]:
        """Logins all the while."""

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                async for _ in paced(LOGINS, PHASE_S + 1):
                    group.create_task(self.log_in())

        flooding = asyncio.ensure_future(run())
        await asyncio.sleep(0.5)  # for the queues to fill
        yield
        await flooding


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[-1]


def doubled_by_none(calm_s: float, stormy_s: float) -> bool:
    return stormy_s <= 2 * calm_s + SHARED_S


async def test_a_flood_of_logins_is_checked_or_refused_in_time_and_doubles_nobody_elses_p99(flooded: Up) -> None:
    token = (await asyncio.to_thread(flooded.join))["token"]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(12)) as client:
        crowd = Crowd(client, flooded, token)
        await crowd.reads()  # to warm up
        times: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            calm = p99(await crowd.reads())
            async with crowd.flood():
                times.append((calm, p99(await crowd.reads())))
            if doubled_by_none(*times[-1]):
                break
    said = f"{dict(crowd.statuses)}, at most ms {dict(crowd.slowest)}; p99 in s, calm and in the flood {times}"
    assert set(crowd.statuses) <= {401, *REFUSED}, said
    assert crowd.statuses[401] >= 20, said
    assert crowd.statuses[503], said
    assert max(crowd.slowest.values()) < DEADLINE_MS, said
    assert doubled_by_none(*times[-1]), said
