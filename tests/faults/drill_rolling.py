"""A rolling restart: three processes behind haproxy with TLS are stopped and started in turn, while people read and
write. No request fails. `make test-rolling` plays it, where haproxy is installed.
"""

import asyncio
import itertools
import signal
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from kit.proxies import NAMES, Proxy, fronted, program, states
from kit.running import CallboardProcess, one_up, until
from kit.twins import ProcessGroup, twins

CLIENTS = 12
DELAY_S = 4  # haproxy needs two failed probes, a second apart


@pytest.fixture(scope="module")
def servers() -> Iterator[ProcessGroup]:
    """Three processes as behind a proxy with TLS on this machine."""
    if program("haproxy") is None:
        pytest.skip("haproxy is not installed: apt-get install haproxy")
    behind_it = {"PUBLIC_URL": "https://127.0.0.1", "TRUSTED_PROXIES": "127.0.0.1", "SHUTDOWN_DELAY_S": str(DELAY_S)}
    unlimited = {"QUOTA_DRAFTS_PER_HOUR": "999999", "QUOTA_CONTENT_ROWS": "999999"}
    with one_up() as up, twins(up, 3, **behind_it, **unlimited) as made:
        yield made


class Load:
    """People who read and write through the proxy: each result, and each error of the connection."""

    def __init__(self, proxy: Proxy, token: str) -> None:
        self.results: Counter[str] = Counter()
        self._url = f"https://127.0.0.1:{proxy.port}/api/v1"
        self._tls = ssl.create_default_context(cafile=str(proxy.authority))
        self._headers = {"Authorization": f"Bearer {token}"}
        self._numbers = itertools.count()
        self.titles: list[str] = []

    async def person(self, *, keeps: bool) -> None:
        """Read, write, read: on one kept connection, or each on a new one."""
        connector = aiohttp.TCPConnector(ssl=self._tls, force_close=not keeps)
        async with aiohttp.ClientSession(connector=connector, headers=self._headers) as session:
            while True:
                title = f"rolling {next(self._numbers)}"
                await self.call(session, "GET", "/content")
                if await self.call(session, "POST", "/content", {"title": title, "body": "x"}):
                    self.titles.append(title)
                await self.call(session, "GET", "/users/me")

    async def call(self, session: aiohttp.ClientSession, method: str, path: str, body: object = None) -> bool:
        try:
            async with session.request(method, self._url + path, json=body) as response:
                await response.read()
                self.results[f"{method} {response.status}"] += 1
                return response.status == 201
        except aiohttp.ClientError as error:
            self.results[f"{method} {type(error).__name__}: {error}"] += 1
            return False


async def test_no_request_fails_while_three_processes_are_restarted_in_turn(
    servers: ProcessGroup, tmp_path: Path
) -> None:
    sites = list(servers.sites)
    ports = [int(site.environment["HTTP_PORT"]) for site in sites]
    with fronted("haproxy", tmp_path, ports) as proxy:
        await asyncio.to_thread(until, "three that are up", lambda: set(states(proxy).values()) == {"UP"})
        load = Load(proxy, servers.admin)
        people = [asyncio.create_task(load.person(keeps=number % 3 != 0)) for number in range(CLIENTS)]
        try:
            for site, name in zip(sites, NAMES, strict=True):
                before = load.results.total()
                await asyncio.to_thread(restart, servers, site, proxy, name)
                assert load.results.total() > before + CLIENTS, "there was no load meanwhile"
        finally:
            for each in people:
                each.cancel()
            await asyncio.gather(*people, return_exceptions=True)
    rows = await asyncio.to_thread(servers.sql, "select title from content where title like 'rolling %'")
    stored = Counter(row["title"] for row in rows)
    print(f"\nrolling restart: {dict(load.results)}")  # noqa: T201
    assert {result.split()[1] for result in load.results} == {"200", "201"}
    assert set(load.titles) <= set(stored)
    assert max(stored.values()) == 1


def restart(servers: ProcessGroup, site: CallboardProcess, proxy: Proxy, name: str) -> None:
    """Stop a process as a deployment does, and start its successor on its port; wait until the proxy sends to it."""
    site.signal(signal.SIGTERM)
    assert site.wait() == 0
    assert states(proxy)[name].startswith("DOWN"), "the proxy heard nothing of the stop"
    ports = {each: site.environment[each] for each in ("HTTP_PORT", "OPS_PORT")}
    servers.sites.remove(site)
    servers.start(**ports)
    until(f"{name} that is up again", lambda: states(proxy)[name] == "UP")
