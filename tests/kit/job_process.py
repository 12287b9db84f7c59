"""A process of its own that works at jobs: `job_process.py URL LEASE_S`.

It says what time it is, and then each job that it begins. A job whose text begins with `hold` is held until a line
comes on its input. With the library that `shim` makes its clock is wrong.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Backoff, Job, Outcome
from callboard.actors.infrastructure.job_sweeper import JobSweeper
from callboard.ops.job_holders import holder_name, is_gone
from callboard.runtime import Props, worker
from kit.jobs import Note, Process, effect, kind

# A clock of the wall that is wrong by SKEW_S, before the C library's own; the even one is left alone.
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long skew(void) { const char *s = getenv("SKEW_S"); return s ? atol(s) : 0; }
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, at);
    if (!result && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += skew();
    return result;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec; at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""
COMPILER = shutil.which("cc")


def shim(folder: Path) -> Path:
    """The library of the wrong clock, compiled."""
    source, library = folder / "skew.c", folder / "skew.so"
    source.write_text(SHIM)
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)  # noqa: S603 - ours
    return library


class Worker:
    """Such a process, from outside."""

    def __init__(self, url: str, *, lease_s: float, environment: dict[str, str] | None = None) -> None:
        self.ahead_s = 0.0  # by how much its clock is before ours
        self.process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, __file__, url, str(lease_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **(environment or {})},
        )

    def says(self, line: str) -> None:
        """Wait until it says so."""
        assert self.process.stdout is not None
        for said in self.process.stdout:
            if said.strip() == line:
                return
        raise AssertionError(f"the process ended and did not say {line!r}")

    def go_on(self) -> None:
        """Have it do what it holds."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


@contextmanager
def working(url: str, *, lease_s: float, environment: dict[str, str] | None = None) -> Iterator[Worker]:
    """One that is ready, and is killed at the end."""
    made = Worker(url, lease_s=lease_s, environment=environment)
    try:
        assert made.process.stdout is not None
        made.ahead_s = float(made.process.stdout.readline()) - time.time()
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


async def main(url: str, lease_s: float) -> None:
    """Work until the input ends."""
    loop = asyncio.get_running_loop()
    held = asyncio.Event()
    ended = loop.run_in_executor(None, sys.stdin.readline)
    ended.add_done_callback(lambda _: held.set())

    async def handle(job: Job[Note]) -> Outcome:
        print(job.payload.text, flush=True)  # noqa: T201 - whoever started us reads it
        if job.payload.text.startswith("hold"):
            await held.wait()
        return await effect(job)

    declared = kind(lease_s=lease_s, slots=8, backoff=Backoff(0.01, 0.02), max_attempts=5)
    database = Database(url, size=8)
    await database.connect()
    process = Process(database, (declared, handle), name=holder_name())
    sweeper = Props(JobSweeper, database, process.queue, [declared], process.counts, is_gone=is_gone)
    process.sweeper = worker("sweeper", sweeper)
    async with process.working():
        print(f"{time.time():.0f}", flush=True)  # noqa: T201 - the same
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
