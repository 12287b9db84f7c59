"""The parts of a department of no use, for tests of how departments fit together."""

from msgspec import Struct

from callboard.runtime import Actor, Ref, Request, on


class Ping(Request[str], frozen=True):
    """A message."""


class Pong(Actor[Ping]):
    @on(Ping)
    async def pong(self, _message: Ping) -> str:
        return "pong"


class Nothing(Struct, frozen=True):
    pass


class QuizRefs(Struct, frozen=True):
    quiz: Ref[Ping]
