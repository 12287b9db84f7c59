"""The CPU time of an answer without traces, with traces that are sampled out, and with recorded ones.

make bench-traces              about four minutes; ARGS="--seconds 20" for less

One process serves all of them, in slices of 20 ms by turns, under a load from another core (recorded ones in longer
slices, until their spans are sent). Each slice is held against the two beside it, which trace nothing; "the same again"
traces nothing either: it shows the noise.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import textwrap
import time
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
    """The share that a way of tracing adds to an answer: the median of its slices, and twice its standard error."""

    share: float
    error: float
    slices: int


def slices_of(file: Path, began: float, ended: float) -> list[Slice]:
    """The slices within a time."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = [Slice(*json.loads(line)) for line in lines]
    return [each for each in found if began + 1 < each.ended < ended and each.answers]


def cost_of(mode: str, slices: list[Slice]) -> Cost:
    """Hold each slice of a mode against its neighbours."""
    triples = [(a.cpu_us, b.cpu_us, c.cpu_us) for (a, b), (_, c) in pairwise(pairwise(slices)) if b.mode == mode]
    shares = [here / ((before + after) / 2) - 1 for before, here, after in triples]
    error = 2 * 1.253 * statistics.stdev(shares) / len(shares) ** 0.5
    return Cost(statistics.median(shares), error, len(shares))


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
        "one process that changes by turns, against the slices beside it that trace nothing; medians of "
        f"{slices} short slices or more (recorded: {longer} long ones), with twice the standard error. `health` asks "
        "no server, `me` reads a session and an account, `list` a page."
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
                plain = statistics.median(each.cpu_us for each in slices if each.mode == "without")
                found[job] = plain, {mode: cost_of(mode, slices) for mode in SHOWN}
    text = page(found)
    options.out.mkdir(exist_ok=True)
    (options.out / "traces.md").write_text(text, encoding="utf-8")
    print(text)  # noqa: T201 - the measurement
    return 0 if all(costs["sampled out"].share < PROMISE for _, costs in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
