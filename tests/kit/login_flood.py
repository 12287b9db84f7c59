"""A flood of logins, and people who are logged in already and read all the while."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from kit.running import CallboardProcess

LOGINS = 200  # a second, some three times what two cores can check
READS = 100  # a second, of those who are logged in already
REFUSED = (429, 503)
# Its usual limits for logins, and a proxy of ours before it: everybody has an address of their own.
ENVIRONMENT = {"TRUSTED_PROXIES": "127.0.0.0/8", "RATE_LIMIT_LOGIN": "10"}


async def paced(a_second: float, seconds: float) -> AsyncIterator[int]:
    """Numbers at an even pace, whether or not what came of the last ones is done."""
    began = time.monotonic()
    for number in range(int(a_second * seconds)):
        await asyncio.sleep(began + number / a_second - time.monotonic())
        yield number


class Crowd:
    """Those who log in, and those who read."""

    def __init__(self, client: aiohttp.ClientSession, site: CallboardProcess, token: str, phase_s: float) -> None:
        self.client = client
        self.phase_s = phase_s
        self.api = site.api
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
            tasks = [group.create_task(self.read()) async for _ in paced(READS, self.phase_s)]
        return [task.result() for task in tasks]

    @asynccontextmanager
    async def flood(self) -> AsyncIterator[None]:
        """Logins all the while."""

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                async for _ in paced(LOGINS, self.phase_s + 1):
                    group.create_task(self.log_in())

        flooding = asyncio.ensure_future(run())
        await asyncio.sleep(0.5)  # for the queues to fill
        yield
        await flooding
