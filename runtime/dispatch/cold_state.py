"""The cold state of a cell: what most actors most of the time do not need, made when one does."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callboard.runtime.actor.mailbox import Counts
from callboard.runtime.dispatch.mailbox_queue import Waiters
from callboard.runtime.dispatch.node import RestartRecord

if TYPE_CHECKING:
    from callboard.runtime.dispatch.deathwatch import Deathwatch
    from callboard.runtime.dispatch.stash import Stash
    from callboard.runtime.dispatch.timers import Timers


class ColdState(RestartRecord):
    """One actor's, over all its incarnations."""

    __slots__ = (
        "after_current",
        "counts",
        "crashes",
        "deathwatch",
        "draining",
        "held",
        "leaves",
        "nursery",
        "quiet",
        "replies",
        "run_task",
        "stash",
        "timers",
        "waiters",
        "withdrawn",
    )

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()  # but `handled`, which every actor counts in a slot of its own
        self.waiters: Waiters = {}
        self.stash: Stash | None = None
        self.timers: Timers | None = None
        self.deathwatch: Deathwatch | None = None
        self.nursery: Any = None  # the supervisor of the children that this incarnation has spawned
        self.run_task: asyncio.Task[None] | None = None  # Actor.run
        self.leaves: tuple[str | None] | None = None  # it wants to end, for that reason, as soon as it has started
        self.draining = False  # over restarts too
        self.quiet: asyncio.Future[None] | None = None  # somebody waits for the batch to end
        self.withdrawn: Any = None  # the asked message whose handler is being cancelled
        self.crashes: tuple[Any, int] = (None, 0)  # the item whose handler crashed, and how often
        self.held = 0  # how many messages in progress elsewhere must be done before this actor begins another
        self.after_current: list[Callable[[], None]] = []  # who waits for the message in progress here
        self.replies: dict[Any, None] = {}  # asks whose handlers have returned, and promised the reply for later

    def passed(self) -> None:
        """The message in progress is done: let those go on who waited for it."""
        if self.after_current:
            waiting, self.after_current = self.after_current, []
            for done in waiting:
                done()
        if self.stash is not None:
            self.stash.aside = None

    def fall_quiet(self) -> None:
        """No batch runs: tell who waits for that."""
        if self.quiet is not None and not self.quiet.done():
            self.quiet.set_result(None)
