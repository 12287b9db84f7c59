"""The changes that processes of one fleet tell each other, on the sockets of a parent."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from callboard.ops.config import fleet
from callboard.ops.config.fleet import SOCKET, ChangeRelay, FleetChange, FleetLink


class Member:
    """A process as its parent sees it: the changes that it has heard, in their order."""

    def __init__(self, theirs: socket.socket) -> None:
        with theirs:
            self.link = FleetLink({SOCKET: str(os.dup(theirs.fileno()))})
        self.heard: list[FleetChange] = []
        self._grown = asyncio.Condition()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for change in self.link.changes():
            async with self._grown:
                self.heard.append(change)
                self._grown.notify_all()

    async def hears(self, number: int) -> list[FleetChange]:
        async with asyncio.timeout(30), self._grown:
            await self._grown.wait_for(lambda: len(self.heard) >= number)
        return self.heard

    async def end(self) -> None:
        self._listening.cancel()
        await asyncio.wait((self._listening,))
        assert self.link._socket is not None
        self.link._socket.close()


@pytest.fixture
async def members() -> AsyncIterator[tuple[ChangeRelay, list[Member]]]:
    relay = ChangeRelay()
    relay._told = FleetChange(settings={"LOG_LEVEL": "INFO"})
    found = [Member(await relay.connect(f"process {number}")) for number in range(3)]
    for each in found:
        assert await each.hears(1) == [FleetChange(settings={"LOG_LEVEL": "INFO"})]
    yield relay, found
    for each in found:
        await each.end()


async def test_changes_at_two_processes_at_once_reach_all_in_one_order(
    members: tuple[ChangeRelay, list[Member]],
) -> None:
    _, found = members
    for number in range(50):
        for place, each in enumerate(found):
            each.link.tell(FleetChange(settings={"RATE_LIMIT_LOGIN": f"{place}{number}"}))
    orders = [await each.hears(151) for each in found]
    assert orders[0] == orders[1] == orders[2]
    assert len(orders[0]) == 151


async def test_a_process_that_starts_later_is_told_what_is_in_force(
    members: tuple[ChangeRelay, list[Member]],
) -> None:
    relay, found = members
    found[1].link.tell(FleetChange(settings={"LOG_LEVEL": None, "RATE_LIMIT_LOGIN": 3}))
    found[1].link.tell(FleetChange(pools={"mail": 9}))
    await found[2].hears(3)
    await found[0].end()
    later = Member(await relay.connect("process 0"))
    assert await later.hears(1) == [FleetChange(settings={"LOG_LEVEL": None, "RATE_LIMIT_LOGIN": 3})]
    later.link.tell(FleetChange())
    assert (await found[2].hears(4))[-1] == FleetChange()
    await later.end()
    found.pop(0)


async def test_a_process_that_reads_nothing_costs_a_bounded_memory_and_is_told_when_it_goes_on(
    members: tuple[ChangeRelay, list[Member]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    relay, found = members
    monkeypatch.setattr(fleet, "MAX_UNREAD", 200_000)
    frozen = await relay.connect("process 3")
    for number in range(20):
        found[0].link.tell(FleetChange(settings={"FEED_TITLE": "x" * 50_000 + str(number)}))
        await found[1].hears(2 + number)
    found[0].link.tell(FleetChange(pools={"mail": 9}))
    await found[1].hears(22)
    assert caplog.text.count("process 3 reads no changes of settings") == 1
    assert relay._processes["process 3"].writer.transport.get_write_buffer_size() < 300_000
    thawed = Member(frozen)
    while not thawed.heard or not thawed.heard[-1].pools:
        await thawed.hears(len(thawed.heard) + 1)
    assert thawed.heard[-1] == relay._told
    assert len(thawed.heard) < 20
    await thawed.end()


async def test_a_process_without_a_parent_tells_nobody() -> None:
    link = FleetLink({})
    link.tell(FleetChange(settings={"LOG_LEVEL": "INFO"}))
    assert link.is_alone
    assert [change async for change in link.changes()] == []
