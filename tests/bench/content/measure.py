"""`make bench-content`: lists and searches over HTTP, with 200,000 articles and 1,000,000 comments, and their plans.

It ends with status 1 if a goal is missed or a plan reads a large table from end to end.
"""

import argparse
import asyncio
import datetime as dt
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import aiohttp
import asyncpg
import calls
import data
import plans
import report
from kit.people import UserFactory
from kit.running import Up

ENVIRONMENT = {"RATE_LIMIT_SEARCH": "99999", "RATE_LIMIT_PER_MINUTE": "999999"}
CLIENTS = 2
FLAG = """
    insert into feature_flags (name, is_on) values ('enable_advanced_search', true)
    on conflict (name) do update set is_on = true
"""
PUBLICATIONS = 20
WARMING = 10  # calls
SQL_CALLS = 20
FILLED = "filled"  # the name of the file that says so
READY_S = 60.0


def tell(text: str) -> None:
    """Print it at once."""
    print(text, flush=True)  # noqa: T201 - what it is for


async def prepare(up: Up, folder: Path, sizes: data.Sizes) -> None:
    """Fill the database, unless an earlier run has."""
    if not (folder / FILLED).exists():
        began = time.monotonic()
        await data.fill(up.facts["DATABASE_URL"], sizes)
        tell(f"filled in {time.monotonic() - began:.0f} s")
        (folder / FILLED).touch()
    connection = await asyncpg.connect(up.facts["DATABASE_URL"])
    await connection.execute(FLAG)
    await connection.close()


async def walk(client: calls.Client, path: str) -> list[float]:
    """Return the times of the pages of a list, from the first to the thousandth or the last."""
    times: list[float] = []
    cursor = ""
    while len(times) < calls.DEEP:
        elapsed, body = await client.get(f"{path}?limit={calls.LIMIT}{cursor}")
        times.append(elapsed)
        following = json.loads(body)["page"]["next_cursor"]
        if following is None:
            break
        cursor = f"&cursor={following}"
    return times


async def walks(client: calls.Client) -> tuple[dict[str, report.Timing], dict[str, str]]:
    """Return the timings of the first and the last pages of lists, and which belong together."""
    timings, pairs = {}, {}
    lists = {"list of articles": "/content"}
    if "/content/{content_id}/comments" in (await client.get("/../../openapi.json"))[1].decode():
        lists["comments of an article"] = f"/content/{data.article_id(0)}/comments"
    for name, path in lists.items():
        times = await walk(client, path)
        part = min(100, len(times) // 4)
        first, last = f"{name}, pages 1 to {part}", f"{name}, pages {len(times) - part + 1} to {len(times)}"
        timings |= {first: report.Timing.of(times[:part]), last: report.Timing.of(times[-part:])}
        pairs[first] = last
    return timings, pairs


async def publications(client: calls.Client, up: Up) -> report.Timing:
    """Return the times from when scheduled publications are due until each is the newest of the list."""
    people = await asyncio.to_thread(UserFactory, up.facts)
    author, editor = [await asyncio.to_thread(people.person, role) for role in ("member", "editor")]
    late: list[float] = []
    for _ in range(PUBLICATIONS):
        content_id = str(await asyncio.to_thread(people.draft, author))
        approve = ("update content set status = 'approved' where content_id = $1", UUID(content_id))
        await asyncio.to_thread(people.execute, approve)
        at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.5)
        body = {"action": "publish", "publish_at": at.isoformat()}
        await client.post(f"/content/{content_id}/transitions", body, editor.token)
        newest = None
        while newest != content_id:
            newest = json.loads((await client.get("/content?limit=1"))[1])["data"][0]["content_id"]
        late.append((dt.datetime.now(dt.UTC) - at).total_seconds() * 1000)
    return report.Timing.of(late)


async def times_of(clients: list[calls.Client], every: list[str], count: int) -> report.Timing:
    """Return the timing of a kind of call, by all clients at once, each with its own part of the paths."""
    await clients[0].times(every, WARMING)
    share = [
        every[n * len(every) // len(clients) :] + every[: n * len(every) // len(clients)] for n in range(len(clients))
    ]
    measured = await asyncio.gather(
        *(client.times(part, count // len(clients)) for client, part in zip(clients, share, strict=True))
    )
    return report.Timing.of([each for times in measured for each in times])


async def ready(client: calls.Client) -> None:
    """Wait until a search is answered with its advanced part."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                await client.get("/content/search/facets?q=a")
            except (RuntimeError, aiohttp.ClientError):
                await asyncio.sleep(0.05)
            else:
                return


async def sql_times(client: calls.Client, up: Up, every: dict[str, list[str]]) -> dict[str, float]:
    """Return the milliseconds that PostgreSQL works for a call of each kind, on average."""
    await plans.log_only(up.facts["DATABASE_URL"], plans.TIMES)
    await ready(client)
    log, found = up.data / "logs" / "postgres.log", {}
    for name, paths in every.items():
        await client.times(paths, WARMING)
        offset = log.stat().st_size
        await client.times(paths, SQL_CALLS)
        found[name] = plans.read_ms(log, offset) / SQL_CALLS
    return found


async def explained(client: calls.Client, up: Up, every: dict[str, list[str]]) -> list[str]:
    """Print the slowest plan of each kind of call; return what reads a large table from end to end."""
    large = await plans.large_tables(up.facts["DATABASE_URL"])
    await plans.log_only(up.facts["DATABASE_URL"], plans.PLANS)
    await ready(client)
    log, faults = up.data / "logs" / "postgres.log", []
    for name, paths in every.items():
        offset = log.stat().st_size
        await client.times(paths, 5)
        found = plans.read_plans(log, offset)
        if not found:
            faults.append(f"{name}: no plan was seen")
            continue
        slowest = max(found)
        tell(f"\n{name}: {len(found)} plans; the slowest, {slowest.ms:.1f} ms:\n{slowest.text}")
        faults += [f"{name}: reads all of {table}" for table in sorted(set().union(*(p.scanned(large) for p in found)))]
    return faults


async def run(
    folder: Path,
    sizes: data.Sizes,
    count: int,
    show: Callable[[dict[str, report.Timing], dict[str, float]], None],
) -> list[str]:
    """Measure everything; return what is amiss."""
    if not (folder / FILLED).exists():
        shutil.rmtree(folder / "data", ignore_errors=True)  # of a run that was interrupted
    up = Up(folder / "data", environment=ENVIRONMENT)
    try:
        await asyncio.to_thread(up.ready)
        await prepare(up, folder, sizes)
        await plans.log_only(up.facts["DATABASE_URL"], plans.NOTHING)  # not what an earlier run asked for
        async with aiohttp.ClientSession() as session, aiohttp.ClientSession() as other:
            clients = [calls.Client(each, up.api) for each in (session, other)][:CLIENTS]
            await ready(clients[0])
            timings, pairs = await walks(clients[0])
            every = dict(calls.paths())
            for name, paths in every.items():
                timings[name] = await times_of(clients, paths, count)
                tell(f"{name:45} p50 {timings[name].p50:6.1f} ms  p95 {timings[name].p95:6.1f} ms")
            timings["scheduled publication"] = await publications(clients[0], up)
            show(timings, await sql_times(clients[0], up, every))
            lists = {"list of articles": ["/content"], **every}
            return report.missed(timings, pairs) + await explained(clients[0], up, lists)
    finally:
        await asyncio.to_thread(up.end)


def main() -> int:
    """Measure, and write the page and the picture."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--articles", type=int, default=data.Sizes().articles)
    options.add_argument("--comments", type=int, default=data.Sizes().comments)
    options.add_argument("--calls", type=int, default=400, help="of each kind")
    options.add_argument("--data", type=Path, help="a folder that keeps the data for the next run")
    options.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    chosen = options.parse_args()
    facts = report.Facts(
        dt.datetime.now(dt.UTC).date().isoformat(), os.getloadavg()[0], chosen.articles, chosen.comments
    )
    sizes = data.Sizes(chosen.articles, chosen.comments)

    def show(timings: dict[str, report.Timing], sql: dict[str, float]) -> None:
        page = report.table(timings, sql, facts)
        tell("\n" + page)
        chosen.out.mkdir(exist_ok=True)
        (chosen.out / "results.md").write_text(page)
        (chosen.out / "results.svg").write_text(report.picture(timings, facts))

    with tempfile.TemporaryDirectory(prefix="bench-content-") as name:
        folder = chosen.data or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        faults = asyncio.run(run(folder, sizes, chosen.calls, show))
    tell("\n".join(faults) or "All goals are met.")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
