"""Errors between actors. Each message says what to do about it."""

import asyncio
from collections.abc import Callable


class RuntimeFault(Exception):  # noqa: N818 - the root names the library's faults; each child says its own kind
    """Root of every error that the runtime itself raises."""


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error of the actor
    """Raise it in a handler to answer "no": it goes to the asker, and the actor lives on. Anything else is a crash."""


class AskTimeoutError(RuntimeFault, TimeoutError):
    """No reply before the deadline. What was asked may have happened: ask again only what may be repeated."""

    def __init__(self, actor: str, message: object) -> None:
        self.actor = actor
        self.message = message
        super().__init__(f"{actor} gave no reply to {type(message).__name__} before the deadline")


class AskCycleError(RuntimeFault):
    """An ask would wait for an actor that already waits for the asker. Tell instead, or reply later."""

    def __init__(self, chain: tuple[str, ...]) -> None:
        self.chain = chain
        super().__init__(f"ask cycle, each waiting for the next: {' -> '.join(chain)}")


class MailboxFullError(RuntimeFault):
    """The mailbox is at its capacity; `message` is handed back. Slow down, or enlarge the pool or the mailbox."""

    def __init__(self, actor: str, message: object, capacity: int) -> None:
        self.actor = actor
        self.message = message
        super().__init__(
            f"the mailbox of {actor} is full ({capacity} messages); {type(message).__name__} is returned: "
            "slow down, or enlarge the mailbox or the pool"
        )


class ActorStoppedError(RuntimeFault):
    """The actor takes no messages any more; `message` is handed back."""

    def __init__(self, actor: str, message: object) -> None:
        self.actor = actor
        self.message = message
        super().__init__(
            f"{actor} has stopped; {type(message).__name__} is returned: send it elsewhere, or start the actor again"
        )


class PoolStoppedError(RuntimeFault):
    """The pool has stopped, and cannot be resized any more."""

    def __init__(self, pool: str) -> None:
        super().__init__(f"{pool} has stopped and cannot be resized: start its system again")


class SupervisorStoppedError(RuntimeFault):
    """The supervisor does not run, or not yet again, and starts no children. Add them to the one that runs."""

    def __init__(self, supervisor: str, state: str) -> None:
        super().__init__(f"{supervisor} is {state} and starts no children: start them when it runs")


class ActorCrashedError(RuntimeFault):
    """The actor crashed while it handled the message, for a reason that lies outside of the handler."""

    def __init__(self, actor: str, message: object) -> None:
        self.actor = actor
        self.message = message
        what = "" if message is None else f" while it handled {type(message).__name__}"
        super().__init__(f"{actor} crashed{what}")


class ActorKilledError(RuntimeFault):
    """The actor was killed; what it was doing has failed."""

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} was killed")


class WrongStateError(Refusal):
    """The actor handles this type of message, but not in its present state. Ask again later, or stash there."""

    def __init__(self, message: object) -> None:
        super().__init__(f"{type(message).__name__} is not handled in the present state")


class OutsideLoopError(RuntimeFault):
    """No event loop runs here. Ask from async code, or tell; make a System where its loop runs."""

    def __init__(
        self, what: str = "an ask waits on the running event loop, and none runs: ask from async code, or tell_nowait"
    ) -> None:
        super().__init__(what)


class NotStartedError(RuntimeFault, AttributeError):
    """The actor has no reference yet: in `__init__` it is not in the tree. Do it in `on_start`."""

    def __init__(self, actor: str) -> None:
        super().__init__(
            f"{actor} has no `ref` yet, and so no timers, stash or watching: do in on_start what needs them, not in "
            "__init__"
        )


class TooDeepError(RuntimeFault, ValueError):
    """Supervisors, or actors that spawn, stand in each other deeper than a tree may be. Make the tree flatter."""

    def __init__(self, node: str, limit: int) -> None:
        super().__init__(f"{node} would stand more than {limit} levels deep: make the tree flatter")


class UnhandledMessageError(RuntimeFault, TypeError):
    """The actor has no handler for this type of message."""

    def __init__(self, actor: str, message: object, handled: list[str]) -> None:
        self.actor = actor
        self.message = message
        super().__init__(
            f"{actor} does not handle {type(message).__name__}; it handles {', '.join(handled) or 'nothing'}: "
            "send it elsewhere, or declare it in Actor[...] and give it a handler"
        )


class DuplicateNameError(RuntimeFault, ValueError):
    """A supervisor has a child of this name already. Choose another, or stop the old one first."""

    def __init__(self, supervisor: str, name: str) -> None:
        super().__init__(
            f"{supervisor} has a child named {name!r} already: choose another name, or stop that one first"
        )


class ChildSpecError(RuntimeFault, TypeError):
    """The argument is not a valid child specification, or not a valid field of one. Raised before any start."""


class AlreadyStartedError(RuntimeFault):
    """A system or a child was started a second time. One tree has it, once; make another for another place."""

    def __init__(self, node: str, state: str) -> None:
        super().__init__(f"{node} is {state}: only what has been stopped is started again, and only in one place")


class NotAChildError(RuntimeFault, LookupError):
    """The supervisor has no such child."""

    def __init__(self, supervisor: str, child: str) -> None:
        super().__init__(f"{supervisor} has no child {child!r}: add it with start_child")


class ActorNotFoundError(RuntimeFault, LookupError):
    """There is no actor, pool or entities at a path."""

    def __init__(self, path: str, above: str, known: list[str]) -> None:
        self.path = path
        super().__init__(f"there is no actor at {path!r}; below {above} there are {', '.join(known) or 'none'}")


class ConcurrentStashError(RuntimeFault):
    """An actor that runs several handlers at once cannot put messages aside. Give it a concurrency of 1."""

    def __init__(self, actor: str, message: object) -> None:
        self.actor = actor
        self.message = message
        super().__init__(
            f"{actor} runs several handlers at once and cannot stash {type(message).__name__}: "
            "only an actor with a concurrency of 1 puts messages aside"
        )


class StashFullError(RuntimeFault):
    """An actor has put as many messages aside as its mailbox holds. Unstash earlier, or enlarge the mailbox."""

    def __init__(self, actor: str, message: object, capacity: int) -> None:
        self.actor = actor
        self.message = message
        super().__init__(
            f"{actor} has {capacity} messages stashed, as many as its mailbox holds, and cannot stash "
            f"{type(message).__name__}: unstash earlier, or enlarge the mailbox"
        )


class WrongLoopError(RuntimeFault):
    """An ask came from another event loop, in another thread, than the one the actor lives on."""

    def __init__(self, actor: str) -> None:
        super().__init__(
            f"{actor} lives on another event loop: ask there, by asyncio.run_coroutine_threadsafe, or tell, by "
            "loop.call_soon_threadsafe(ref.tell_nowait, message)"
        )


class Shutdown(RuntimeFault):
    """The reason of an actor that ended itself by `self.stop(reason)`: OTP's `shutdown`. A transient child that ends so
    is not restarted.
    """


class Renewal(Shutdown):
    """The reason of an actor that ended itself by `self.renew()`: a new instance follows, whatever its restart type."""


class SettingsError(RuntimeFault, ValueError):
    """Settings of pools are bad; `faults` names each by its path: `pools.mail.size: must be 1 or more`."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class EntitiesFullError(RuntimeFault):
    """As many entities as may be are awake, and none is idle; `message`, for one more, is handed back."""

    def __init__(self, actor: str, message: object, limit: int) -> None:
        self.actor = actor
        self.message = message
        super().__init__(
            f"{actor} has {limit} entities awake and none is idle; {type(message).__name__} is returned: "
            "raise the limit, or try again later"
        )


class EscalationError(RuntimeFault):
    """A supervisor gave up: a child crashed more often than its restart intensity allows. `__cause__` says how."""

    def __init__(self, supervisor: str, child: str, restarts: int, window_s: float) -> None:
        self.supervisor = supervisor
        self.child = child
        super().__init__(
            f"{supervisor} gave up on {child}: more than {restarts} restarts in {window_s:g} s; see the cause"
        )


def format_causes(error: BaseException | None) -> str:
    """An error and its chain of causes, up to MOST_CAUSES, on one line: `A: why <- B: why`."""
    parts: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen and len(parts) < MOST_CAUSES:
        error = sound(error)
        seen.add(id(error))
        text = as_text(error).strip().split("\n", 1)[0]
        parts.append(f"{type(error).__name__}: {text}" if text else type(error).__name__)
        error = error.__context__ if error.__cause__ is None else error.__cause__
    return " <- ".join(parts)


def as_text(value: object, how: Callable[[object], str] = str) -> str:
    """A value as text; one whose own method for that fails is told by its type."""
    try:
        return how(value)
    except ENDING:
        raise
    except BaseException as error:  # noqa: BLE001 - it is somebody else's code, and what it describes must not be lost
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def sound(error: BaseException) -> BaseException:
    """The error itself, unless its own code fails when it is asked for its class or cause: then one that says so."""
    try:
        _ = (isinstance(error, RuntimeFault), error.__cause__, error.__context__, error.__traceback__)
    except ENDING:
        raise
    except BaseException as fault:  # noqa: BLE001 - as in `as_text`
        return RuntimeError(
            f"an error of the class {type(error).__qualname__} that raises {type(fault).__name__} itself"
        )
    else:
        return error


def for_asker(error: BaseException, actor: str, message: object) -> BaseException:
    """A handler's error as an answer. A future, a generator or a task would take some for their own: these are causes
    of an ActorCrashedError.
    """
    if not isinstance(error, SPECIAL):
        return error
    crashed = ActorCrashedError(actor, message)
    crashed.__cause__ = error
    return crashed


MOST_CAUSES = 16  # of one error, told in a line
ENDING = (KeyboardInterrupt, SystemExit)  # they are a crash too, and then end the program
SPECIAL = (StopIteration, StopAsyncIteration, GeneratorExit, asyncio.CancelledError, *ENDING)
