"""The life of a worker: replaced by a new instance after a number of jobs, or when the process has grown too much."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

_STATM = Path("/proc/self/statm")


class RenewalLimits(msgspec.Struct, frozen=True):
    """The jobs of a worker, at most, and the bytes by which its process may grow while it lives; 0 is no limit."""

    jobs: int = 0
    growth_bytes: int = 0


def resident_bytes() -> int:
    """Return the memory of this process; 0 where the system does not report it."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class WorkerLife:
    """One incarnation of a worker. Workers share a process: growth may be another's, and then costs a replacement."""

    def __init__(self, limits: RenewalLimits, memory: Callable[[], int] = resident_bytes) -> None:
        self._limits = limits
        self._memory = memory
        self._jobs = 0
        self._first_bytes = memory()

    def end_job(self) -> str | None:
        """Count a job; return why the worker is to be replaced, or None."""
        self._jobs += 1
        if 0 < self._limits.jobs <= self._jobs:
            return f"{self._jobs} jobs"
        grown = self._memory() - self._first_bytes if self._limits.growth_bytes else 0
        if grown > self._limits.growth_bytes:
            return f"{grown >> 20} MB of growth, after {self._jobs} jobs"
        return None
