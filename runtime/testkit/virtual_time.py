"""Virtual time: an event loop for tests whose clock jumps."""

import asyncio
import selectors
from typing import ClassVar


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

    virtual = True  # nothing blocks here: see LoopMonitor
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
