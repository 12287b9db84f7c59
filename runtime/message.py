"""Messages: frozen Structs that actors exchange, in process as objects and on Kafka as the same type's JSON."""

from typing import Generic, TypeVar

import msgspec

T_co = TypeVar("T_co", covariant=True)


class Message(msgspec.Struct, frozen=True):
    """What an actor can be told. Immutable, so that sender and receiver share it safely."""


class Request(Message, Generic[T_co], frozen=True):
    """A message that names its reply: `class GetUser(Request[User])` makes `await ref.ask(GetUser(id))` a `User`."""
