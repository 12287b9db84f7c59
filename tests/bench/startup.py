"""How long `callboard up` takes to be ready, cold and warm, and what its process holds when idle.

python tests/bench/startup.py        # from the checkout, with the package installed; about 20 s

Cold is a first start on an empty data folder, warm one on a folder that was used; both from the spawn of the process
to its word that it is up. The memory is the process's own, without the servers'.
"""

import statistics
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from kit.running import Up, data_folder

ROUNDS = 3
IDLE_S = 5.0


def started(running: Up) -> float:
    """Seconds from spawn to "Up."."""
    running.ready(30)
    return time.monotonic() - running.began


def measure() -> None:
    """Start and stop a few times, and print one line a number."""
    cold_s: list[float] = []
    warm_s: list[float] = []
    rss_mb = 0.0
    for _ in range(ROUNDS):
        with data_folder() as data:
            for seconds in (cold_s, warm_s):
                running = Up(data)
                seconds.append(started(running))
                if len(warm_s) == ROUNDS:
                    time.sleep(IDLE_S)
                    rss_mb = psutil.Process(running.pid).memory_info().rss / 1e6
                running.end()
    for name, seconds in (("cold", cold_s), ("warm", warm_s)):
        rounds = ", ".join(f"{each:.1f}" for each in sorted(seconds))
        sys.stdout.write(f"{name} start: {statistics.median(seconds):.1f} s, the median of {rounds}\n")
    sys.stdout.write(f"idle memory: {rss_mb:.0f} MB, without the servers\n")


if __name__ == "__main__":
    measure()
