"""`callboard jobs`: the operator's commands of the job queue, against the running servers."""

import argparse
import sys
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.actors.infrastructure.job_kinds import Priority
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.job_views import DeadFilter
from callboard.ops.cli import OK, CommandError
from callboard.ops.commands.context import command_context, print_problem
from callboard.ops.embedded.data_directory import data_folder
from callboard.ops.terminal import json_line, visible


async def run_jobs(options: argparse.Namespace) -> int:
    """Run an action; return the exit status."""
    from callboard.ops.departments import declared_by, installed  # noqa: PLC0415 - they bring all handlers, and --help needs none

    async with command_context(data_folder(options.data_dir)) as at:
        admin = JobAdmin(at.database, JobQueue(declared_by(installed()).jobs))
        try:
            print(await _act(admin, options))
        except Problem as problem:
            return print_problem(problem)
    return OK


async def _act(admin: JobAdmin, options: argparse.Namespace) -> str:
    """Run an action; return its output."""
    match options.jobs:
        case "list":
            return await _list(admin, options)
        case "show":
            return msgspec.json.format(json_line(await admin.job(options.job_id)), indent=0 if options.json else 2)
        case "kinds" | "schedules":
            return _rows(await (admin.kinds() if options.jobs == "kinds" else admin.schedules()), options)
        case "cancel":
            asked = await admin.cancel(options.job_id)
            return _told(options, "cancelled" if asked == "cancelled" else "it runs, and is asked to end", result=asked)
        case "replay":
            return await _replay(admin, options)
        case _:
            await _change(admin, options)
            return _told(options, "done", result="done")


def _told(options: argparse.Namespace, said: str, **facts: object) -> str:
    return json_line(facts) if options.json else said


def _rows(found: list[Any], options: argparse.Namespace, *names: str) -> str:
    return "\n".join(map(json_line, found)) if options.json else table(found, *names)


async def _change(admin: JobAdmin, options: argparse.Namespace) -> None:
    match options.jobs:
        case "retry":
            await admin.retry_now(options.job_id)
        case "discard":
            await admin.discard(options.job_id)
        case "priority":
            await admin.set_priority(options.job_id, Priority[options.priority.upper()])
        case "pause" | "resume":
            await admin.set_paused(options.kind, paused=options.jobs == "pause")
        case "limit":
            await admin.set_limit(options.kind, None if options.max_running < 0 else options.max_running)
        case "run":
            await admin.run_schedule(options.name)
        case "enable" | "disable":
            await admin.enable_schedule(options.name, enabled=options.jobs == "enable")


async def _list(admin: JobAdmin, options: argparse.Namespace) -> str:
    if options.dead:
        found = await admin.dead(DeadFilter(options.kind), limit=options.limit)
    else:
        found = await admin.jobs(kind=options.kind, state=options.state, after=options.after, limit=options.limit)
    return _rows(found, options, "job_id", "kind", "state", "priority", "attempts", "run_at", "created_at", "error")


async def _replay(admin: JobAdmin, options: argparse.Namespace) -> str:
    if (options.job_id is None) == (options.kind is None):
        raise CommandError("name one dead letter, or with --kind those of a kind")
    if options.job_id is not None:
        job_id = await admin.replay(options.job_id)
        return _told(options, f"replayed as {job_id}", result="replayed", job_id=job_id)
    which = DeadFilter(options.kind, options.reason, options.since)
    count = await admin.replay_all(which, per_second=options.per_second, most=options.most)
    return _told(options, f"{count} replayed", replayed=count)


def table(rows: list[Any], *names: str) -> str:
    """Return the rows as a table of these fields, or of all."""
    columns = names or tuple(rows[0].__struct_fields__ if rows else ())
    made = Table(*columns)
    for row in rows:
        values = (getattr(row, name) for name in columns)
        made.add_row(*("" if value is None else escape(visible(_cell(value))) for value in values))
    console = Console(width=None if sys.stdout.isatty() else 200)
    with console.capture() as captured:
        console.print(made)
    return captured.get().rstrip()


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return f"{value:.0f}" if isinstance(value, float) else str(value)
