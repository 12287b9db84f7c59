"""The options of `callboard users`; apart from the commands, because `--help` needs none of their imports."""

import argparse
from pathlib import Path
from typing import Any


def add_users(users: Any, output: argparse.ArgumentParser) -> None:
    """Add the actions of `callboard users`."""
    admin = users.add_parser("create-admin", parents=[output], help="create an admin, or promote an account")
    admin.add_argument("--email", required=True)
    admin.add_argument("--password", required=True, help="8 characters or more, an upper case letter, a digit")
    admin.add_argument("--full-name", required=True)

    listing = users.add_parser("list", parents=[output], help="list accounts, newest first")
    listing.add_argument("--email", help="the one with this address")
    listing.add_argument("--role", choices=["member", "editor", "admin"])
    listing.add_argument("--verified", action=argparse.BooleanOptionalAction, default=None)
    listing.add_argument("--active", action=argparse.BooleanOptionalAction, default=None)
    listing.add_argument("--q", help="part of the name or address")

    role = users.add_parser("role", parents=[output], help="set the role of an account")
    role.add_argument("email")
    role.add_argument("role", choices=["member", "editor", "admin"])

    disable = users.add_parser("disable", parents=[output], help="disable an account and end its sessions")
    disable.add_argument("email")
    disable.add_argument("--enable", action="store_true", help="enable it again")

    bring = users.add_parser("import", parents=[output], help="import accounts, with hashes of their passwords")
    bring.add_argument("file", type=Path, help="CSV with a header, or a JSON object a line")
    bring.add_argument(
        "--format", choices=["csv", "jsonl"], help="the format, if the name of the file does not tell it"
    )
    bring.add_argument(
        "--errors", type=Path, help="a file for the faults, one JSON object a line; without it --json prints them"
    )
    bring.add_argument("--send-verification", action="store_true", help="mail links to unverified accounts")
