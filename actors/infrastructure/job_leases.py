"""Renews the leases of a process's jobs, and stops a job whose lease is no longer safe."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from callboard.actors.infrastructure.job_kinds import JobKind
from callboard.actors.infrastructure.job_loops import AGAIN_S, Trouble, repeat
from callboard.actors.infrastructure.job_runs import RunningJobs

LOOKS = 12  # part of a lease's time, for overdue leases: a job claimed meanwhile is safe for longer
IDLE_S = 30.0  # if no kind names its lease

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews every third of the shortest lease, and watches the clock separately: a renewal may hang.

    It sleeps while no job runs.
    """

    def __init__(self, runs: RunningJobs, kinds: Sequence[JobKind[Any]]) -> None:
        self.runs = runs
        self.lease_s = min([kind.lease_s for kind in kinds] or [IDLE_S])

    async def run(self) -> None:
        """Renew until cancelled."""
        again_s = min(AGAIN_S, self.lease_s / 9)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(repeat(self._renew, Trouble(log, "leases of jobs cannot be renewed"), again_s))
            loops.create_task(repeat(self._stop_expired, Trouble(log, "leases of jobs cannot be checked")))

    async def _renew(self) -> float:
        if self.runs.any.is_set():
            await self.runs.renew()
        else:
            await self.runs.any.wait()  # jobs that were just claimed have a full lease
        return self.lease_s / 3

    async def _stop_expired(self) -> float:
        await self.runs.any.wait()
        earliest = self.runs.distrust()
        every_s = self.lease_s / LOOKS
        return every_s if earliest is None else min(every_s, max(0.0, earliest - asyncio.get_running_loop().time()))
