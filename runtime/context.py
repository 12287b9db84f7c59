"""What travels with every message beside its fields: the trace it belongs to, its deadline, and who waits for whom."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec


class Context(msgspec.Struct, frozen=True):
    """`traceparent` is W3C Trace Context's header; `deadline` is in the event loop's time, seconds.

    `chain` names the actors whose handlers wait for this message's reply, outermost first.
    """

    traceparent: str | None = None
    deadline: float | None = None
    chain: tuple[str, ...] = ()


CURRENT: ContextVar[Context | None] = ContextVar("callboard_context", default=None)


def current_context() -> Context | None:
    """The context of the message or request that is being handled, or None outside of any."""
    return CURRENT.get()


@contextmanager
def use_context(context: Context | None) -> Iterator[None]:
    """Run a block under `context`: what it tells and asks carries it."""
    token = CURRENT.set(context)
    try:
        yield
    finally:
        CURRENT.reset(token)
