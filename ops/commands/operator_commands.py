"""`callboard tree`, `pools` and `flags`: what a running process shows, and what is changed in it."""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from callboard.ops.cli import OK, CommandError
from callboard.ops.commands.operator_client import client_of
from callboard.ops.terminal import json_line, print_table

POOL_FIELDS = ("name", "size", "depth", "mailbox", "overflow", "route", "restarts")


async def show_tree(options: argparse.Namespace) -> int:
    """Print the supervision tree, one actor a line; return the exit status."""
    root = client_of(options).call("GET", "/ops/v1/tree")
    for name in (options.path or "").strip("/").split("/") if options.path else ():
        root = next((each for each in root.get("children", ()) if each["name"] == name), None)
        if root is None:
            raise CommandError(f"the tree has no {options.path}")
    if options.json:
        print(json_line(root))
    else:
        print_table(("actor", "state", "waiting", "oldest s", "restarts", "per s", "works on"), _lines(root, 0))
    return OK


def _lines(node: dict[str, Any], depth: int) -> Iterator[Sequence[object]]:
    waiting = f"{node['depth']}/{node['capacity']}" if "depth" in node else ""
    shown = (node.get(name) for name in ("oldest_s", "restarts", "handled_per_s", "current"))
    yield (f"{'  ' * depth}{node['name']}", node["state"], waiting, *shown)
    for child in node.get("children", ()):
        yield from _lines(child, depth + 1)


async def run_pools(options: argparse.Namespace) -> int:
    """List the pools, or resize one; return the exit status."""
    client = client_of(options)
    if options.pools == "resize":
        pools = [client.call("PATCH", f"/ops/v1/pools/{quote(options.name, safe='')}", {"size": options.size})]
    else:
        pools = client.call("GET", "/ops/v1/pools")
    _show(pools, POOL_FIELDS, as_json=options.json)
    return OK


async def run_flags(options: argparse.Namespace) -> int:
    """List the flags, or set one; return the exit status."""
    client = client_of(options)
    if options.flags == "set":
        if options.value == "default" and not options.user:
            raise CommandError("default needs --user: it removes that user's own value")
        body = {"is_on": None if options.value == "default" else options.value == "on", "user": options.user}
        flags = [client.call("PUT", f"/ops/v1/flags/{quote(options.name, safe='')}", body)]
    else:
        query = f"?{urlencode({'user': options.user})}" if options.user else ""
        flags = client.call("GET", f"/ops/v1/flags{query}")
    names = ("name", "is_on", "overrides", *(("override",) if options.user else ()))
    _show(flags, names, as_json=options.json)
    return OK


def _show(rows: Sequence[dict[str, Any]], names: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print("\n".join(json_line(each) for each in rows))
    else:
        print_table(names, ([each.get(name) for name in names] for each in rows))
