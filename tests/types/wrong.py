"""What both type checkers must refuse: each line that ends in `# wrong`, and no other."""

import asyncio

from callboard.runtime import (
    Actor,
    DeferredReply,
    KeyedProps,
    Mailbox,
    Message,
    Props,
    Ref,
    Request,
    entities,
    on,
    pool,
    worker,
)


class User(Message, frozen=True):
    name: str


class GetUser(Request[User], frozen=True):
    user_id: int


class Rename(Message, frozen=True):
    name: str


class Other(Message, frozen=True):
    pass


class Replies(Actor[GetUser | Rename]):
    @on(GetUser)  # wrong
    def another_type(self, _message: GetUser) -> int:
        return 1

    @on(GetUser)  # wrong
    async def another_type_later(self, _message: GetUser) -> str:
        return "a"

    @on(GetUser)  # wrong
    def another_type_deferred(self, _message: GetUser) -> DeferredReply[str]:
        return DeferredReply()

    @on(GetUser)  # wrong
    async def another_type_deferred_later(self, _message: GetUser) -> DeferredReply[str]:
        return DeferredReply()

    @on(GetUser)  # wrong
    async def another_type_forwarded(self, _message: GetUser) -> "asyncio.Future[str]":
        return asyncio.get_running_loop().create_future()

    @on(GetUser)  # wrong
    def none_at_all(self, _message: GetUser) -> None:
        pass

    @on(Rename)  # wrong
    def one_too_many(self, _message: Rename) -> User:
        return User("a")


class Takes(Actor[GetUser | Rename]):
    @on(Rename)  # wrong
    def another_message(self, message: Other) -> None:
        pass

    @on(GetUser)  # wrong
    def another_request(self, message: Rename) -> User:
        return User(message.name)

    @on(GetUser)  # wrong
    def no_message(self) -> User:
        return User("a")


@on(int)  # wrong
def no_message_class(_self: object, _message: int) -> None:
    pass


class Fine(Actor[GetUser | Rename]):
    @on(GetUser)
    def get(self, message: GetUser) -> User:
        return User(str(message.user_id))

    @on(Rename)
    def rename(self, message: Rename) -> None:
        pass


class OnlyRename(Actor[Rename]):
    @on(Rename)
    def rename(self, message: Rename) -> None:
        pass


class Counting(Actor[Rename]):
    def __init__(self, first: int, *, step: int = 1) -> None:
        self.count = first * step

    @on(Rename)
    def rename(self, message: Rename) -> None:
        pass


class Keyed(Actor[Rename]):
    def __init__(self, key: str, *, step: int = 1) -> None:
        self.key = key * step

    @on(Rename)
    def rename(self, message: Rename) -> None:
        pass


class Undeclared(Request[int], frozen=True):
    pass


async def use(ref: Ref[GetUser | Rename], narrow: Ref[Rename]) -> None:
    await ref.tell(Other())  # wrong
    ref.tell_nowait(Other())  # wrong
    await ref.tell(Rename)  # wrong
    await ref.ask(Rename("a"))  # wrong
    number: int = await ref.ask(GetUser(1))  # wrong
    del number
    await worker("w", Fine).tell(Other())  # wrong
    await pool("p", Fine, size=1).tell(Other())  # wrong
    await entities("e", Fine, key=str, idle_s=1, limit=1).tell(Other())  # wrong
    pool("p", Fine)  # wrong
    wider: Ref[GetUser | Rename] = worker("w", OnlyRename)  # wrong
    del wider
    worker("w", dict)  # wrong
    worker("w", Counting)  # wrong
    Props(Counting, "one")  # wrong
    Props(Counting, 1, stap=2)  # wrong
    Props(Counting)  # wrong
    Props(dict)  # wrong
    worker("w", Fine, mailboks=Mailbox(3))  # wrong
    worker("w", Fine, shutdown_s="soon")  # wrong
    pool("p", Props(Counting, 1), size=1, retry=3)  # wrong
    await narrow.ask(GetUser(1))  # wrong
    await ref.ask(Undeclared())  # wrong
    task = asyncio.create_task(ref.ask(GetUser(1)))  # wrong
    del task
    KeyedProps(Keyed, step="one")  # wrong
    KeyedProps(OnlyRename)  # wrong


class NoMessage(Actor[int]):  # wrong
    pass
