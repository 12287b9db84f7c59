"""A place in the supervision tree, and what it needs of the place above it."""

from collections.abc import Coroutine
from enum import StrEnum
from typing import Any, Protocol

from callboard.runtime.dispatch.child_spec import ChildSpec
from callboard.runtime.dispatch.scheduler import Scheduler


class State(StrEnum):
    """Where a node is in its life. Up to CRASHED an actor takes messages; in RUNNING and DRAINING it handles them."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    CRASHED = "crashed"  # waits for its supervisor
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"


# Bound once: in Python 3.11 a look-up in an Enum takes longer than a message.
NEW, STARTING, RUNNING, STOPPED = State.NEW, State.STARTING, State.RUNNING, State.STOPPED
HANDLING = (RUNNING, State.DRAINING)
GOING = (State.STOPPING, STOPPED)


class Parent(Protocol):
    """The parent of a node: a supervisor, the system, or the actor that spawned it."""

    @property
    def name(self) -> str:
        """Its part of the path; empty if it has none."""
        raise NotImplementedError

    @property
    def parent(self) -> Any:
        """The parent above, or None."""

    @property
    def scheduler(self) -> Scheduler | None:
        """Where its children have their turns."""

    @property
    def path(self) -> str:
        """The full name."""
        raise NotImplementedError

    def child_exited(self, child: "Node", error: BaseException | None, /) -> None:
        """A child has crashed with `error`, or ended normally with None."""


class Node:
    """A place in the tree: an actor, a pool or a supervisor. Its supervisor calls start, halt and stop."""

    __slots__ = ("__weakref__", "name", "parent", "scheduler", "spec", "state")

    def __init__(self, name: str, spec: ChildSpec) -> None:
        if not isinstance(name, str) or not name.strip() or "/" in name or not name.isprintable():
            raise ValueError(f"a child's name is a word without a slash, of characters that show, not {name!r}")
        self.name = name
        self.spec = spec
        self.state = NEW
        self.parent: Parent | None = None
        self.scheduler: Scheduler | None = None

    @property
    def path(self) -> str:
        """The full name, `callboard/identity/sessions`; before the start only its end."""
        names, node = [self.name], self.parent
        while node is not None:
            names.append(node.name)
            node = node.parent
        return "/".join(name for name in reversed(names) if name)

    def clock(self) -> Scheduler | None:
        """See Ref.clock."""
        return self.scheduler

    def start(self, parent: Parent) -> Coroutine[Any, Any, None]:
        """Start, or start again after `halt`. Raises what the start hook raised; then nothing is left running."""
        raise NotImplementedError

    async def halt(self) -> None:
        """End what runs, keep what waits: the first half of a restart."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End for good, within the time of the child spec."""
        raise NotImplementedError

    async def stop_after(self, reason: BaseException | None) -> None:  # noqa: ARG002 - who has watchers tells them
        """End for good after an exit that is not followed by a restart; `reason` None is a normal one."""
        await self.stop()

    @property
    def record(self) -> "RestartRecord":
        """How often it has been restarted, for the backoff."""
        raise NotImplementedError


class RestartRecord:
    """A node's restarts: in all, in a row, and when it was last started, in the event loop's time."""

    __slots__ = ("restarts", "started_at", "streak")

    def __init__(self) -> None:
        self.restarts = 0
        self.streak = 0
        self.started_at = 0.0
