"""Bounded mailboxes: how many messages may wait for an actor, what happens to one too many, and what became of all."""

from collections.abc import Awaitable
from enum import StrEnum
from typing import Any, cast

import msgspec

from callboard.runtime.actor.options import check_types


class Overflow(StrEnum):
    """The policy of a full mailbox for one more message."""

    WAIT = "wait"  # the sender waits for room; tell_nowait is refused
    REJECT = "reject"  # MailboxFullError, with the message in it
    DROP_NEWEST = "drop_newest"  # the message is dropped, and counted
    DROP_OLDEST = "drop_oldest"  # the message that has waited longest is dropped, and counted


class Mailbox(msgspec.Struct, frozen=True):
    """A capacity in messages, at least 1, and what overflow does. An ask that would be dropped is refused instead.

    At most `max_waiting` senders wait for room; one more is refused like any by `reject`.
    """

    capacity: int = 1024
    overflow: Overflow = Overflow.WAIT
    max_waiting: int = 10_000

    def __post_init__(self) -> None:
        """Refuse a capacity that could hold nothing."""
        check_types(self)
        if self.capacity < 1:
            raise ValueError(f"a mailbox holds at least 1 message, not {self.capacity}")
        if self.max_waiting < 0:
            raise ValueError(f"0 senders or more wait for room in a mailbox, not {self.max_waiting}")


class Counts(msgspec.Struct):
    """Counts of the fates of an actor's messages. Every accepted message has exactly one fate, or is pending.

    `late` counts replies that came after the asker had gone; such a message is handled too.
    """

    handled: int = 0  # the handler returned, or refused an ask
    failed: int = 0  # the handler crashed, was killed, or refused what was only told
    expired: int = 0  # its deadline passed before the handler ended
    dropped: int = 0  # by drop_newest or drop_oldest
    dead_lettered: int = 0  # told, and left over at the stop, or its retries were used up
    returned: int = 0  # asked, and handed back to the asker: left over at the stop, or withdrawn by cancellation
    pending: int = 0  # waiting, or being handled
    late: int = 0

    @property
    def accepted(self) -> int:
        """How many messages were accepted: the sum of all fates. Tests hold it against the senders' own count."""
        settled = self.handled + self.failed + self.expired + self.dropped + self.dead_lettered + self.returned
        return settled + self.pending


class Accepted(tuple[Any, ...]):
    """The awaitable of an accepted tell: it never suspends.

    An empty tuple whose `__await__` is the tuple's own iterator, in C: measured, a third of a tell was spent in an
    `__await__` written in Python.
    """

    __slots__ = ()
    __await__ = tuple.__iter__


ACCEPTED = cast("Awaitable[None]", Accepted())
