"""`callboard doctor`: each check finds its fault at a real server, and says how to mend it."""

import json
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from kit.pooler import MISSING, PGBOUNCER, pgbouncer
from kit.running import Up
from redis.asyncio import Redis

from callboard.ops.cli import main
from callboard.ops.doctor import indexes, machine
from callboard.ops.doctor.findings import Check, Finding, Surroundings, skew
from callboard.ops.doctor.machine import check_machine, judge_disk
from callboard.ops.doctor.postgres import check_postgres
from callboard.ops.doctor.servers import check_kafka, check_mail, check_redis, judge_topics


async def faults(check: Check, **environ: str) -> list[Finding]:
    """What a check finds wrong with these settings; each fault says how to mend it."""
    return [each async for each in check(Surroundings(environ)) if each.is_fault]


def words(found: list[Finding]) -> str:
    return "\n".join(f"{each.check}: {each.found}: {each.mend}" for each in found)


@asynccontextmanager
async def database_of(up: Up, *statements: str) -> AsyncIterator[tuple[str, Any]]:
    """A database of its own on the running server, with these statements executed: its address and a connection."""
    name, url = f"doctor_{uuid4().hex[:8]}", up.facts["DATABASE_URL"]
    admin = await asyncpg.connect(url)
    await admin.execute(f"create database {name}")
    own = f"{url.rpartition('/')[0]}/{name}"
    connection = await asyncpg.connect(own)
    try:
        for statement in statements:
            await connection.execute(statement)
        yield own, connection
    finally:
        await connection.close()
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(("doctor", *arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_healthy_installation_has_no_fault_but_its_loopback_address(
    up: Up, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run("--json", "--data-dir", str(up.data))
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["check"] for each in found} >= {"settings", "postgres", "relay", "redis", "kafka", "mail", "disk"}
    assert [each["found"] for each in found if each["is_fault"]] == [
        each["found"] for each in found if "links in mails work nowhere else" in each["found"]
    ]
    assert status == 1
    assert all(bool(each["mend"]) is each["is_fault"] for each in found)


def test_every_bad_setting_is_a_line_with_its_remedy(
    up: Up, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PORT", "eighty")
    monkeypatch.setenv("KAFKA_PARTITIONS", "0")
    assert run("--data-dir", str(up.data)) == 1
    told = capsys.readouterr().out
    assert told.count("FAULT  HTTP_PORT must be") == 1
    assert told.count("FAULT  KAFKA_PARTITIONS must be") == 1
    assert "ok     PostgreSQL" in told  # a bad setting hides no server


async def test_a_database_that_is_away_or_refuses_us_is_named_without_its_password(up: Up) -> None:
    url = up.facts["DATABASE_URL"]
    login = urlsplit(url)
    for bad, reason in (
        ("postgresql://one:hidden@127.0.0.1:1/board", "the server does not answer"),
        (url.replace(f":{login.password}@", ":hidden@"), "password"),
        (f"{url.partition('?')[0].rpartition('/')[0]}/nowhere", "database"),
    ):
        (found,) = await faults(check_postgres, DATABASE_URL=bad)
        assert reason in found.found, found
        assert "hidden" not in found.found
        assert "DATABASE_URL" in found.mend


async def test_an_empty_database_and_one_of_an_older_release_are_to_be_migrated(up: Up) -> None:
    async with database_of(up) as (url, connection):
        assert [each.mend for each in await faults(check_postgres, DATABASE_URL=url)] == ["run `callboard migrate up`"]
        await connection.execute(
            "create table alembic_version (version_num text); insert into alembic_version values ('0001')"
        )
        told = words(await faults(check_postgres, DATABASE_URL=url))
        assert "lacks" in told
        assert "the extension pg_trgm is missing: run as its owner: create extension pg_trgm" in told


async def test_what_limits_us_at_the_database_is_found(up: Up) -> None:
    name = f"poor_{uuid4().hex[:8]}"
    async with database_of(up, f"create role {name} login password 'word' connection limit 7") as (url, connection):
        await connection.execute("alter database " + urlsplit(url).path[1:] + " set default_transaction_read_only = on")
        login = urlsplit(url)
        poor = url.replace(f"{login.username}:{login.password}@", f"{name}:word@")
        told = words(await faults(check_postgres, DATABASE_URL=poor))
        assert f"the role {name} allows 7 connections, and each process may take 31" in told
        assert "the server is read-only: let DATABASE_URL lead to the primary" in told
        assert f'may not create tables: run as the owner: grant create on schema public to "{name}"' in told
        await connection.execute(f"drop role {name}")


async def test_a_role_without_rights_on_our_tables_is_named(up: Up) -> None:
    name, url = f"poor_{uuid4().hex[:8]}", up.facts["DATABASE_URL"]
    login = urlsplit(url)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"create role {name} login password 'word'")
        await connection.execute(f"grant select on leases, outbox, alembic_version to {name}")
        poor = url.replace(f"{login.username}:{login.password}@", f"{name}:word@")
        told = words(await faults(check_postgres, DATABASE_URL=poor))
        assert "the role may not use " in told
        assert f'grant all on all tables in schema public to "{name}"' in told
    finally:
        await connection.execute(f"drop owned by {name}; drop role {name}")
        await connection.close()


async def test_interrupted_and_bloated_indexes_are_found(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await asyncpg.connect(up.facts["DATABASE_URL"])
    try:
        await connection.execute("""
            create table swollen as select n, repeat('x', 20) || n as text from generate_series(1, 40000) as n;
            create index swollen_text_idx on swollen (text);
            create index swollen_n_idx on swollen (n);
            insert into swollen values (1, 'again');
            delete from swollen where n % 50 <> 0 and n > 1;
        """)
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("create unique index concurrently swollen_one_idx on swollen (n)")
        await connection.execute("vacuum analyze swollen")
        monkeypatch.setattr(indexes, "WORTH_BYTES", 100_000)
        told = words(await faults(check_postgres, DATABASE_URL=up.facts["DATABASE_URL"]))
        assert "swollen_one_idx is invalid: its build was interrupted: reindex index concurrently" in told
        assert "reindex index concurrently swollen_text_idx" in told
    finally:
        await connection.execute("drop table if exists swollen")
        await connection.close()


async def test_events_that_nobody_publishes_and_a_forgotten_transaction_are_found(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callboard.ops import schema  # noqa: PLC0415 - beside its one use
    from callboard.ops.doctor import postgres  # noqa: PLC0415 - what is patched

    monkeypatch.setattr(postgres, "IDLE_S", 0.0)
    async with database_of(up) as (url, connection):
        await schema.install(url)
        await connection.execute(
            "insert into outbox (event_id, topic, key, type, value, occurred_at) "
            "values (gen_random_uuid(), 'user.v1', 'k', 'user.registered', '{}', now() - interval '40 s')"
        )
        other = await asyncpg.connect(url)
        await other.execute("begin; select 1")
        told = words(await faults(check_postgres, DATABASE_URL=url))
        await other.close()
        assert "events wait for 4" in told
        assert "no process leads the relay: start one with ROLES=streams" in told
        assert "is idle in a transaction" in told
        assert "select pg_terminate_backend(" in told


@pytest.mark.skipif(PGBOUNCER is None, reason=MISSING)
async def test_a_pooler_without_a_way_past_it_is_found(up: Up, tmp_path_factory: pytest.TempPathFactory) -> None:
    direct = up.facts["DATABASE_URL"]
    with pgbouncer(direct, tmp_path_factory.mktemp("pooler")) as pooled:
        for more, mend in (
            ({}, "set DATABASE_DIRECT_URL to the server itself"),
            ({"DATABASE_DIRECT_URL": pooled + "&application_name=x"}, "let DATABASE_DIRECT_URL lead past the pooler"),
            ({"DATABASE_DIRECT_URL": "postgresql://127.0.0.1:1/x"}, "start the server, or correct DATABASE_DIRECT_URL"),
            ({"DATABASE_DIRECT_URL": direct}, ""),
        ):
            found = await faults(check_postgres, DATABASE_URL=pooled, **more)
            assert [each.mend for each in found if each.check == "postgres pooler"] == [mend] * bool(mend), more


async def test_a_redis_that_is_away_refuses_us_or_is_full_is_found(up: Up) -> None:
    (away,) = await faults(check_redis, REDIS_URL="redis://:hidden@127.0.0.1:1")
    assert "hidden" not in away.found
    name, url = f"user-{uuid4().hex[:8]}", up.facts["REDIS_URL"]
    admin: Any = Redis.from_url(url)
    try:
        await admin.execute_command("ACL", "SETUSER", name, "on", ">word", "~*", "+@all", "-eval")
        policy = (await admin.config_get("maxmemory-policy"))["maxmemory-policy"]
        await admin.config_set("maxmemory-policy", "noeviction")
        await admin.config_set("maxmemory", 1 << 30)
        found = await faults(check_redis, REDIS_URL=f"redis://{name}:word@{url.rpartition('@')[2]}")
        told = words(found)
        assert "redis rights: Redis refuses EVAL" in told
        assert "set maxmemory-policy volatile-lru" in told
    finally:
        await admin.config_set("maxmemory", 0)
        await admin.config_set("maxmemory-policy", policy)
        await admin.execute_command("ACL", "DELUSER", name)
        await admin.aclose()


async def test_a_broker_that_is_away_and_topics_that_are_missing_are_found(up: Up) -> None:
    (away,) = await faults(check_kafka, KAFKA_BROKERS="127.0.0.1:1")
    assert "no broker responds" in away.found
    (missing,) = await faults(check_kafka, KAFKA_BROKERS=up.facts["KAFKA_BROKERS"], TOPIC_PREFIX="nobodys")
    assert "topics are missing, such as nobodys." in missing.found


def test_too_few_copies_of_a_topic_are_a_fault_only_where_there_are_brokers_for_more() -> None:
    def topic(replicas: list[int], isr: list[int], leader: int = 1) -> list[dict[str, Any]]:
        partition = {"replicas": replicas, "isr": isr, "leader": leader}
        return [{"topic": "callboard.mail.v1", "error_code": 0, "partitions": [partition]}]

    assert not any(each.is_fault for each in judge_topics(1, topic([1], [1])))
    assert "one copy" in words(judge_topics(3, topic([1], [1])))
    assert "are behind" in words(judge_topics(3, topic([1, 2, 3], [1, 2])))
    assert "has no leader" in words(judge_topics(3, topic([1, 2, 3], [1, 2, 3], leader=-1)))


async def test_a_mail_server_that_does_not_take_us_is_found(up: Up) -> None:
    server = {name: str(up.facts[name]) for name in ("SMTP_HOST", "SMTP_PORT")}
    assert await faults(check_mail, **server, SMTP_TLS="none") == []
    (bare,) = await faults(check_mail, **server)
    assert "SMTP_TLS" in bare.mend
    (away,) = await faults(check_mail, SMTP_HOST="127.0.0.1", SMTP_PORT="1", SMTP_TLS="none")
    assert "127.0.0.1:1" in away.found


async def test_a_full_disk_and_a_low_limit_of_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not judge_disk("it", Path("/")).is_fault or machine.shutil.disk_usage("/").free < 1 << 30
    monkeypatch.setattr(machine, "LEAST_FREE_BYTES", 1 << 60)
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _kind: (256, 256))
    told = words(await faults(check_machine, UPLOADS_FOLDER=str(tmp_path)))
    assert f"UPLOADS_FOLDER ({tmp_path}) has" in told
    assert "a process may open 256 files, and wants 4256: raise it" in told
    assert resource.RLIMIT_NOFILE


async def test_a_folder_that_cannot_be_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "access", lambda *_: False)  # root may write everywhere
    told = words(await faults(check_machine, UPLOADS_FOLDER="/var/lib/nowhere"))
    assert "cannot be written by this user: mkdir -p /var/lib/nowhere && chown" in told


def test_a_clock_that_is_off_is_a_fault_in_both_directions() -> None:
    assert not skew("clock", "Redis", 4.9).is_fault
    assert "7 s ahead of" in skew("clock", "Redis", 7.0).found
    assert "7 s behind" in skew("clock", "Redis", -7.0).found


def test_the_indexes_are_listed_by_themselves(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--indexes", "--data-dir", str(up.data)) == 0
    assert "index" in capsys.readouterr().out.lower()
    assert run("--indexes", "--json", "--data-dir", str(up.data)) == 0
    assert {json.loads(line)["fault"] for line in capsys.readouterr().out.splitlines()} <= {"bloated", "unused"}
