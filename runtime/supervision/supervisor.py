"""Supervisors: they start children in order, restart those that crash, and give up when that happens too often.

The meaning of strategies, restart types and intensity is OTP's (`supervisor` in stdlib).
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from callboard.runtime.actor import events
from callboard.runtime.actor.errors import (
    ENDING,
    ActorKilledError,
    AlreadyStartedError,
    ChildSpecError,
    DuplicateNameError,
    EscalationError,
    NotAChildError,
    Renewal,
    SupervisorStoppedError,
    TooDeepError,
    sound,
)
from callboard.runtime.actor.options import check_types
from callboard.runtime.dispatch.child_spec import DEFAULT, ChildSpec, Restart
from callboard.runtime.dispatch.node import GOING, NEW, RUNNING, STARTING, STOPPED, Node, Parent, RestartRecord, State
from callboard.runtime.supervision.snapshot import TreeNode, snapshot

STARTABLE = (NEW, STOPPED)
OPEN = (NEW, STARTING, RUNNING)  # to children that are started
MAX_LEVELS = 64  # of supervisors, and of actors that spawn, in one another: a stop goes through all of them in one call


class Strategy(StrEnum):
    """The children that the crash of one restarts."""

    ONE_FOR_ONE = "one_for_one"  # that child
    ONE_FOR_ALL = "one_for_all"  # all children
    REST_FOR_ONE = "rest_for_one"  # that child, and those that were started after it


class Intensity(msgspec.Struct, frozen=True):
    """How many restarts in a window are borne. One more, and the supervisor stops its children and crashes itself."""

    restarts: int = 3
    window_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what could not be counted."""
        check_types(self)
        if not (self.restarts >= 0 and self.window_s > 0):
            raise ValueError(
                f"an intensity is 0 or more restarts in some time, not {self.restarts} in {self.window_s} s"
            )


class Supervisor(Node):
    """A node that keeps its children running. Crashes are noticed by being called, never by polling."""

    __slots__ = (
        "_children",
        "_early",
        "_record",
        "_recoveries",
        "_restarted",
        "_turn",
        "height",
        "intensity",
        "strategy",
    )

    def __init__(
        self,
        name: str,
        children: Sequence[Node],
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity = Intensity(),  # noqa: B008 - immutable
        spec: ChildSpec = DEFAULT,
    ) -> None:
        super().__init__(name, spec)
        if not isinstance(intensity, Intensity):
            raise ChildSpecError(f"the intensity of {name} is an Intensity(restarts, window_s), not {intensity!r}")
        self.strategy = Strategy(strategy)
        self.intensity = intensity
        self._children: dict[str, Node] = {}
        self._record = RestartRecord()
        self._restarted: deque[float] = deque()  # when, within the window
        self._recoveries: dict[asyncio.Task[None], None] = {}  # in order: a set has another in each replay
        self._turn = asyncio.Lock()  # groups recover one after the other
        self._early: list[tuple[Node, BaseException | None]] = []  # who ended while others were still being started
        self.height = 1  # levels of supervisors, itself and those that it was made with
        for child in children:
            self._add(child)

    @property
    def children(self) -> list[Node]:
        """The children, in the order in which they start."""
        return list(self._children.values())

    @property
    def record(self) -> RestartRecord:
        """See Node.record."""
        return self._record

    def _add(self, child: Node) -> None:
        if not isinstance(child, Node):
            made = "worker(...), pool(...) or supervisor(...)"
            raise ChildSpecError(f"a child of {self.path} is made by {made}, and {child!r} is not")
        if child.state not in STARTABLE:
            raise AlreadyStartedError(child.path, child.state)
        self._grow(child)
        if self._children.setdefault(child.name, child) is not child:
            raise DuplicateNameError(self.path, child.name)

    def _grow(self, child: Node) -> None:
        """Count the levels of a tree of which `child` becomes a part. Raises TooDeepError."""
        height = child.height if isinstance(child, Supervisor) else 0
        above, node = 1, self.parent
        while isinstance(node, Node):
            above, node = above + isinstance(node, Supervisor), node.parent
        if above + height > MAX_LEVELS:
            raise TooDeepError(child.path, MAX_LEVELS)
        self.height = max(self.height, 1 + height)

    async def start(self, parent: Parent) -> None:
        """Start all children in order; if one fails, stop those already started, in reverse, and raise its error."""
        again = self.state is State.STOPPED
        self.parent = parent
        self.scheduler = parent.scheduler
        self.state = State.STARTING
        self._restarted.clear()
        for child in self.children:
            if child.state is State.STOPPED and not again:  # it had ended for good
                continue
            try:
                if child.state is State.RUNNING:  # it stands in another place too
                    raise AlreadyStartedError(child.path, child.state)  # noqa: TRY301 - as if its hook had raised
                await child.start(self)
                if self.state is not State.STARTING:
                    raise ActorKilledError(self.path)  # noqa: TRY301 - halted or stopped meanwhile: as if one had failed
            except BaseException:
                await self.halt()
                raise
        self.state = State.RUNNING
        if self.scheduler is not None:
            self._record.started_at = self.scheduler.time()
        early, self._early = self._early, []
        for child, error in early:
            self.child_exited(child, error)

    async def start_child(self, child: Node) -> None:
        """Add a child to the running supervisor. Raises what its start hook raises, and then has not added it.

        Raises SupervisorStoppedError, DuplicateNameError, and ActorKilledError if it is stopped while it starts.
        """
        self._own_start()
        self._add(child)
        try:
            await child.start(self)
        except BaseException:
            await child.stop()
            self._forget_name(child)
            raise

    async def stop_child(self, child: Node) -> None:
        """Stop a child and forget it, so that its name is free again. Raises NotAChildError."""
        self._own(child)
        await child.stop()
        self._forget_name(child)

    async def terminate_child(self, child: Node) -> None:
        """Stop a child and keep its place, unless it is temporary. Raises NotAChildError."""
        self._own(child)
        await child.stop()
        if child.spec.restart is Restart.TEMPORARY:
            self._forget_name(child)

    async def restart_child(self, child: Node) -> None:
        """Start a child again that has ended or was terminated. Its references are good again; no restart is counted.

        Raises NotAChildError, AlreadyStartedError, and what its start hook raises: then it stays stopped.
        """
        self._own(child)
        if child.state is not State.STOPPED:
            raise AlreadyStartedError(child.path, child.state)
        self._own_start()
        try:
            await child.start(self)
        except BaseException:
            await child.stop()
            raise

    def _own_start(self) -> None:
        if self.state not in OPEN:
            raise SupervisorStoppedError(self.path, self.state)

    def _own(self, child: Node) -> None:
        if self._children.get(child.name) is not child:
            raise NotAChildError(self.path, child.name)

    def _forget_name(self, child: Node) -> None:
        if self._children.get(child.name) is child:
            del self._children[child.name]

    async def halt(self) -> None:
        """See Node.halt: children end in reverse order, and keep their mailboxes."""
        if self.state is State.STOPPED:
            return
        self.state = State.STOPPING if self.state is State.STOPPING else State.CRASHED
        await self._abandon()
        for child in reversed(self.children):
            await child.halt()

    async def stop(self) -> None:
        """Stop all children for good, in reverse order."""
        self.state = State.STOPPING
        await self._abandon()
        for child in reversed(self.children):
            await child.stop()
            if self.state is not State.STOPPING:  # another stop was first, and it may have been started again since
                return
        self.state = State.STOPPED

    async def _abandon(self) -> None:
        """Give up the recoveries under way, but for the one that calls this."""
        self._early.clear()
        others = [task for task in self._recoveries if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)

    # Recovery --------------------------------------------------------------------------------------------------------

    def child_exited(self, child: Node, error: BaseException | None) -> None:
        """A child has crashed with `error`, or ended normally with None. Seen to when all children have started."""
        if self.state is State.STARTING:
            self._early.append((child, error))
        elif self.state is State.RUNNING and self.scheduler is not None:
            self._recovers(self.scheduler.new_task(self._recover(child, error), f"{self.path}!"))

    def _recovers(self, task: "asyncio.Task[None]") -> None:
        """Remember a recovery until it is done, to give it up at a stop."""
        self._recoveries[task] = None
        task.add_done_callback(self._recovered)

    def _recovered(self, task: "asyncio.Task[None]") -> None:
        self._recoveries.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and self.state is State.RUNNING and self.scheduler is not None:
            # Nobody is left who sees to the child: somebody else's code, a clock or a source of randomness, has failed.
            self._recovers(self.scheduler.new_task(self._escalate(self, error), f"{self.path}!"))

    async def _recover(self, child: Node, error: BaseException | None) -> None:
        if error is not None and isinstance(error, child.spec.escalate_on):
            await self._escalate(child, error)
        elif isinstance(error, Renewal):
            await self._renew(child)
        elif not child.spec.restarts_after(error):
            await self._let_go(child, error)
        elif self.strategy is Strategy.ONE_FOR_ONE:
            await self._restart([child], child, error)
        else:
            async with self._turn:
                if child.state is State.CRASHED:  # else it was restarted with its group meanwhile
                    await self._restart(self._group(child), child, error)

    async def _renew(self, child: Node) -> None:
        """Start a child anew that has asked for it; that is no restart. If its start fails, it has crashed."""
        async with self._turn:
            if child.state is not State.CRASHED:  # it was restarted with its group meanwhile
                return
            await child.halt()
            try:
                await child.start(self)
            except BaseException as failure:
                if isinstance(failure, ENDING) or is_being_cancelled():
                    raise
                if child.state in GOING:  # it was stopped while it started
                    return
                error = sound(failure)
                self._emit(events.Crashed(child.path, "on_start", error))
                await self._restart([child], child, error)

    async def _let_go(self, child: Node, error: BaseException | None) -> None:
        """An exit that is not followed by a restart. A temporary child leaves nothing, not even its name."""
        await child.stop_after(error)
        if child.spec.restart is Restart.TEMPORARY:
            self._forget_name(child)

    def _group(self, child: Node) -> list[Node]:
        first = self.children.index(child) if self.strategy is Strategy.REST_FOR_ONE else 0
        left_out = (State.NEW, State.STARTING, *GOING)  # somebody else is starting it, or has stopped it
        return [node for node in self.children[first:] if node.state not in left_out]

    async def _restart(self, group: list[Node], child: Node, error: BaseException | None) -> None:
        """Restart a group, as often as it takes and the intensity bears; `child` is the one that failed last.

        Temporary ones among it are only stopped. Of the rest of one, those before one that failed to start stay up.
        """
        while True:
            for node in reversed(group):
                await (self._let_go(node, None) if node.spec.restart is Restart.TEMPORARY else node.halt())
            if not self._bears():
                await self._escalate(child, error)
                return
            await asyncio.sleep(self._delay_s(child))
            for node in group:
                if node.state in GOING:  # as a temporary one, or by somebody else, while we waited
                    continue
                child = node
                node.record.restarts += 1
                try:
                    await node.start(self)
                except BaseException as failure:
                    if isinstance(failure, ENDING) or is_being_cancelled():
                        raise
                    if node.state in GOING:  # it was stopped while it started
                        continue
                    error = sound(failure)
                    self._emit(events.Crashed(node.path, "on_start", error))
                    group = group[group.index(node) :] if self.strategy is Strategy.REST_FOR_ONE else group
                    break
            else:
                return

    def _bears(self) -> bool:
        """Count a restart; False when that is one too many."""
        assert self.scheduler is not None  # noqa: S101 - only a started supervisor recovers
        now = self.scheduler.time()
        while self._restarted and self._restarted[0] < now - self.intensity.window_s:
            self._restarted.popleft()
        self._restarted.append(now)
        return len(self._restarted) <= self.intensity.restarts

    def _delay_s(self, child: Node) -> float:
        assert self.scheduler is not None  # noqa: S101 - see _bears
        backoff = child.spec.backoff
        record = child.record
        healthy = self.scheduler.time() - record.started_at >= backoff.healthy_s
        record.streak = 1 if healthy else record.streak + 1
        return backoff.delay_s(record.streak, self.scheduler.rng)

    async def _escalate(self, child: Node, error: BaseException | None) -> None:
        reason = EscalationError(self.path, child.name, self.intensity.restarts, self.intensity.window_s)
        reason.__cause__ = error
        await self.halt()
        self._emit(events.Escalated(self.path, reason))
        if self.parent is not None:
            self.parent.child_exited(self, reason)

    def _emit(self, event: events.Lifecycle) -> None:
        if self.scheduler is not None:
            self.scheduler.events.emit(event)

    def snapshot(self) -> TreeNode:
        """This supervisor and all below it, as of now."""
        return snapshot(self)

    def dump(self) -> TreeNode:
        """The name that `snapshot` had."""
        return self.snapshot()


def nursery_of(cell: Any) -> Supervisor:
    """A running supervisor of the children that an actor spawns: it adds no name to their paths."""
    nursery = Supervisor("children", ())
    nursery.name = ""
    nursery.parent, nursery.scheduler, nursery.state = cell, cell.scheduler, State.RUNNING
    return nursery


def is_being_cancelled() -> bool:
    """Whether somebody has cancelled the running task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def supervisor(name: str, *children: Any, **options: Any) -> Supervisor:
    """A supervisor of `children`, which start in this order; options are those of Supervisor."""
    return Supervisor(name, children, **options)
