"""How long `/health` of `callboard up` takes, and how its memory grows, among clients that misbehave: some ask for
large pages and files and never read, some are idle, some send a byte at a time.

make bench-slow-clients     about a minute; ARGS="--seconds 5" for less
"""

import argparse
import asyncio
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from kit.running import one_up
from kit.slow_clients import ARTICLE, ENVIRONMENT, IDLE, LARGE, SLOW, UNREAD, Crowd

from callboard.ops.descriptors import raise_limit

GOAL_MS, GOAL_MB = 100.0, 150.0


def tell(line: str) -> None:
    """Print it at once."""
    print(line, flush=True)  # noqa: T201 - what it is for


async def run(seconds: float) -> bool:
    """Print what was measured; whether both goals are met."""
    with one_up(ENVIRONMENT) as up:
        up.people()
        up.execute(LARGE, ARTICLE)
        process, crowd = psutil.Process(up.pid), Crowd(up.api)
        quiet = await crowd.health(seconds)
        before = process.memory_info().rss
        async with crowd.misbehave():
            times, most = [], before
            for _ in range(3):
                times += await crowd.health(seconds / 3)
                most = max(most, process.memory_info().rss)
    p99, grown = statistics.quantiles(times, n=100)[98] * 1000, (most - before) / 1e6
    tell(f"p99 of /health {statistics.quantiles(quiet, n=100)[98] * 1000:.1f} ms, among slow clients {p99:.1f} ms")
    tell(f"the slowest {max(times) * 1000:.1f} ms; memory grew by {grown:.1f} MB")
    tell(f"goals: {GOAL_MS:g} ms and {GOAL_MB:g} MB at most")
    return p99 <= GOAL_MS and grown <= GOAL_MB


def main() -> int:
    """0 when the goals are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    raise_limit(UNREAD + IDLE + SLOW + 100)
    return not asyncio.run(run(parser.parse_args().seconds))


if __name__ == "__main__":
    sys.exit(main())
