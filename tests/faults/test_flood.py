"""A flood of logins: each is checked or refused, and whoever is logged in already does not wait for them."""

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from running import Up, one_up

LOGINS = 200  # a second, some three times what two cores can check
READS = 100  # a second, of those who are logged in already
PHASE_S = 2.5
REFUSED = (429, 503)
AT_LEAST = 2  # times as long as a read takes a login that is checked, while the hashers have more than they can do


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
        self.checked: list[float] = []  # the seconds of each login whose password was looked at
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
        if response.status not in REFUSED:
            self.checked.append(time.monotonic() - began)

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


async def test_a_flood_of_logins_is_checked_or_refused_and_does_not_hold_up_those_who_are_logged_in(
    flooded: Up,
) -> None:
    """A read needs as many turns of the processor as a login but for the hashing, and must not wait for that. Both are
    timed in the same seconds, so that other work on the machine is in both.
    """
    token = (await asyncio.to_thread(flooded.join))["token"]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as client:
        crowd = Crowd(client, flooded, token)
        await crowd.reads()  # to warm up
        async with crowd.flood():
            reads = await crowd.reads()
    read_s, login_s = statistics.median(reads), statistics.median(crowd.checked)
    said = f"{dict(crowd.statuses)}; median of a read {read_s:.3f} s, of a login that is checked {login_s:.3f} s"
    print(said)  # noqa: T201 - the measurement
    assert set(crowd.statuses) <= {401, *REFUSED}, said
    assert crowd.statuses[401] >= 20, said
    assert crowd.statuses[503], said
    assert read_s * AT_LEAST < login_s, said
