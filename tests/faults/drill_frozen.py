"""Drills: a process of several is stopped by SIGSTOP for long, while people write by way of another."""

import asyncio
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import asyncpg
import psutil
import pytest
from kit.drills import SETTINGS, WRITERS, Beside, Drill, Stage, drill
from kit.frozen import frozen
from kit.running import CallboardProcess, Up, one_up, request, until
from kit.twins import ProcessGroup, twins

from callboard.actors.infrastructure.database_connection import IDLE_TRANSACTION_MS
from callboard.ops.embedded.data_directory import free_ports

pytestmark = pytest.mark.servers

FROZEN_S = 30.0
LEADS_S = 5.0
POOLS = {"DATABASE_POOL_SIZE": "8", "DATABASE_JOBS_POOL_SIZE": "4"}  # the server of all has 60 connections
HELD_S = IDLE_TRANSACTION_MS / 1000
COUNT, IN_A_ROW = 2, 40
TIMEOUT_S, REPLACED_S = 6, 20.0
LEADER = "select holder, fence from leases where name = 'relay' and expires_at > now()"


class Pair(NamedTuple):
    """Two processes that do everything, on a database of their own; and the `up` with their servers."""

    up: Up
    group: ProcessGroup


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with one_up() as up, twins(up, 2, ROLES="front,streams,workers", **SETTINGS, **POOLS) as made:
        yield Pair(up, made)


async def leader(group: ProcessGroup) -> tuple[int, int]:
    """The id of the process that leads, and its fence; nothing while none does."""
    connection = await asyncpg.connect(group.environment["DATABASE_URL"])
    try:
        row = await connection.fetchrow(LEADER)
    finally:
        await connection.close()
    return (int(re.sub(r".*:", "", row["holder"])), row["fence"]) if row else (0, 0)


async def next_leader(group: ProcessGroup, fence: int, since: float) -> float:
    """The seconds from `since` until another leads."""
    while (await leader(group))[1] <= fence:
        assert time.monotonic() < since + 30
        await asyncio.sleep(0.05)
    return time.monotonic() - since


def site_of(group: ProcessGroup, pid: int) -> tuple[CallboardProcess, CallboardProcess]:
    """The process with this id, and the other one."""
    one, other = group.sites
    return (one, other) if one.pid == pid else (other, one)


async def test_promise_23_the_process_that_leads_is_stopped(pair: Pair) -> None:
    """The other acknowledges every write, its mails come meanwhile, and the first one harms nothing when it goes on.

    It may refuse a write of a row that a transaction of the first one holds, until the server ends that session.
    """
    up, group = pair
    await next_leader(group, 0, time.monotonic())
    pid, fence = await leader(group)
    one, other = site_of(group, pid)
    beside = Beside(up, other, group.environment["DATABASE_URL"])
    _, editor, author = await asyncio.to_thread(beside.people)
    async with drill(Stage(beside, editor, author)) as play:
        stopped_at = time.monotonic()
        with frozen(psutil.Process(one.pid)):
            leads_s = await next_leader(group, fence, stopped_at)
            await asyncio.sleep(FROZEN_S - leads_s)
            thawed_at = time.monotonic()
    longest_s = max(each.took for each in play.between(stopped_at, thawed_at))
    await play.verify()
    await play.no_event_overtook_another()
    refused = refusals(play, stopped_at, thawed_at)
    told = f"the longest write {longest_s:.2f} s, {len(refused)} refused"
    play.report("promise 23", f"another leads after {leads_s:.2f} s (limit {LEADS_S:g}), {told}")
    assert leads_s < LEADS_S
    await asyncio.to_thread(until, "its word", lambda: "the relay lost its lease" in one.errors)
    assert {each.status for each in refused} <= {503}, refused
    assert not [each for each in refused if each.at > stopped_at + HELD_S], refused
    assert len(refused) < WRITERS, refused


def refusals(play: Drill, since: float, to: float) -> list[Any]:
    """The writes in this time that were not acknowledged."""
    return [each for each in play.between(since, to) if each.status not in (200, 201)]


def test_a_frozen_process_of_several_is_replaced(pair: Pair) -> None:
    """Its share of the connections hangs until then, and no longer."""
    first = next(port for port in free_ports(20) if all(_is_free(port + number) for number in range(COUNT)))
    own = {"OPS_PORT": str(first), "HTTP_PORT": str(free_ports(1)[0]), "PROCESS_TIMEOUT_S": str(TIMEOUT_S)}
    several = CallboardProcess("serve", "--processes", str(COUNT), environment=pair.group.environment | own)
    url = several.api.removesuffix("/api/v1") + "/health"
    try:
        for number in range(COUNT):
            until(f"process {number + 1}", lambda port=first + number: answers(f"http://127.0.0.1:{port}/health"), 60)
        victim = psutil.Process(several.pid).children()[0]
        began, seen, good = time.monotonic(), Counter[bool](), 0
        with frozen(victim):
            while good < IN_A_ROW or victim.is_running():
                assert time.monotonic() < began + 60, seen
                seen[is_good := answers(url)] += 1
                good = good + 1 if is_good else 0
        replaced_s = time.monotonic() - began
        assert "does not answer: it is killed" in several.errors
    finally:
        several.end()
    print(  # noqa: T201 - the measurement
        f"\na frozen process of {COUNT}: {seen[False]} of {seen.total()} connections hung, all is well after "
        f"{replaced_s:.1f} s (limit {REPLACED_S:g})"
    )
    assert seen[False]
    assert replaced_s < REPLACED_S


def answers(url: str) -> bool:
    """Whether a new connection is answered in a second."""
    try:
        return request("GET", url, timeout_s=1.0).status == 200
    except OSError:
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
