"""Lifecycle events: what the runtime tells anyone who subscribes; logs, metrics and the console are built on them."""

import msgspec

from callboard.runtime.actor.errors import as_text
from callboard.runtime.actor.messages import Message


def _for_json(value: object) -> str:
    """Text that JSON takes: no half of a surrogate pair."""
    return as_text(value, repr).encode("utf-8", "backslashreplace").decode()


class Lifecycle(msgspec.Struct, frozen=True):
    """Root of the events; `actor` is the full name, `callboard/identity/sessions/0`."""

    actor: str


class Started(Lifecycle, frozen=True):
    """An actor's first incarnation has started."""


class Restarted(Lifecycle, frozen=True):
    """A new incarnation has started; `restarts` counts them since the tree was made."""

    restarts: int


class Stopped(Lifecycle, frozen=True):
    """An actor has ended and will not be restarted by its supervisor."""


class Crashed(Lifecycle, frozen=True):
    """A handler, `run` or a hook raised. `message` is the type of what was being handled, if anything was."""

    message: str | None
    error: BaseException


class Escalated(Lifecycle, frozen=True):
    """A supervisor has used up its restart intensity and given up."""

    error: BaseException


class DeadLettered(Lifecycle, frozen=True):
    """An accepted message was left over when its actor stopped, or crashed it more often than it may be retried."""

    message: object
    error: BaseException | None = None

    @property
    def data(self) -> bytes:
        """The message as JSON; what JSON has no form for stands in it as text."""
        try:
            return msgspec.json.encode(self.message, enc_hook=_for_json)
        except Exception:  # noqa: BLE001 - whatever a message holds, its type and its text are told
            return msgspec.json.encode({"type": type(self.message).__name__, "text": _for_json(self.message)})


class Overflowed(Lifecycle, frozen=True):
    """A full mailbox has rejected or dropped a message."""

    message: object


class Refused(Lifecycle, frozen=True):
    """A message that was told, not asked, was refused: nobody waits for the answer."""

    message: object
    error: BaseException


class HandlerBlocked(Lifecycle, frozen=True):
    """A handler has held up the event loop. `message` is the type it was handling, or what else the actor was at: run,
    a hook, a method; `where` is the line it was in when it was last seen, `file:number`.
    """

    message: str
    milliseconds: int
    where: str = ""


class Terminated(Message, frozen=True):
    """An actor that the receiver watches has ended for good, and why (None: it was stopped)."""

    actor: str
    reason: str | None
