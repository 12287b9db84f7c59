"""What pools and entities do with a cell: give its messages to another, change its spec in place, put it away."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from callboard.runtime.context import Envelope
from callboard.runtime.inbox import SHUT, message_of, waits_on_reply
from callboard.runtime.life import Life
from callboard.runtime.message import Message
from callboard.runtime.tree import ChildSpec, State

M = TypeVar("M", bound=Message | None)

RUNNING = State.RUNNING  # bound once: a member of an Enum is looked up slowly in Python 3.11
HANDLING = (RUNNING, State.DRAINING)


class Handover(Life[M]):
    """The half of Cell that its supervisor needs when it is one of many for the same messages."""

    __slots__ = ()

    def rest(self) -> None:
        """Go on with what waits, or fall idle."""
        raise NotImplementedError

    def busyness(self) -> int:
        """How many messages it has, the one in hand included."""
        return len(self._queue) + (self.item is not None)

    def take_all(self) -> list[Any]:
        """Give up all that waits in the mailbox."""
        items = list(self._queue)
        if items:
            self._queue.clear()
        self.cut_burst()
        return items

    def take_stash(self) -> list[Any]:
        """Give up what is stashed, but for the message in hand, if that is stashed."""
        if self._rare is None or not self._rare.stash:
            return []
        items = [item for item in self._rare.stash if item is not self.item]
        self._rare.stash = [item for item in self._rare.stash if item is self.item]
        return items

    def take_waiters(self) -> "list[tuple[Any, asyncio.Future[Any]]]":
        """Give up the senders that wait for room."""
        if self._rare is None:
            return []
        waiters, self._rare.waiters = self._rare.waiters, {}
        return [(item, room) for room, item in waiters.items()]

    def take_back(self, item: Any) -> Any:
        """Give up a message that was in hand, if it is to be handled again, after a crash or from the stash."""
        retried = self.record.crashes[0]
        first = self._queue[0] if self._queue else None
        if first is item or (first is not None and first is retried and message_of(retried) is message_of(item)):
            return self._queue.popleft()
        if self.stashed(item):
            self.record.stash = [each for each in self.record.stash if each is not item]
            self.record.aside = None
            return item
        return None

    def take_over(self, item: Any, other: "Handover[Any]", *, first: bool = False) -> None:
        """Take what `other` has accepted, beyond the capacity if need be, behind or before what waits here."""
        if not isinstance(self._queue, deque):
            self._queue = deque()
            self._limit = self.spec.mailbox.capacity - 1
        if first:
            self._queue.appendleft(item)
        else:
            self._queue.append(item)
        if item.__class__ is Envelope:
            item.cell = self
        if other._rare is not None and other._rare.crashes[0] is item and self.record.crashes[0] is None:  # noqa: SLF001
            self.record.crashes, other._rare.crashes = other._rare.crashes, (None, 0)  # noqa: SLF001
        if self._idle:
            self.wake()

    def take_waiter(self, waiter: "tuple[Any, asyncio.Future[Any]]") -> None:
        """Let a sender that waited for room elsewhere wait for it here."""
        item, room = waiter
        if item.__class__ is Envelope:
            item.cell = self
        if not waits_on_reply(item, room):
            room.add_done_callback(self._sender_gone)
        self.record.waiters[room] = item
        self._limit = SHUT
        self.let_in()

    def let_in(self) -> None:
        """Admit who waits for room, where there is some, outside of a burst too."""
        if self._rare is None or not self._rare.waiters:
            return
        self.admit()
        if self._idle and self._queue:
            self.wake()

    def adopt(self, spec: ChildSpec) -> None:
        """Go on by another spec. A mailbox that is made smaller keeps what it has, and takes nothing more till then."""
        self.spec = spec
        if self._limit != SHUT:
            self._limit = spec.mailbox.capacity - 1
        self.let_in()

    def at_rest(self) -> bool:
        """Whether it has nothing to do: no message waits, is in hand or put aside, and nobody waits for room."""
        return self._idle and not self.busy() and (self._rare is None or not (self._rare.stash or self._rare.waiters))

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call once, in another turn, when nothing waits or is in hand here. There is one such call at a time."""
        rare = self.record
        if self.system is not None and (rare.quiet is None or rare.quiet.done()):
            rare.quiet = self.system.loop.create_future()
            rare.quiet.add_done_callback(lambda _: call())

    def pause(self) -> None:
        """Handle no further message in this incarnation; what comes waits for the next one."""
        if self.state is State.RUNNING:
            self._falls()

    async def put_away(self, reason: BaseException | None) -> None:
        """End a paused incarnation: after the message in hand, unless there is a `reason`, a crash, to cut it short."""
        await self._end(self.spec.shutdown_s if reason is None else 0.0)
        if self._rare is not None and self._rare.stash:
            self.unstash()

    def has_mail(self) -> bool:
        """Whether a message waits, or a sender for room."""
        return bool(self._queue) or (self._rare is not None and bool(self._rare.waiters))

    def wait_for(self, other: "Handover[Any]") -> None:
        """Begin no message until the one that `other` has in hand is done: it is of a key that is ours now."""
        rare = self.record
        rare.held += 1
        self._idle = False
        self.cut_burst()

        def done() -> None:
            rare.held -= 1
            if not rare.held and self.state in HANDLING and self.task is None:
                self.rest()

        other.record.after_item.append(done)
