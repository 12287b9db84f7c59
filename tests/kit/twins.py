"""Several `callboard serve` side by side on the servers of a running `up`, with a database and a Redis of their own."""

import asyncio
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from kit.commands import run_command
from kit.running import PASSWORD, CallboardProcess, Up, until


class ProcessGroup:
    """The processes that were started, and an admin of theirs."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.sites: list[CallboardProcess] = []
        self.admin = ""

    def start(self, **settings: str) -> CallboardProcess:
        """One more process, with settings that the others do not have; it has the API alone."""
        return self.start_all(1, **settings)[0]

    def start_all(self, count: int, **settings: str) -> list[CallboardProcess]:
        """So many more, at once."""
        started = [CallboardProcess("serve", environment=self.environment | settings) for _ in range(count)]
        self.sites += started
        for site in started:
            until("its word that it serves", lambda each=site: "callboard serves on" in each.errors)
        return started

    def end(self, site: CallboardProcess) -> None:
        """One fewer: the others are left as they were found."""
        self.sites.remove(site)
        site.end()

    def sql(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        """What a statement gives on their database."""

        async def run() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(self.environment["DATABASE_URL"])
            try:
                return [dict(row) for row in await connection.fetch(statement, *arguments)]
            finally:
                await connection.close()

        return asyncio.run(run())


@contextmanager
def twins(up: Up, count: int = 2, **settings: str) -> Iterator[ProcessGroup]:
    """So many processes, and an admin's access token."""
    name = f"twins_{secrets.token_hex(4)}"
    facts = up.facts
    asyncio.run(_make_database(facts["DATABASE_URL"], name))
    made = ProcessGroup(
        {
            "DATABASE_URL": facts["DATABASE_URL"].rpartition("/")[0] + f"/{name}",
            "REDIS_URL": facts["REDIS_URL"].rpartition("/")[0] + "/8",
            "KAFKA_BROKERS": facts["KAFKA_BROKERS"],
            "SMTP_HOST": facts["SMTP_HOST"],
            "SMTP_PORT": facts["SMTP_PORT"],
            "SMTP_TLS": facts["SMTP_TLS"],
            "TOPIC_PREFIX": name,
            "SERVICE_NAME": name,  # limits that other groups have used up are not ours
            "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            "OPS_TOKEN": "a-token-for-operators",
            "ROLES": "front",
            **settings,
        }
    )
    try:
        made.start_all(count)
        arguments = ("--email", "grace@example.org", "--password", PASSWORD, "--full-name", "Grace")
        said = run_command("users", "create-admin", *arguments, environment=made.environment)
        assert said.status == 0, said.errors
        made.admin = made.sites[0].log_in("grace@example.org")
        yield made
    finally:
        for site in made.sites:
            if site.process.poll() is None:
                site.signal(signal.SIGTERM)
        for site in made.sites:
            site.end()


async def _make_database(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"create database {name}")
    finally:
        await connection.close()
