"""The CPU time of an answer without traces, with traces that are sampled out, and with recorded ones.

make bench-traces              about four minutes; ARGS="--seconds 20" for less

One process serves all of them, in slices of 20 ms by turns, under a load from another core (recorded ones in longer
slices, until their spans are sent). The quickest tenth of each is held against that of the slices beside it, which
trace nothing; "the same again" traces nothing either: it shows the noise.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "http")]

import compare  # noqa: E402 - a neighbour by its path
from kit.otlp import receiving  # noqa: E402 - the same
from kit.running import one_up, until  # noqa: E402 - the same

OUT = HERE / "results"
FRONT = compare.OURS._replace(
    program="callboard_traced.py", paths={"health": "/health", "me": "/api/v1/users/me", "list": "/api/v1/content"}
)
PROMISE = 0.02  # of a request, sampled out
RESAMPLES = 300
SHOWN = ("the same again", "sampled out", "recorded")


class Slice(NamedTuple):
    """See callboard_traced.py."""

    mode: str
    cpu_s: float
    answers: int
    ended: float

    @property
    def cpu_us(self) -> float:
        """CPU time of an answer in microseconds."""
        return self.cpu_s / self.answers * 1e6


class Cost(NamedTuple):
    """The share that a way of tracing adds to an answer, and twice the standard error of that."""

    share: float
    error: float
    slices: int


def slices_of(file: Path, began: float, ended: float) -> list[Slice]:
    """The slices within a time."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = [Slice(*json.loads(line)) for line in lines]
    return [each for each in found if began + 1 < each.ended < ended and each.answers]


def quick(times: Sequence[float]) -> float:
    """The time that a tenth of the slices stay below: what else the machine does makes slices slower, never quicker."""
    return sorted(times)[len(times) // 10]


def cost_of(mode: str, slices: list[Slice]) -> Cost:
    """Hold the slices of a mode against those beside them, which trace nothing."""
    pairs = [(before.cpu_us, here.cpu_us) for before, here in pairwise(slices) if here.mode == mode]

    def share(some: Sequence[tuple[float, float]]) -> float:
        return quick([here for _, here in some]) / quick([before for before, _ in some]) - 1

    chance = random.Random(1)  # noqa: S311 - resampling
    resampled = [share(chance.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES)]
    return Cost(share(pairs), 2 * statistics.stdev(resampled), len(pairs))


def page(found: dict[str, tuple[float, dict[str, Cost]]]) -> str:
    """The table, in Markdown."""
    rows = [
        f"| {job} | {cpu_us:.0f} | "
        + " | ".join(f"{costs[mode].share:+.1%} ± {costs[mode].error:.1%}" for mode in SHOWN)
        + " |"
        for job, (cpu_us, costs) in found.items()
    ]
    slices, longer = (min(costs[mode].slices for _, costs in found.values()) for mode in ("sampled out", "recorded"))
    worst = max(costs["sampled out"].share for _, costs in found.values())
    words = (
        f"`make bench-traces` on {os.cpu_count()} cores, Python {platform.python_version()}: CPU time of an answer, in "
        f"one process that changes by turns; the quickest tenth of {slices} short slices or more (recorded: {longer} "
        "long ones) against that of the slices beside them, which trace nothing, with twice the standard error. "
        "`health` asks no server, `me` reads a session and an account, `list` a page."
    )
    return "\n".join(
        [
            "# The cost of traces",
            "",
            textwrap.fill(words, 124),
            "",
            "| request | µs without traces | the same again | sampled out | recorded |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"Sampled out, traces are to cost under {PROMISE:.0%} of a request: the most is {worst:+.1%}, "
            + ("which keeps it." if worst < PROMISE else "which BREAKS it."),
            "",
        ]
    )


def main() -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load, for each job")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    found: dict[str, tuple[float, dict[str, Cost]]] = {}
    with one_up() as up, receiving() as receiver, tempfile.TemporaryDirectory() as folder:
        stage, file = compare.Stage(up), Path(folder) / "slices"
        stage.environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "BENCH_SLICES": str(file),
        }
        with compare.serving(stage, FRONT, core=0) as port:
            until("the first slice", lambda: file.exists() and file.stat().st_size > 0)
            for job in FRONT.paths:
                began = time.time()
                compare.loaded(stage, FRONT, job, port, options.seconds)
                slices = slices_of(file, began, time.time())
                plain = quick([each.cpu_us for each in slices if each.mode == "without"])
                found[job] = plain, {mode: cost_of(mode, slices) for mode in SHOWN}
    text = page(found)
    options.out.mkdir(exist_ok=True)
    (options.out / "traces.md").write_text(text, encoding="utf-8")
    print(text)  # noqa: T201 - the measurement
    return 0 if all(costs["sampled out"].share < PROMISE for _, costs in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
