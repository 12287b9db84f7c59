"""The options of `callboard jobs`; apart from the commands, since `--help` needs none of what these import."""

import argparse
from datetime import datetime
from typing import Any

PRIORITIES = ("security", "normal", "bulk")


def add_jobs(jobs: Any, data: argparse.ArgumentParser) -> None:
    """The actions of `callboard jobs`."""

    def action(name: str, meaning: str, *names: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = jobs.add_parser(name, parents=[data], help=meaning)
        for each in names:
            made.add_argument(each, type=int if each == "job_id" else str)
        return made

    listing = action("list", "list jobs that have not ended, or with --dead the dead letters")
    listing.add_argument("--kind")
    listing.add_argument("--state", choices=["waiting", "blocked", "running"])
    listing.add_argument("--dead", action="store_true", help="dead letters that wait for a decision, newest first")
    listing.add_argument("--after", type=int, default=0, help="go on beyond this id")
    listing.add_argument("--limit", type=int, default=100)
    listing.add_argument("--json", action="store_true", help="a JSON object a line")
    action("show", "show a job, wherever it is", "job_id")
    action("kinds", "list the kinds and how much of each there is")
    action("cancel", "cancel a job", "job_id")
    action("retry", "start a waiting job now", "job_id")
    action("discard", "decide that a dead letter is not replayed", "job_id")
    priority = action("priority", "change the priority of a job", "job_id")
    priority.add_argument("priority", choices=PRIORITIES)
    replay = action("replay", "make a new job of a dead letter, or of many")
    replay.add_argument("job_id", type=int, nargs="?")
    replay.add_argument("--kind", help="all dead letters of this kind")
    replay.add_argument("--reason", help="only those")
    replay.add_argument("--since", type=datetime.fromisoformat, help="only those that died since, with its zone")
    replay.add_argument("--per-second", type=float, default=10.0)
    replay.add_argument("--most", type=int, default=1000)
    action("pause", "start no more jobs of a kind", "kind")
    action("resume", "start jobs of a kind again", "kind")
    limit = action("limit", "bound what all processes run of a kind together", "kind")
    limit.add_argument("max_running", type=int, help="0: no limit; -1: as the kind declares")
    action("schedules", "list the schedules")
    action("run", "enqueue the job of a schedule now", "name")
    action("enable", "have a schedule make jobs", "name")
    action("disable", "have a schedule make no more jobs", "name")
