"""Messages: frozen Structs that actors exchange, in process as objects and on Kafka as the same type's JSON."""

from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import msgspec

T_co = TypeVar("T_co", covariant=True)
Q_co = TypeVar("Q_co", covariant=True)


class Message(msgspec.Struct, frozen=True):
    """One thing that an actor can be told. Immutable, so that sender and receiver share it safely."""


class Request(Message, Generic[T_co], frozen=True):
    """A message that names its reply: `class GetUser(Request[User])` makes `await ref.ask(GetUser(id))` a `User`."""

    if TYPE_CHECKING:

        def asked(self) -> "Pair[Self, T_co]":
            """Say to a type checker what class of request this is, and what its reply is."""
            raise NotImplementedError


class Pair(Generic[Q_co, T_co]):
    """A request's class and its reply's: only type checkers ever see one."""


class Asked(Protocol[Q_co, T_co]):
    """A request that is one of the messages Q and has a reply T: what `Ref.ask` takes."""

    def asked(self) -> Pair[Q_co, T_co]:
        """See Request."""
        raise NotImplementedError
