"""Limits, pauses, priorities, cancellation and hints: what is promised of all processes together."""

import asyncio

import pytest
from kit.jobs import Note, Process, effect, effects, kind, outcomes

from callboard.actors.errors import Problem
from callboard.actors.infrastructure import hints, job_claims, job_worker
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.errors import JOBS_NOT_DEAD, JOBS_NOT_FOUND, JOBS_NOT_WAITING
from callboard.actors.infrastructure.hints import Hints
from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.actors.infrastructure.job_kinds import Backoff, Done, Job, Later, Outcome, Permanent, Priority, Retry
from callboard.actors.infrastructure.job_monitor import JobDepths, JobMonitor
from callboard.actors.infrastructure.job_views import DeadFilter
from callboard.actors.infrastructure.schedules import Schedule, Scheduler
from callboard.runtime import Props, System, supervisor, worker


def admin(process: Process) -> JobAdmin:
    return JobAdmin(process.database, process.queue)


async def until(process: Process, query: str, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await process.value(query):  # noqa: ASYNC110 - what is awaited is in PostgreSQL
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("by_operator", [False, True])
async def test_no_more_run_than_the_limit_allows_in_all_processes_together(
    database: Database, by_operator: bool
) -> None:
    running = most = 0

    async def handle(job: Job[Note]) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(0.005)
        finally:
            running -= 1
        return await effect(job)

    declared = kind(slots=10, max_running=0 if by_operator else 3)
    processes = [Process(database, (declared, handle), name=f"p{n}") for n in range(3)]
    if by_operator:
        await admin(processes[0]).set_limit("note", 3)
    async with database.transaction() as connection:
        await processes[0].queue.enqueue_many(connection, [Note(str(n)) for n in range(60)])
    async with processes[0].working(), processes[1].working(), processes[2].working():
        await processes[0].settled()
    assert most <= 3
    assert len(await effects(processes[0])) == 60


async def test_a_paused_kind_starts_nothing_in_any_process_and_what_runs_ends(database: Database) -> None:
    started: list[str] = []
    go_on = asyncio.Event()

    async def handle(job: Job[Note]) -> Outcome:
        started.append(job.payload.text)
        await go_on.wait()
        return await effect(job)

    one, two = (Process(database, (kind(slots=1), handle)) for _ in range(2))
    async with one.working(), two.working():
        await one.put("a", "b")
        await until(one, "select count(*) = 2 from jobs where state = 'running'")
        await admin(one).set_paused("note", paused=True)
        await one.put("c", "d")
        go_on.set()
        await until(one, "select count(*) = 2 from jobs")
        for process in (one, two):
            process.queue.ring()
        await asyncio.sleep(0.1)
        assert sorted(started) == ["a", "b"]
        await admin(one).set_paused("note", paused=False)
        two.queue.ring()
        await one.settled()
    assert sorted(started) == ["a", "b", "c", "d"]


async def test_bulk_never_starves_though_urgent_jobs_never_end(database: Database) -> None:
    order: list[str] = []

    async def handle(job: Job[Note]) -> Outcome:
        order.append(job.payload.text)
        async with database.transaction() as connection:
            if len(order) < 100:
                await process.queue.enqueue(connection, Note("urgent"), priority=Priority.SECURITY)
        return Done()

    process = Process(database, (kind(slots=1), handle))
    await process.put("bulk", priority=Priority.BULK)
    await process.put("urgent", priority=Priority.SECURITY)
    async with process.working():
        await process.settled()
    assert order.index("bulk") <= 2 * job_claims.FAIR_EVERY


async def test_the_floor_hides_no_due_job_for_longer_than_a_second(database: Database) -> None:
    seen: list[str] = []
    enough = asyncio.Event()

    async def handle(job: Job[Note]) -> Outcome:
        seen.append(job.payload.text)
        if job.payload.text == "late":
            enough.set()
        await asyncio.sleep(0.002)
        return Done()

    process = Process(database, (kind(slots=2, keep_s=0.0), handle))
    async with database.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await process.queue.enqueue(slow, Note("late"))
        async with database.transaction() as connection:
            await process.queue.enqueue_many(connection, [Note("flow")] * 20_000)  # there is always more to claim
        async with process.working():
            async with asyncio.timeout(20):
                while len(seen) < 20:  # noqa: ASYNC110 - the claims have gone beyond the one that is not committed
                    await asyncio.sleep(0.002)
            await transaction.commit()
            async with asyncio.timeout(10 * job_claims.FULL_INTERVAL_S):
                await enough.wait()
            assert await process.value("select count(*) from jobs") > 1_000
            await process.execute("delete from jobs")


async def test_cancelling_answers_what_it_has_done_and_never_undoes_an_end(database: Database) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(job: Job[Note]) -> Outcome:
        begun.set()
        if job.payload.text == "quick":
            return Done()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Done()

    process = Process(database, (kind(lease_s=0.3), handle))
    (waiting,) = await process.put("waiting", delay_s=3600.0)
    assert await admin(process).cancel(waiting or 0) == "cancelled"
    async with process.working():
        (running,) = await process.put("running")
        await asyncio.wait_for(begun.wait(), 10)
        await until(process, "select count(*) = 1 from jobs where state = 'running'")
        assert await admin(process).cancel(running or 0) == "requested"
        await asyncio.wait_for(cancelled.wait(), 10)
        await process.settled()
        (quick,) = await process.put("quick")
        await process.settled()
    with pytest.raises(Problem) as caught:
        await admin(process).cancel(quick or 0)
    assert caught.value.code is JOBS_NOT_FOUND
    rows = await process.rows("select outcome from finished_jobs order by job_id")
    assert [row["outcome"] for row in rows] == ["cancelled", "cancelled", "done"]


async def test_a_completion_that_comes_before_the_cancellation_is_seen_wins_and_a_retry_after_it_does_not(
    database: Database,
) -> None:
    go_on = asyncio.Event()

    async def handle(job: Job[Note]) -> Outcome:
        await go_on.wait()
        return Done() if job.payload.text == "done" else Retry("again")

    process = Process(database, (kind(), handle), sweeps=False)  # a lease of 30 s: no renewal comes in between
    async with process.working():
        ids = await process.put("done", "retry")
        await until(process, "select count(*) = 2 from jobs where state = 'running'")
        for job_id in ids:
            assert await admin(process).cancel(job_id or 0) == "requested"
        go_on.set()
        await process.settled()
    assert await outcomes(process) == {"done": 1, "cancelled": 1}


async def test_without_notices_the_same_jobs_are_done_and_with_them_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueuer, runner = Process(database, (kind(), effect)), Process(database, (kind(), effect))
    async with runner.working():
        await enqueuer.put("polled")
        await runner.settled()
    monkeypatch.setattr(job_worker, "POLL_S", 3600.0)
    monkeypatch.setattr(job_worker, "BUSY_POLL_S", 3600.0)
    told, hears = Process(database, (kind(), effect)), Process(database, (kind(), effect))
    hints = [
        worker(name, Props(Hints, database, process.queue, listens=listens))
        for name, process, listens in (("tells", told, False), ("hears", hears, True))
    ]
    async with System(supervisor("hints", *hints)), hears.working():
        async with asyncio.timeout(10):
            while not hears.queue.hinted:  # noqa: ASYNC110 - the listener's own notice has come then
                await asyncio.sleep(0.005)
        await told.put("told")
        await hears.settled(5.0)
    assert await effects(hears) == {"polled": 1, "told": 1}


async def test_a_listener_that_cannot_connect_is_logged_once_and_tries_on(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []
    listen = Hints._listen

    async def counted(self: Hints) -> bool:
        tries.append(0.0)
        if len(tries) == 3:
            monkeypatch.undo()
        return await listen(self)

    process = Process(database, (kind(), effect))
    monkeypatch.setattr(database.server, "direct_url", "postgresql://127.0.0.1:1/nowhere")
    monkeypatch.setattr(hints, "AGAIN_S", 0.01)
    monkeypatch.setattr(Hints, "_listen", counted)
    async with System(supervisor("hints", worker("hears", Props(Hints, database, process.queue, listens=True)))):
        async with asyncio.timeout(10):
            while not process.queue.hinted:  # noqa: ASYNC110 - the listener's own notice has come then
                await asyncio.sleep(0.005)
    assert len(tries) == 3
    assert [each.message for each in caplog.records if "notifications of jobs" in each.message] == [
        "notifications of jobs cannot be received: ConnectionRefusedError"
    ]


async def test_a_dead_letter_is_replayed_once_as_a_new_job_and_a_discarded_one_is_not(database: Database) -> None:
    broken = True

    async def handle(job: Job[Note]) -> Outcome:
        return Permanent("broken 17") if broken else await effect(job)

    process = Process(database, (kind(secret=frozenset({"text"})), handle))
    async with process.working():
        (first, second) = await process.put("one", "two", deadline_s=3600.0)
        await process.settled()
        dead = await admin(process).dead(DeadFilter(kind="note"))
        assert {each.job_id for each in dead} == {first, second}
        assert {each.reason for each in dead} == {"broken #"}
        assert all(each.payload == {"text": "***"} for each in dead)
        broken = False
        await admin(process).discard(second or 0)
        replays = await asyncio.gather(*(admin(process).replay(first or 0) for _ in range(4)), return_exceptions=True)
        assert sum(isinstance(each, int) for each in replays) == 1
        assert all(isinstance(each, int) or each.code is JOBS_NOT_DEAD for each in replays)  # type: ignore[union-attr]
        await process.settled()
        assert await admin(process).replay_all(DeadFilter(kind="note"), per_second=100.0, most=10) == 0
    assert await effects(process) == {"one": 1}
    actions = [row["action"] for row in await process.rows("select action from audit_log order by audit_id")]
    assert sorted(actions) == ["job.discarded", "job.replayed"]


async def test_waiting_jobs_are_started_now_and_moved_in_priority_and_listed_by_key(database: Database) -> None:
    process = Process(database, (kind(slots=1, backoff=Backoff(3600.0, 3600.0)), effect))
    ids = await process.put("a", "b", "c", delay_s=3600.0)
    page = await admin(process).jobs(kind="note", state="waiting", after=0, limit=2)
    rest = await admin(process).jobs(kind=None, state=None, after=page[-1].job_id, limit=2)
    assert [each.job_id for each in [*page, *rest]] == ids
    await admin(process).set_priority(ids[2] or 0, Priority.SECURITY)
    assert (await admin(process).job(ids[2] or 0)).priority == "security"
    async with process.working():
        await admin(process).retry_now(ids[0] or 0)
        await until(process, "select count(*) = 2 from jobs")
    with pytest.raises(Problem) as caught:
        await admin(process).retry_now(ids[0] or 0)
    assert caught.value.code is JOBS_NOT_FOUND
    await process.execute("update jobs set state = 'blocked', order_key = 'k' where payload->>'text' = 'b'")
    with pytest.raises(Problem) as caught:
        await admin(process).retry_now(ids[1] or 0)
    assert caught.value.code is JOBS_NOT_WAITING


async def test_after_an_outage_each_process_opens_its_slots_by_doubling(
    database: Database,
) -> None:
    here, ended, most = False, 0, 0
    running = 0

    async def handle(_job: Job[Note]) -> Outcome:
        nonlocal ended, running, most
        if not here:
            return Later(0.0, "the server is away", away=True)
        running += 1
        assert running <= 2**ended
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        ended += 1
        return Done()

    process = Process(database, (kind(slots=8), handle))
    async with database.transaction() as connection:
        await process.queue.enqueue_many(connection, [Note(str(n)) for n in range(60)])
    async with process.working():
        await until(process, "select sum(postponed) >= 8 from jobs")
        here = True
        await process.settled(60.0)
    assert most == 8
    assert await outcomes(process) == {"done": 60}


@pytest.mark.usefixtures("database")
async def test_while_nobody_calls_the_queue_its_schedules_and_its_sweep_send_less_than_a_statement_a_second(
    url: str,
) -> None:
    sent: list[str] = []
    watched = Database(url, size=5)
    watched.server.observe_query = lambda query: sent.append(query.query)
    await watched.connect()
    process = Process(watched, (kind(), effect))
    hints = worker("hints", Props(Hints, watched, process.queue, listens=True))
    schedules = [Schedule("nightly", Note(), "0 1 1 1 *")]
    scheduler = worker("schedules", Props(Scheduler, watched, process.queue, schedules))
    monitor = worker("monitor", Props(JobMonitor, watched, [kind()], JobDepths()))
    loop = asyncio.get_running_loop()
    async with process.working(), System(supervisor("others", hints, scheduler, monitor)):
        async with asyncio.timeout(20):
            quiet_since = loop.time()
            while not process.queue.hinted or loop.time() - quiet_since < 0.3:  # what each does when it begins
                seen = len(sent)
                await asyncio.sleep(0.01)
                quiet_since = quiet_since if seen == len(sent) else loop.time()
        sent.clear()
        began = loop.time()
        await asyncio.sleep(3.0)
        assert len(sent) <= loop.time() - began, sent
        await process.put("at once")  # and yet nobody waits for a poll
        await process.settled(4.0)
    watched.disconnect()


@pytest.mark.usefixtures("database")
async def test_an_effect_and_the_end_of_its_job_take_three_round_trips(url: str) -> None:
    sent: list[str] = []
    watched = Database(url, size=5)
    watched.server.observe_query = lambda query: sent.append(query.query)
    await watched.connect()

    async def handle(job: Job[Note]) -> Outcome:
        sent.clear()
        await effect(job)
        seen.set_result(list(sent))
        return None

    seen: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    process = Process(watched, (kind(keep_s=0.0), handle))
    async with process.working():
        await process.put("one")
        claims = {job_claims.QUERIES.look.sql, job_claims.QUERIES.claim.sql}  # of the loop beside it
        words = [each.split()[0].lower() for each in await asyncio.wait_for(seen, 60) if each not in claims]
        await process.settled()
    assert words == ["begin;", "insert", "commit;"]
    assert await effects(process) == {"one": 1}
    watched.disconnect()
