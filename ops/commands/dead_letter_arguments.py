"""The options of `callboard dlq`; apart from the commands, because `--help` needs none of their imports."""

import argparse
from typing import Any

from callboard.ops.commands.job_arguments import MAX_SHOWN, moment, rate, text, whole


def add_dead_letters(letters: Any, output: argparse.ArgumentParser) -> None:
    """Add the actions of `callboard dlq`."""
    listing = letters.add_parser("list", parents=[output], help="list dead letters, newest first")
    _add_filter(listing)
    listing.add_argument("--all", action="store_true", help="replayed ones too, and jobs that were dropped")
    listing.add_argument("--limit", type=whole(1, MAX_SHOWN), default=100)
    show = letters.add_parser("show", parents=[output], help="show a dead letter, with its bytes and headers")
    show.add_argument("id", type=text, help="such as job:17")
    replay = letters.add_parser("replay", parents=[output], help="replay dead letters, oldest first")
    drop = letters.add_parser("drop", parents=[output], help="drop dead letters: they cannot be replayed any more")
    for change in (replay, drop):
        change.add_argument("ids", type=text, nargs="*", metavar="id", help="such as job:17; or give a filter")
        _add_filter(change)
        change.add_argument("--most", type=whole(1, MAX_SHOWN), default=1000, help="letters of a filter, at most")
    replay.add_argument("--per-second", type=rate, default=10.0, help="how many a second start (default: 10)")


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", choices=["record", "job"], help="records, or jobs; mails are jobs of the kind mail")
    parser.add_argument("--name", type=text, help="a topic without its prefix, or a kind of jobs")
    parser.add_argument("--reason", type=text)
    parser.add_argument("--since", type=moment, help="only those that died since this time, with its zone")
