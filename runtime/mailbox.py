"""Bounded mailboxes: how many messages may wait for an actor, and what happens to one too many."""

from collections.abc import Generator
from enum import StrEnum
from typing import Any

import msgspec

from callboard.runtime.context import Context


class Overflow(StrEnum):
    """What a full mailbox does with one more message."""

    WAIT = "wait"  # the sender waits for room; tell_nowait is refused
    REJECT = "reject"  # MailboxFullError, with the message in it
    DROP_NEWEST = "drop_newest"  # the message is dropped, and counted
    DROP_OLDEST = "drop_oldest"  # the message that has waited longest is dropped, and counted


class Mailbox(msgspec.Struct, frozen=True):
    """A capacity in messages, at least 1, and what overflow does. An ask that would be dropped is refused instead."""

    capacity: int = 1024
    overflow: Overflow = Overflow.WAIT

    def __post_init__(self) -> None:
        """Refuse a capacity that could hold nothing."""
        if self.capacity < 1:
            raise ValueError(f"a mailbox holds at least 1 message, not {self.capacity}")


class Counts(msgspec.Struct):
    """Every accepted message has exactly one fate.

    accepted = handled + failed + expired + dropped + dead_lettered + returned + pending, at every instant.
    `late` counts replies that came after the asker's deadline; such a message is counted as handled too.
    """

    accepted: int = 0
    handled: int = 0  # the handler returned, or refused an ask
    failed: int = 0  # the handler crashed, was killed, or refused what was only told
    expired: int = 0  # its deadline passed before the handler ended
    dropped: int = 0  # by drop_newest or drop_oldest
    dead_lettered: int = 0  # told, and left over at the stop
    returned: int = 0  # asked, and handed back to the asker: left over at the stop, or withdrawn by cancellation
    pending: int = 0  # waiting, or being handled
    late: int = 0


class Envelope:
    """A message with what travels beside it: only messages that have a context or want a reply are wrapped."""

    __slots__ = ("cell", "context", "expired", "message", "reply")

    def __init__(self, message: Any, context: Context, reply: Any = None) -> None:
        self.message = message
        self.context = context
        self.reply = reply  # the asker's future, None for a tell
        self.cell: Any = None  # the cell that accepted it
        self.expired = False  # the asker's deadline has passed

    def fail(self, error: BaseException) -> None:
        """Give the asker, if there is one and it still waits, an error for an answer."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_exception(error)


class Accepted:
    """What an accepted tell gives to await: it never suspends, and allocates nothing."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        """Finish at once."""
        return
        yield


ACCEPTED = Accepted()
