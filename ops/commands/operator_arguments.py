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


def add_config(config: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the actions of `callboard config`."""
    check = config.add_parser("check", parents=parents, help="check the settings and report every fault")
    check.add_argument("file", nargs="?", help="check only this file, as CALLBOARD_CONFIG, and not the environment")
    show = config.add_parser("show", parents=parents, help="show every setting and its origin, without secrets")
    show.add_argument("--live", action="store_true", help="those in force in a running process")
    change = config.add_parser("set", parents=parents, help="change a setting of a running process until it ends")
    change.add_argument("name", type=text, help="such as LOG_LEVEL, pools.mail.size or limits.login.limit")
    change.add_argument("value", type=text)
    back = config.add_parser("unset", parents=parents, help="take such a value back")
    back.add_argument("name", type=text)
    config.add_parser("reload", parents=parents, help="let a running process read its settings again")


def add_flags(flags: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the actions of `callboard flags`."""
    listing = flags.add_parser("list", parents=parents, help="list the feature flags")
    change = flags.add_parser("set", parents=parents, help="set a flag for all users, or with --user for one")
    change.add_argument("name", type=text)
    change.add_argument("value", choices=["on", "off", "default"], help="default: with --user, as for all users")
    for each in (listing, change):
        each.add_argument("--user", type=text, help="the id or address of an account")
