"""What everybody else waits while logins flood: the 99th percentile of reads, which may double at most.

make bench-flood            about a minute; ARGS="--rounds 1" for less
"""

import argparse
import asyncio
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import aiohttp
from kit.login_flood import ENVIRONMENT, Crowd
from kit.running import one_up

PHASE_S = 8.0
GOAL = 2.0


def tell(line: str) -> None:
    """Print it at once."""
    print(line, flush=True)  # noqa: T201 - what it is for


def p99(times: list[float]) -> float:
    """In milliseconds."""
    return statistics.quantiles(times, n=100)[98] * 1000


async def measure(crowd: Crowd) -> tuple[float, float]:
    """Two phases, one right after the other, so that both see the same machine."""
    quiet = p99(await crowd.reads())
    async with crowd.flood():
        flooded = p99(await crowd.reads())
    return quiet, flooded


async def run(rounds: int) -> float:
    """Print each round; the median ratio."""
    ratios = []
    with one_up(ENVIRONMENT) as up:
        token = (await asyncio.to_thread(up.join))["token"]
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as client:
            crowd = Crowd(client, up, token, PHASE_S)
            await crowd.reads()  # to warm up
            for number in range(1, rounds + 1):
                quiet, flooded = await measure(crowd)
                ratios.append(flooded / quiet)
                tell(
                    f"round {number}: p99 of reads {quiet:.1f} ms, in a flood {flooded:.1f} ms: {ratios[-1]:.2f} times"
                )
        tell(f"logins: {dict(sorted(crowd.statuses.items()))}")
    return statistics.median(ratios)


def main() -> int:
    """0 when the goal is met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    ratio = asyncio.run(run(parser.parse_args().rounds))
    tell(f"median {ratio:.2f} times (goal: {GOAL:g} at most)")
    return ratio > GOAL


if __name__ == "__main__":
    sys.exit(main())
