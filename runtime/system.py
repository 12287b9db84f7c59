"""The system: one supervision tree on one event loop, the order in which actors have their turn, and its events."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from callboard.runtime import events
from callboard.runtime.context import CURRENT
from callboard.runtime.deadlines import deadlines
from callboard.runtime.supervisor import Supervisor
from callboard.runtime.tree import Node, TreeNode

if TYPE_CHECKING:
    from callboard.runtime.cell import Cell

Watcher = Callable[[events.Lifecycle], None]

TURN = 64  # actors that have a burst before the event loop looks at sockets and timers again


class System:
    """Runs a tree: `async with System(root): ...` starts it, and stops it in reverse order on the way out.

    `rng` seeds the jitter of backoffs. Make it inside the event loop that is to run it.
    """

    path = ""

    def __init__(self, root: Supervisor, *, rng: random.Random | None = None) -> None:
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
        self._watchers: list[Watcher] = []
        self._failure: asyncio.Future[BaseException] = self.loop.create_future()
        self.ready: deque[Cell[Any]] = deque()
        self.turning = False

    async def start(self) -> None:
        """Start the tree. Raises what the first start hook to fail raised, after stopping what was started."""
        await self.root.start(self)

    async def stop(self) -> None:
        """Stop the tree, last started first."""
        await self.root.stop()

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
        self.loop.call_soon(self._turn, context=self.context)

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
        """Call `watcher`, which must not block or raise, with each lifecycle event; the result ends that."""
        self._watchers.append(watcher)
        self.watched = True

        def end() -> None:
            self._watchers.remove(watcher)
            self.watched = bool(self._watchers)

        return end

    def emit(self, event: events.Lifecycle) -> None:
        """Tell the watchers."""
        for watcher in self._watchers:
            watcher(event)

    def dump(self) -> TreeNode:
        """The whole tree as of now; works while every mailbox is full."""
        return self.root.dump()
