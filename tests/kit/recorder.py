"""The actors that the runtime's tests are played with."""

import asyncio
from collections.abc import Callable

from callboard.runtime import Actor, Context, Message, Ref, Refusal, Request, current_context, on


class Note(Message, frozen=True):
    text: str


class Fail(Request[None], frozen=True):
    why: str = "told to"


class Refuse(Request[None], frozen=True):
    why: str = "no"


class Notes(Request[list[str]], frozen=True):
    pass


class Wait(Request[str], frozen=True):
    """Handled for `seconds`; the reply is `text`."""

    seconds: float
    text: str = "done"


class Forward(Request[str], frozen=True):
    """Ask the next actor to wait."""

    seconds: float


class Where(Request[Context | None], frozen=True):
    pass


class Recorder(Actor[Note | Fail | Refuse | Notes | Wait | Where]):
    """Writes down what it is told, and how its life goes."""

    def __init__(self, log: list[str] | None = None, name: str = "") -> None:
        self.log = log if log is not None else []
        self.name = name
        self.notes: list[str] = []

    async def on_start(self) -> None:
        self.log.append(f"{self.name} starts")

    async def on_stop(self) -> None:
        self.log.append(f"{self.name} stops")

    @on(Note)
    def note(self, message: Note) -> None:
        self.notes.append(message.text)

    @on(Notes)
    def read(self, _message: Notes) -> list[str]:
        return self.notes

    @on(Fail)
    def fail(self, message: Fail) -> None:
        raise ValueError(message.why)

    @on(Refuse)
    def refuse(self, message: Refuse) -> None:
        raise Refusal(message.why)

    @on(Wait)
    async def wait(self, message: Wait) -> str:
        self.log.append(f"{self.name} begins {message.text}")
        try:
            await asyncio.sleep(message.seconds)
        except asyncio.CancelledError:
            self.log.append(f"{self.name} is cancelled in {message.text}")
            raise
        self.notes.append(message.text)
        return message.text

    @on(Where)
    def where(self, _message: Where) -> Context | None:
        return current_context()


class Middle(Actor[Forward]):
    """Asks on."""

    def __init__(self, next_: Callable[[], Ref[Wait | Forward]], timeout_s: float = 5.0) -> None:
        self.next = next_
        self.timeout_s = timeout_s

    @on(Forward)
    async def forward(self, message: Forward) -> str:
        target = self.next()
        if Wait in target.handlers.all:  # type: ignore[attr-defined]
            return await target.ask(Wait(message.seconds), self.timeout_s)
        return await target.ask(message, self.timeout_s)


class Shelf(Actor[Wait | Note]):
    """Puts a wait aside until a note comes, and lingers while it does."""

    @on(Wait)
    async def wait(self, message: Wait) -> str:
        self.stash(message)
        await asyncio.sleep(message.seconds)
        return "stashed"

    @on(Note)
    def note(self, _message: Note) -> None:
        self.unstash()
