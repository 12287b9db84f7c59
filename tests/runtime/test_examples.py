"""The longer examples do what they say, under virtual time and with things going wrong."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from kit.examples import bank, chat, crawler

from callboard.runtime import Refusal, System, supervisor, worker


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_crawler_finds_all_pages_politely_and_a_few_at_once() -> None:
    hosts = [f"http://h{n}" for n in range(8)]
    begun: dict[str, list[float]] = defaultdict(list)
    failures = {"http://h3/2": 2, "http://h5/1": 99}
    running: list[str] = []
    most = 0

    async def fetch(url: str) -> list[str]:
        nonlocal most
        begun[urlsplit(url).netloc].append(now())
        running.append(url)
        most = max(most, len(running))
        await asyncio.sleep(0.5)
        running.remove(url)
        if failures.get(url, 0):
            failures[url] -= 1
            raise ConnectionError("reset")
        if url.endswith("/gone"):
            raise LookupError(url)
        return [f"{host}/{n}" for host in hosts for n in range(4)] + [f"{urlsplit(url).scheme}://h0/gone"]

    found = await crawler.crawl("http://h0/0", fetch)
    assert {url for url, had in found.items() if not had} == {"http://h0/gone", "http://h5/1"}
    assert len(found) == 8 * 4 + 1
    for times in begun.values():
        assert all(later - earlier >= crawler.PAUSE_S for earlier, later in pairwise(times))
    assert most == crawler.CONCURRENCY


async def test_the_bank_neither_loses_nor_makes_money_when_its_customers_go_away() -> None:
    ledger = {name: bank.Row(100) for name in "abcd"} | {"closed": bank.Row(closed=True)}
    accounts, transfers = bank.bank(ledger)
    pairs = [(x, y) for x in ledger for y in ledger if x != y]
    async with System(supervisor("root", accounts, transfers), log=False):
        orders = [bank.Transfer(f"{x}{y}{n}", x, y, 20) for n in range(2) for x, y in pairs]
        asks = [transfers.ask(order) for order in orders]
        while sum(row.cents for row in ledger.values()) == 400:  # noqa: ASYNC110 - nobody says when money is taken
            await asyncio.sleep(0)
        for ask in asks:
            ask.cancel()
        await asyncio.sleep(1)
        assert sum(row.cents for row in ledger.values()) < 400  # taken, and given to nobody yet
        ends = await asyncio.gather(*map(transfers.ask, orders), return_exceptions=True)
    assert sum(row.cents for row in ledger.values()) == 400
    assert all(row.cents >= 0 for row in ledger.values())
    assert ledger["closed"].cents == 0
    assert {type(end) for end in ends} == {type(None), bank.NotEnoughError, bank.AccountClosedError}


async def test_members_of_the_chat_room_come_and_go() -> None:
    def hear(name: str) -> Callable[[chat.Line], None]:
        return lambda line: heard[name].append(f"{line.name}: {line.text}")

    heard: dict[str, list[str]] = defaultdict(list)
    room = worker("room", chat.Room)
    async with System(supervisor("root", room)):
        ada = await room.ask(chat.Join("ada", hear("ada")))
        for n in range(5):
            await ada.tell(chat.Say(str(n)))
        await asyncio.sleep(1)
        bob = await room.ask(chat.Join("bob", hear("bob")))
        await room.ask(chat.Join("eve", hear("eve")))  # and never says a word
        with pytest.raises(Refusal, match="bob is here already"):
            await room.ask(chat.Join("bob", hear("bob")))
        await asyncio.sleep(chat.SILENT_S - 2)
        assert await room.ask(chat.Who()) == ["ada", "bob", "eve"]
        await bob.tell(chat.Say("still here"))
        await asyncio.sleep(chat.SILENT_S - 2)
        assert await room.ask(chat.Who()) == ["bob"]
        await bob.tell(chat.Leave())
        await asyncio.sleep(1)
        assert await room.ask(chat.Who()) == []
        await room.ask(chat.Join("bob", hear("bob")))
    assert heard["ada"][-2:] == ["room: eve comes", "bob: still here"]
    assert heard["bob"][:4] == ["ada: 2", "ada: 3", "ada: 4", "room: bob comes"]
    assert heard["bob"][5:8] == ["bob: still here", "room: ada goes", "room: eve goes"]
