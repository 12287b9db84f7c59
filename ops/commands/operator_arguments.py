"""The options of commands that ask a process; apart from the commands, because `--help` needs none of their imports."""

import argparse
from typing import Any

from callboard.ops.commands.job_arguments import text, whole

MAX_WORKERS = 1000


def add_tree(tree: argparse.ArgumentParser) -> None:
    """Add the options of `callboard tree`."""
    tree.add_argument("path", nargs="?", type=text, help="only the part below this path, such as editorial/content")


def add_pools(pools: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the actions of `callboard pools`."""
    pools.add_parser("list", parents=parents, help="list the pools: workers, waiting messages, restarts")
    resize = pools.add_parser("resize", parents=parents, help="resize a pool: no message is lost")
    resize.add_argument("name", type=text)
    resize.add_argument("size", type=whole(1, MAX_WORKERS), help="workers")


def add_flags(flags: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the actions of `callboard flags`."""
    listing = flags.add_parser("list", parents=parents, help="list the feature flags")
    change = flags.add_parser("set", parents=parents, help="set a flag for all users, or with --user for one")
    change.add_argument("name", type=text)
    change.add_argument("value", choices=["on", "off", "default"], help="default: with --user, as for all users")
    for each in (listing, change):
        each.add_argument("--user", type=text, help="the id or address of an account")
