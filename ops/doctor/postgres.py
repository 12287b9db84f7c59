"""The doctor's checks of PostgreSQL."""

import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg

from callboard.actors.infrastructure.database_connection import is_pooled
from callboard.actors.infrastructure.database_server import ERRORS, Pooler, shown_address
from callboard.actors.infrastructure.postgres_errors import judge_connecting, words
from callboard.ops import schema
from callboard.ops.clients import QUEUE_POOL_SIZE
from callboard.ops.config.settings import Config
from callboard.ops.doctor import indexes
from callboard.ops.doctor.findings import Finding, Surroundings, skew
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

TIMEOUT_S = 5.0
LEAST_VERSION = 150_000
EXTENSIONS = ("pg_trgm", "unaccent")
POOLS = tuple(f"database_{kind}pool_size" for kind in ("", "search_", "jobs_", "operators_"))
SESSIONS = 4  # of a process besides its pools: the relay's lock, notices of jobs and of notifications, its clock
WAITING_S = 30.0  # events that wait for longer have no relay
IDLE_S = 3600.0  # a transaction that is idle for longer keeps deleted rows


async def check_postgres(around: Surroundings) -> AsyncIterator[Finding]:
    """Check the server, our rights, the schema, indexes and clocks."""
    url = around.read(Config, "database_url")
    if not url:
        return
    try:
        connection = await asyncpg.connect(url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S, statement_cache_size=0)
    except ERRORS as error:
        said = f"DATABASE_URL ({shown_address(url)}): {judge_connecting(error).why}; {words(error)}"
        yield Finding("postgres", said, "start the server, or correct DATABASE_URL")
        return
    try:
        ours, server = time.time(), await QUERIES.server(connection)
        for found in (
            *_server(server),
            *_room(around, server),
            skew("postgres clock", "PostgreSQL", server["now"] - ours),
        ):
            yield found
        async for found in _sessions(around, connection, url):
            yield found
        async for found in _schema(connection, server):
            yield found
    finally:
        await connection.close(timeout=TIMEOUT_S)


def _server(server: Any) -> Iterator[Finding]:
    name = "postgres"
    old = "upgrade the server" if server["version"] < LEAST_VERSION else ""
    yield Finding(name, f"PostgreSQL {server['shown'].partition(' ')[0]}{' is older than 15' if old else ''}", old)
    if server["encoding"] != "UTF8":
        yield Finding(name, f"the database's encoding is {server['encoding']}", "create it anew: encoding 'UTF8'")
    if server["read_only"]:
        yield Finding(
            name, "the server is read-only", "let DATABASE_URL lead to the primary, or end its read-only state"
        )


def _room(around: Surroundings, server: Any) -> Iterator[Finding]:
    """Compare the connections that the server allows with those of a process."""
    needed = sum(around.read(Config, name) or 0 for name in POOLS) + QUEUE_POOL_SIZE + SESSIONS
    limits = {
        "max_connections": server["connections"],
        f"the role {server['role']}": server["of_role"],
        "the database": server["of_database"],
    }
    name, allowed = min(((name, limit) for name, limit in limits.items() if limit >= 0), key=lambda each: each[1])
    said = f"{name} allows {allowed} connections, and each process may take {needed}"
    mend = "" if allowed >= needed else "allow more, lower DATABASE_*_POOL_SIZE, or put a pooler in front"
    yield Finding("postgres connections", said, mend)


async def _sessions(around: Surroundings, connection: Any, url: str) -> AsyncIterator[Finding]:
    """Find a pooler in transaction mode, and the way past it."""
    mode, name = around.read(Config, "database_pooler"), "postgres pooler"
    pooled, direct = await is_pooled(connection), around.read(Config, "database_direct_url")
    if mode is Pooler.NONE and pooled:
        yield Finding(name, "DATABASE_POOLER is none, and there is a pooler", "set DATABASE_POOLER=auto")
    if pooled and not direct:
        yield Finding(
            name,
            "DATABASE_URL leads through a pooler in transaction mode, over which no events are published",
            "set DATABASE_DIRECT_URL to the server itself",
        )
    elif direct and direct != url:
        try:
            other = await asyncpg.connect(direct, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S, statement_cache_size=0)
        except ERRORS as error:
            said = f"DATABASE_DIRECT_URL ({shown_address(direct)}): {judge_connecting(error).why}"
            yield Finding(name, said, "start the server, or correct DATABASE_DIRECT_URL")
            return
        try:
            still = await is_pooled(other)
        finally:
            await other.close(timeout=TIMEOUT_S)
        mend = "let DATABASE_DIRECT_URL lead past the pooler" if still else ""
        yield Finding(name, f"DATABASE_DIRECT_URL leads {'through a pooler too' if still else 'past the pooler'}", mend)
    else:
        yield Finding(name, "no pooler in transaction mode is in between")


async def _schema(connection: Any, server: Any) -> AsyncIterator[Finding]:
    revision = await schema.revision_of(connection)
    async for row in QUERIES.missing_extensions(connection, names=list(EXTENSIONS)):
        if revision is None and row["available"]:
            continue  # `migrate up` creates it
        mend = (
            f"run as its owner: create extension {row['name']}"
            if row["available"]
            else "install postgresql-contrib on the server"
        )
        yield Finding("postgres extensions", f"the extension {row['name']} is missing", mend)
    missing = schema.missing_from(revision)
    if revision is None and not server["may_create"]:
        mend = f'run as the owner: grant create on schema public to "{server["role"]}"'
        yield Finding("postgres rights", f"the role {server['role']} may not create tables", mend)
    if missing:
        said = "the database is empty" if revision is None else f"the database lacks {len(missing)} migrations"
        yield Finding("postgres schema", said, "run `callboard migrate up`")
        return
    yield Finding("postgres schema", f"the schema is at revision {revision}")
    names = re.findall(r"^create table (\w+)", schema.SCHEMA.read_text(encoding="utf-8"), re.MULTILINE)
    forbidden = [row["name"] async for row in QUERIES.forbidden_tables(connection, names=names)]
    if forbidden:
        mend = f'run as their owner: grant all on all tables in schema public to "{server["role"]}"'
        yield Finding("postgres rights", f"the role may not use {', '.join(forbidden[:5])}", mend)
    async for row in QUERIES.invalid_indexes(connection):
        mend = (
            f"drop index concurrently {row['name']}"
            if row["name"].endswith(("_ccnew", "_ccold"))
            else (f"reindex index concurrently {row['name']}")
        )
        yield Finding("postgres indexes", f"the index {row['name']} is invalid: its build was interrupted", mend)
    for row in await indexes.bloated(connection):
        said = f"the index {row['index']} takes {row['size']} and needs about {row['needed']}"
        yield Finding("postgres indexes", said, f"reindex index concurrently {row['index']}")
    async for found in _activity(connection):
        yield found


async def _activity(connection: Any) -> AsyncIterator[Finding]:
    lead = await QUERIES.relay_lead(connection)
    waiting_s = lead["waiting_s"] or 0.0
    if waiting_s > WAITING_S:
        who = f"{lead['holder']} leads" if lead["holder"] else "no process leads the relay"
        mend = (
            "see `callboard topics` and the log of that process" if lead["holder"] else "start one with ROLES=streams"
        )
        yield Finding("relay", f"events wait for {waiting_s:.0f} s, and {who}", mend)
    else:
        yield Finding("relay", f"{lead['holder']} leads" if lead["holder"] else "no process leads, and no event waits")
    oldest = await QUERIES.oldest_transaction(connection)
    if oldest is not None and oldest["age_s"] > IDLE_S:
        said = f"process {oldest['pid']} is idle in a transaction for {oldest['age_s'] / 3600:.1f} hours"
        yield Finding("postgres", said, f"select pg_terminate_backend({oldest['pid']})")
