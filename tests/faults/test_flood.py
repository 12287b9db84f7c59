"""A flood of logins from everywhere: each is checked or refused in time, and whoever does not log in hardly notices."""

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import psutil
import pytest
from running import Up, one_up

LOGINS = 200  # a second, some three times what two cores can check
READS = 100  # a second, of those who are logged in already
PHASE_S = 2.5
REFUSED = (429, 503)
DEADLINE_MS = 10_000  # of a request
# Everybody here has the same two cores, the crowd too, and each hop of a read waits its turn.
SHARED_S = 0.04
ROUNDS = 4  # other work on this machine can spoil one; without the low priority of hashing each takes seconds
SPOILED_S = 0.3  # of a core's time, each second, that others have taken


@pytest.fixture(scope="module")
def flooded() -> Iterator[Up]:
    """With its usual limits for logins, and the test for its proxy: everybody has an address of their own."""
    environment = {"TRUSTED_PROXIES": "127.0.0.0/8", "RATE_LIMIT_LOGIN": "10"}
    with one_up(environment) as up:
        yield up


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


class Machine:
    """Whether it is ours: how much of it others have had since the last look."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.looked = self.busy_s(), self.ours_s(), time.monotonic()

    def busy_s(self) -> float:
        times = psutil.cpu_times()
        return float(sum(times[:9]) - times.idle - times.iowait)

    def ours_s(self) -> float:
        used = 0.0
        for process in (psutil.Process(), psutil.Process(self.up.pid), *self.up.family()):
            with suppress(psutil.Error):
                used += sum(process.cpu_times()[:2])
        return used

    def others(self) -> float:
        """Cores that others have had."""
        before, self.looked = self.looked, (self.busy_s(), self.ours_s(), time.monotonic())
        busy_s, ours_s, seconds = (now - then for now, then in zip(self.looked, before, strict=True))
        return (busy_s - ours_s) / seconds


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[-1]


async def test_a_flood_of_logins_is_checked_or_refused_in_time_and_doubles_nobody_elses_p99(flooded: Up) -> None:
    token = (await asyncio.to_thread(flooded.join))["token"]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(12)) as client:
        crowd = Crowd(client, flooded, token)
        await crowd.reads()  # to warm up
        machine, rounds = Machine(flooded), []
        for _ in range(ROUNDS):
            machine.others()
            calm = p99(await crowd.reads())
            async with crowd.flood():
                stormy = p99(await crowd.reads())
            rounds.append((calm, stormy, machine.others()))
            if stormy <= 2 * calm + SHARED_S:
                break
    said = f"{dict(crowd.statuses)}, at most ms {dict(crowd.slowest)}; p99 calm, in the flood, others' cores {rounds}"
    assert set(crowd.statuses) <= {401, *REFUSED}, said
    assert crowd.statuses[401] >= 20, said
    assert crowd.statuses[503], said
    assert max(crowd.slowest.values()) < DEADLINE_MS, said
    calm, stormy, _ = rounds[-1]
    if stormy > 2 * calm + SHARED_S and all(others > SPOILED_S for _, _, others in rounds):
        pytest.skip(f"others keep this machine busy: {said}")
    assert stormy <= 2 * calm + SHARED_S, said
