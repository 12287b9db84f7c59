"""Load: users of locust on a `callboard up` of its own, held against the promises. It writes a table and a picture.

    PYTHONPATH=tests python tests/load/run.py USERS [--seconds S] [--out FOLDER] [--soak]

Locust's one process, the servers and Callboard share the machine; the table says how much of it each took. The figures
are of the time after the last user has logged in, and the logins before it are counted apart. Failures stand in a file
of their own. Status 1 says that a promise was not kept.
"""

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from accounts import PASSWORD, create_accounts
from kit.running import Up, one_up
from picture import Line, draw
from sql_times import SqlTimes, quantile, read_times

HERE = Path(__file__).resolve().parent
P95_MS, SQL_P99_S, ERRORS = 200.0, 0.1, 0.001
GROWTH_MB = 20.0  # of a soak, from its second fifth to its last
EVERY_S = 2.0
LOGINS_AT_ONCE = 2  # the threads that check passwords: more would wait for them, and be refused after a second
RAMP_S = 600  # the users must have logged in by then
BUSY = 0.9  # of a core: from here on locust's figures say as much about locust
SHOWN = 5  # failures
TURN_S, STALL_S = 0.01, 0.1
# All users are here. The times are the product's own, which tests lengthen.
ENVIRONMENT = {"HTTP_MAX_CONNECTIONS_PER_ADDRESS": "10000", "HTTP_MAX_CONNECTIONS": "10000"}
ENVIRONMENT |= {"REQUEST_TIMEOUT_MS": "1800", "OVERLOAD_TARGET_MS": "200"}


class Sample(NamedTuple):
    """One look at the processes: CPU seconds so far, and the memory of Callboard's."""

    at: float
    generator_s: float
    callboard_s: float
    servers_s: float
    memory_mb: float
    sql: SqlTimes
    lag_s: float  # of Callboard's loop, the worst of half a minute
    stolen_s: float  # by the host of this machine


class Bystander(threading.Thread):
    """Sleeps again and again: how late it wakes is the machine's doing. The latest by the second, in seconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.late: dict[int, float] = {}
        self.is_done = threading.Event()

    def run(self) -> None:
        """Sleep until it is done."""
        while not self.is_done.is_set():
            before = time.time()
            time.sleep(TURN_S)
            now = time.time()
            self.late[int(now)] = max(self.late.get(int(now), 0.0), now - before - TURN_S)


class Second(NamedTuple):
    """What locust says of one second: requests a second, and response times of its last ten seconds in ms."""

    at: float
    rate: float
    median: float
    p95: float


class Totals(NamedTuple):
    """Locust's totals of some requests, since the last user logged in."""

    requests: int
    failures: int
    p50: float
    p95: float
    p99: float


class Times(NamedTuple):
    """Locust's start, its last login, the beginning of the figures, the requests that failed before, and how late
    locust's own turns came, by the second.
    """

    started: float
    logged_in_at: float
    began_at: float
    failures: int
    late: dict[str, float]


class Run(NamedTuple):
    """A run: its beginning, and everything since then."""

    times: Times
    samples: list[Sample]
    seconds: list[Second]
    totals: dict[str, Totals]
    failures: list[str]
    late: dict[int, float]  # of a bystander


def cpu_s(process: psutil.Process) -> float:
    """CPU time of a process; 0 if it has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def sample(up: Up, generator: psutil.Process) -> Sample:
    """Look once."""
    own = psutil.Process(up.pid)
    sql, lag_s = read_times(up)
    return Sample(
        time.time(),
        cpu_s(generator),
        cpu_s(own),
        sum(map(cpu_s, up.family())),
        own.memory_info().rss / (1 << 20),
        sql,
        lag_s,
        getattr(psutil.cpu_times(), "steal", 0.0),
    )


def samples_while(locust: "subprocess.Popen[bytes]", up: Up) -> Iterator[Sample]:
    """Look at intervals until locust ends."""
    generator = psutil.Process(locust.pid)
    while locust.poll() is None:
        yield sample(up, generator)
        try:
            locust.wait(EVERY_S)
        except subprocess.TimeoutExpired:
            continue


def seconds_of(folder: Path) -> list[Second]:
    """Locust's history."""
    with (folder / "load_stats_history.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["Name"] == "Aggregated" and row["50%"] != "N/A"]
    return [
        Second(
            float(row["Timestamp"]),
            float(row["Requests/s"]),
            float(row["50%"]),
            float(row["95%"]),
        )
        for row in rows
    ]


def totals_of(folder: Path) -> dict[str, Totals]:
    """Locust's totals by the names of the requests; "Aggregated" is of all."""
    with (folder / "load_stats.csv").open(encoding="utf-8") as file:
        return {
            row["Name"]: Totals(
                int(row["Request Count"]),
                int(row["Failure Count"]),
                *(float(row[share]) if row[share] != "N/A" else 0.0 for share in ("50%", "95%", "99%")),
            )
            for row in csv.DictReader(file)
        }


def failures_of(folder: Path) -> list[str]:
    """Locust's kinds of failures: how often, of which request, and why."""
    with (folder / "load_failures.csv").open(encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -int(row["Occurrences"]))
    return [f"{row['Occurrences']} times {row['Name']}: {row['Error']}" for row in rows]


def play(up: Up, folder: Path, options: argparse.Namespace) -> Run:
    """Run locust against it. Raises RuntimeError if not all users have logged in."""
    times, bystander = folder / "times", Bystander()
    command = [
        sys.executable, "-m", "locust", "-f", str(HERE / "locustfile.py"), "--headless", "--host",
        up.api.removesuffix("/api/v1"), "--users", str(options.users), "--spawn-rate", "100", "--run-time",
        f"{RAMP_S + options.seconds}s", "--csv", str(folder / "load"), "--csv-full-history", "--only-summary",
        "--exit-code-on-error", "0",
    ]  # fmt: skip
    told: dict[str, object] = {"USERS": options.users, "LOGINS_AT_ONCE": LOGINS_AT_ONCE, "SECONDS": options.seconds}
    told["TIMES"] = times
    environment = {f"LOAD_{name}": str(value) for name, value in {**told, "PASSWORD": PASSWORD}.items()}
    bystander.start()
    with (folder / "locust.log").open("wb") as log:
        locust = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)  # noqa: S603 - ours
        try:
            samples = list(samples_while(locust, up))
        finally:
            bystander.is_done.set()
            if locust.poll() is None:
                locust.send_signal(signal.SIGTERM)
                locust.wait(10)
    if not times.exists():
        raise RuntimeError(f"not all users have logged in:\n{(folder / 'locust.log').read_text(encoding='utf-8')}")
    found = Times(**json.loads(times.read_bytes()))
    return Run(found, samples, seconds_of(folder), totals_of(folder), failures_of(folder), dict(bystander.late))


class Verdict(NamedTuple):
    """A promise, what was measured, and whether it was kept."""

    promise: str
    measured: str
    kept: bool


def judge(totals: Totals, steady: list[Sample], *, soak: bool) -> list[Verdict]:
    """Hold the figures against the promises."""
    sql = quantile(steady[-1].sql.since(steady[0].sql), 0.99)
    share = totals.failures / max(1, totals.requests)
    found = [
        Verdict(f"p95 under {P95_MS:.0f} ms", f"{totals.p95:.0f} ms", totals.p95 < P95_MS),
        Verdict(f"SQL p99 under {SQL_P99_S * 1000:.0f} ms", f"{sql * 1000:.1f} ms", sql < SQL_P99_S),
        Verdict(f"errors under {ERRORS:.1%}", f"{share:.3%} of {totals.requests}", share < ERRORS),
    ]
    if soak:
        fifth = max(1, len(steady) // 5)
        early, late = (
            statistics.fmean(each.memory_mb for each in part) for part in (steady[fifth : 2 * fifth], steady[-fifth:])
        )
        grown = f"{early:.0f} MB, then {late:.0f} MB"
        found.append(Verdict(f"memory grows by {GROWTH_MB:.0f} MB at most", grown, late - early < GROWTH_MB))
    return found


def table(options: argparse.Namespace, run: Run, steady: list[Sample], verdicts: list[Verdict]) -> str:
    """The results in Markdown."""
    first, last = steady[0], steady[-1]
    took_s, ramp_s, cores = last.at - first.at, run.times.logged_in_at - run.times.started, psutil.cpu_count() or 1
    cpu = {
        "Callboard": last.callboard_s - first.callboard_s,
        "its servers": last.servers_s - first.servers_s,
        "locust": last.generator_s - first.generator_s,
    }
    stolen_s = last.stolen_s - first.stolen_s
    used = ", ".join(f"{name} {seconds / took_s:.2f}" for name, seconds in cpu.items())
    busy = " Locust was busy: a part of these times is its own." if cpu["locust"] / took_s > BUSY else ""
    rows = "\n".join(f"| {each.promise} | {each.measured} | {'yes' if each.kept else 'NO'} |" for each in verdicts)
    kinds = "\n".join(
        f"| {name} | {each.requests:,} | {each.requests / options.seconds:.1f} | {each.p50:.0f} | {each.p95:.0f} | "
        f"{each.p99:.0f} |"
        for name, each in run.totals.items()
        if each.requests and name != "Aggregated"
    )
    machine = [late_s for at, late_s in run.late.items() if at > run.times.began_at]
    stalls = sum(late_s > STALL_S for late_s in machine)
    lags = {
        f"a process that only sleeps; above {STALL_S * 1000:.0f} ms in {stalls} s": max(machine),
        "locust's loop": max(run.times.late.values()),
        "Callboard's loop": max(each.lag_s for each in steady[-int(options.seconds / EVERY_S / 2) :]),
    }
    late = "\n".join(f"| {name} | {late_s * 1000:.0f} |" for name, late_s in lags.items())
    failed = "".join(f"- {each}\n" for each in run.failures[:SHOWN])
    name, command = name_of(options), "soak" if options.soak else "load"
    return f"""# {options.users:,} users

Each has logged in, reads its profile three times for each write, and thinks for 1 to 3 s in between. A session lasts an
hour on average, and its user logs in again. `make {command}` on {cores} cores, which the servers and locust share.

The first logins took {ramp_s:.0f} s, {options.users / ramp_s:.0f} a second; {run.times.failures} requests failed in it.
These are {options.seconds} s after that, when all had begun:

| promise | measured | kept |
|---|---|---|
{rows}

| request | all | a second | median ms | p95 ms | p99 ms |
|---|---|---|---|---|---|
{kinds}

Cores in use: {used}, of {cores}; the host took {stolen_s:.1f} s of {took_s * cores:.0f} for others.{busy}

| late by at most | ms |
|---|---|
{late}

![Response times and memory]({name}.svg)
{failed and f"{chr(10)}Failures, the rest in {name}-failures.txt:{chr(10)}{chr(10)}{failed}"}"""


def name_of(options: argparse.Namespace) -> str:
    """The name of the results' files."""
    return f"load-{options.users}{'-soak' if options.soak else ''}"


def keep(options: argparse.Namespace, run: Run, text: str) -> None:
    """Write the table, the picture and the failures."""
    options.out.mkdir(parents=True, exist_ok=True)
    at = options.out / name_of(options)
    lines = [
        Line("p95, ms", [(each.at - run.times.started, each.p95) for each in run.seconds]),
        Line("median, ms", [(each.at - run.times.started, each.median) for each in run.seconds]),
        Line(
            "lateness of a process that only sleeps, ms",
            [(at - run.times.started, late_s * 1000) for at, late_s in sorted(run.late.items())],
        ),
        Line("requests a second", [(each.at - run.times.started, each.rate) for each in run.seconds]),
        Line("memory of Callboard, MB", [(each.at - run.times.started, each.memory_mb) for each in run.samples]),
    ]
    at.with_suffix(".md").write_text(text, encoding="utf-8")
    at.with_suffix(".svg").write_text(draw(f"{options.users:,} users", lines), encoding="utf-8")
    failures = at.with_name(f"{at.name}-failures.txt")
    failures.unlink(missing_ok=True)
    if run.failures:
        failures.write_text("\n".join(run.failures) + "\n", encoding="utf-8")


def main() -> int:
    """Measure once."""
    parser = argparse.ArgumentParser(description="Measure Callboard under the load of locust's users.")
    parser.add_argument("users", type=int)
    parser.add_argument("--seconds", type=int, default=60, help="after the last login")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--soak", action="store_true", help="hold the memory against its promise, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, one_up(ENVIRONMENT) as up:
        create_accounts(up, options.users)
        run = play(up, Path(folder), options)
    steady = [each for each in run.samples if each.at >= run.times.began_at]
    verdicts = judge(run.totals["Aggregated"], steady, soak=options.soak)
    text = table(options, run, steady, verdicts)
    keep(options, run, text)
    print(text)  # noqa: T201 - the measurement
    return 0 if all(each.kept for each in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
