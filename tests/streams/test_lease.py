"""One process leads; one that stood still finds out before it writes or sends anything."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from callboard.runtime.testkit import VirtualTimeLoop
from callboard.streams import lease as module
from callboard.streams.lease import Lease, LeaseLostError
from callboard.streams.reconciler import QUERIES
from callboard.streams.relay import Relay
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics

TAKEN_OVER_S = 4.9  # five are promised: the rest is for the new producer
SIGNER = EventSigner(["a secret"])
EXPIRE = "update leases set expires_at = now() - interval '1 second'"


@pytest.fixture
async def connections(database: Any) -> AsyncIterator[list[Any]]:
    made = [await asyncpg.connect(database.direct_url) for _ in range(2)]
    await made[0].execute("delete from leases")
    yield made
    for each in made:
        each.terminate()


async def test_one_of_two_holds_the_lease_and_the_other_takes_it_when_it_is_not_renewed(connections: Any) -> None:
    first, second = Lease("relay"), Lease("relay")
    assert await first.take(connections[0])
    assert not await second.take(connections[1])
    await connections[1].execute(EXPIRE)
    assert await second.take(connections[1])
    assert second.fence > first.fence


async def test_a_lease_whose_connection_has_ended_is_free_at_once(connections: Any) -> None:
    first, second = Lease("relay"), Lease("relay")
    assert await first.take(connections[0])
    await connections[0].close()
    async with asyncio.timeout(10):
        while not await second.take(connections[1]):  # noqa: ASYNC110 - the server needs a moment to see that it has gone
            await asyncio.sleep(0.01)


async def test_a_lease_that_is_let_go_is_free_at_once(connections: Any) -> None:
    first, second = Lease("relay"), Lease("relay")
    assert await first.take(connections[0])
    await first.release(connections[0])
    assert await second.take(connections[1])
    with pytest.raises(LeaseLostError):
        first.check()


async def test_who_lost_the_lease_marks_and_refuses_nothing(connections: Any) -> None:
    first, second = Lease("relay"), Lease("relay")
    assert await first.take(connections[0])
    await connections[1].execute(
        "insert into outbox (event_id, topic, key, type, value) values (gen_random_uuid(), 't', 'k', 'x', '')"
    )
    ids = [await connections[1].fetchval("select max(outbox_id) from outbox")]
    await connections[1].execute(EXPIRE)
    assert await second.take(connections[1])
    assert await QUERIES.mark(connections[0], outbox_ids=ids, fence=first.fence) == 0
    assert await QUERIES.refuse(connections[0], outbox_ids=ids, errors=["no"], fence=first.fence) == 0
    state = "select count(*) from outbox where published_at is null and retry_at is null"
    assert await connections[1].fetchval(state) == 1
    assert await QUERIES.mark(connections[1], outbox_ids=ids, fence=second.fence) == 1
    assert await connections[1].fetchval(state) == 0


async def test_who_was_stopped_finds_out_before_anything_is_sent(
    connections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease("relay")
    monkeypatch.setattr(module, "LEASE_TTL_S", 0.0)  # a stop of three seconds, as it were
    assert await lease.take(connections[0])
    with pytest.raises(LeaseLostError, match="not renewed in time"):
        lease.check()


async def test_a_keeper_that_was_overtaken_ends(connections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_S", 0.01)
    first, second = Lease("relay"), Lease("relay")
    assert await first.take(connections[0])
    keeping = asyncio.create_task(first.keep(connections[0]))
    await connections[1].execute(EXPIRE)
    while not await second.take(connections[1]):
        await connections[1].execute(EXPIRE)
    with pytest.raises(LeaseLostError, match="another process"):
        await asyncio.wait_for(keeping, 10)


class Row:
    """The row of a lease, in a server that takes its time for each statement."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.fence, self.expires_at = 0, 0.0

    async def fetchval(self, sql: str, *arguments: Any) -> int | None:
        """Take or renew the lease, as lease.sql does."""
        await asyncio.sleep(self.rng.uniform(0.0, 0.2))
        now = asyncio.get_running_loop().time()
        if "insert into leases" in sql:
            if self.expires_at > now:
                return None
            self.fence += 1
        elif self.fence not in arguments:
            return None
        self.expires_at = now + module.LEASE_TTL_S
        return self.fence

    async def fetchrow(self, *_: Any) -> dict[str, float]:
        """The state of the outbox."""
        await asyncio.sleep(self.rng.uniform(0.0, 0.2))
        return {"waiting": 0, "oldest_s": 0.0}

    async def execute(self, *_: Any) -> None:
        """Release."""

    async def add_listener(self, *_: Any) -> None:
        """Hear nothing."""


class Server:
    """A database with this row alone; also a broker that never answers."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.available = asyncio.Event()
        self.available.set()
        self.prefix = "p"

    @asynccontextmanager
    async def session(self, *_: Any, **__: Any) -> AsyncIterator[Row]:
        yield self.row

    async def wait(self, *_: Any) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("seed", range(20))
def test_another_relay_leads_within_five_seconds_whenever_the_leader_freezes(seed: int) -> None:
    async def play() -> float:
        rng = random.Random(seed)  # noqa: S311 - a play
        server: Any = Server(Row(rng))
        lease, metrics = Lease("relay"), StreamMetrics()
        assert await lease.take(server.row)
        leading = asyncio.create_task(lease.keep(server.row))
        standby = Relay(server, server, [], SIGNER, metrics=metrics)
        standing_by = asyncio.create_task(standby.run())
        await asyncio.sleep(rng.uniform(5.0, 15.0))
        assert not metrics.relay_leads
        leading.cancel()  # a frozen process sends nothing more, and lets go of nothing
        frozen_at = asyncio.get_running_loop().time()
        while not metrics.relay_leads:  # noqa: ASYNC110 - a gauge tells nobody
            await asyncio.sleep(0.01)
        with pytest.raises(LeaseLostError):
            lease.check()
        standing_by.cancel()
        return asyncio.get_running_loop().time() - frozen_at

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(play()) < TAKEN_OVER_S
