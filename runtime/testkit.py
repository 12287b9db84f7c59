"""For testing actors: an event loop whose clock jumps, so that hours pass in milliseconds, and a probe that listens.

@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}
"""

import asyncio
import selectors
from collections import deque
from typing import Any

from callboard.runtime.events import Lifecycle
from callboard.runtime.system import System

_PATIENCE_S = 5.0  # real seconds to wait for threads and sockets when no timer is due


class StuckError(RuntimeError):
    """Every task waits for something that will never come: no timer is due, and no thread or socket has spoken."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of sleeping until the next timer, moves the clock to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See selectors.BaseSelector."""
        if timeout is None:
            ready = super().select(_PATIENCE_S)
            if not ready:
                raise StuckError(f"nothing happened for {_PATIENCE_S:g} real seconds, and no timer is due")
            return ready
        ready = super().select(0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, from 0.0: waiting takes no time, and always the same."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now


class Watch:
    """Remembers a system's lifecycle events, and waits for one by its class."""

    def __init__(self, system: System) -> None:
        self.events: deque[Lifecycle] = deque()
        self._arrived = asyncio.Event()
        self.close = system.subscribe(self._note)

    def _note(self, event: Lifecycle) -> None:
        self.events.append(event)
        self._arrived.set()

    def of(self, kind: type[Lifecycle]) -> list[Any]:
        """The events of a class so far, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(self, kind: type[Lifecycle], count: int = 1) -> list[Any]:
        """Wait until there have been `count` events of a class."""
        while len(self.of(kind)) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return self.of(kind)
