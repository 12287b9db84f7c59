"""The options of `callboard keys`; apart from the commands, because `--help` needs none of their imports."""

import argparse
from typing import Any
from uuid import UUID


def add_keys(keys: Any, output: argparse.ArgumentParser) -> None:
    """Add the actions of `callboard keys`."""
    keys.add_parser("list", parents=[output], help="list producer keys, revoked ones too, newest first")
    add = keys.add_parser("add", parents=[output], help="create a producer key and print it: it is shown once")
    add.add_argument("name", help="the producer's name")
    add.add_argument("--type", action="append", required=True, help="an event type that it may send; may be repeated")
    add.add_argument(
        "--source", action="append", required=True, help="a source that it may name, or the beginning of one and *"
    )
    add.add_argument("--hourly-events", type=int, help="events that it may send in an hour")
    add.add_argument("--hourly-bytes", type=int, help="bytes of data that it may send in an hour")
    revoke = keys.add_parser("revoke", parents=[output], help="revoke a producer key: it is refused at once")
    revoke.add_argument("key_id", type=UUID)
