"""`make bench-jobs`: the queues of Callboard, procrastinate and pgqueuer, in interleaved rounds on one PostgreSQL."""

import argparse
import asyncio
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

sys.path.insert(0, str(Path(__file__).parent))

import ours
import report
from peers import PgQueuer, Procrastinate

from callboard.ops import schema
from callboard.ops.embedded.data_directory import free_ports, open_data_directory
from callboard.ops.embedded.postgres import Postgres

PEERS: dict[str, Any] = {report.PROCRASTINATE: Procrastinate(), report.PGQUEUER: PgQueuer()}
NAMES = (report.OURS, *PEERS)
EFFECTS = "create table if not exists bench_effects (job bigint not null)"
TABLES = {
    report.OURS: "jobs, finished_jobs, dead_jobs",
    report.PROCRASTINATE: "procrastinate_jobs cascade",
    report.PGQUEUER: "pgqueuer, pgqueuer_log",
}
JOBS = {  # how many a round of each takes
    report.OURS: {"noop": 20_000, "effect": 3_000, "group": 10_000},
    report.PROCRASTINATE: {"noop": 500, "effect": 400},
    report.PGQUEUER: {"noop": 8_000, "effect": 3_000},
}
WORKED = (("noop_1", "noop", 1), ("noop_2", "noop", 2), ("effect", "effect", 1), ("group", "group", 1))
FUTURE, BULK, URGENT = 100_000, 999_000, 1_000


async def execute(url: str, *statements: str) -> None:
    """On a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement, timeout=600)
    finally:
        await connection.close()


async def database_of(server: str, name: str) -> str:
    """A database with a peer's tables."""
    await execute(server, f'create database "{name}"')
    url = server.rpartition("/")[0] + f"/{name}"
    if name == report.OURS:
        await schema.install(url)
    else:
        await PEERS[name].install(url)
    await execute(url, EFFECTS)
    return url


async def fill(name: str, url: str, count: int) -> None:
    await (ours.fill if name == report.OURS else PEERS[name].fill)(url, count)


def drained(name: str, url: str, task: str, processes: int) -> float:
    """Jobs a second, from the first start to the last, of so many processes at once."""
    command = [sys.executable, __file__, "--drain", name, task, url]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]  # noqa: S603 - ourselves
    seen = [json.loads(each.communicate(timeout=180)[0]) for each in running]
    worked = [each for each in seen if each["count"]]
    took = max(each["last"] for each in worked) - min(each["first"] for each in worked)
    return float(sum(each["count"] for each in worked) / took)


async def drain(name: str, task: str, url: str) -> None:
    """In a process of its own: work until nothing is left, and say when."""
    ledger = await (ours.drain(url, task) if name == report.OURS else PEERS[name].drain(url, task))
    print(json.dumps({"first": ledger.first, "last": ledger.last, "count": ledger.count}))  # noqa: T201 - the answer


async def one_round(urls: dict[str, str], samples: report.Samples, scale: float) -> None:
    for row, task, processes in (
        ("noop_1", "noop", 1),
        ("noop_2", "noop", 2),
        ("effect", "effect", 1),
        ("group", "group", 1),
    ):
        for name in NAMES:
            if task not in JOBS[name]:
                continue
            await execute(urls[name], f"truncate {TABLES[name]}", "truncate bench_effects")
            await fill(name, urls[name], max(50, round(JOBS[name][task] * scale)))
            rate = await asyncio.to_thread(drained, name, urls[name], task, processes)
            samples[name].setdefault(row, []).append(rate)
            say(f"{row} {name}: {rate:,.0f}/s")
    for name in NAMES:
        await execute(urls[name], f"truncate {TABLES[name]}")
        rates = await (ours if name == report.OURS else PEERS[name]).enqueue_rates(urls[name])
        for row, rate in rates.items():
            samples[name].setdefault(row, []).append(rate)
        await execute(urls[name], f"truncate {TABLES[name]}")
        waits = await (ours if name == report.OURS else PEERS[name]).latencies(urls[name])
        samples[name].setdefault("latency", []).append(statistics.median(waits))
        said = ", ".join(f"{row} {rate:,.0f}/s" for row, rate in rates.items())
        say(f"{name}: {said}, {1000 * statistics.median(waits):.2f} ms")


INSERT = {
    report.OURS: (
        "insert into jobs (kind, priority, max_attempts, payload, run_at) "
        "select 'bench', {priority}, 8, '{{\"n\": 1}}', now() + interval '{later}' "
        "from generate_series(1, {count})"
    ),
    report.PROCRASTINATE: (
        "insert into procrastinate_jobs (queue_name, task_name, priority, args, scheduled_at) "
        "select 'default', 'bench', -{priority}, '{{\"n\": 1}}', now() + interval '{later}' "
        "from generate_series(1, {count})"
    ),
    report.PGQUEUER: (
        "insert into pgqueuer (priority, status, entrypoint, payload, execute_after) "
        "select -{priority}, 'queued', 'bench', null, now() + interval '{later}' from generate_series(1, {count})"
    ),
}


async def populate(name: str, url: str, priority: int, count: int, later: str = "-1 second") -> None:
    await execute(url, INSERT[name].format(priority=priority, count=count, later=later))


async def claimed(name: str, url: str) -> float:
    """Seconds that one job of a claim of 100 takes: the median of some claims, each of them rolled back."""
    if name == report.OURS:
        return statistics.median(await ours.claim_times(url))
    return float(statistics.median(await PEERS[name].claim_times(url)))


async def deep(urls: dict[str, str], samples: report.Samples, rounds: int, scale: float) -> None:
    """Claims from tables that are large; filled once, claimed from in rounds."""
    bulk, urgent, future = (round(each * scale) for each in (BULK, URGENT, FUTURE))
    own = samples[report.OURS]
    for name in NAMES:
        await execute(urls[name], f"truncate {TABLES[name]}")
        await populate(name, urls[name], 2, round(19_000 * scale))
        await populate(name, urls[name], 0, urgent)
        await execute(urls[name], "vacuum analyze")
    small = [await claimed(report.OURS, urls[report.OURS]) for _ in range(rounds)]
    for name in NAMES:
        await populate(name, urls[name], 2, bulk)
        await execute(urls[name], "vacuum analyze")
    for _ in range(rounds):
        for name in NAMES:
            samples[name].setdefault("claim_urgent", []).append(await claimed(name, urls[name]))
    own["urgent_depth"] = [a / b for a, b in zip(own["claim_urgent"], small, strict=True)]
    for name in NAMES:
        await execute(urls[name], f"truncate {TABLES[name]}")
        await populate(name, urls[name], 1, round(1_000 * max(scale, 0.2)))
        await execute(urls[name], "vacuum analyze")
    without = [await claimed(report.OURS, urls[report.OURS]) for _ in range(rounds)]
    for name in NAMES:
        await populate(name, urls[name], 0, future, "1 day")
        await execute(urls[name], "vacuum analyze")
    for _ in range(rounds):
        for name in NAMES:
            samples[name].setdefault("claim_future", []).append(await claimed(name, urls[name]))
    own["future_depth"] = [a / b for a, b in zip(own["claim_future"], without, strict=True)]


async def to_itself(url: str, samples: report.Samples, scale: float) -> None:
    own = samples[report.OURS]
    rates = []
    for count in (10_000, 100_000):
        await execute(url, "truncate jobs")
        await ours.fill(url, round(count * scale))
        rates.append(await asyncio.to_thread(drained, report.OURS, url, "noop", 1))
    own.setdefault("backlog", []).append(rates[1] / rates[0])
    first, last = await ours.claims_under_a_snapshot(url, round(100_000 * scale))
    own.setdefault("snapshot", []).append(last / first)
    one, many = await ours.wake(url, 1), await ours.wake(url, 24)
    own.setdefault("wakers", []).append(many / one)
    say(f"to itself: backlog {rates[1] / rates[0]:.2f}, snapshot {last / first:.2f}, wakers {many / one:.2f}")


def say(line: str) -> None:
    """Progress, for whoever waits."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command prints


async def measure(rounds: int, scale: float) -> report.Samples:
    """All rows, in interleaved rounds."""
    samples: report.Samples = {name: {} for name in NAMES}
    with (
        tempfile.TemporaryDirectory(prefix="bench-jobs-") as folder,
        open_data_directory(Path(folder) / "data") as place,
    ):
        server = Postgres(place, free_ports(1)[0])
        await server.start()
        try:
            urls = {name: await database_of(server.url, name) for name in NAMES}
            for n in range(rounds):
                say(f"round {n + 1}")
                await one_round(urls, samples, scale)
                await to_itself(urls[report.OURS], samples, scale)
            await deep(urls, samples, rounds, scale)
        finally:
            await server.stop()
            place.reset()
    return samples


def main() -> None:
    """Measure, and write the page and the picture."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--scale", type=float, default=1.0, help="of the numbers of jobs")
    options.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    options.add_argument("--drain", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if chosen.drain:
            runner.run(drain(*chosen.drain))
            return
        load, began = os.getloadavg()[0], time.time()
        samples = runner.run(measure(chosen.rounds, chosen.scale))
    versions = ", ".join(f"{name} {version(name)}" for name in ("asyncpg", report.PROCRASTINATE, report.PGQUEUER))
    facts = report.Facts(dt.datetime.now(dt.UTC).date().isoformat(), chosen.rounds, load, versions, chosen.scale)
    chosen.out.mkdir(exist_ok=True)
    (chosen.out / "results.md").write_text(report.table(samples, facts))
    (chosen.out / "results.svg").write_text(report.picture(samples, facts))
    say(f"{time.time() - began:.0f} s; see {chosen.out}/results.md")


if __name__ == "__main__":
    main()
