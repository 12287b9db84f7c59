"""A probe, which stands in a test for an actor, and a watch over lifecycle events."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, Unpack

from callboard.runtime.actor.actor import Actor
from callboard.runtime.actor.events import Lifecycle
from callboard.runtime.actor.handlers import Handlers
from callboard.runtime.actor.messages import Message, Request
from callboard.runtime.dispatch.cell import Cell
from callboard.runtime.dispatch.child_spec import ChildOptions, spec_of
from callboard.runtime.supervision.system import System

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class _Ear(Actor[None]):
    """Where there is nothing to do but to listen."""

    __slots__ = ()


class Probe(Cell[Any]):
    """An actor that takes messages of some kinds, remembers them, and lets a test wait for them.

    `probe = Probe("mail", SendMail, Status)` is its reference and its place in a supervisor, as `worker(...)` is.
    Requests are answered as scripted, else with None. It remembers over restarts; `received` is all it was ever told.
    """

    __slots__ = ("_arrived", "_new", "_scripts", "received")

    def __init__(self, name: str, *kinds: type[Message], **options: Unpack[ChildOptions]) -> None:
        self.received: list[Any] = []
        self._new: deque[Any] = deque()
        self._arrived = asyncio.Event()
        self._scripts: dict[type, deque[Any]] = {}
        table = dict.fromkeys(kinds, lambda _ear, message: self._hear(message))
        super().__init__(name, _Ear, spec_of(name, options), Handlers({None: table}))

    def _hear(self, message: Any) -> Any:
        self.received.append(message)
        self._new.append(message)
        self._arrived.set()
        script = self._scripts.get(type(message))
        if not script:
            return None
        answer = script.popleft() if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(message) if callable(answer) else answer

    def answer(self, kind: type[Request[T]], *answers: "T | Exception | Callable[[Any], Any]") -> None:
        """Answer requests of a kind with these, in turn, and then with the last for ever.

        An exception is raised: a Refusal is an answer, any other a crash. A function is called with the request; what
        it returns, or awaits if it is async, is the answer.
        """
        self._scripts[kind] = deque(answers)

    async def expect(self, kind: type[M], within_s: float = 3.0) -> M:
        """The next message that was not expected yet, waited for `within_s` seconds of the loop's time.

        Raises AssertionError when none comes, or one of another kind.
        """
        if not self._new:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), within_s)
            except TimeoutError:
                raise AssertionError(f"{self.path} was told nothing in {within_s:g} s, not {kind.__name__}") from None
        message = self._new.popleft()
        if not isinstance(message, kind):
            raise AssertionError(f"{self.path} was told {message!r}, not {kind.__name__}")  # noqa: TRY004 - a test fails
        return message

    async def expect_nothing(self, within_s: float = 3.0) -> None:
        """Wait that long, and raise AssertionError if there is, or comes, a message that was not expected yet."""
        if not self._new:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), within_s)
            except TimeoutError:
                return
        raise AssertionError(f"{self.path} was told {self._new[0]!r}, and should have been left in peace")


class EventRecorder:
    """Remembers a system's lifecycle events, and waits for one by its class."""

    def __init__(self, system: System) -> None:
        self.events: deque[Lifecycle] = deque()
        self._arrived = asyncio.Event()
        self.close = system.subscribe(self._note)

    def _note(self, event: Lifecycle) -> None:
        self.events.append(event)
        self._arrived.set()

    def of(self, kind: type[Lifecycle]) -> list[Any]:
        """The events of a class so far, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(self, kind: type[Lifecycle], count: int = 1) -> list[Any]:
        """Wait until there have been `count` events of a class."""
        while len(self.of(kind)) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return self.of(kind)
