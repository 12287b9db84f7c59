"""Handlers: which method of an actor takes which message. All mistakes show when the class is defined."""

from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from callboard.runtime.message import Message, Request

M = TypeVar("M", bound=Message)

Handler = Callable[[Any, Any], Any]


class Marker:
    """What `on` leaves on a method until its class is complete."""

    __slots__ = ("message", "method")

    def __init__(self, message: type[Message], method: Handler) -> None:
        self.message = message
        self.method = method


def on(message: type[M]) -> Callable[[Callable[[Any, M], Any]], Any]:
    """Make a method, plain or async, the handler of one type of message.

    The handler's return value is the reply of an ask. Raises TypeError for what is not a Message class.
    """
    if not (isinstance(message, type) and issubclass(message, Message)):
        raise TypeError(f"@on takes a Message class, not {message!r}")

    def mark(method: Callable[[Any, M], Any]) -> Any:
        return Marker(message, method)

    return mark


def protocol_of(declared: object) -> frozenset[type[Message]]:
    """The message types that `Actor[A | B]` declares. Raises TypeError for what is neither a Message nor None."""
    members = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
    found: set[type[Message]] = set()
    for member in members:
        cls = get_origin(member) or member
        if cls in (None, NoneType, Request):
            continue
        if not (isinstance(cls, type) and issubclass(cls, Message)):
            raise TypeError(f"an actor's protocol is a union of Message classes, and {member!r} is none")
        found.add(cls)
    return frozenset(found)


def collect(cls: type, inherited: dict[type[Message], Handler]) -> dict[type[Message], Handler]:
    """Turn a class's marked methods into its handler table, and leave the plain methods in their place.

    Raises TypeError for two handlers of one message in one class.
    """
    table = dict(inherited)
    own: dict[type[Message], str] = {}
    for name, value in list(vars(cls).items()):
        if not isinstance(value, Marker):
            continue
        if value.message in own:
            raise TypeError(
                f"{cls.__name__} handles {value.message.__name__} twice: in {own[value.message]} and in {name}"
            )
        own[value.message] = name
        table[value.message] = value.method
        setattr(cls, name, value.method)
    return table
