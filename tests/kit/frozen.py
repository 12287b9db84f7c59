"""A process that is stopped by SIGSTOP while a block runs, and goes on after it."""

import contextlib
import signal
from collections.abc import Iterator

import psutil


@contextlib.contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """Stop a process, and let it go on, unless it has ended meanwhile."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)
