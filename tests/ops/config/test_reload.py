"""The settings of pools and limits: checked, applied at the start and on SIGHUP; and sizes from the operator plane."""

import logging
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from uuid import uuid4

import asyncpg
import pytest
from kit.running import Answer, Command, Up, one_up, request, until

from callboard.actors.delivery.mail_producers import parse_mail_producers
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.rate_limiter import Policy
from callboard.ops.application import Application, dry_run
from callboard.ops.cli import main
from callboard.ops.config import file as config_file
from callboard.ops.config import tables
from callboard.ops.config.reload import Reloader
from callboard.ops.config.sources import ConfigError
from callboard.ops.config.urls import with_password
from callboard.ops.config.watch import ConfigWatcher, LookAtFile
from callboard.runtime import Pool

BAD = """
[pools.mail]
size = 0
colour = "red"
[pools.sessions]
route = "least_busy"
[pools.kitchen]
size = 3
[limits.login]
limit = 0
window_s = "long"
shadow = 1
burst = 3
[limits.kitchen]
[ovens]
"""
NAMED = [
    "ovens: no package has the department ovens; there are none",
    "pools.mail.size: must be 1",
    "pools.mail.colour: is un",
    "pools.sessions.route: must be",
    "pools.kitchen: is",
    "limits.login.limit: must be a whole number, 1",
    "limits.login.window_s: must be a number",
    "limits.login.shadow: must be true or false",
    "limits.login.burst: is unknown; there are limit, window_s, shadow",
    "limits.kitchen: is unknown; there are default, register, login, mail, account",
]


def sizes(parts: Application) -> dict[str, int]:
    return {name: each.size for name, each in parts.pools.items() if isinstance(each, Pool)}


def pool_of(up: Up, name: str) -> dict[str, object]:
    (found,) = [each for each in up.look("/ops/v1/pools") if each["name"] == name]
    return dict(found)


def test_a_file_is_checked_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pools.toml"
    for text, status in (("[pools.mail]\nsize = 3", 0), (BAD, 2), ("[pools", 2)):
        file.write_text(text)
        with pytest.raises(SystemExit) as ended:
            main(["config", "check", str(file)])
        assert ended.value.code == status
    output = capsys.readouterr()
    assert output.out == f"{file} is good\n"
    *bad, syntax = output.err.splitlines()
    assert [line[: len(f"callboard: {file}: ") + len(name)] for line, name in zip(bad, NAMED, strict=True)] == [
        f"callboard: {file}: {name}" for name in NAMED
    ]
    assert syntax.startswith(f"callboard: {file}: TOML: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "large").write_text("#" * (config_file.MAX_FILE + 1))
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it
    for name, why in (
        ("none", "cannot be read: No such file or directory"),
        ("binary", "cannot be read: it is not UTF-8"),
        (".", "cannot be read: it is not a file"),
        ("pipe", "cannot be read: it is not a file"),
        ("/dev/zero", "cannot be read: it is not a file"),
        ("large", "must have 1048576 characters at most"),
    ):
        with pytest.raises(ConfigError, match=why):
            config_file.read(str(tmp_path / name))


async def test_a_reload_of_a_bad_file_logs_every_fault_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "pools.toml"
    file.write_text("")
    parts = dry_run({"CALLBOARD_CONFIG": str(file)})
    reloader = Reloader(parts, parts.configuration)
    file.write_text(BAD + "[pools.content_queries]\nsize = 1")
    await reloader.reload_or_log("SIGHUP")
    assert [record.levelname for record in caplog.records] == ["ERROR"] * len(NAMED)
    assert all(name in record.message for name, record in zip(NAMED, caplog.records, strict=True))
    assert sizes(parts) == sizes(dry_run())
    caplog.clear()
    caplog.set_level(logging.INFO, "callboard")
    assert parts.policies == dry_run().policies
    file.write_text(
        "[pools.content_queries]\nsize = 1\n[limits.login]\nlimit = 3\nshadow = true\n[limits.mail]\nlimit = 5"
    )
    await reloader.reload_or_log("SIGHUP")
    assert [record.message for record in caplog.records] == [
        "pools.content_queries.size was 8, is 1",
        "limits.login.limit was 10, is 3",
        "limits.login.shadow was False, is True",
        f"SIGHUP: {file} is in force",
    ]
    assert parts.pools["content_queries"].size == 1
    assert parts.policies["login"] == Policy(3, 60, shadow=True)
    assert parts.policies["mail"] == Policy(5, 60)


async def test_mail_producers_of_a_file_take_the_place_of_those_that_were_named(tmp_path: Path) -> None:
    file = tmp_path / "tuning.toml"
    file.write_text('[mail_producers]\n"/shop" = "500/hour example.org"\n')
    parts = dry_run({"CALLBOARD_CONFIG": str(file)})
    await parts.reloader.start()
    assert parts.mail_producers.named == parse_mail_producers("/shop 500/hour example.org")
    file.write_text('[mail_producers]\n"/shop" = "500/hour"\n"/forms" = 5\n')
    with pytest.raises(ConfigError) as refused:
        await parts.reloader.reload()
    assert [fault.partition(": ")[2].partition(":")[0] for fault in refused.value.faults] == [
        "mail_producers./shop",
        "mail_producers./forms",
    ]
    assert parts.mail_producers.named == parse_mail_producers("/shop 500/hour example.org")
    file.write_text("[pools]\n")
    await parts.reloader.reload()
    assert len(parts.mail_producers.named) == 1


@pytest.mark.parametrize("text", ["limits = 3", "[limits]\nlogin = 3", "[limits.login]\nwindow_s = inf", "pools = 3"])
def test_what_is_no_table_is_said(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tuning.toml"
    file.write_text(text)
    (fault,) = tables.plan(dry_run(), config_file.read(str(file))).faults
    assert re.match(r"(limits|pools|limits\.login(\.window_s)?): must be a", fault)


def test_a_bad_file_ends_a_start_with_status_2(up: Up, tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    file.write_text(BAD)
    names = ("DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS", "SMTP_HOST")
    settings = {name: up.facts[name] for name in names}
    command = Command("serve", environment={**settings, "JWT_SECRET_KEY": "x" * 32, "CALLBOARD_CONFIG": str(file)})
    assert command.wait() == 2
    assert [line.split(": ")[2] for line in command.errors.splitlines() if str(file) in line] == [
        name.split(":")[0] for name in NAMED
    ]


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Path]]:
    """A system with a file of its own."""
    file = tmp_path_factory.mktemp("filed") / "pools.toml"
    file.write_text("[pools.content_queries]\nsize = 3\n[pools.limits]\nmailbox = 77\noverflow = 'reject'")
    with one_up({"CALLBOARD_CONFIG": str(file)}) as up:
        yield up, file


@pytest.mark.servers
def test_the_file_is_read_at_the_start_and_again_on_sighup(filed: tuple[Up, Path]) -> None:
    up, file = filed
    assert pool_of(up, "content_queries")["size"] == 3
    limits = pool_of(up, "limits")
    assert (limits["mailbox"], limits["overflow"], limits["route"]) == (77, "reject", "round_robin")
    file.write_text(BAD)
    up.signal(signal.SIGHUP)
    log = up.data / "logs" / "callboard.log"
    until("the last fault", lambda: "pools.kitchen: is unknown" in log.read_text())
    assert pool_of(up, "content_queries")["size"] == 3
    file.write_text("[pools.content_queries]\nsize = 5")
    up.signal(signal.SIGHUP)
    until("another size", lambda: pool_of(up, "content_queries")["size"] == 5)
    file.write_text("[limits.default]\nlimit = 99999\nwindow_s = 7")
    up.signal(signal.SIGHUP)
    until("another limit", lambda: up.call("GET", "/content").headers["RateLimit-Policy"] == '"default";q=99999;w=7')
    assert pool_of(up, "limits")["mailbox"] == 77


@pytest.mark.servers
def test_a_pool_is_resized_under_load_from_every_door_and_loses_nothing(filed: tuple[Up, Path]) -> None:
    up, file = filed

    def by_file(size: int) -> None:
        file.write_text(f"[pools.content_queries]\nsize = {size}")

    def by_hang_up(size: int) -> None:
        by_file(size)
        up.signal(signal.SIGHUP)

    def by_plane(size: int) -> None:
        assert request("PATCH", f"{up.operators}/ops/v1/pools/content_queries", body={"size": size}).status == 200

    def by_setting(size: int) -> None:
        assert changed(up, **{"pools.content_queries.size": size}).status == 200

    def by_command(size: int) -> None:
        with pytest.raises(SystemExit) as ended:
            main(("pools", "resize", "content_queries", str(size), "--data-dir", str(up.data)))
        assert ended.value.code == 0

    before, stop = Counter(counts_of(up)), Event()

    def read() -> list[int]:
        statuses = []
        while not stop.is_set():
            statuses.append(up.call("GET", "/content").status)
        return statuses

    with ThreadPoolExecutor(4) as readers:
        reading = [readers.submit(read) for _ in range(4)]
        try:
            for size, door in enumerate((by_plane, by_hang_up, by_command, by_file, by_setting, by_plane), start=2):
                door(size)
                until(f"the size of {door.__name__}", lambda: pool_of(up, "content_queries")["size"] == size)  # noqa: B023 - asked at once
        finally:
            stop.set()
        statuses = [status for each in reading for status in each.result()]
    after = Counter(counts_of(up))
    assert set(statuses) == {200}
    assert after["handled"] - before["handled"] == len(statuses)
    assert all(after[fate] == before[fate] for fate in ("failed", "expired", "dropped", "dead_lettered", "returned"))


def counts_of(up: Up) -> dict[str, int]:
    """The fates of the pool's messages, of workers that have gone too."""
    pool = up.nodes()["editorial/content_queries"]
    every: Counter[str] = Counter(pool.get("counts") or {})
    for each in pool["children"]:
        every.update(each["counts"])
    return dict(every)


def test_the_pools_are_listed_with_what_waits_for_them(up: Up) -> None:
    found = {each["name"]: each for each in up.look("/ops/v1/pools")}
    assert found.keys() >= dry_run().pools.keys()
    keys = {"name", "size", "mailbox", "overflow", "route", "depth", "restarts"}
    assert all(each.keys() == keys for each in found.values())
    assert {each["route"] for each in found.values()} == {"key", "round_robin", "least_busy"}


def test_a_pool_is_resized_while_it_works(up: Up) -> None:
    for size in (3, 11, 8):
        answer = request("PATCH", f"{up.operators}/ops/v1/pools/content_queries", body={"size": size})
        assert (answer.status, answer.data["size"]) == (200, size)
        assert pool_of(up, "content_queries")["size"] == size
        assert len(up.nodes()["editorial/content_queries"]["children"]) == size


@pytest.mark.parametrize("body", [{}, {"size": 0}, {"size": 1001}, {"size": "3"}, {"size": 3, "colour": 1}])
def test_a_size_that_is_none_is_refused(up: Up, body: dict[str, object]) -> None:
    answer = request("PATCH", f"{up.operators}/ops/v1/pools/content_queries", body=body)
    assert (answer.status, answer.code) == (400, "REQUEST_INVALID_001")


def test_a_pool_that_is_none_is_not_found(up: Up) -> None:
    answer = request("PATCH", f"{up.operators}/ops/v1/pools/kitchen", body={"size": 3})
    assert (answer.status, answer.code) == (404, "POOLS_NOT_FOUND_001")


def changed(up: Up, **settings: object) -> Answer:
    return request("PATCH", f"{up.operators}/ops/v1/config", body={"settings": settings})


def test_a_setting_is_changed_by_the_operator_plane_until_it_is_taken_back(up: Up) -> None:
    answer = changed(up, **{"LOG_LEVEL": "WARNING", "pools.content_queries.size": 9, "limits.search.limit": 77})
    assert answer.status == 200, answer
    names = {each["name"]: (each["old"], each["new"]) for each in answer.data["changes"]}
    assert names.keys() == {"LOG_LEVEL", "pools.content_queries.size", "limits.search.limit"}
    assert names["LOG_LEVEL"] == ("INFO", "WARNING")
    shown = {each["name"]: each for each in up.look("/ops/v1/settings")}
    assert (shown["LOG_LEVEL"]["value"], shown["LOG_LEVEL"]["origin"]) == ("WARNING", "operator plane")
    assert shown["LOG_LEVEL"]["is_live"]
    assert not shown["HTTP_PORT"]["is_live"]
    assert pool_of(up, "content_queries")["size"] == 9
    back = changed(up, **{"LOG_LEVEL": None, "pools.content_queries.size": 8, "limits.search.limit": 60})
    assert {"name": "LOG_LEVEL", "old": "WARNING", "new": "INFO"} in back.data["changes"]
    assert {each["name"]: each for each in up.look("/ops/v1/settings")}["LOG_LEVEL"]["origin"] == "default"


def test_a_setting_that_needs_a_restart_is_named_and_stays(up: Up) -> None:
    answer = changed(up, HTTP_IDLE_S=3, SMTP_HOST="elsewhere")
    assert answer.data["restart"] == ["HTTP_IDLE_S"]
    assert [each["name"] for each in answer.data["changes"]] == ["SMTP_HOST"]
    assert up.look("/ops/v1/config")["HTTP_IDLE_S"] == 75
    assert changed(up, SMTP_HOST=None).data["restart"] == []


def test_one_bad_value_changes_nothing_and_every_fault_has_its_name(up: Up) -> None:
    answer = changed(up, **{"LOG_LEVEL": "loud", "KITCHEN": 1, "pools.content_queries.size": 0, "RATE_LIMIT_LOGIN": 5})
    assert (answer.status, answer.code) == (400, "REQUEST_INVALID_001")
    fields = {each["field"] for each in answer.body["error"]["details"]}
    assert fields == {"LOG_LEVEL", "KITCHEN", "pools.content_queries.size"}
    assert up.look("/ops/v1/config")["RATE_LIMIT_LOGIN"] == 99999


def test_the_command_changes_a_running_process(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(("config", *arguments, "--data-dir", str(up.data)))
        assert isinstance(ended.value.code, int)
        return ended.value.code

    assert run("set", "LOG_LEVEL", "ERROR") == 0
    assert capsys.readouterr().out == "LOG_LEVEL was INFO, is ERROR\n"
    assert run("show", "--live", "--json") == 0
    assert '"origin":"operator plane"' in capsys.readouterr().out
    assert run("set", "HTTP_IDLE_S", "3") == 1
    assert capsys.readouterr().out == "HTTP_IDLE_S needs a restart\n"
    assert run("set", "LOG_LEVEL", "loud") == 2
    assert capsys.readouterr().err.startswith("callboard: LOG_LEVEL must be DEBUG")
    assert run("unset", "LOG_LEVEL") == 0
    assert capsys.readouterr().out == "LOG_LEVEL was ERROR, is INFO\n"
    assert run("reload", "--json") == 0
    assert capsys.readouterr().out == '{"changes":[],"restart":[]}\n'


async def test_a_changed_file_is_read_once_a_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "callboard.toml"
    file.write_text("[limits.login]\nlimit = 9\n")
    parts = dry_run({"CALLBOARD_CONFIG": str(file)})
    watcher = ConfigWatcher(parts.reloader)
    await watcher.look(LookAtFile())
    assert parts.policies["login"].limit == 10  # it has not changed since
    file.write_text("[limits.login]\nlimit = 11\n")
    await watcher.look(LookAtFile())
    assert parts.policies["login"].limit == 11
    file.write_text("[limits.login]\nlimit = 'many'\n")
    for _ in range(3):
        await watcher.look(LookAtFile())
    assert parts.policies["login"].limit == 11
    assert sum("limits.login.limit" in record.message for record in caplog.records if record.levelname == "ERROR") == 1
    file.write_text("[limits.login]\nlimit = 8\n")
    await parts.reloader.reload()  # as a hang-up does
    parts.policies["login"] = Policy(5, 60)
    await watcher.look(LookAtFile())
    assert parts.policies["login"].limit == 5  # that version was read already
    file.unlink()
    await watcher.look(LookAtFile())
    (tmp_path / "next").write_text("[limits.login]\nlimit = 12\n")
    (tmp_path / "next").rename(file)
    await watcher.look(LookAtFile())
    assert parts.policies["login"].limit == 12


async def test_a_rotated_password_of_postgresql_is_used_for_new_connections(up: Up) -> None:
    name, url = f"rotated_{uuid4().hex[:8]}", up.facts["DATABASE_URL"]
    admin = await asyncpg.connect(url)
    await admin.execute(f"create role {name} login password 'pass/one'")
    host = url.rpartition("@")[2]
    database = Database(with_password(f"postgresql://{name}@{host}", "pass/one"), size=2)
    try:
        await database.connect()
        async with database.acquire() as first:  # an open connection stays
            assert await first.fetchval("select current_user") == name
            await admin.execute(f"alter role {name} password 'pass/two'")
            database.server.url = with_password(f"postgresql://{name}@{host}", "pass/two")
            async with database.acquire() as second:
                assert await second.fetchval("select current_user") == name
                assert await second.fetchval("select pg_backend_pid()") != await first.fetchval(
                    "select pg_backend_pid()"
                )
    finally:
        database.server.disconnect()
        await admin.execute(f"drop role {name}")
        await admin.close()
