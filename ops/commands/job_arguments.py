"""The options of `callboard jobs`; apart from the commands, because `--help` needs none of their imports."""

import argparse
from collections.abc import Callable
from datetime import datetime
from typing import Any

PRIORITIES = ("security", "normal", "bulk")
MAX_ID = 2**63 - 1
MAX_SHOWN = 10_000
MAX_LIMIT = 100_000
MIN_RATE, MAX_RATE = 0.001, 1_000.0
FIRST_YEAR, LAST_YEAR = 2, 9998  # so that a time of any zone has a time in UTC


def whole(least: int, most: int) -> Callable[[str], int]:
    """Parse a whole number within these bounds."""

    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"it is from {least} to {most}")
        return value

    return number


def rate(text: str) -> float:
    """Parse a number a second."""
    value = float(text)
    if not MIN_RATE <= value <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"it is from {MIN_RATE} to {MAX_RATE}")
    return value


def moment(text: str) -> datetime:
    """Parse a time with its zone."""
    value = datetime.fromisoformat(text)
    if value.tzinfo is None or not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise argparse.ArgumentTypeError("it needs a zone, such as 2026-01-31T12:00:00+00:00")
    return value


def text(text: str) -> str:
    """Parse a name: it must be UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError("it is no UTF-8") from error
    return text


def add_jobs(jobs: Any, output: argparse.ArgumentParser) -> None:
    """Add the actions of `callboard jobs`."""

    def action(name: str, meaning: str, *names: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = jobs.add_parser(name, parents=[output], help=meaning)
        for each in names:
            made.add_argument(each, type=whole(1, MAX_ID) if each == "job_id" else text)
        return made

    listing = action("list", "list jobs that have not ended, or with --dead the dead letters")
    listing.add_argument("--kind", type=text)
    listing.add_argument("--state", choices=["waiting", "blocked", "running"])
    listing.add_argument("--dead", action="store_true", help="dead letters that wait for a decision, newest first")
    listing.add_argument("--after", type=whole(0, MAX_ID), default=0, help="continue after this id")
    listing.add_argument("--limit", type=whole(1, MAX_SHOWN), default=100)
    action("show", "show a job, waiting, running or dead", "job_id")
    action("kinds", "list the job kinds with their counts")
    action("cancel", "cancel a job", "job_id")
    action("retry", "start a waiting job now", "job_id")
    action("discard", "discard a dead letter", "job_id")
    priority = action("priority", "change the priority of a job", "job_id")
    priority.add_argument("priority", choices=PRIORITIES)
    replay = action("replay", "replay one dead letter, or many")
    replay.add_argument("job_id", type=whole(1, MAX_ID), nargs="?")
    replay.add_argument("--kind", type=text, help="all dead letters of this kind")
    replay.add_argument("--reason", type=text, help="only those")
    replay.add_argument("--since", type=moment, help="only those that died since this time, with its zone")
    replay.add_argument("--per-second", type=rate, default=10.0)
    replay.add_argument("--most", type=whole(1, MAX_SHOWN), default=1000)
    action("pause", "start no more jobs of a kind", "kind")
    action("resume", "start jobs of a kind again", "kind")
    limit = action("limit", "limit the running jobs of a kind in all processes together", "kind")
    limit.add_argument("max_running", type=whole(-1, MAX_LIMIT), help="0: no limit; -1: as the kind declares")
    action("schedules", "list the schedules")
    action("run", "run a schedule's job now", "name")
    action("enable", "enable a schedule", "name")
    action("disable", "disable a schedule", "name")
