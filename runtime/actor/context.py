"""Contexts: each message carries its trace, its deadline and the program's baggage beside its fields."""

from contextvars import ContextVar
from typing import Any

import msgspec


class Context(msgspec.Struct, frozen=True):
    """`traceparent` is W3C Trace Context's header; `deadline` is in the event loop's time, seconds. `baggage` is any
    value of the program's own, such as the origin of a request: it goes wherever the trace goes within the process.
    """

    traceparent: str | None = None
    deadline: float | None = None
    baggage: Any = None

    def carries(self) -> "Context":
        """The context of what is sent under this one: itself."""
        return self


CURRENT: ContextVar[Any] = ContextVar("callboard_context", default=None)  # a Context, an Envelope or None


def current_context() -> Context | None:
    """The context of the message or request that is being handled, or None outside of any."""
    current = CURRENT.get()
    return None if current is None else current.carries()


class use_context:  # noqa: N801 - it reads as what it does
    """Run a block under `context`: what it tells and asks carries it. A class, since each request enters one."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context | None) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = CURRENT.set(self._context)

    def __exit__(self, *_: object) -> None:
        CURRENT.reset(self._token)
