"""One peer does some jobs in this process: `measure.py raw:Raw uvloop tell=400000 ask=60000`; one line of JSON each."""

import asyncio
import importlib
import inspect
import json
import os
import sys
from typing import Any

from jobs import MEMBERS, Peer, Stopwatch

WARM = 50  # a job is first done at this fraction of its size, untimed: the interpreter specialises what runs often


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """An event loop of that name; `none` gets one too, and its jobs do not use it."""
    if name == "uvloop":
        import uvloop  # noqa: PLC0415 - where it is asked for

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


async def run(peer: Peer, job: str, size: int) -> Stopwatch:
    """Warm up, then measure."""
    watch = Stopwatch()
    for each in (max(MEMBERS, size // WARM // MEMBERS * MEMBERS), size):
        watch = Stopwatch()
        done: Any = getattr(peer, job)(each, watch)
        if inspect.isawaitable(done):
            await done
    return watch


def main(target: str, loop: str, *jobs: str) -> None:
    """Print what was measured; leave without waiting for threads and pools to end."""
    module, _, name = target.partition(":")
    peer = getattr(importlib.import_module(f"peers.{module}"), name)()
    with asyncio.Runner(loop_factory=lambda: new_loop(loop)) as runner:
        for each in jobs:
            job, _, size = each.partition("=")
            watch = runner.run(run(peer, job, int(size)))
            line = {"job": job, "seconds": watch.seconds, "grown": watch.grown}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
