"""The system: one supervision tree on one event loop, the order in which actors have their turn, and its events."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from callboard.runtime import events
from callboard.runtime.cell import BURST
from callboard.runtime.context import CURRENT
from callboard.runtime.deadlines import deadlines
from callboard.runtime.errors import AlreadyStartedError
from callboard.runtime.rates import Rates
from callboard.runtime.stalls import StallWatch
from callboard.runtime.supervisor import Supervisor
from callboard.runtime.tree import Node, State, TreeNode

if TYPE_CHECKING:
    from callboard.runtime.cell import Cell

Watcher = Callable[[events.Lifecycle], None]

TURN = 64  # actors that have a burst before the event loop looks at sockets and timers again


class System:
    """Runs a tree: `async with System(root): ...` starts it, and stops it in reverse order on the way out.

    `rng` seeds the jitter of backoffs. With `stall_after_s`, a StallWatch reports what blocks the loop for so long.
    Make it inside the event loop that is to run it.
    """

    path = ""

    def __init__(
        self, root: Supervisor, *, rng: random.Random | None = None, stall_after_s: float | None = None
    ) -> None:
        self.root = root
        self.system = self  # the top of the tree: a node finds its system by asking its parent
        self.rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self.deadlines = deadlines()
        self.loop = self.deadlines.loop
        self.time = self.loop.time
        # Handlers run in a context of their own: they inherit nothing from whoever happened to wake them.
        self.context = copy_context()
        self.context.run(CURRENT.set, None)
        self.watched = False
        self._watchers: tuple[Watcher, ...] = ()
        self.rates = Rates()
        self.stalls = None if stall_after_s is None else StallWatch(self, stall_after_s)  # pyright: ignore[reportArgumentType]
        self._failure: asyncio.Future[BaseException] = self.loop.create_future()
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
        """Stop."""
        await self.stop()

    # Turns -----------------------------------------------------------------------------------------------------------

    def turn_soon(self) -> None:
        """Work off `ready`, in the order they came, in the next turn of the event loop."""
        self.turning = True
        self.loop.call_soon(self._take_turn, context=self.context)

    def _turn(self) -> None:
        ready, left = self.ready, TURN
        try:
            while ready and left:
                left -= 1
                ready.popleft().burst()
        finally:  # only what is not an Exception, a KeyboardInterrupt, comes through a burst
            if ready:
                self.turn_soon()
            else:
                self.turning = False

    # The end of the tree ---------------------------------------------------------------------------------------------

    async def failed(self) -> BaseException:
        """Wait until the root supervisor gives up; the reason, with its causes. Then there is only `stop`."""
        return await asyncio.shield(self._failure)

    def notice(self, child: Node, reason: BaseException | None) -> None:
        """The root, `child`, has given up."""
        if not self._failure.done():
            self._failure.set_result(reason or RuntimeError(f"{child.path} has ended"))

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
        """Tell the watchers."""
        for watcher in self._watchers:
            try:
                watcher(event)
            except Exception as error:  # noqa: BLE001 - a watcher's mistake must not keep an actor from its restart
                said = f"a watcher of lifecycle events failed on {type(event).__name__} of {event.actor}"
                self.loop.call_exception_handler({"message": said, "exception": error})

    def dump(self) -> TreeNode:
        """The whole tree as of now; works while every mailbox is full."""
        return self.root.dump()
