"""Two processes, one of which publishes: when that is frozen the other does, and it marks nothing once it is thawed."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kit.stream_process import StreamProcess

PENDING = "select count(*) from outbox where published_at is null"
SPY = """
create table marks (backend integer);
create function note_mark() returns trigger language plpgsql as
$$ begin insert into marks (backend) values (pg_backend_pid()); return null; end $$;
create trigger note_mark after update on outbox for each row execute function note_mark();
"""
NO_SPY = "drop trigger if exists note_mark on outbox; drop function if exists note_mark; drop table if exists marks"


class Pair:
    """Two processes, and a table of the sessions that mark rows."""

    def __init__(self, stage: Any, folder: Path) -> None:
        self.stage = stage
        self.processes = [
            StreamProcess(stage.database.direct_url, stage.broker, folder, folder / f"{name}.log") for name in "ab"
        ]

    async def publish(self) -> set[int]:
        """Return the sessions that mark rows while some more events are published."""
        await self.stage.execute("truncate marks")
        await self.stage.emit(*(self.stage.view(f"s{number}") for number in range(5)))
        await self.stage.until(0, PENDING)
        async with self.stage.database.acquire() as connection:
            return {row["backend"] for row in await connection.fetch("select distinct backend from marks")}

    async def leader(self) -> tuple[StreamProcess, int]:
        """Return the process that publishes, and its fence."""
        query = "select fence, holder from leases where name = 'relay' and expires_at > now()"
        async with self.stage.database.acquire() as connection:
            lease = await connection.fetchrow(query)
        pid = int(re.sub(r".*:", "", lease["holder"]))
        return next(each for each in self.processes if each.process.pid == pid), lease["fence"]


@pytest.fixture
async def pair(stage: Any, tmp_path: Path) -> AsyncIterator[Pair]:
    await stage.execute("delete from leases")
    await stage.execute(SPY)
    await stage.broker.wait("the test")
    made = Pair(stage, tmp_path)
    try:
        await asyncio.gather(*(asyncio.to_thread(each.wait_reading) for each in made.processes))
        yield made
    finally:
        for each in made.processes:
            each.kill()
        await stage.execute(NO_SPY)


async def test_another_process_publishes_while_the_leader_is_frozen_which_marks_nothing_once_it_is_thawed(
    pair: Pair,
) -> None:
    old_sessions = await pair.publish()
    frozen, fence = await pair.leader()
    frozen.signal(signal.SIGSTOP)
    try:
        new_sessions = await pair.publish()
        now_leads, new_fence = await pair.leader()
        assert now_leads is not frozen
        assert new_fence > fence
        assert not new_sessions & old_sessions
    finally:
        frozen.signal(signal.SIGCONT)
    async with asyncio.timeout(60):
        while "the relay lost its lease" not in frozen.log.read_text():  # noqa: ASYNC110 - it tells people
            await asyncio.sleep(0.02)
    assert await pair.publish() == new_sessions
    assert await pair.leader() == (now_leads, new_fence)
