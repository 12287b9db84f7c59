"""Carts: entities that write down what they have when they are put away."""

import asyncio
from typing import Any

from callboard.runtime import Actor, Entities, KeyedProps, Message, Request, entities, on


class Add(Message, frozen=True):
    key: str
    n: int


class Work(Request[str], frozen=True):
    key: str
    seconds: float = 1.0


class Total(Request[list[int]], frozen=True):
    key: str


class Leave(Message, frozen=True):
    key: str
    after_s: float = 0.0


class Burst(Message, frozen=True):
    key: str


class Beat(Message, frozen=True):
    key: str


STORE: dict[str, list[int]] = {}


class Cart(Actor[Add | Work | Total | Leave | Burst | Beat]):
    """Writes down what it has when it is put away, and reads that when it comes back; both take a second."""

    alive: dict[str, int] = {}  # noqa: RUF012 - what all of them share

    def __init__(self, key: str, log: list[str], slow_s: float = 1.0) -> None:
        self.key = key
        self.log = log
        self.slow_s = slow_s
        self.items: list[int] = []

    async def on_start(self) -> None:
        Cart.alive[self.key] = Cart.alive.get(self.key, 0) + 1
        assert Cart.alive[self.key] == 1, "two incarnations of one key at once"
        await asyncio.sleep(self.slow_s)
        self.items = STORE.get(self.key, [])
        self.log.append(f"{self.key} comes")

    async def on_stop(self) -> None:
        await asyncio.sleep(self.slow_s)
        STORE[self.key] = self.items
        Cart.alive[self.key] -= 1
        self.log.append(f"{self.key} goes")

    @on(Add)
    def add(self, message: Add) -> None:
        self.items.append(message.n)

    @on(Work)
    async def work(self, message: Work) -> str:
        await asyncio.sleep(message.seconds)
        return message.key

    @on(Total)
    def total(self, _message: Total) -> list[int]:
        return self.items

    @on(Leave)
    async def leave(self, message: Leave) -> None:
        self.stop()
        await asyncio.sleep(message.after_s)
        self.log.append(f"{self.key} has left")

    @on(Burst)
    def burst(self, message: Burst) -> None:
        raise ValueError(message.key)

    @on(Beat)
    def beat(self, message: Beat) -> None:
        self.after(4, message)


def carts(log: list[str], *, limit: int = 100, slow_s: float = 1.0, **options: Any) -> Entities[Any]:
    return entities(
        "carts", KeyedProps(Cart, log, slow_s), key=lambda message: message.key, idle_s=10, limit=limit, **options
    )
