"""Seeded schedules: an event loop that draws the order of what happens from a seed."""

import asyncio
import random
from typing import Any

from callboard.runtime.dispatch.scheduler import BATCH, Scheduler
from callboard.runtime.testkit.virtual_time import VirtualTimeLoop

LATE = 0.2  # how likely a scheduler's turn comes an iteration of the loop later


class SeededLoop(VirtualTimeLoop):
    """A loop of virtual time on which one seed is one schedule: the same at each run.

    Of what is ready at once, tasks run in an order drawn from the seed, and so do the actors of a System; drawn, too,
    is how many messages each handles in a row. Callbacks of futures, timers and sockets keep their order, and no task
    overtakes one: asyncio itself relies on that (a task that awaits sock_sendall would go on before the loop has
    forgotten its writer). So whatever happens here could happen on any other loop.
    """

    patience_s = 0.5
    _ready: Any  # BaseEventLoop's deque of handles

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311 - no secret
        super().__init__()

    def _process_events(self, event_list: Any) -> None:
        """Where an iteration of the loop has all that is ready but the timers, which come last."""
        super()._process_events(event_list)  # type: ignore[misc]
        steps: list[Any] = []
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if _is_step(handle):
                steps.append(handle)
            else:
                self._put_back(steps)
                self._ready.append(handle)
        self._put_back(steps)

    def _put_back(self, steps: list[Any]) -> None:
        self.rng.shuffle(steps)
        self._ready.extend(steps)
        steps.clear()

    def take_turn(self, scheduler: Scheduler) -> None:
        """Take a turn at random. A Scheduler on this loop calls this instead of taking `scheduler.ready` in order."""
        ready, rng = scheduler.ready, self.rng
        if rng.random() < LATE:
            scheduler.schedule_turn()
            return
        try:
            for _ in range(rng.randint(1, len(ready)) if ready else 0):
                if scheduler.context != scheduler.clean:
                    break
                place = rng.randrange(len(ready))
                cell = ready[place]
                del ready[place]
                scheduler.batch = rng.choice((1, 2, 3, BATCH))
                cell.run_batch()
        finally:
            if ready:
                scheduler.schedule_turn()
            else:
                scheduler.turning = False


def _is_step(handle: Any) -> bool:
    """Whether a handle is a step of a task; told as asyncio itself tells it, to show a handle."""
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)  # noqa: SLF001 - there is no other way
