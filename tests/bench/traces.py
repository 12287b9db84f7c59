"""The CPU time of an answer without traces, with traces that are sampled out, and with recorded ones. They take turns;
the least of all rounds counts.

.venv/bin/python tests/bench/traces.py [--rounds 12] [--seconds 1] [--jobs health,echo,me]
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "http")]

import compare  # noqa: E402 - a neighbour by its path
from kit.otlp import receiving  # noqa: E402 - the same
from kit.running import one_up  # noqa: E402 - the same

LOAD_S = 0.5  # that load.py runs before it counts


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--jobs", default="health,echo,me")
    arguments = parser.parse_args()
    jobs = arguments.jobs.split(",")
    seen: dict[tuple[str, str], list[float]] = {}
    with one_up() as up, receiving() as receiver:
        stage = compare.Stage(up)
        plain = stage.environment
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        kinds = {
            "without": {},
            "sampled out": endpoint | {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.000001"},
            "recorded": endpoint | {"OTEL_TRACES_SAMPLER": "always_on"},
        }
        for _ in range(arguments.rounds):
            for kind, environment in kinds.items():
                stage.environment = plain | environment
                with serving(stage) as (port, process):
                    for job in jobs:
                        seen.setdefault((job, kind), []).append(cpu_us(stage, process, job, port, arguments.seconds))
    print("| job | CPU µs an answer without | sampled out | recorded |\n|---|---|---|---|")  # noqa: T201
    for job in jobs:
        before = min(seen[job, "without"])
        shown = [f"{min(each):.1f} ({min(each) / before - 1:+.1%})" for kind in kinds if (each := seen[job, kind])]
        print(f"| {job} | {' | '.join(shown)} |")  # noqa: T201


@contextmanager
def serving(stage: compare.Stage) -> Iterator[tuple[int, psutil.Process]]:
    """Serve the front door, on one core."""
    before = {child.pid for child in psutil.Process().children()}
    with compare.serving(stage, compare.OURS, core=0) as port:
        (process,) = [child for child in psutil.Process().children() if child.pid not in before]
        yield port, process


def cpu_us(stage: compare.Stage, process: psutil.Process, job: str, port: int, seconds: float) -> float:
    """Return the CPU time of one answer in microseconds."""
    before = sum(process.cpu_times()[:2])
    rate = compare.loaded(stage, compare.OURS, job, port, seconds)["rate"]
    return (sum(process.cpu_times()[:2]) - before) / (rate * (seconds + LOAD_S)) * 1e6


if __name__ == "__main__":
    main()
