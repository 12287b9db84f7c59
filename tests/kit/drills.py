"""Drills: a fault befalls a running system while people write, and an oracle says whether a promise was kept.

The oracle compares what the clients were told with the data and the mails afterwards. Each drill prints its figures and
its seed; DRILL_SEED plays one again.
"""

import asyncio
import contextlib
import email.policy
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg

from kit.oracle import Client, Oracle, Seen, check_articles, check_mails, drain_events, owners, settle
from kit.running import CallboardProcess, Up, one_up
from kit.server_states import signal_server

WRITERS = 20
STEADY_S = 2.0  # of load before and after the fault
CLIENT_S = 0.3  # a client shares the processors with the servers, so it sees an answer this much later
SEED = int(os.environ.get("DRILL_SEED") or random.SystemRandom().randrange(1 << 32))
DEAD = "select (select count(*) from dead_letters) + (select count(*) from dead_jobs)"
OVERTAKEN = """
    select count(*) from (
        select consumed_at, lag(consumed_at) over (partition by consumer, key order by outbox_id) as earlier
        from consumed_events as c join outbox as o on c.source = 'callboard' and c.event_id = o.event_id::text
    ) as events
    where consumed_at < earlier
"""
SETTINGS = {
    "REQUEST_TIMEOUT_MS": "1800",
    "RATE_LIMIT_LOGIN": "10",
    "QUOTA_DRAFTS_PER_HOUR": "999999",  # all plays on one stage have one author
    "QUOTA_CONTENT_ROWS": "999999",
    "QUOTA_TRANSITIONS_PER_HOUR": "999999",
}
HEADERS = BytesHeaderParser(policy=email.policy.default)


class Stage(NamedTuple):
    """A running system, and the tokens of two of its people: logins are limited, so they log in once."""

    up: Up
    editor: str
    author: str


@contextmanager
def staged(environment: Mapping[str, str] | None = None) -> Iterator[Stage]:
    """A system that is up, with its people."""
    with one_up(SETTINGS | dict(environment or {})) as up:
        _, editor, author = up.people()
        yield Stage(up, editor, author)


class Beside(Up):
    """Another process beside a running `up`, on a database of its own, as a stage."""

    def __init__(self, up: Up, site: CallboardProcess, url: str) -> None:
        self.process, self.environment = site.process, site.environment
        self.api, self.operators = site.api, site.operators
        self.data = up.data
        self._people: tuple[str, ...] = ()
        self._facts = up.facts | {"DATABASE_URL": url}

    @property
    def facts(self) -> dict[str, str]:
        """Those of the servers."""
        return self._facts

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those of its people, once they are made."""
        return self._people


class Drill:
    """People who write, what they were told, the mails that came, and how /health answered meanwhile."""

    def __init__(self, up: Up, client: Client) -> None:
        self.up = up
        self.client = client
        self.oracle = client.oracle
        self.health: list[float] = []
        self.began_at = datetime.now(UTC)
        self.random = random.Random(SEED)  # noqa: S311 - moments of faults
        self._mails: dict[str, dict[str, str]] = {}

    async def watch_health(self) -> None:
        """Ask /health twenty times a second."""
        url = self.up.api.removesuffix("/api/v1") + "/health"
        while True:
            asked_at = time.monotonic()
            async with self.client.session.get(url) as response:
                assert response.status == 200
            self.health.append(time.monotonic() - asked_at)
            await asyncio.sleep(0.05)

    async def watch_mails(self) -> None:
        """Look at the caught mails all the while: the catcher keeps the newest thousand."""
        while True:
            await asyncio.to_thread(self.look_at_mails)
            await asyncio.sleep(0.5)

    def look_at_mails(self) -> None:
        """Note the mails that have come since the last look."""
        for path in (self.up.data / "mail").glob("*.eml"):
            if path.name not in self._mails:
                with contextlib.suppress(FileNotFoundError):
                    self._mails[path.name] = _heads(path)

    def between(self, since: float, to: float = float("inf")) -> list[Seen]:
        """The answers to what was asked for in this time."""
        return [each for each in self.client.seen if since <= each.at < to]

    async def first_success(self, since: float, within_s: float = 30.0) -> float:
        """The seconds from `since` to the first acknowledged write after it."""
        ends_at = time.monotonic() + within_s
        while True:
            ends = [each.at + each.took for each in self.between(since) if each.status in (200, 201)]
            if ends:
                return min(ends) - since
            assert time.monotonic() < ends_at, f"no write was acknowledged in {within_s:g} s"
            await asyncio.sleep(0.02)

    def signal(self, server: str, number: signal.Signals) -> None:
        """Signal a server and all its processes."""
        signal_server(self.up, server, number)

    def restarts(self) -> Counter[str]:
        """How often each actor has been restarted."""
        return Counter({path: node.get("restarts", 0) for path, node in self.up.nodes().items()})

    async def dead_letters(self) -> int:
        """How many records and jobs have been given up."""
        return int(await self._fetchval(DEAD))

    async def no_event_overtook_another(self) -> None:
        """Check that each consumer has processed the events of each key in their order."""
        assert await self._fetchval(OVERTAKEN) == 0

    async def _fetchval(self, query: str) -> Any:
        connection = await asyncpg.connect(self.up.facts["DATABASE_URL"])
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    def report(self, promise: str, figures: str) -> None:
        statuses = Counter(f"{each.status} {each.code}".strip() for each in self.client.seen)
        told = f"writes {dict(self.oracle.counts())}, statuses {dict(statuses)}"
        print(f"\n{promise}: {figures}; {told}; seed {SEED}")  # noqa: T201 - the measurement

    async def verify(self) -> float:
        """Compare the data with what the clients were told; the seconds until every event was handled."""
        connection = await asyncpg.connect(self.up.facts["DATABASE_URL"])
        watching = asyncio.create_task(self.watch_mails())  # those of a long fault come now
        try:
            began = time.monotonic()
            try:
                await drain_events(connection)
            except AssertionError:
                print(*[line["message"] for line in self.up.log()[-200:] if line["level"] != "INFO"], sep="\n")  # noqa: T201
                raise
            drained_s = time.monotonic() - began
            await settle(connection, self.began_at)
            self.look_at_mails()
            await check_articles(connection, self.oracle)
            check_mails(list(self._mails.values()), self.oracle, await owners(connection, self.oracle))
        finally:
            watching.cancel()
            await asyncio.wait({watching})
            await connection.close()
        assert self.oracle.counts()["ok"] > 100
        assert not [each for each in self.client.seen if each.status == 500]
        return drained_s


def _heads(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        found = HEADERS.parse(file)
    return {"to": str(found["To"]), "subject": str(found["Subject"])}


@asynccontextmanager
async def drill(stage: Stage) -> AsyncIterator[Drill]:
    """Twenty people write, from a little before the block until a little after it."""
    timeout, connector = aiohttp.ClientTimeout(30), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        play = Drill(stage.up, Client(stage.up, Oracle(), session))
        tasks = [asyncio.create_task(play.client.edit(stage.author, stage.editor)) for _ in range(WRITERS)]
        tasks += [asyncio.create_task(play.watch_health()), asyncio.create_task(play.watch_mails())]
        await asyncio.sleep(STEADY_S + play.random.uniform(0.0, 0.5))
        try:
            yield play
            await asyncio.sleep(STEADY_S)
            assert [each for each in tasks if each.done()] == []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
