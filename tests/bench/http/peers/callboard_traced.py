"""Callboard's front door, which goes from one way of tracing to the next while it serves: one process, so that neither
its memory nor its place on the machine makes a difference. A line for each slice of time goes to BENCH_SLICES.
"""

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from callboard.http.server.raw_request import ServerDependencies
from callboard.ops import logs, tree
from callboard.ops.application import Application, live
from callboard.ops.config.configuration import load
from callboard.runtime import install_recorder

SHORT_S, LONG_S, SETTLE_S = 0.02, 0.3, 0.2
# Short slices, so that what else the machine does hits both alike; and long ones, which begin when the spans of the one
# before have been sent.
SHORT = ("without", "sampled out", "without", "the same again") * 25
LONG = ("without", "recorded", "without")


class Slice(NamedTuple):
    """The CPU time and the answers of a slice, and its end on the clock of the machine."""

    mode: str
    cpu_s: float
    answers: int
    ended: float


class Switch:
    """Changes the way of tracing of a running process, as its start would have chosen it."""

    def __init__(self) -> None:
        self.dependencies: list[ServerDependencies] = []
        make = tree.server_dependencies

        def kept(*given: Any) -> ServerDependencies:
            self.dependencies.append(make(*given))
            return self.dependencies[-1]

        setattr(tree, "server_dependencies", kept)  # noqa: B010 - a type checker would object to the other form
        self.slices = Path(os.environ["BENCH_SLICES"]).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
        self.app = Application(load(os.environ), Path(tempfile.gettempdir()))

    def turn(self, mode: str) -> None:
        """Trace in this way from now on."""
        app, tracing = self.app, self.app.tracing
        traces = mode in {"sampled out", "recorded"}
        tracing.below = "g" if mode == "recorded" else f"{1:016x}"
        install_recorder(tracing if traces else None)
        app.database.server.observe_query = app._observe_query if traces else app.metrics.observe_query
        for each in self.dependencies:
            object.__setattr__(each, "samples", tracing.samples if traces else None)

    def answers(self) -> int:
        """The number of answers so far."""
        return sum(map(sum, self.app.metrics._requests.timings.counts.values()))

    async def run(self) -> None:
        """Go on and on, a slice each."""
        while True:
            for mode in SHORT:
                await self.slice(mode, SHORT_S)
            for mode in LONG:
                self.turn(mode)
                await asyncio.sleep(SETTLE_S)
                await self.slice(mode, LONG_S)
            await asyncio.sleep(SETTLE_S)

    async def slice(self, mode: str, seconds: float) -> None:
        """Trace in this way for so long, and write a line."""
        self.turn(mode)
        answers, cpu_s = self.answers(), time.process_time()
        await asyncio.sleep(seconds)
        cpu_s, answers = time.process_time() - cpu_s, self.answers() - answers
        self.slices.write(json.dumps(Slice(mode, cpu_s, answers, time.time())) + "\n")
        self.slices.flush()


async def main() -> None:
    """Serve until a signal."""
    switch = Switch()
    running: list[asyncio.Task[None]] = []

    async def announce() -> None:
        running.append(asyncio.create_task(switch.run()))

    await live(switch.app, announce)


logs.configure("error")
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
