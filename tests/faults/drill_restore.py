"""Backup and restore of PostgreSQL by the commands of ops/DEPLOYMENT.md, while Kafka goes on: all that was there at the
backup is there again, and its events and jobs have their effects once. `make faults` plays it.
"""

import asyncio
import os
import re
import secrets
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from aiokafka import AIOKafkaConsumer
from kit.running import CallboardProcess, Up, one_up, until
from kit.twins import ProcessGroup, twins

from callboard.ops.embedded.binaries import find_postgres

PAGE = Path(__file__).parents[2] / "ops" / "DEPLOYMENT.md"
QUIET_MS = 5_000  # without a record: then all has been read
ALL, API = "front,streams,workers", "front"


@pytest.fixture
def servers() -> Iterator[tuple[Up, ProcessGroup]]:
    with one_up() as up, twins(up, 1, ROLES=ALL) as made:
        yield up, made


def commands(heading: str) -> str:
    """The commands below a heading of the page."""
    section = PAGE.read_text(encoding="utf-8").partition(f"### {heading}\n")[2].partition("\n#")[0]
    found = re.findall(r"^ {4}(.*)$", section, re.MULTILINE)
    assert found
    return "\n".join(found)


def run(script: str, environment: dict[str, str], folder: Path) -> None:
    """The lines of the page in a shell, with the programs of the embedded PostgreSQL; Redis's is done by its client."""
    programs = find_postgres(None).postgres.parent
    lines = [line for line in script.splitlines() if not line.startswith("redis-cli")]
    if len(lines) < len(script.splitlines()):
        with redis.Redis.from_url(environment["REDIS_URL"]) as client:
            client.flushdb()
    done = subprocess.run(  # noqa: S603 - the page's commands
        ["sh", "-e", "-c", "\n".join(lines)],  # noqa: S607 - the shell
        cwd=folder,
        env={**os.environ, **environment, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def replaced(made: ProcessGroup, roles: str) -> CallboardProcess:
    """Stop the process in order, and start one with these roles on its database."""
    made.end(made.sites[0])
    return made.start(ROLES=roles)


async def ids_by_user(environment: dict[str, str]) -> dict[str, list[str]]:
    """The ids of `user.registered` on Kafka by the address that registered, as often as they are there."""
    found: dict[str, list[str]] = defaultdict(list)
    topic = f"{environment['TOPIC_PREFIX']}.users.v1"
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=environment["KAFKA_BROKERS"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        while records := await consumer.getmany(timeout_ms=QUIET_MS):
            for record in (each for of_one in records.values() for each in of_one):
                headers = {name: value.decode() for name, value in record.headers}
                if headers["ce_type"] == "user.registered":
                    found[record.key.decode()].append(headers["ce_id"])
    finally:
        await consumer.stop()
    return found


def mails(up: Up, account: dict[str, str]) -> int:
    return len([mail for mail in up.mails_to(account["email"]) if "Confirm" in mail["subject"]])


def wait_mails(up: Up, account: dict[str, str], count: int) -> None:
    until(f"mail {count} to {account['email']}", lambda: mails(up, account) >= count)


def test_after_a_restore_all_of_the_backup_is_there_and_its_work_is_done_once(
    servers: tuple[Up, ProcessGroup], tmp_path: Path
) -> None:
    up, made = servers
    database = made.environment["DATABASE_URL"]
    environment = {
        "DATABASE_URL": database,
        "ADMIN_URL": up.facts["DATABASE_URL"],
        "DATABASE": database.rpartition("/")[2],
        "REDIS_URL": made.environment["REDIS_URL"],
    }
    done = made.sites[0].register()  # all of it is over before the backup
    wait_mails(up, done, 1)
    sent = "select 1 from mails where recipient = $1 and status = 'sent'"
    until("its mail as sent", lambda: made.sql(sent, done["email"]))

    api = replaced(made, API)  # nobody publishes, and nobody works
    waiting = api.register()
    export = api.call("POST", "/users/me/export", token=api.log_in("grace@example.org")).data
    run(commands("Backup"), environment, tmp_path)
    later = api.register()

    replaced(made, ALL)  # what happens after the backup is lost with the database, and stays in Kafka and in mailboxes
    for account in (waiting, later):
        wait_mails(up, account, 1)
    published = asyncio.run(ids_by_user(made.environment))
    made.end(made.sites[0])

    run(commands("Restore"), environment, tmp_path)
    restored = made.start(ROLES=ALL)
    wait_mails(up, waiting, 2)  # its first is unknown to what was restored: one more
    job = until("the export", lambda: finished(restored, export))
    assert job["state"] == "done"

    rows = {row["email"]: row["user_id"] for row in made.sql("select email, user_id from users")}
    assert {done["email"], waiting["email"]} <= set(rows)
    assert later["email"] not in rows
    again = asyncio.run(ids_by_user(made.environment))
    for account in (done, waiting):
        assert len(set(again[account["user_id"]])) == 1, "an event came with another id"
        assert set(again[account["user_id"]]) == set(published[account["user_id"]])
    assert len(again[done["user_id"]]) == 1
    assert (mails(up, done), mails(up, waiting), mails(up, later)) == (1, 2, 1)
    letters = made.sql("select letter from mails where letter like '%export%'")
    assert len(letters) == 1, "the export ran more than once"
    assert restored.register(f"{secrets.token_hex(4)}@example.org")


def finished(site: CallboardProcess, export: dict[str, Any]) -> dict[str, Any] | None:
    job = site.call("GET", f"/jobs/{export['export_id']}", token=site.log_in("grace@example.org")).data
    return job if job["state"] in ("done", "failed") else None
