"""A chat room: members come and go, late ones hear the last lines, and who is silent for long is sent away."""

import asyncio
from collections import deque
from collections.abc import Callable

from callboard.runtime import (
    Actor,
    DuplicateNameError,
    Mailbox,
    Message,
    Overflow,
    Props,
    Ref,
    Refusal,
    Request,
    Restart,
    System,
    Terminated,
    on,
    supervisor,
    use_context,
    worker,
)

SILENT_S = 300.0


class Line(Message, frozen=True):
    """A line that a member hears."""

    name: str
    text: str


class Say(Message, frozen=True):
    """Say something to all."""

    text: str


class Leave(Message, frozen=True):
    """Go."""


class Silent(Message, frozen=True):
    """The member has said nothing for SILENT_S."""


class Join(Request[Ref[Say | Leave]], frozen=True):
    """Come; the reply is where to say something."""

    name: str
    hear: Callable[[Line], None]


class Who(Request[list[str]], frozen=True):
    """The names of those who are here."""


class Member(Actor[Line | Say | Leave | Silent]):
    """One member. A slow one loses the oldest lines, and holds up nobody."""

    def __init__(self, name: str, room: Ref[Line], hear: Callable[[Line], None]) -> None:
        self.name, self.room, self.hear = name, room, hear

    async def on_start(self) -> None:
        self.listen()

    def listen(self) -> None:
        with use_context(None):  # it outlives the request to join, and its deadline
            self.timer = self.after(SILENT_S, Silent())

    @on(Line)
    def line(self, message: Line) -> None:
        self.hear(message)

    @on(Say)
    async def say(self, message: Say) -> None:
        self.timer.cancel()
        self.listen()
        await self.room.tell(Line(self.name, message.text))

    @on(Leave)
    def leave(self, _message: Leave) -> None:
        self.stop()

    @on(Silent)
    def silent(self, _message: Silent) -> None:
        self.stop("silent for too long")


class Room(Actor[Join | Line | Who | Terminated]):
    """The members are children of the room; it hears when one has gone, however that was."""

    def __init__(self) -> None:
        self.members: dict[str, tuple[str, Ref[Line]]] = {}
        self.last: deque[Line] = deque(maxlen=3)

    @on(Join)
    async def join(self, message: Join) -> Ref[Say | Leave]:
        member = worker(
            message.name,
            Props(Member, message.name, self.ref, message.hear),
            restart=Restart.TEMPORARY,
            mailbox=Mailbox(100, Overflow.DROP_OLDEST),
        )
        try:
            await self.spawn(member)
        except DuplicateNameError:
            raise Refusal(f"{message.name} is here already") from None
        self.watch(member)
        self.members[member.path] = (message.name, member)
        for line in self.last:
            member.tell_nowait(line)
        self.post(Line("room", f"{message.name} comes"))
        return member

    @on(Line)
    def line(self, message: Line) -> None:
        self.last.append(message)
        self.post(message)

    @on(Who)
    def who(self, _message: Who) -> list[str]:
        return sorted(name for name, _ in self.members.values())

    @on(Terminated)
    def left(self, message: Terminated) -> None:
        name, _ = self.members.pop(message.actor)
        self.post(Line("room", f"{name} goes"))

    def post(self, line: Line) -> None:
        for _, member in self.members.values():
            member.tell_nowait(line)


async def main() -> None:
    """Talk a little."""
    room = worker("room", Room)
    async with System(supervisor("root", room)):
        ada = await room.ask(Join("ada", lambda line: print(f"ada hears {line}")))  # noqa: T201 - what it is for
        await ada.tell(Say("anybody?"))
        bob = await room.ask(Join("bob", lambda line: print(f"bob hears {line}")))  # noqa: T201 - the same
        await bob.tell(Say("me"))
        await bob.tell(Leave())
        while await room.ask(Who()) != ["ada"]:  # noqa: ASYNC110 - bob goes when he has read all
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
