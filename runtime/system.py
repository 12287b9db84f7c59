"""The system: one supervision tree on one event loop, its lifecycle events, and its end."""

import asyncio
import random
from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType
from typing import Self

from callboard.runtime import events
from callboard.runtime.context import CURRENT
from callboard.runtime.supervisor import Supervisor
from callboard.runtime.tree import Node, TreeNode

Watcher = Callable[[events.Lifecycle], None]


class System:
    """Runs a tree: `async with System(root): ...` starts it, and stops it in reverse order on the way out.

    `rng` seeds the jitter of backoffs. Make it inside the event loop that is to run it.
    """

    path = ""

    def __init__(self, root: Supervisor, *, rng: random.Random | None = None) -> None:
        self.root = root
        self.system = self  # the top of the tree: a node finds its system by asking its parent
        self.rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self.loop = asyncio.get_running_loop()
        # Handlers run in a context of their own: they inherit nothing from whoever happened to wake them.
        self.context = copy_context()
        self.context.run(CURRENT.set, None)
        self._watchers: list[Watcher] = []
        self._failure: asyncio.Future[BaseException] = self.loop.create_future()

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

    async def failed(self) -> BaseException:
        """Wait until the root supervisor gives up; the reason, with its causes. Then there is only `stop`."""
        return await asyncio.shield(self._failure)

    def notice(self, child: Node, reason: BaseException | None) -> None:
        """The root, `child`, has given up."""
        if not self._failure.done():
            self._failure.set_result(reason or RuntimeError(f"{child.path} has ended"))

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher`, which must not block or raise, with each lifecycle event; the result ends that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def emit(self, event: events.Lifecycle) -> None:
        """Tell the watchers."""
        for watcher in self._watchers:
            watcher(event)

    def dump(self) -> TreeNode:
        """The whole tree as of now; works while every mailbox is full."""
        return self.root.dump()
