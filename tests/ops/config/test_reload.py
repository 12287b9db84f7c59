"""The settings of pools and limits: checked, applied at the start and on SIGHUP; and sizes from the operator plane."""

import logging
import os
import signal
from pathlib import Path

import pytest
from kit.running import Command, Up, data_folder, request, until

from callboard.actors.delivery.mail_producers import parse_mail_producers
from callboard.actors.infrastructure.rate_limiter import Policy
from callboard.ops.application import Application, dry_run
from callboard.ops.cli import main
from callboard.ops.config import reload
from callboard.ops.config.sources import ConfigError
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
    "pools.mail.size: must be 1",
    "pools.mail.colour: is un",
    "pools.sessions.route: must be",
    "pools.kitchen: is",
    "limits.login.limit: must be a whole number, 1",
    "limits.login.window_s: must be a number",
    "limits.login.shadow: must be true or false",
    "limits.login.burst: is unknown; there are limit, window_s, shadow",
    "limits.kitchen: is unknown; there are default, register, login, mail, account",
    "ovens: no package has the department ovens; there are none",
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
    (tmp_path / "large").write_text("#" * (reload.MAX_FILE + 1))
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
            reload.read(str(tmp_path / name))


async def test_a_reload_of_a_bad_file_logs_every_fault_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts, file = dry_run(), tmp_path / "pools.toml"
    file.write_text(BAD + "[pools.content_queries]\nsize = 1")
    await reload.reload(parts, str(file))
    assert [record.levelname for record in caplog.records] == ["ERROR"] * len(NAMED)
    assert all(name in record.message for name, record in zip(NAMED, caplog.records, strict=True))
    assert sizes(parts) == sizes(dry_run())
    caplog.clear()
    caplog.set_level(logging.INFO)
    assert parts.policies == dry_run().policies
    file.write_text(
        "[pools.content_queries]\nsize = 1\n[limits.login]\nlimit = 3\nshadow = true\n[limits.mail]\nlimit = 5"
    )
    await reload.reload(parts, str(file))
    assert [record.message for record in caplog.records] == [
        "pools.content_queries.size was 8, is 1",
        "limits.login.limit was 10, is 3",
        "limits.login.shadow was False, is True",
        f"{file} is in force",
    ]
    assert parts.pools["content_queries"].size == 1
    assert parts.policies["login"] == Policy(3, 60, shadow=True)
    assert parts.policies["mail"] == Policy(5, 60)


async def test_mail_producers_of_a_file_take_the_place_of_those_that_were_named(tmp_path: Path) -> None:
    parts, file = dry_run(), tmp_path / "tuning.toml"
    file.write_text('[mail_producers]\n"/shop" = "500/hour example.org"\n')
    await reload.configure(parts, str(file))
    assert parts.mail_producers.named == parse_mail_producers("/shop 500/hour example.org")
    file.write_text('[mail_producers]\n"/shop" = "500/hour"\n"/forms" = 5\n')
    with pytest.raises(ConfigError) as refused:
        await reload.configure(parts, str(file))
    assert [fault.partition(": ")[2].partition(":")[0] for fault in refused.value.faults] == [
        "mail_producers./shop",
        "mail_producers./forms",
    ]
    assert parts.mail_producers.named == parse_mail_producers("/shop 500/hour example.org")
    file.write_text("[pools]\n")
    await reload.configure(parts, str(file))
    assert len(parts.mail_producers.named) == 1


@pytest.mark.parametrize("text", ["limits = 3", "[limits]\nlogin = 3", "[limits.login]\nwindow_s = inf", "pools = 3"])
def test_what_is_no_table_is_said(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tuning.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"(limits|pools|limits\.login(\.window_s)?): must be a"):
        reload.check(dry_run(), str(file))


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


@pytest.mark.servers
def test_the_file_is_read_at_the_start_and_again_on_sighup(tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    file.write_text("[pools.content_queries]\nsize = 3\n[pools.limits]\nmailbox = 77\noverflow = 'reject'")
    with data_folder() as data:
        up = Up(data, environment={"CALLBOARD_CONFIG": str(file)})
        try:
            up.ready()
            assert pool_of(up, "content_queries")["size"] == 3
            limits = pool_of(up, "limits")
            assert (limits["mailbox"], limits["overflow"], limits["route"]) == (77, "reject", "round_robin")
            file.write_text(BAD)
            up.signal(signal.SIGHUP)
            log = data / "logs" / "callboard.log"
            until("the last fault", lambda: "pools.kitchen: is unknown" in log.read_text())
            assert pool_of(up, "content_queries")["size"] == 3
            file.write_text("[pools.content_queries]\nsize = 5")
            up.signal(signal.SIGHUP)
            until("another size", lambda: pool_of(up, "content_queries")["size"] == 5)
            file.write_text("[limits.default]\nlimit = 12\nwindow_s = 7")
            up.signal(signal.SIGHUP)
            until(
                "another limit", lambda: up.call("GET", "/content").headers["RateLimit-Policy"] == '"default";q=12;w=7'
            )
            assert pool_of(up, "limits")["mailbox"] == 77
        finally:
            up.end()


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
