"""The runtime beside its peers: `make bench-runtime`, or with options `make bench-runtime ARGS="--rounds 3"`.

Each round does each job with each peer, one after the other, every one in a process of its own, so that a ratio is
between two runs of the same minute. It writes results.md and results.svg; a peer that is not installed is said there.
`--profile ask` shows instead where the time of one ask goes.
"""

import argparse
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import breakdown
from jobs import JOBS, Job
from machine import Machine, ended, here
from picture import picture
from report import report
from results import Results, Samples
from roster import ROWS, Row, environment

HERE = Path(__file__).parent
LIMIT_S = 120  # for one process; the longest takes about 3 s on two cores
QUICK = 100  # members and askers instead of 1,000
QUICK_SHARE = 0.01  # of each job's size


class Run:
    """Starts the processes, and keeps what they say."""

    def __init__(self, *, quick: bool, only: list[str]) -> None:
        self.quick = quick
        self.samples: Samples = {}
        self.rows = [row for row in ROWS if not row.peer.missing and (not only or row.peer.key in only)]
        self.words = {row.title: f"not installed: {row.peer.missing}" for row in ROWS if row.peer.missing}
        self.words |= {row.title: "not asked for" for row in ROWS if only and row.peer.key not in only}
        self.environment = {**os.environ, "BENCH_MEMBERS": str(QUICK if quick else 1000)}

    def round(self, number: int, beams: Path) -> None:
        """Every job with every peer. Who begins changes from round to round; quick has one process for all jobs."""
        turn = number % len(self.rows) if self.rows else 0
        for jobs in [JOBS] if self.quick else [(job,) for job in JOBS]:
            for row in [*self.rows[turn:], *self.rows[:turn]]:
                wanted = [job for job in jobs if job.key not in row.peer.without]
                said = [line for command in self.commands(row, wanted, beams) for line in self.call(row, command)]
                figures = dict(figure for line in said for figure in line)
                for job in wanted:
                    for key in (job.key, "bytes") if job.key == "spawn" else (job.key,):
                        self.samples.setdefault(row.title, {}).setdefault(key, []).append(figures.get(key))

    def size(self, row: Row, job: Job) -> int:
        """How many operations: a multiple of the members, whoever it is."""
        members = QUICK if self.quick else 1000
        size = job.size * row.peer.scale * (QUICK_SHARE if self.quick else 1)
        return max(2, round(size / members)) * members

    def commands(self, row: Row, jobs: list[Job], beams: Path) -> list[list[str]]:
        """What to start: one process for Python, and one a job for Erlang."""
        if row.peer.key == "erlang":
            erl = f"erl +S 1:1 +P 500000 -noshell -noinput -pa {beams} -run actor main".split()
            return [[*erl, job.key, str(self.size(row, job))] for job in jobs]
        sizes = [f"{job.key}={self.size(row, job)}" for job in jobs]
        python = str(environment(row.peer.python)) if row.peer.python else sys.executable
        return [[python, str(HERE / "measure.py"), row.peer.target, row.loop, *sizes]] if jobs else []

    def call(self, row: Row, command: list[str]) -> list[list[tuple[str, float]]]:
        """The figures that one process prints, by their keys. One that fails says why in the notes."""
        try:
            ran = subprocess.run(  # noqa: S603 - our own programs, with arguments from above
                command, env=self.environment, capture_output=True, text=True, timeout=LIMIT_S, check=True
            )
        except subprocess.TimeoutExpired:
            self.words[row.title] = f"took more than {LIMIT_S} s"
            return []
        except subprocess.CalledProcessError as error:
            self.words[row.title] = (error.stderr.strip().splitlines() or [f"exit {error.returncode}"])[-1]
            return []
        return [self.figures(row, json.loads(line)) for line in ran.stdout.splitlines() if line.startswith("{")]

    def figures(self, row: Row, line: dict[str, float | str]) -> list[tuple[str, float]]:
        """The rate, and with a spawn the bytes."""
        job = next(job for job in JOBS if job.key == line["job"])
        size = self.size(row, job)
        rate = (job.key, size / float(line["seconds"]))
        grown = float(line["grown"])
        return [rate, ("bytes", grown / size)] if job.key == "spawn" and grown > 0 else [rate]


def measure(run: Run, rounds: int) -> None:
    """All rounds, with a word to the terminal for each."""
    with tempfile.TemporaryDirectory() as folder:
        if compiler := shutil.which("erlc"):
            source = HERE / "peers" / "actor.erl"
            subprocess.run([compiler, "-o", folder, str(source)], check=True)  # noqa: S603 - our own source
        for number in range(rounds):
            began = time.monotonic()
            run.round(number, Path(folder))
            sys.stdout.write(f"round {number + 1} of {rounds}: {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()


def write(results: Results, words: dict[str, str], machine: Machine, folder: Path) -> None:
    """The table and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(report(results, words, machine))
    (folder / "results.svg").write_text(picture(results, words, machine))


def main() -> None:
    """Measure and write, or write again what was measured before."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--quick", action="store_true", help="tiny sizes, only to see that everything runs")
    options.add_argument("--only", nargs="+", default=[], metavar="PEER", help="keys of roster.py")
    options.add_argument("--date", default=dt.datetime.now(dt.UTC).date().isoformat())
    options.add_argument("--out", type=Path, default=HERE / "results")
    options.add_argument("--save", type=Path, metavar="FILE", help="also keep every sample, as JSON")
    options.add_argument("--load", type=Path, metavar="FILE", help="measure nothing: write what was saved")
    options.add_argument("--profile", choices=("ask", "tell"), help="show where the time of one goes")
    chosen = options.parse_args()
    if chosen.profile:
        breakdown.main(chosen.profile, quick=chosen.quick)
        return
    if chosen.load:
        saved = json.loads(chosen.load.read_text())
        write(Results(saved["samples"]), saved["words"], Machine(**saved["machine"]), chosen.out)
        return
    machine = here(date=chosen.date, rounds=chosen.rounds, quick=chosen.quick)
    run = Run(quick=chosen.quick, only=chosen.only)
    measure(run, chosen.rounds)
    machine = ended(machine)
    if chosen.save:
        saved = {"samples": run.samples, "words": run.words, "machine": machine._asdict()}
        chosen.save.write_text(json.dumps(saved, indent=1))
    write(Results(run.samples), run.words, machine, chosen.out)
    sys.stdout.write(f"{chosen.out / 'results.md'}\n")


if __name__ == "__main__":
    main()
