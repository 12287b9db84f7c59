"""The actor: state, a protocol of messages, one handler for each, and hooks for its life."""

from inspect import signature
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args, get_origin

from callboard.runtime.actor.errors import NotStartedError
from callboard.runtime.actor.handlers import NO_HANDLERS, HandlerMarker, Handlers, Tables, collect, protocol_of
from callboard.runtime.actor.messages import Message
from callboard.runtime.actor.ref import Ref

M = TypeVar("M", bound=Message | None)
C = TypeVar("C", bound=Ref[Any])


class Timer(Protocol):
    """A pending `after` or `every`."""

    def cancel(self) -> None:
        """Tick no more, not even with a tick that waits in the mailbox. Harmless when that was handled before."""


class ActorContext(Ref[M]):
    """An actor's own reference: an address, and what it may ask of the runtime for itself. See Actor's methods."""

    __slots__ = ()

    def start_timer(self, message: Any, delay_s: float, interval_s: float | None = None) -> Timer:
        """See Actor.after and Actor.every."""
        raise NotImplementedError

    def watch(self, ref: Ref[Any]) -> None:
        """See Actor.watch."""
        raise NotImplementedError

    def unwatch(self, ref: Ref[Any]) -> None:
        """See Actor.unwatch."""
        raise NotImplementedError

    def exit(self, reason: str | None = None, *, renews: bool = False) -> None:
        """See Actor.stop and Actor.renew."""
        raise NotImplementedError

    def become(self, state: str | None) -> None:
        """See Actor.become."""
        raise NotImplementedError

    def stash(self, message: Any) -> None:
        """See Actor.stash."""
        raise NotImplementedError

    def unstash(self) -> None:
        """See Actor.unstash."""
        raise NotImplementedError

    async def spawn(self, child: Any) -> None:
        """See Actor.spawn."""
        raise NotImplementedError

    def find(self, path: str) -> Ref[Any]:
        """See Actor.find."""
        raise NotImplementedError


def _check_names(cls: type) -> None:
    """Raise TypeError for a handler with the name of something that every actor has, and for a hook with arguments."""
    for name, value in vars(cls).items():
        if name not in vars(Actor):
            continue
        if isinstance(value, HandlerMarker):
            raise TypeError(
                f"{cls.__name__}.{name} handles {value.message.__name__}: {name} is a method of every actor"
            )
        if name in HOOKS and len(signature(value).parameters) > 1:
            raise TypeError(
                f"{cls.__name__}.{name} is called without arguments: mark a handler with @on, by another name"
            )


HOOKS = frozenset({"on_start", "run", "on_stop"})


class Actor(Generic[M]):
    """Subclass with the messages it takes: `class Counter(Actor[Add | Get])`; `Actor[None]` takes none.

    A message of that union without a handler is a TypeError when the class is defined. Handlers run one at a time, in
    the order the messages came. An exception in one crashes the actor: its supervisor decides, and a restart makes a
    new instance behind the same reference. A `Refusal` is only an answer. With `__slots__` an actor is half the size.

    A class that sets a `concurrency` lets so many of its async handlers run at once, begun in the order the messages
    came; a crash of one ends them all, and such an actor cannot stash.
    """

    __slots__ = ("_own_ref",)  # set by its cell

    protocol: ClassVar[frozenset[type[Message]]] = frozenset()
    handlers: ClassVar[Handlers] = NO_HANDLERS
    concurrency: ClassVar[int] = 1
    _tables: ClassVar[Tables] = {}

    _own_ref: ActorContext[M]

    def __init_subclass__(cls) -> None:
        """Collect the handlers, and hold them against the declared protocol."""
        super().__init_subclass__()
        if Actor in cls.__bases__ and "__orig_bases__" not in vars(cls):
            raise TypeError(
                f"{cls.__name__} declares no protocol: write Actor[One | Two], or Actor[None] if it takes none"
            )
        _check_names(cls)
        cls._tables = collect(cls, cls._tables)
        if cls.concurrency < 1:
            raise TypeError(f"{cls.__name__} runs at least 1 handler at once, not {cls.concurrency}")
        cls.handlers = Handlers(cls._tables, cls.concurrency)
        for base in getattr(cls, "__orig_bases__", ()):
            if isinstance(origin := get_origin(base), type) and issubclass(origin, Actor):
                (declared,) = get_args(base)
                if not isinstance(declared, TypeVar):
                    cls.protocol = cls.protocol | protocol_of(declared)
        missing = sorted(message.__name__ for message in cls.protocol - cls.handlers.all)
        if missing:
            raise TypeError(f"{cls.__name__} declares {', '.join(missing)} and has no handler for it")
        surplus = sorted(message.__name__ for message in cls.handlers.all - cls.protocol)
        if surplus:
            raise TypeError(f"{cls.__name__} handles {', '.join(surplus)} and does not declare it: Actor[...]")

    @property
    def ref(self) -> ActorContext[M]:
        """This actor's own reference. Raises NotStartedError in `__init__`."""
        try:
            return self._own_ref
        except AttributeError:
            raise NotStartedError(type(self).__name__) from None

    async def on_start(self) -> None:
        """Runs before the first message of each incarnation. If it raises, the start has failed."""

    async def run(self) -> None:
        """Life-long work beside the handlers, if the actor has any.

        To raise is to crash, to return is a normal exit, and it is cancelled when the actor stops.
        """

    async def on_stop(self) -> None:
        """Runs at the end of each incarnation, after a crash too; shielded, and bounded by the child's `shutdown_s`."""

    def after(self, delay_s: float, message: Any) -> Timer:
        """Tell this actor `message` in `delay_s` seconds, unless it is stopped or restarted before."""
        return self.ref.start_timer(message, delay_s)

    def every(self, interval_s: float, message: Any) -> Timer:
        """Tell this actor `message` each `interval_s` seconds. One tick at a time: while it waits or is being handled,
        and while the mailbox is full, the next ones are skipped.

        Raises ValueError for an interval of no time, and both raise UnhandledMessageError.
        """
        return self.ref.start_timer(message, interval_s, interval_s)

    def watch(self, ref: Ref[Any]) -> None:
        """Be told `Terminated`, exactly once, when that actor has ended for good, even if it has already.

        Restarts are no end. `Terminated` must be in this actor's protocol.
        """
        self.ref.watch(ref)

    def unwatch(self, ref: Ref[Any]) -> None:
        """Be told no more. A notice that waits in the mailbox already is not taken back."""
        self.ref.unwatch(ref)

    def stop(self, reason: str | None = None) -> None:
        """End this incarnation after the current message, or after its start; the restart type says what follows.

        Without a reason it is a normal exit. With one it is a Shutdown, which differs in what watchers are told.
        """
        self.ref.exit(reason)

    def renew(self) -> None:
        """End this incarnation after the current message, and have a new instance go on with what waits.

        It is no failure: the supervisor counts no restart and leaves the siblings alone. In `on_start` it is a stop.
        """
        self.ref.exit("renewed", renews=True)

    def become(self, state: str | None) -> None:
        """Handle messages as in `state` from the next one on: by the handlers of `@on(..., state=state)` and those
        without a state. None is the state before any. A restart begins there. Raises ValueError for an unknown one.
        """
        self.ref.become(state)

    def stash(self, message: Any) -> None:
        """Put the message being handled aside; it has no fate yet. Return right after: its reply comes later."""
        self.ref.stash(message)

    def unstash(self) -> None:
        """Put all that was stashed before whatever waits, in the order it came."""
        self.ref.unstash()

    async def spawn(self, child: C) -> C:
        """Start a child of this actor's own: `worker(...)`, `pool(...)`, `supervisor(...)`. It stops when this
        incarnation ends, and is supervised as by `one_for_one`: when it crashes too often this actor crashes.

        Raises what `start_child` of a supervisor raises.
        """
        await self.ref.spawn(child)
        return child

    def find(self, path: str) -> Ref[Any]:
        """The actor, pool or entities at a path below the root: `find("identity/users")`. Raises ActorNotFoundError."""
        return self.ref.find(path)
