"""The system: one supervision tree on one event loop, from its start to its stop."""

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from callboard.runtime.actor import events
from callboard.runtime.actor.errors import ActorNotFoundError, AlreadyStartedError, RuntimeFault, format_causes
from callboard.runtime.actor.ref import Ref
from callboard.runtime.dispatch.event_bus import Watcher
from callboard.runtime.dispatch.node import Node, State
from callboard.runtime.dispatch.scheduler import Scheduler
from callboard.runtime.supervision.loop_monitor import LoopMonitor
from callboard.runtime.supervision.snapshot import Rates, TreeNode, children_of, snapshot
from callboard.runtime.supervision.supervisor import Supervisor, nursery_of


class System:
    """Runs a tree: `async with System(root): ...` starts it, and stops it in reverse order on the way out. It raises an
    EscalationError there if the root has given up and nobody has heard of it from `failed`.

    `rng` seeds the jitter of backoffs. With `stall_after_s`, a LoopMonitor reports what blocks the loop for so long.
    Crashes, and a supervisor that gives up, are errors of the logger `callboard.runtime`, unless `log` is False.
    Make it inside the event loop that is to run it.
    """

    name = ""  # the top of the tree: paths begin below it
    parent = None
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
        self.scheduler = scheduler = Scheduler(rng, logs=log)
        scheduler.nursery = nursery_of
        scheduler.find = self.find
        self.loop = scheduler.loop
        self.stalls = None if stall_after_s is None else LoopMonitor(self, stall_after_s)
        self._rates = Rates()
        self._failure: asyncio.Future[BaseException] = self.loop.create_future()
        self._failure_told = False
        self._giving_up: asyncio.Task[None] | None = None  # the stop of a tree whose root has given up

    async def start(self) -> None:
        """Start the tree. Raises the error of the first start hook that fails, after stopping what was started."""
        if self.root.parent is not None and self.root.state is not State.STOPPED:
            raise AlreadyStartedError(self.root.path, self.root.state)
        if self.stalls is not None:
            self.stalls.start()
        try:
            await self.root.start(self)
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
            error.add_note(f"the tree had given up: {format_causes(self._failure.result())}")

    async def failed(self) -> BaseException:
        """Wait until the root supervisor gives up; the reason, with its causes. The tree has been stopped then, or is:
        what is told and asked raises ActorStoppedError.
        """
        reason = await asyncio.shield(self._failure)
        self._failure_told = True
        return reason

    def child_exited(self, child: Node, error: BaseException | None) -> None:
        """The root has given up: nobody is left who would bring the tree back, so it stops."""
        if not self._failure.done():
            self._failure.set_result(error or RuntimeError(f"{child.path} has ended"))
            self._giving_up = self.scheduler.new_task(self.stop(), "callboard stops")

    # Looking ---------------------------------------------------------------------------------------------------------

    def find(self, path: str) -> Ref[Any]:
        """The actor, pool or entities at a path below the root, `identity/users`. Raises ActorNotFoundError."""
        node: Node = self.root
        for name in path.split("/"):
            below = {child.name: child for child in children_of(node)}
            if name not in below:
                raise ActorNotFoundError(path, node.path, list(below))
            node = below[name]
        if not isinstance(node, Ref):
            raise ActorNotFoundError(path, node.path, [child.name for child in children_of(node)])
        return node

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """See EventBus.subscribe."""
        return self.scheduler.events.subscribe(watcher)

    def emit(self, event: events.Lifecycle) -> None:
        """Tell the watchers."""
        self.scheduler.events.emit(event)

    def snapshot(self) -> TreeNode:
        """The whole tree as of now; works while every mailbox is full."""
        return snapshot(self.root, self._rates)

    def dump(self) -> TreeNode:
        """The name that `snapshot` had."""
        return self.snapshot()
