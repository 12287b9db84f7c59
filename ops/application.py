"""The life of a process: start the tree, stay up until a signal or the tree's own end, stop within a bound."""

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable

from callboard.ops import descriptors
from callboard.ops.config import reload
from callboard.ops.start import complain
from callboard.ops.tree import Application
from callboard.runtime import described

GC_AFTER = 20_000  # objects more than before
STOP_S = 4.5  # SIGTERM to exit in 5 s at most, unless requests or jobs are given longer
LAST_S = 0.5

log = logging.getLogger(__name__)


async def live(parts: Application, announce: Callable[[], Awaitable[None]]) -> int:
    """Run the tree; `announce` is called once it works, and may take its time. The exit status: 0, 1 for a crash, or 2
    for what no waiting mends, which `parts.hopeless` names.

    Raises ConfigError when CALLBOARD_CONFIG names a bad file, and what the first start hook to fail raised; then
    nothing is left running.
    """
    descriptors.raise_limit(parts.config.http_max_connections)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_debug(parts.config.enable_debug_mode)
    file = parts.config.callboard_config
    if file:
        await reload.configure(parts, file)
        _on_hang_up(loop, lambda: reload.reload(parts, file, parts.database))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    system = parts.system()

    async def work() -> BaseException:
        await system.start()
        await parts.works()
        _settle_memory()
        await announce()
        return await system.failed()

    working = asyncio.ensure_future(work())
    stopping = asyncio.ensure_future(stop.wait())
    failing = asyncio.ensure_future(system.failed())
    giving_up = asyncio.ensure_future(parts.hopeless.wait())
    try:
        await asyncio.wait((working, stopping, failing, giving_up), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, stopping, failing, giving_up):
            task.cancel()
        await asyncio.wait((working,))
        stop_s = max(STOP_S, parts.config.shutdown_grace_s + parts.config.jobs_grace_s + LAST_S)
        if not await _ended(system.stop(), stop_s):
            log.error("the tree has not stopped in %g s", stop_s)
    if failing.done() and not failing.cancelled():
        complain(f"callboard: {described(failing.result())}")
        return 1
    if parts.hopeless.is_set():
        complain(f"callboard: {parts.hopeless_because}")
        return 2
    if not working.cancelled():
        working.result()
    return 0


def _settle_memory() -> None:
    """Exempt the objects of the finished tree from garbage collection: they live until the end.

    Nor need it look as often as it does by default: what a request leaves behind goes by its reference count.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_AFTER, 20, 20)


def _on_hang_up(loop: asyncio.AbstractEventLoop, reload: Callable[[], Awaitable[None]]) -> None:
    """Reload on SIGHUP, one reload after the other. Without a file, the end of its terminal ends the process."""
    turn = asyncio.Lock()
    reloads: set[asyncio.Task[None]] = set()

    async def once() -> None:
        async with turn:
            await reload()

    def begin() -> None:
        task = loop.create_task(once(), name="reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)


async def _ended(stop: Awaitable[None], stop_s: float) -> bool:
    """Whether it came to its end in time. Not wait_for: that would wait for a cancellation that is not heard."""
    stopping = asyncio.ensure_future(stop)
    done, _ = await asyncio.wait((stopping,), timeout=stop_s)
    return bool(done)
