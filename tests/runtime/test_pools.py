import asyncio

import pytest

from callboard.runtime import Actor, Mailbox, Message, Overflow, Request, System, on, pool, supervisor, worker
from recorder import Fail, Note, Notes, Recorder, Wait


class Put(Message, frozen=True):
    key: str
    n: int


class Taken(Request[dict[str, list[int]]], frozen=True):
    key: str


class Shelf(Actor[Put | Taken]):
    def __init__(self) -> None:
        self.taken: dict[str, list[int]] = {}

    @on(Put)
    async def put(self, message: Put) -> None:
        await asyncio.sleep(message.n % 3 / 10)
        self.taken.setdefault(message.key, []).append(message.n)

    @on(Taken)
    def read(self, _message: Taken) -> dict[str, list[int]]:
        return self.taken


async def test_a_round_robin_pool_gives_each_worker_its_turn() -> None:
    crowd = pool("p", Recorder, size=3)
    async with System(supervisor("root", crowd)):
        for n in range(9):
            await crowd.tell(Note(str(n)))
        assert [await crowd.ask(Notes()) for _ in range(3)] == [["0", "3", "6"], ["1", "4", "7"], ["2", "5", "8"]]


async def test_workers_of_a_pool_work_at_the_same_time() -> None:
    crowd = pool("p", Recorder, size=5)
    async with System(supervisor("root", crowd)):
        await asyncio.gather(*(crowd.ask(Wait(1)) for _ in range(5)))
        assert asyncio.get_running_loop().time() == pytest.approx(1)


async def test_a_keyed_pool_keeps_the_order_of_each_key() -> None:
    shelves = pool("s", Shelf, size=4, key=lambda message: message.key)
    async with System(supervisor("root", shelves)):
        for n in range(200):
            await shelves.tell(Put(f"k{n % 10}", n))
        for key in (f"k{n}" for n in range(10)):
            taken = await shelves.ask(Taken(key), timeout_s=600)
            assert taken[key] == [n for n in range(200) if f"k{n % 10}" == key]


async def test_a_crash_in_a_pool_restarts_one_worker_and_loses_no_message() -> None:
    crowd = pool("p", Recorder, size=2)
    async with System(supervisor("root", crowd)):
        for n in range(4):
            await crowd.tell(Note(str(n)))
        await crowd.tell(Fail())
        await crowd.tell(Note("5"))
        await crowd.tell(Note("6"))
        assert await crowd.ask(Notes()) == ["1", "3", "5"]
        assert await crowd.ask(Notes()) == ["6"]
        assert [node.restarts for node in crowd.dump().children] == [1, 0]


def test_a_pool_without_workers_and_a_worker_that_is_no_actor_are_refused() -> None:
    with pytest.raises(ValueError, match="pool p has at least 1 worker, not 0"):
        pool("p", Recorder, size=0)
    with pytest.raises(TypeError, match="made of an Actor class"):
        worker("w", dict)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a word without a slash"):
        worker("a/b", Recorder)
    with pytest.raises(ValueError, match="at least 1 message"):
        Mailbox(0, Overflow.REJECT)


async def test_the_tree_shows_state_depth_and_the_message_in_hand_while_mailboxes_are_full() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(2, Overflow.REJECT))
    async with System(supervisor("root", supervisor("inner", recorder), pool("p", Recorder, size=2))) as system:
        waiting = asyncio.ensure_future(recorder.ask(Wait(2)))
        await asyncio.sleep(0.1)
        recorder.tell_nowait(Note("a"))
        recorder.tell_nowait(Note("b"))
        root = system.dump()
        assert [(node.name, node.kind, node.state) for node in root.children] == [
            ("inner", "supervisor", "running"),
            ("p", "pool", "running"),
        ]
        (node,) = root.children[0].children
        assert (node.depth, node.capacity, node.current) == (2, 2, "Wait")
        assert node.counts is not None
        assert node.counts.pending == 3
        await waiting
