"""`callboard audit`: the security events, for operators."""

import argparse
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callboard.actors.errors import Problem
from callboard.actors.identity.errors import USERS_NOT_FOUND
from callboard.actors.identity.users import ListUsers
from callboard.actors.infrastructure.audit_log import ACTIONS, AuditEntry, AuditLog, ListAuditEntries
from callboard.http.server.validation import in_reach
from callboard.ops.cli import OK, CommandError
from callboard.ops.commands.context import CommandContext, command_context, print_problem
from callboard.ops.embedded.data_directory import data_folder
from callboard.ops.terminal import json_line, visible
from callboard.streams.event_types import UtcDatetime

PAGE = 100  # entries read at a time


async def run_audit(options: argparse.Namespace) -> int:
    """Print entries, newest first: a table, or one JSON object a line; return the exit status.

    Raises CommandError.
    """
    filters = {
        "action": _action(options.action),
        "since": _moment(options.since, "--since"),
        "until": _moment(options.until, "--until"),
    }
    table = Table("when", "action", "by", "of", "from", "detail", "trace")
    async with command_context(data_folder(options.data_dir)) as at:
        try:
            async for entry in _entries(at, filters, options.user, options.limit):
                if options.json:
                    print(json_line(entry))
                else:
                    table.add_row(*map(escape, map(visible, _cells(entry))))
        except Problem as problem:
            return print_problem(problem)
    if not options.json:
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    return OK


async def _entries(at: CommandContext, filters: Mapping[str, Any], user: str | None, limit: int) -> Any:
    log = AuditLog(at.database)
    before: dict[str, Any] = {}
    left = limit
    user_id = await _user_id(at, user) if user else None
    while left > 0:
        page = await log.list_entries(ListAuditEntries(min(left, PAGE), user_id=user_id, **filters, **before))
        for entry in page:
            yield entry
        left -= PAGE
        if len(page) < PAGE:
            return
        before = {"before": page[-1].occurred_at, "before_id": page[-1].audit_id}


async def _user_id(at: CommandContext, user: str) -> UUID:
    """Return the id itself, which may be of a deleted account, or that of an address. Raises Problem."""
    try:
        return UUID(user)
    except ValueError:
        found = await at.users.ask(ListUsers(1, email=user))
        if not found:
            raise Problem(USERS_NOT_FOUND, f"There is no account with the address {visible(user)}.") from None
        return found[0].user_id


def _cells(entry: AuditEntry) -> tuple[str, ...]:
    detail = " ".join(f"{name}={value}" for name, value in entry.detail.items())
    return (
        f"{entry.occurred_at:%Y-%m-%d %H:%M:%S}",
        entry.action,
        str(entry.actor_id or entry.actor),
        str(entry.user_id or ""),
        " ".join(filter(None, (entry.ip, entry.user_agent))),
        detail,
        entry.trace_id or "",
    )


def _action(name: str | None) -> str | None:
    """Return the name of a kind of event. Raises CommandError."""
    if name is not None and name not in ACTIONS:
        raise CommandError(f"--action must be one of {', '.join(sorted(ACTIONS))}")
    return name


def _moment(text: str | None, option: str) -> datetime | None:
    """Parse a time of RFC 3339. Raises CommandError."""
    try:
        moment = None if text is None else msgspec.convert(text, UtcDatetime)
        if moment is None or in_reach(moment):
            return moment
        raise CommandError(f"{option} must be in the years 2 to 9998")
    except msgspec.ValidationError:
        raise CommandError(f"{option} must be a time with a zone, such as 2026-01-31T12:00:00Z") from None
