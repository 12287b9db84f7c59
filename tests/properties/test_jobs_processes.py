"""The queue with processes of their own that are killed, stopped for longer than a lease, or have a wrong clock."""

import asyncio
import signal
from pathlib import Path

import pytest
from kit.job_process import COMPILER, shim, working
from kit.jobs import Process, effect, effects, kind, outcomes

from callboard.actors.infrastructure.database import Database


async def test_what_a_killed_process_held_is_taken_up_long_before_its_lease_is_over(
    database: Database, url: str
) -> None:
    here = Process(database, (kind(), effect))
    names = [f"hold {n}" for n in range(6)]
    await here.put(*names)
    with working(url, lease_s=600.0) as first:
        for name in names:
            await asyncio.to_thread(first.says, name)
        first.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(first.process.wait)
        with working(url, lease_s=600.0) as second:
            await asyncio.to_thread(second.go_on)
            await here.settled(60.0)
    assert await effects(here) == dict.fromkeys(names, 1)
    assert {row["attempts"] for row in await here.rows("select attempts from finished_jobs")} == {2}


async def test_a_process_that_was_stopped_for_longer_than_its_lease_has_no_effect_when_it_goes_on(
    database: Database, url: str
) -> None:
    here = Process(database, (kind(), effect))
    names = [f"hold {n}" for n in range(6)]
    await here.put(*names)
    with working(url, lease_s=1.0) as frozen:
        for name in names:
            await asyncio.to_thread(frozen.says, name)
        frozen.process.send_signal(signal.SIGSTOP)
        frozen.go_on()  # the first thing that it does when it can is its effects
        with working(url, lease_s=1.0) as other:
            await asyncio.to_thread(other.go_on)
            await here.settled(60.0)
            frozen.process.send_signal(signal.SIGCONT)
            await here.put("after")
            await here.settled(60.0)
    assert await effects(here) == dict.fromkeys([*names, "after"], 1)
    assert await outcomes(here) == {"done": len(names) + 1}
    rows = await here.rows("select attempts from finished_jobs order by job_id")
    assert [row["attempts"] for row in rows][:-1] == [2] * len(names)


@pytest.mark.skipif(COMPILER is None, reason="the wrong clock is a C library")
@pytest.mark.parametrize("skew_s", [3600, -3600])
async def test_a_process_whose_clock_is_wrong_by_an_hour_starts_loses_and_expires_the_same_jobs(
    database: Database, url: str, tmp_path: Path, skew_s: int
) -> None:
    here = Process(database, (kind(), effect))
    await here.put("now", deadline_s=60.0)
    await here.put("late", deadline_s=-60.0)
    (future,) = await here.put("future", delay_s=1800.0)
    await here.put("leased")
    await here.execute(
        "update jobs set state = 'running', attempts = 1, lease_id = nextval('job_leases'), worker = 'other', "
        "lease_until = now() + interval '30 minutes' where payload->>'text' = 'leased'"
    )
    library = await asyncio.to_thread(shim, tmp_path)
    with working(url, lease_s=1.0, environment={"LD_PRELOAD": str(library), "SKEW_S": str(skew_s)}) as wrong:
        assert abs(wrong.ahead_s - skew_s) < 600
        await asyncio.to_thread(wrong.says, "now")
        await here.put("soon", delay_s=0.2)
        await asyncio.to_thread(wrong.says, "soon")
        async with asyncio.timeout(30):
            while await here.value("select count(*) from jobs") > 2:  # noqa: ASYNC110 - it is in PostgreSQL
                await asyncio.sleep(0.01)
    assert await effects(here) == {"now": 1, "soon": 1}
    assert await outcomes(here) == {"done": 2, "expired": 1}
    rows = await here.rows("select job_id, state, attempts, lost from jobs order by job_id")
    assert [(row["state"], row["attempts"], row["lost"]) for row in rows] == [("waiting", 0, 0), ("running", 1, 0)]
    assert rows[0]["job_id"] == future
