"""Drills of a process under load: stopped, resized, reloaded, flooded, and with its workers replaced."""

import asyncio
import contextlib
import io
import json
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest
from kit.drills import SEED, STEADY_S, WRITERS, Drill, Stage, drill, staged
from kit.killing import crowd, is_ready, verify
from kit.login_flood import ENVIRONMENT, paced
from kit.oracle import Client, Oracle
from kit.running import Up, gone, one_up, request, succession, until

from callboard.ops.cli import main

pytestmark = pytest.mark.servers

REFUSED = (429, 503)
CAPACITY_S, FLOOD_S, TIMES = 3.0, 6.0, 10
READ, READERS, READ_TIMES = "/api/v1/users/me/profile", 32, 1.5  # a refusal costs a third of an answer
GROWTH = 50 << 20
# Of a flood. At its bound of connections the server closes idle ones, and at that of the listening socket the kernel
# resets new ones after some seconds: they are opened before, a few at a time.
CONNECTIONS, AT_ONCE = 8000, 500
FLOODED = ENVIRONMENT | {"HTTP_MAX_CONNECTIONS": str(CONNECTIONS + 100)}
REFUSAL_S = "0.05"
STOP_S = 4.5 + 1.0  # the grace of a process, and the promise's second
SIZES = (1, 8, 3)
RESIZED_S = 1.0
KILLS = 5
READY_S = 5.0


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """The file of CALLBOARD_CONFIG."""
    path = tmp_path / "callboard.toml"
    path.write_text("", encoding="utf-8")
    return path


@pytest.fixture
def stage(settings: Path) -> Iterator[Stage]:
    with staged({"CALLBOARD_CONFIG": str(settings)}) as made:
        yield made


# Pools and settings -----------------------------------------------------------------------------------------------


def sizes(up: Up) -> dict[str, int]:
    """The pools that can be resized, and how many workers each has."""
    return {each["name"]: each["size"] for each in up.look("/ops/v1/pools") if each["route"] != "entities"}


def reload(up: Up, settings: Path, text: str) -> None:
    """Have a file read again."""
    settings.write_text(text, encoding="utf-8")
    up.signal(signal.SIGHUP)


async def by_api(up: Up, settings: Path, size: int) -> float:  # noqa: ARG001 - a door's face
    """Resize every pool over the operator plane, one after another; the longest time until a pool had its size."""
    took = []
    for name in sizes(up):
        url, began = f"{up.operators}/ops/v1/pools/{name}", time.monotonic()
        answer = await asyncio.to_thread(request, "PATCH", url, body={"size": size})
        took.append(time.monotonic() - began)
        assert (answer.status, answer.data["size"]) == (200, size), answer
    return max(took)


async def by_command(up: Up, settings: Path, size: int) -> float:  # noqa: ARG001 - a door's face
    """The same by the command, for the pools that the load needs. It runs here: a new interpreter needs
    most of the second for its own start.
    """
    took = []
    for name in BUSY:
        began = time.monotonic()
        shown = await asyncio.to_thread(command, "pools", "resize", name, str(size), "--url", up.operators, "--json")
        took.append(time.monotonic() - began)
        assert json.loads(shown)["size"] == size
    return max(took)


def command(*words: str) -> str:
    """What a command of ours prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code in (0, None)
    return printed.getvalue()


async def by_file(up: Up, settings: Path, size: int) -> float:
    """Write the sizes of every pool into the file, and have it read again."""
    began = time.monotonic()
    reload(up, settings, "".join(f"[pools.{name}]\nsize = {size}\n" for name in sizes(up)))
    while set((await asyncio.to_thread(sizes, up)).values()) != {size}:
        assert time.monotonic() < began + 10, sizes(up)
        await asyncio.sleep(0.01)
    return time.monotonic() - began


BUSY = ("content", "sessions", "users", "limits", "mail", "content_queries")
DOORS = {"api": by_api, "command": by_command, "file": by_file}


@pytest.mark.parametrize("door", DOORS)
async def test_every_pool_is_resized_under_load_and_nothing_is_lost(stage: Stage, settings: Path, door: str) -> None:
    """Seen to fail with what waits at a removed worker not handed on: 25 of 446 writes ended in 503 SERVER_TIMEOUT."""
    took = []
    async with drill(stage) as play:
        for size in SIZES:
            took.append(await DOORS[door](stage.up, settings, size))
            pools = await asyncio.to_thread(sizes, stage.up)
            assert {pools[name] for name in (BUSY if door == "command" else pools)} == {size}
            await asyncio.sleep(0.5)
    await play.verify()
    longest_s = max(each.took for each in play.client.seen)
    play.report(
        f"resize by {door}",
        f"each to {SIZES}, in {max(took):.2f} s at most (limit {RESIZED_S:g}); the longest write {longest_s:.2f} s",
    )
    refused = {each.status for each in play.client.seen} - {200, 201, None}
    assert not refused, "a request was lost"
    assert max(took) < RESIZED_S


async def test_a_good_file_is_in_force_and_a_bad_one_changes_nothing_under_load(stage: Stage, settings: Path) -> None:
    """Seen to fail with a bad file's pools applied in spite of its faults: 1 mail worker in place of 7."""
    good = "[pools.mail]\nsize = 7\n[limits.login]\nlimit = 4\n"
    bad = "[pools.mail]\nsize = 0\n[pools.nowhere]\nsize = 3\n[limits.login]\nlimit = 3\nwindows = 4\n"
    async with drill(stage) as play:
        for text in (good, bad, good, "[pools", bad):
            reload(stage.up, settings, text)
            await asyncio.sleep(0.5)
            assert (await asyncio.to_thread(sizes, stage.up))["mail"] == 7
    await play.verify()
    told = [line["message"] for line in stage.up.log() if "nothing has changed" in line["message"]]
    play.report("reload", f"7 mail workers after each of 5 reloads, {len(told)} faults were told")
    for path in ("pools.mail.size", "pools.nowhere", "limits.login.windows", "TOML"):
        assert any(path in line for line in told), (path, told)
    statuses = [request("POST", f"{stage.up.api}/auth/login", body=login(n)).status for n in range(6)]
    assert statuses[-1] == 429, statuses
    assert {each.status for each in play.client.seen} <= {200, 201, None}


def login(number: int) -> dict[str, str]:
    """A login that fails."""
    return {"email": f"bot{number}@example.org", "password": "Wrong-Password-1"}


# Overload ---------------------------------------------------------------------------------------------------------


class Flood:
    """Requests, of an address each: what they were told. The client costs little: it shares the processors with the
    server, which real clients do not. Its connections are open while the block runs.
    """

    def __init__(self, up: Up, start: str, headers: str = "", carried: int = 200) -> None:
        parts = urlsplit(up.api)
        self._health = f"{parts.scheme}://{parts.netloc}/health"
        self._address = parts.hostname or "", parts.port or 0
        self._head = f"{start} HTTP/1.1\r\nHost: {self._address[0]}\r\n{headers}"
        self._carried = carried
        self._idle = asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
        self._writers: list[asyncio.StreamWriter] = []
        self.statuses: Counter[int] = Counter()
        self.sent = 0

    async def __aenter__(self) -> Self:
        for _ in range(CONNECTIONS // AT_ONCE):
            for _ in range(AT_ONCE):
                reader, writer = await asyncio.open_connection(*self._address)
                self._idle.put_nowait((reader, writer))
                self._writers.append(writer)
            await asyncio.to_thread(request, "GET", self._health)  # accepted after those
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def ask(self) -> int:
        self.sent += 1
        number = self.sent
        head = f"{self._head}X-Forwarded-For: 198.51.{number // 250 % 100}.{number % 250}\r\n"
        body = b""
        if self._head.startswith("POST"):
            body = json.dumps(login(number)).encode()
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        reader, writer = await self._idle.get()
        writer.write(head.encode() + b"\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer.lower())
        await reader.readexactly(int(length[1]) if length else 0)
        self._idle.put_nowait((reader, writer))
        status = int(answer.split(maxsplit=2)[1])
        self.statuses[status] += 1
        return status

    async def capacity(self, clients: int = 8) -> float:
        """How many a second are carried when so many clients each wait for their answer."""
        ends_at = time.monotonic() + CAPACITY_S

        async def one() -> int:
            done = 0
            while time.monotonic() < ends_at:
                done += await self.ask() == self._carried
            return done

        return sum(await asyncio.gather(*(one() for _ in range(clients)))) / CAPACITY_S


def within(up: Up, path: str, statuses: str) -> dict[str, int]:
    """Responses by the server's own histogram: how many took up to so many seconds."""
    page = request("GET", f"{up.operators}/metrics").body.decode()
    lines = [line for line in page.splitlines() if "callboard_http_request_seconds_" in line and path in line]
    lines = [line for line in lines if re.search(f'status="({statuses})"', line)]
    counts: Counter[str] = Counter()
    for line in lines:
        if found := re.search(r'le="([^"]+)"', line):
            counts[found[1]] += int(float(line.split()[-1]))
    return dict(counts)


def metric(up: Up, name: str) -> float:
    """The value of a metric without labels."""
    page = request("GET", f"{up.operators}/metrics").body.decode()
    return float(next(line.split()[-1] for line in page.splitlines() if line.startswith(f"{name} ")))


async def test_promise_10_ten_times_the_load_it_can_carry() -> None:
    """Seen to fail with unbounded mailboxes of logins: none of 2693 refusals came within 50 ms; and with a line in the
    log for each refusal: 48 of 3278 took longer.
    """
    with one_up(FLOODED) as up:
        async with Flood(up, "POST /api/v1/auth/login", carried=401) as flood:
            await flood.ask()
            carried = await flood.capacity()
            flood.statuses.clear()
            process, offered = psutil.Process(up.pid), 0
            before = most = process.memory_info().rss
            async with asyncio.TaskGroup() as group:
                async for _ in paced(TIMES * carried, FLOOD_S):
                    group.create_task(flood.ask())
                    offered += 1
                    if offered % 100 == 0:
                        most = max(most, process.memory_info().rss)
        most = max(most, process.memory_info().rss)
        refused = await asyncio.to_thread(within, up, "/auth/login", "429|503")
        lag_s = await asyncio.to_thread(metric, up, "callboard_loop_lag_max_seconds")
    grown = (most - before) / (1 << 20)
    print(  # noqa: T201 - the measurement
        f"\npromise 10: {carried:.0f} logins/s carried, {offered} offered in {FLOOD_S:g} s, {dict(flood.statuses)}; "
        f"refusals within so many seconds {refused}, the loop's lag {lag_s:.3f} s at most; memory grew {grown:.1f} MB "
        f"(limit 50); seed {SEED}"
    )
    assert sum(flood.statuses.values()) == offered
    assert set(flood.statuses) <= {401, *REFUSED}
    assert sum(flood.statuses[each] for each in REFUSED) > offered / 2
    assert refused[REFUSAL_S] == refused["+Inf"]
    assert most - before < GROWTH


async def test_promise_10_more_reads_than_a_route_carries_leave_it_its_pace() -> None:
    """Seen to fail without the route's limit: 24 of 930 requests a second were answered, and the rest after 1.8 s."""
    times = {"REQUEST_TIMEOUT_MS": "1800", "OVERLOAD_TARGET_MS": "200"}
    with one_up(FLOODED | times) as up:
        _, _, author = await asyncio.to_thread(up.people)
        async with Flood(up, f"GET {READ}", f"Authorization: Bearer {author}\r\n") as flood:
            carried = await flood.capacity(READERS)
            flood.statuses.clear()
            before = await asyncio.to_thread(within, up, READ, "200")
            async with asyncio.TaskGroup() as group:
                async for _ in paced(READ_TIMES * carried, FLOOD_S):
                    group.create_task(flood.ask())
        answers = await asyncio.to_thread(within, up, READ, "200")
        refused = await asyncio.to_thread(within, up, READ, "503")
    quick = answers["1.0"] - before["1.0"]
    pace = flood.statuses[200] / FLOOD_S
    print(  # noqa: T201 - the measurement
        f"\npromise 10: {carried:.0f} reads/s carried, {READ_TIMES} times as many asked for, {pace:.0f}/s answered, "
        f"{quick} of {flood.statuses[200]} within 1 s, {refused[REFUSAL_S]} of {refused['+Inf']} refused within 50 ms"
    )
    assert set(flood.statuses) == {200, 503}
    assert pace > carried / 2, "clients share the processors"
    assert quick > 0.9 * flood.statuses[200]
    assert refused[REFUSAL_S] > 0.95 * refused["+Inf"]


# Workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "reason"), [("MAIL_WORKER_MAX_JOBS=5", "5 jobs"), ("MAIL_WORKER_MAX_GROWTH_MB=1", "MB of growth")]
)
async def test_promise_20_a_worker_is_replaced_and_nothing_is_lost(setting: str, reason: str) -> None:
    with staged(dict([setting.split("=")])) as stage:
        async with drill(stage) as play:
            await asyncio.sleep(4)
        await play.verify()
        told = [line["message"] for line in stage.up.log() if "a mail worker is replaced" in line["message"]]
        play.report("promise 20", f"{len(told)} mail workers were replaced, for {setting}")
    assert [each for each in told if reason in each]


# Death ------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
async def test_promise_1_sigkill_five_times_under_load() -> None:
    """What was acknowledged is there, once, and each start is ready in 5 s."""
    ready_s, rates, acknowledged = [], [], 0
    chance = random.Random(SEED)  # noqa: S311 - moments
    with succession() as held:
        for _ in range(KILLS):
            up, oracle = held[-1].ready(), Oracle()
            moment_s = chance.uniform(1.0, 3.0)
            async with crowd(up, oracle) as client:
                await asyncio.sleep(moment_s)
                family = up.family()
                up.kill()
            rates.append(len(client.seen) / moment_s)
            assert gone(family) == []
            killed_at = datetime.now(UTC)
            held.append(again := Up(up.data, environment={"HTTP_PORT": up.environment["HTTP_PORT"]}))
            await asyncio.to_thread(until, "readiness", lambda each=again: is_ready(each))
            ready_s.append(time.monotonic() - again.began)
            await asyncio.to_thread(again.ready)
            await verify(again, oracle, killed_at)
            acknowledged += oracle.counts()["ok"]
    print(  # noqa: T201 - the measurement
        f"\npromise 1: killed {KILLS} times at {min(rates):.0f} to {max(rates):.0f} writes/s, {acknowledged} "
        f"acknowledged, none lost; ready in {max(ready_s):.1f} s at most (limit {READY_S:g}); seed {SEED}"
    )
    assert max(ready_s) < READY_S


# Stop -------------------------------------------------------------------------------------------------------------


async def test_promise_2_a_sigterm_under_load(stage: Stage) -> None:
    """It ends the process, and starts another on its data. Seen to fail without the wait for requests in flight:
    18 of 20 writes were cut off.
    """
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        play = Drill(stage.up, Client(stage.up, Oracle(), session))
        writers = [asyncio.create_task(play.client.edit(stage.author, stage.editor)) for _ in range(WRITERS)]
        await asyncio.sleep(STEADY_S + play.random.uniform(0.0, 1.0))
        family, at = stage.up.family(), time.monotonic()
        stage.up.signal(signal.SIGTERM)
        status = await asyncio.to_thread(stage.up.wait)
        took_s = time.monotonic() - at
        await asyncio.gather(*writers, return_exceptions=True)
    owned = [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    play.up = again = Up(stage.up.data)
    try:
        await asyncio.to_thread(again.ready)
        await play.verify()
        unknown = play.oracle.counts()["unknown"]
        play.report("promise 2", f"status {status} after {took_s:.2f} s (limit {STOP_S:g}), {unknown} writes unknown")
        assert (status, unknown, owned) == (0, 0, [])
        assert took_s < STOP_S
    finally:
        again.end()
