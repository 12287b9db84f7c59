"""Handlers: which method takes which message, in which state. All mistakes show when the class is defined."""

import inspect
from asyncio import wrap_future
from collections.abc import Awaitable, Callable
from concurrent.futures import Future as ThreadFuture
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType, NoneType, UnionType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, Union, get_args, get_origin, overload

from callboard.runtime.actor.context import CURRENT
from callboard.runtime.actor.envelope import Envelope
from callboard.runtime.actor.errors import Refusal, WrongStateError, for_asker, sound
from callboard.runtime.actor.messages import Message, Request

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M", bound=Message)
Q = TypeVar("Q", bound=Request[Any])
Q_co = TypeVar("Q_co", bound=Request[Any], covariant=True)
M_co = TypeVar("M_co", bound=Message, covariant=True)

Handler = Callable[[Any, Any], Any]


class HandlerMarker:
    """The mark that `on` leaves on a method until its class is complete."""

    __slots__ = ("message", "method", "state")

    def __init__(self, message: type[Message], method: Handler, state: str | None) -> None:
        self.message = message
        self.method = method
        self.state = state


class DeferredReply(Generic[R]):
    """A reply that comes later than the handler's return. The handler returns it, the actor goes on, and whoever has
    kept it sets it: `reply = DeferredReply[int](); self.waiting.append(reply); return reply`. Several asks may wait for
    one, and those that come after it is set have it at once.

    The deadline of each ask holds. What is not set when the incarnation ends is ActorCrashedError to the asker.
    """

    __slots__ = ("_answer", "_asks")

    def __init_subclass__(cls) -> None:
        """Refuse: only the class itself is known to handlers' callers."""
        raise TypeError("DeferredReply has no subclasses: keep one beside what you would add")

    def __init__(self) -> None:
        self._asks: dict[Envelope, None] | None = None  # those that wait for it; None before the first
        self._answer: tuple[Any, BaseException | None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it, or may do so yet."""
        return self._asks is None or any(not ask.answered for ask in self._asks)

    def set(self, result: R) -> None:
        """Answer. Harmless when the asker has gone, or has an answer. Raises TypeError for what comes later itself."""
        if is_awaitable(result) or isinstance(result, (GeneratorType, AsyncGeneratorType, DeferredReply)):
            raise TypeError(f"a reply is set to what the asker gets, not to {result!r}: await it first")
        self._settle(result, None)

    def refuse(self, error: BaseException) -> None:
        """Answer with an error, a Refusal or any other; the actor lives on. Raises TypeError for what is no error."""
        error = error() if issubclass(type(error), type) else error  # type: ignore[operator]
        if not issubclass(type(error), BaseException):
            raise TypeError(f"a reply is refused with an error, not with {error!r}")
        self._settle(None, sound(error))

    def bind(self, envelope: Envelope) -> None:
        """A handler has returned it: it is the answer to this ask too."""
        self._asks = self._asks or {}
        if self._answer is not None:
            self._give(envelope, *self._answer)
            return
        self._asks[envelope] = None
        envelope.reply.add_done_callback(partial(self._leave, envelope))

    def _leave(self, envelope: Envelope, _reply: Any) -> None:
        if self._asks:
            self._asks.pop(envelope, None)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self._answer is None:
            self._answer = (result, error)
            asks, self._asks = self._asks, None if self._asks is None else {}
            for envelope in asks or ():
                self._give(envelope, result, error)

    def _give(self, envelope: Envelope, result: Any, error: BaseException | None) -> None:
        if error is None:
            envelope.answer(result)
        else:
            envelope.fail(for_asker(error, envelope.cell.path, envelope.message))


Reply: TypeAlias = T | Awaitable[T] | DeferredReply[T]  # of a plain handler, or of an async one


class Answers(Protocol[Q_co]):
    """A decorator for handlers of a request: they return its reply."""

    def __call__(self: "Answers[Request[T]]", method: Callable[[Any, Q_co], Reply[T] | Awaitable[Reply[T]]], /) -> Any:
        """Mark the method."""


class Takes(Protocol[M_co]):
    """A decorator for handlers of a plain message."""

    def __call__(self, method: Callable[[Any, M_co], Awaitable[None] | None], /) -> Any:
        """Mark the method."""


@overload
def on(message: type[Q], *, state: str | None = None) -> Answers[Q]: ...
@overload
def on(message: type[M], *, state: str | None = None) -> Takes[M]: ...
def on(message: type[Message], *, state: str | None = None) -> Any:
    """Make a method, plain or async, the handler of one type of message; with `state`, only in that state.

    What it returns is the reply of an ask; what it returns to be awaited, like `other.ask(...)`, is awaited first.
    Raises TypeError for what is not a Message class, and for a generator, whose body would never run.
    """
    if not (isinstance(message, type) and issubclass(message, Message)):
        raise TypeError(f"@on takes a Message class, not {message!r}")

    def mark(method: Handler) -> Any:
        if _is_generator(method):
            raise TypeError(
                f"the handler {method.__qualname__} of {message.__name__} is a generator, whose body would not run: "
                "return the reply, and do not yield"
            )
        return HandlerMarker(message, method, state)

    return mark


def _is_generator(method: Any) -> bool:
    """Whether a call only makes a generator. One of `types.coroutine` is awaited and is none."""
    while isinstance(method, partial):
        method = method.func
    if inspect.isasyncgenfunction(method):
        return True
    return inspect.isgeneratorfunction(method) and not method.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE


_PLAIN: set[type] = {NoneType, bool, int, str, float, bytes, list, dict, tuple, set, frozenset}  # no awaitables
_MOST_PLAIN = 4096


def to_await(result: Any) -> Any:
    """Return a handler's result as a coroutine if it must be awaited before it is a reply; else None.

    Raises TypeError for a generator. What class is none of either is remembered: it is asked about once.
    """
    kind = result.__class__
    if kind is CoroutineType:
        return result
    if kind in _PLAIN or kind is DeferredReply:
        return None
    if is_awaitable(result):
        return _wait(wrap_future(result) if isinstance(result, ThreadFuture) else result)
    if isinstance(result, (GeneratorType, AsyncGeneratorType)):
        raise TypeError(f"a handler returned the generator {result!r}, whose body has not run: return the reply")
    if len(_PLAIN) < _MOST_PLAIN:
        _PLAIN.add(kind)
    return None


def is_awaitable(result: Any) -> bool:
    """Whether a result comes later: a coroutine, a future, of a thread too, or what else is awaited."""
    return isinstance(result, ThreadFuture) or inspect.isawaitable(result)


async def _wait(result: Awaitable[Any]) -> Any:
    return await result


def _wrong_state(_actor: Any, message: Any) -> None:
    raise WrongStateError(message)


class Handlers:
    """The handlers of an actor class: `first`, those without a state, and for each state these and its own.

    Every table has each message of the protocol, and the envelope or tuple that may be around it. Of async handlers
    `concurrency` may run at once.
    """

    __slots__ = ("all", "by_state", "concurrency", "first")

    def __init__(self, tables: dict[str | None, dict[type[Message], Handler]], concurrency: int = 1) -> None:
        self.concurrency = concurrency
        plain = tables.get(None, {})
        self.all = frozenset(message for own in tables.values() for message in own)
        elsewhere: dict[type, Handler] = {**dict.fromkeys(self.all, _wrong_state), **WRAPPED}
        self.first: dict[type, Handler] = {**elsewhere, **plain}
        self.by_state = {state: {**self.first, **own} for state, own in tables.items() if state is not None}


enter = CURRENT.set


def open_envelope(actor: Any, envelope: Envelope) -> Any:
    """The handler of envelopes in every table: hand the message on, under its context; reply unless it takes longer.

    It is counted as handled by whoever calls, and any other fate is counted here against that.
    """
    cell = envelope.cell
    reply = envelope.reply
    if (reply is not None and reply.done()) or (
        envelope.deadline is not None and cell.scheduler.time() >= envelope.deadline
    ):
        return cell.too_late(envelope)
    message = envelope.message
    enter(envelope)
    try:
        result = cell.table[message.__class__](actor, message)
    except Refusal as refusal:
        if reply is None:
            raise
        cell.take_from_stash(envelope)
        envelope.fail(refusal)
        return None
    finally:
        enter(None)
    if reply is None or result.__class__ is CoroutineType:
        return result
    if result.__class__ not in _PLAIN and (later := to_await(result)) is not None:
        return later
    return reply_with(cell, envelope, result)


def reply_with(cell: Any, envelope: Envelope, result: Any) -> None:
    """The handler of an ask has returned `result`: it is the reply, unless that comes later."""
    if result.__class__ is DeferredReply:
        cell.defer(envelope, result)
    elif cell.cold is None or not cell.is_stashed(envelope):
        if envelope.minded:
            envelope.unmind()
        if envelope.deadline_queue is not None:
            envelope.deadline_queue.pop(envelope, None)
        if envelope.reply.done():
            cell.cold_state.counts.late += 1
        else:
            envelope.reply.set_result(result)


def open_told(actor: Any, item: tuple[Any, Any]) -> Any:
    """The handler of what is told under a context: hand the message on, under that."""
    message, context = item
    cell = actor._own_ref  # noqa: SLF001 - `ref` costs a call
    if context.deadline is not None and cell.scheduler.time() >= context.deadline:
        return cell.too_late(item)
    enter(context)
    try:
        return cell.table[message.__class__](actor, message)
    finally:
        enter(None)


WRAPPED: dict[type, Handler] = {Envelope: open_envelope, tuple: open_told}


def protocol_of(declared: object) -> frozenset[type[Message]]:
    """The message types that `Actor[A | B]` declares. Raises TypeError for what is neither a Message nor None."""
    members = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
    found: set[type[Message]] = set()
    for member in members:
        cls = get_origin(member) or member
        if cls in (None, NoneType):
            continue
        if not (isinstance(cls, type) and issubclass(cls, Message)):
            raise TypeError(f"an actor's protocol is a union of Message classes, and {member!r} is none")
        found.add(cls)
    return frozenset(found)


NO_HANDLERS = Handlers({})
Tables = dict[str | None, dict[type[Message], Handler]]


def collect(cls: type, inherited: Tables) -> Tables:
    """The handlers of a class by state and message; its marked methods become plain ones again.

    Raises TypeError for two handlers of one message in one state of one class.
    """
    tables = {state: dict(table) for state, table in inherited.items()}
    own: dict[tuple[str | None, type[Message]], str] = {}
    for name, value in list(vars(cls).items()):
        if not isinstance(value, HandlerMarker):
            continue
        key = (value.state, value.message)
        if key in own:
            raise TypeError(f"{cls.__name__} handles {value.message.__name__} twice: in {own[key]} and in {name}")
        own[key] = name
        tables.setdefault(value.state, {})[value.message] = value.method
        setattr(cls, name, value.method)
    return tables
