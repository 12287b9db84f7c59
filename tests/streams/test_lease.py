"""One process leads; one that stood still finds out before it writes or sends anything."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from callboard.streams import lease as module
from callboard.streams.lease import Lease, LeaseLostError
from callboard.streams.reconciler import QUERIES

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
