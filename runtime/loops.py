"""Event loops for tests: one whose clock jumps, and one that also draws the order of what happens from a seed."""

import asyncio
import random
import selectors
from typing import TYPE_CHECKING, Any, ClassVar

from callboard.runtime.cell import BURST

if TYPE_CHECKING:
    from callboard.runtime.system import System

LATE = 0.2  # how likely a System's turn comes an iteration of the loop later


class StuckError(RuntimeError):
    """Every task waits for something that will never come: no timer is due, and no thread or socket has spoken."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of sleeping until the next timer, moves the clock to it."""

    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.now = 0.0
        self.patience_s = patience_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See selectors.BaseSelector."""
        if timeout is None:
            ready = super().select(self.patience_s)
            if not ready:
                raise StuckError(f"nothing happened for {self.patience_s:g} real seconds, and no timer is due")
            return ready
        ready = super().select(0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, from 0.0: waiting takes no time, and always the same."""

    virtual = True  # nothing blocks here: see StallWatch
    patience_s: ClassVar[float] = 5.0  # real seconds to wait for threads and sockets when no timer is due

    def __init__(self) -> None:
        self._jumping = _JumpingSelector(self.patience_s)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - asyncio's
        """Join the threads without a limit, which would be over at once: Python 3.12 and later give one."""
        await super().shutdown_default_executor()


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

    def take_turn(self, system: "System") -> None:
        """What a System that runs on this loop calls instead of working off `system.ready` in order."""
        ready, rng = system.ready, self.rng
        if rng.random() < LATE:
            system.turn_soon()
            return
        try:
            for _ in range(rng.randint(1, len(ready)) if ready else 0):
                if system.context != system.clean:
                    break
                place = rng.randrange(len(ready))
                cell = ready[place]
                del ready[place]
                system.burst = rng.choice((1, 2, 3, BURST))
                cell.burst()
        finally:
            if ready:
                system.turn_soon()
            else:
                system.turning = False


def _is_step(handle: Any) -> bool:
    """Whether a handle is a step of a task; told as asyncio itself tells it, to show a handle."""
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)  # noqa: SLF001 - there is no other way
