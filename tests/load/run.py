"""Load: users of locust on a `callboard up` of its own, held against the promises. It writes a table and a picture.

    PYTHONPATH=tests python tests/load/run.py USERS [--seconds S] [--rate LOGINS_PER_S] [--out FOLDER] [--soak]

Locust's one process, the servers and Callboard share the machine; the table says how much of it each took. The figures
are of the time after the last user has logged in. Status 1 says that a promise was not kept.
"""

import argparse
import csv
import os
import signal
import statistics
import subprocess
import sys
import tempfile
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
EVERY_S = 5.0
ONE_ADDRESS = {"HTTP_MAX_CONNECTIONS_PER_ADDRESS": "10000", "HTTP_MAX_CONNECTIONS": "10000"}  # all users are here


class Sample(NamedTuple):
    """One look at the processes: CPU seconds so far, and the memory of Callboard's."""

    at: float
    generator_s: float
    callboard_s: float
    servers_s: float
    memory_mb: float
    sql: SqlTimes


class Second(NamedTuple):
    """What locust says of one second: users, requests a second, and response times of its last ten seconds in ms."""

    at: float
    users: int
    rate: float
    median: float
    p95: float


class Totals(NamedTuple):
    """Locust's totals after the reset: of all requests but the logins."""

    requests: int
    failures: int
    p50: float
    p95: float
    p99: float


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
    return Sample(
        time.time(),
        cpu_s(generator),
        cpu_s(own),
        sum(map(cpu_s, up.family())),
        own.memory_info().rss / (1 << 20),
        read_times(up),
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
            int(row["User Count"]),
            float(row["Requests/s"]),
            float(row["50%"]),
            float(row["95%"]),
        )
        for row in rows
    ]


def totals_of(folder: Path) -> Totals:
    """Locust's totals."""
    with (folder / "load_stats.csv").open(encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["Name"] == "Aggregated"]
    return Totals(
        int(row["Request Count"]), int(row["Failure Count"]), float(row["50%"]), float(row["95%"]), float(row["99%"])
    )


def play(up: Up, folder: Path, options: argparse.Namespace) -> list[Sample]:
    """Run locust against it."""
    ramp_s = options.users / options.rate
    command = [
        sys.executable, "-m", "locust", "-f", str(HERE / "locustfile.py"), "--headless", "--host",
        up.api.removesuffix("/api/v1"), "--users", str(options.users), "--spawn-rate", str(options.rate), "--run-time",
        f"{ramp_s + options.seconds:.0f}s", "--reset-stats", "--csv", str(folder / "load"), "--csv-full-history",
        "--only-summary", "--exit-code-on-error", "0",
    ]  # fmt: skip
    with (folder / "locust.log").open("wb") as log:
        locust = subprocess.Popen(  # noqa: S603 - ours
            command, stdout=log, stderr=log, env=os.environ | {"LOAD_PASSWORD": PASSWORD}
        )
        try:
            return list(samples_while(locust, up))
        finally:
            if locust.poll() is None:
                locust.send_signal(signal.SIGTERM)
                locust.wait(10)


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


def table(options: argparse.Namespace, totals: Totals, steady: list[Sample], verdicts: list[Verdict]) -> str:
    """The results in Markdown."""
    first, last = steady[0], steady[-1]
    took_s = last.at - first.at
    cores = psutil.cpu_count() or 1
    shares = {
        "Callboard": last.callboard_s - first.callboard_s,
        "its servers": last.servers_s - first.servers_s,
        "locust": last.generator_s - first.generator_s,
    }
    used = ", ".join(f"{name} {seconds / took_s / cores:.0%}" for name, seconds in shares.items())
    rate, busy = totals.requests / options.seconds, os.getloadavg()[1]
    rows = "\n".join(f"| {each.promise} | {each.measured} | {'yes' if each.kept else 'NO'} |" for each in verdicts)
    return f"""# {options.users} users

Each has logged in once, reads its profile three times for each write, and thinks for 1 to 3 s in between.
These are {options.seconds:.0f} s after the last login, on {cores} cores; its load of 5 minutes was {busy:.1f}.

{totals.requests} requests, {rate:.0f} a second: median {totals.p50:.0f} ms, p95 {totals.p95:.0f}, p99 {totals.p99:.0f}.
Share of the machine: {used}.

| promise | measured | kept |
|---|---|---|
{rows}

![Response times and memory](load-{options.users}{"-soak" if options.soak else ""}.svg)
"""


def main() -> int:
    """Measure once."""
    parser = argparse.ArgumentParser(description="Measure Callboard under the load of locust's users.")
    parser.add_argument("users", type=int)
    parser.add_argument("--seconds", type=float, default=60.0, help="after the last login")
    parser.add_argument(
        "--rate", type=float, default=10.0, help="logins a second; more than can be hashed are refused, and come again"
    )
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "build" / "load")
    parser.add_argument("--soak", action="store_true", help="hold the memory against its promise, too")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, one_up(ONE_ADDRESS) as up:
        create_accounts(up, options.users)
        samples = play(up, Path(folder), options)
        seconds, totals = seconds_of(Path(folder)), totals_of(Path(folder))
        failures = (Path(folder) / "load_failures.csv").read_text(encoding="utf-8").partition("\n")[2]
    full_at = next((each.at for each in seconds if each.users >= options.users), None)
    steady = [each for each in samples if full_at is not None and each.at >= full_at]
    if len(steady) < 2:
        print(f"{options.users} users have not logged in, the last time {seconds[-1].users}", file=sys.stderr)  # noqa: T201
        return 1
    verdicts = judge(totals, steady, soak=options.soak)
    text = table(options, totals, steady, verdicts)
    name = f"load-{options.users}{'-soak' if options.soak else ''}"
    text += failures and f"\n{failures}"
    (options.out / f"{name}.md").write_text(text, encoding="utf-8")
    began = seconds[0].at
    lines = [
        Line("p95, ms", [(each.at - began, each.p95) for each in seconds]),
        Line("median, ms", [(each.at - began, each.median) for each in seconds]),
        Line("users", [(each.at - began, float(each.users)) for each in seconds]),
        Line("memory of Callboard, MB", [(each.at - began, each.memory_mb) for each in samples]),
    ]
    (options.out / f"{name}.svg").write_text(draw(f"{options.users} users", lines), encoding="utf-8")
    print(text)  # noqa: T201 - the measurement
    return 0 if all(each.kept for each in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
