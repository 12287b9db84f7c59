"""What a place in the supervision tree is: the child spec that says how to run it, the node, and its picture."""

import random
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from callboard.runtime.errors import ChildSpecError, Shutdown
from callboard.runtime.mailbox import Counts, Mailbox

if TYPE_CHECKING:
    from callboard.runtime.supervisor import Supervisor
    from callboard.runtime.system import System


class Restart(StrEnum):
    """Which exits of a child are followed by a restart (OTP's restart types)."""

    PERMANENT = "permanent"  # every exit
    TRANSIENT = "transient"  # a crash, not a normal exit nor a shutdown
    TEMPORARY = "temporary"  # none

    def after(self, error: BaseException | None) -> bool:
        """Whether an exit with `error`, or a normal one with None, is followed by a restart."""
        if self is Restart.TRANSIENT:
            return error is not None and not isinstance(error, Shutdown)
        return self is Restart.PERMANENT


class Abandoned(StrEnum):
    """What becomes of a handler whose asker has gone, by its deadline or by being cancelled."""

    CANCEL = "cancel"
    FINISH = "finish"  # what it does must not be left half done; its reply is counted as late


class Backoff(msgspec.Struct, frozen=True):
    """Seconds to wait before the nth restart in a row: initial_s * factor ** (n - 1), at most max_s.

    `jitter` takes off a random share, up to itself. A child that has been up for `healthy_s` starts again at n = 1.
    The default restarts at once, as OTP does.
    """

    initial_s: float = 0.0
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.0
    healthy_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse waits that shrink, or less than none."""
        if not (self.initial_s >= 0 and self.factor >= 1 and self.max_s >= 0 and 0 <= self.jitter <= 1):
            raise ValueError(
                f"a backoff waits 0 s or more, by a factor of 1 or more, with a jitter of 0 to 1, not {self}"
            )

    def delay_s(self, n: int, rng: random.Random) -> float:
        """The wait before the nth restart in a row, n from 1."""
        try:
            delay = self.initial_s * self.factor ** min(n - 1, 64)
        except OverflowError:
            delay = self.max_s
        return min(self.max_s, delay) * (1 - self.jitter * rng.random())


class Retry(msgspec.Struct, frozen=True):
    """How often a message whose handler crashed is handled again, after the restart; then it is a dead letter.

    The default is never, and then the message has failed: whether it may be repeated only its author knows.
    """

    times: int = 0

    def __post_init__(self) -> None:
        """Refuse less than never."""
        if self.times < 0:
            raise ValueError(f"a message is tried again 0 times or more, not {self.times}")


class ChildSpec(msgspec.Struct, frozen=True):
    """How a supervisor runs a child. `shutdown_s` bounds each step of a stop; many children may share one spec."""

    mailbox: Mailbox = Mailbox()
    restart: Restart = Restart.PERMANENT
    backoff: Backoff = Backoff()
    retry: Retry = Retry()
    shutdown_s: float = 5.0
    abandoned: Abandoned = Abandoned.CANCEL


DEFAULT = ChildSpec()


def spec_of(name: str, fields: dict[str, Any]) -> ChildSpec:
    """The child spec with these fields, given by name. Raises ChildSpecError, which says what there is."""
    if not fields:
        return DEFAULT
    unknown = ", ".join(sorted(fields.keys() - set(ChildSpec.__struct_fields__)))
    if unknown:
        raise ChildSpecError(
            f"the child spec of {name} has no {unknown}; it has {', '.join(ChildSpec.__struct_fields__)}"
        )
    try:
        return msgspec.convert(fields, ChildSpec)
    except msgspec.ValidationError as error:
        known = {field.name: field.type for field in msgspec.structs.fields(ChildSpec)}
        wanted = ", ".join(f"{field}: {getattr(known[field], '__name__', known[field])}" for field in fields)
        raise ChildSpecError(
            f"the child spec of {name} is not of the right types: {error}; it wants {wanted}"
        ) from None


class State(StrEnum):
    """Where a node is in its life. Up to CRASHED an actor takes messages; in RUNNING and DRAINING it handles them."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    CRASHED = "crashed"  # waits for its supervisor
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"


class TreeNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node of the tree as an operator sees it.

    Depth and capacity in messages; `current` is the type being handled; `handled_per_s` is the rate since somebody last
    looked, a second ago or more. `oldest_s` is for how long what waits has been waiting for a handler that takes its
    time, a restart or a start: the age of the oldest message as far as it can be known without a stamp on each.
    """

    name: str
    kind: str
    state: str
    restarts: int = 0
    depth: int | None = None
    capacity: int | None = None
    current: str | None = None
    oldest_s: float | None = None
    handled_per_s: float | None = None
    counts: Counts | None = None
    children: list["TreeNode"] = []


class Node:
    """A place in the tree: an actor, a pool or a supervisor. Its supervisor calls start, halt and stop."""

    __slots__ = ("__weakref__", "name", "parent", "spec", "state", "system")

    def __init__(self, name: str, spec: ChildSpec) -> None:
        if not name or "/" in name:
            raise ValueError(f"a child's name is a word without a slash, not {name!r}")
        self.name = name
        self.spec = spec
        self.state = State.NEW
        self.parent: Supervisor | System | None = None
        self.system: System | None = None

    @property
    def path(self) -> str:
        """The full name, `callboard/identity/sessions`; before the start only its end."""
        names, node = [self.name], self.parent
        while isinstance(node, Node):
            names.append(node.name)
            node = node.parent
        return "/".join(reversed(names))

    async def start(self, parent: "Supervisor | System") -> None:
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

    def dump(self) -> TreeNode:
        """This node, and all below it, as of now."""
        raise NotImplementedError

    @property
    def record(self) -> "Record":
        """How often it has been restarted, for the backoff."""
        raise NotImplementedError


class Record:
    """A node's restarts: in all, in a row, and when it was last started, in the event loop's time."""

    __slots__ = ("restarts", "started_at", "streak")

    def __init__(self) -> None:
        self.restarts = 0
        self.streak = 0
        self.started_at = 0.0
