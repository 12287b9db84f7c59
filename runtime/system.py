"""The system: one supervision tree on one event loop, the order in which actors have their turn, and its events."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from callboard.runtime import events
from callboard.runtime.cell import BURST
from callboard.runtime.context import CURRENT
from callboard.runtime.deadlines import deadlines
from callboard.runtime.errors import ENDING, AlreadyStartedError, RuntimeFault, described
from callboard.runtime.rates import Rates
from callboard.runtime.stalls import StallWatch
from callboard.runtime.supervisor import Supervisor
from callboard.runtime.tree import Node, State, TreeNode

if TYPE_CHECKING:
    from callboard.runtime.cell import Cell

log = logging.getLogger("callboard.runtime")

T = TypeVar("T")
Watcher = Callable[[events.Lifecycle], None]

TURN = 64  # actors that have a burst before the event loop looks at sockets and timers again


class System:
    """Runs a tree: `async with System(root): ...` starts it, and stops it in reverse order on the way out. It raises an
    EscalationError there if the root has given up and nobody has heard of it from `failed`.

    `rng` seeds the jitter of backoffs. With `stall_after_s`, a StallWatch reports what blocks the loop for so long.
    Crashes, and a supervisor that gives up, are errors of the logger `callboard.runtime`, unless `log` is False.
    Make it inside the event loop that is to run it.
    """

    path = ""

    def __init__(
        self,
        root: Supervisor,
        *,
        rng: random.Random | None = None,
        stall_after_s: float | None = None,
        log: bool = True,
    ) -> None:
        self.root = root
        self.system = self  # the top of the tree: a node finds its system by asking its parent
        self.rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self.deadlines = deadlines("make a System where its event loop runs: in async code, async with System(root)")
        self.loop = self.deadlines.loop
        self.time = self.loop.time
        # Handlers run in a context of their own: they inherit nothing from whoever made the system or woke them.
        self.clean = Context()  # nothing runs in this one: it is what others are copied from, and held against
        self.clean.run(CURRENT.set, None)
        self.context = self.clean.copy()  # of the turns
        self.watched = False
        self._watchers: tuple[Watcher, ...] = ()
        self.rates = Rates()
        self.stalls = None if stall_after_s is None else StallWatch(self, stall_after_s)  # pyright: ignore[reportArgumentType]
        self._failure: asyncio.Future[BaseException] = self.loop.create_future()
        self._failure_told = False
        self._log = log
        self._giving_up: asyncio.Task[None] | None = None  # the stop of a tree whose root has given up
        self.ready: deque[Cell[Any]] = deque()
        self.turning = False
        self.burst = BURST  # messages that one actor handles before others have their turn
        self.moving: dict[Node, tuple[asyncio.Task[None] | None, asyncio.Future[None]]] = {}  # see Life._moving
        # A loop with a method `take_turn` decides on the turns and the size of bursts itself: see testkit.SeededLoop.
        take_turn: Callable[[System], None] | None = getattr(self.loop, "take_turn", None)
        self._take_turn = self._turn if take_turn is None else partial(take_turn, self)

    async def start(self) -> None:
        """Start the tree. Raises what the first start hook to fail raised, after stopping what was started."""
        if self.root.parent is not None and self.root.state is not State.STOPPED:
            raise AlreadyStartedError(self.root.path, self.root.state)
        if self.stalls is not None:
            self.stalls.start()
        try:
            await self.root.start(self)  # pyright: ignore[reportArgumentType]
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the tree, last started first."""
        await self.root.stop()
        if self.stalls is not None:
            self.stalls.stop()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop. Raises what the root gave up for, unless the block has ended with an error of its own."""
        await self.stop()
        if self._failure.done() and not self._failure_told:
            if error is None or isinstance(error, RuntimeFault):
                raise self._failure.result()
            error.add_note(f"the tree had given up: {described(self._failure.result())}")

    # Turns -----------------------------------------------------------------------------------------------------------

    def new_task(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """A task in a context in which there is nothing of another handler. Its first step comes in a later turn of the
        loop, whatever task factory that has.
        """
        return asyncio.Task(work, loop=self.loop, name=name, context=self.clean.copy())

    def turn_soon(self) -> None:
        """Work off `ready`, in the order they came, in the next turn of the event loop."""
        self.turning = True
        if self.context != self.clean:  # a handler has left something in it
            self.context = self.clean.copy()
        self.loop.call_soon(self._take_turn, context=self.context)

    def _turn(self) -> None:
        ready, left = self.ready, TURN
        context, clean = self.context, self.clean
        try:
            while ready and left and context == clean:
                left -= 1
                ready.popleft().burst()
        finally:  # only what ends the program, a KeyboardInterrupt, comes through a burst
            if ready:
                self.turn_soon()
            else:
                self.turning = False

    # The end of the tree ---------------------------------------------------------------------------------------------

    async def failed(self) -> BaseException:
        """Wait until the root supervisor gives up; the reason, with its causes. The tree has been stopped then, or is:
        what is told and asked raises ActorStoppedError.
        """
        reason = await asyncio.shield(self._failure)
        self._failure_told = True
        return reason

    def notice(self, child: Node, reason: BaseException | None) -> None:
        """The root, `child`, has given up: nobody is left who would bring the tree back, so it stops."""
        if not self._failure.done():
            self._failure.set_result(reason or RuntimeError(f"{child.path} has ended"))
            self._giving_up = self.new_task(self.stop(), "callboard stops")

    # Watching --------------------------------------------------------------------------------------------------------

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher`, which must not block, with each lifecycle event; the result ends that.

        What it raises goes to the event loop's exception handler, which logs it; actors and other watchers go on.
        """
        self._watchers = (*self._watchers, watcher)
        self.watched = True

        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:  # one of several subscriptions of one watcher, perhaps
                ended = True
                left = list(self._watchers)
                left.remove(watcher)
                self._watchers = tuple(left)
                self.watched = bool(left)

        return end

    def emit(self, event: events.Lifecycle) -> None:
        """Tell the watchers, and the log of what nobody may miss."""
        if self._log and isinstance(event, (events.Crashed, events.Escalated)):
            _log(event)
        for watcher in self._watchers:
            try:
                watcher(event)
            except BaseException as error:
                if isinstance(error, ENDING):
                    raise
                said = f"a watcher of lifecycle events failed on {type(event).__name__} of {event.actor}"
                self.loop.call_exception_handler({"message": said, "exception": error})

    def dump(self) -> TreeNode:
        """The whole tree as of now; works while every mailbox is full."""
        return self.root.dump()


def _log(event: events.Crashed | events.Escalated) -> None:
    """Messages are named by their type: their fields may be secret."""
    if isinstance(event, events.Escalated):
        log.error("%s gave up: %s", event.actor, described(event.error))
        return
    at = f" on {event.message}" if event.message else ""
    log.error("%s crashed%s: %s", event.actor, at, described(event.error), exc_info=event.error)
