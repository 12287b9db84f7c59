"""What both type checkers must accept, and what they must infer."""

import asyncio
from collections.abc import Awaitable
from typing import assert_type

from callboard.runtime import (
    Actor,
    ActorContext,
    Cell,
    DeferredReply,
    Entities,
    KeyedProps,
    Message,
    Pool,
    Props,
    Ref,
    Request,
    Restart,
    Supervisor,
    System,
    entities,
    on,
    pool,
    supervisor,
    worker,
)


class User(Message, frozen=True):
    name: str


class Admin(User, frozen=True):
    pass


class GetUser(Request[User], frozen=True):
    user_id: int


class CountUsers(Request[int], frozen=True):
    pass


class Rename(Message, frozen=True):
    user_id: int
    name: str


class Ping(Message, frozen=True):
    pass


class Users(Actor[GetUser | CountUsers | Rename]):
    def __init__(self, first: User, pinger: Ref[Ping]) -> None:
        self.users = [first]
        self.pinger = pinger

    @on(GetUser)
    async def get(self, message: GetUser) -> User:
        await self.pinger.tell(Ping())
        return self.users[message.user_id]

    @on(CountUsers)
    def count(self, _message: CountUsers) -> int:
        return len(self.users)

    @on(Rename, state="busy")
    async def rename_later(self, message: Rename) -> None:
        self.stash(message)

    @on(Rename)
    def rename(self, message: Rename) -> None:
        self.users[message.user_id] = User(message.name)
        assert_type(self.ref, ActorContext[GetUser | CountUsers | Rename])


class Narrow(Actor[GetUser]):
    """A handler may take more and return less than it must."""

    def __init__(self, key: str, *, greeting: str = "") -> None:
        self.key = key
        self.greeting = greeting

    @on(GetUser)
    def get(self, _message: Request[User]) -> Admin:
        return Admin("a")


class Waiting(Actor[CountUsers]):
    """A reply may come later than the handler's return, or from another actor."""

    def __init__(self, users: Ref[CountUsers], *, at_once: bool = False) -> None:
        self.users = users
        self.at_once = at_once
        self.waiting: list[DeferredReply[int]] = []

    @on(CountUsers)
    def count(self, _message: CountUsers) -> DeferredReply[int]:
        reply = DeferredReply[int]()
        self.waiting.append(reply)
        return reply


class WaitingAsync(Waiting):
    @on(CountUsers)
    async def count(self, message: CountUsers) -> DeferredReply[int]:
        await self.users.ask(message)
        reply = DeferredReply[int]()
        self.waiting.append(reply)
        return reply


class Forwarding(Actor[CountUsers]):
    def __init__(self, users: Ref[CountUsers]) -> None:
        self.users = users

    @on(CountUsers)
    def count(self, message: CountUsers) -> "asyncio.Future[int]":
        return self.users.ask(message)


class ForwardingAsync(Forwarding):
    @on(CountUsers)
    async def count(self, message: CountUsers) -> "asyncio.Future[int]":
        await asyncio.sleep(0)
        return self.users.ask(message)


class Pinger(Actor[Ping]):
    @on(Ping)
    def ping(self, message: Ping) -> None:
        pass


class Idle(Actor[None]):
    async def run(self) -> None:
        await asyncio.sleep(1)


async def use() -> None:
    pinger = worker("pinger", Pinger)
    users = worker("users", Props(Users, User("a"), pinger), shutdown_s=1.0)
    assert_type(users, Cell[GetUser | CountUsers | Rename])
    assert_type(await users.ask(GetUser(1)), User)
    assert_type(await users.ask(CountUsers(), timeout_s=1), int)
    assert_type(users.ask(CountUsers()), asyncio.Future[int])
    assert_type(users.tell(Rename(1, "b")), Awaitable[None])
    users.tell_nowait(Rename(1, "b"))

    crowd = pool("crowd", Props(Users, User("a"), pinger), size=3)
    assert_type(crowd, Pool[GetUser | CountUsers | Rename])
    assert_type(await crowd.ask(GetUser(1)), User)
    each = entities("each", KeyedProps(Narrow, greeting="a"), key=str, idle_s=1, limit=9)
    assert_type(entities("bare", Narrow, key=str, idle_s=1, limit=9), Entities[GetUser])
    assert_type(each, Entities[GetUser])
    assert_type(await each.ask(GetUser(1)), User)

    waiting = worker("waiting", Props(Waiting, users, at_once=True), restart=Restart.TRANSIENT, stop_on=(KeyError,))
    assert_type(waiting, Cell[CountUsers])
    assert_type(await waiting.ask(CountUsers()), int)
    assert_type(worker("forwarding", Props(Forwarding, users)), Cell[CountUsers])
    assert_type(Props(Waiting, users), Props[CountUsers])

    # What takes more messages stands in for what takes fewer.
    fewer: Ref[Rename] = users
    fewer = crowd
    await fewer.tell(Rename(1, "b"))
    both = await asyncio.gather(users.ask(GetUser(1)), users.ask(CountUsers()))
    assert_type(both, tuple[User, int])

    root = supervisor("root", users, crowd, each, worker("idle", Idle))
    assert_type(root, Supervisor)
    async with System(root) as system:
        assert_type(system, System)
