"""The TOML file: every setting may stand in it, the environment goes before it, and unknown names are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from callboard.actors.delivery.department import DeliverySettings
from callboard.actors.identity.department import IdentitySettings
from callboard.ops.cli import main
from callboard.ops.config.configuration import Configuration, load
from callboard.ops.config.file import read
from callboard.ops.config.sources import ConfigError

FILE = """
database_url = "postgresql://callboard:file-secret@db/board"
redis_url = "redis://cache"
kafka_brokers = "one:9092"
jwt_secret_key = "file-secret-of-forty-characters-and-more"
smtp_host = "mail.example.org"
smtp_port = 2525
cors_origins = ["https://one.example", "https://two.example"]
kafka_replication = 3
roles = ["front", "workers"]
email_undo_hours = 1.5
enable_debug_mode = true

[pools.mail]
size = 3
"""


def written(folder: Path, text: str) -> str:
    (folder / "callboard.toml").write_text(text)
    return str(folder / "callboard.toml")


def loaded(folder: Path, text: str = FILE, **environ: str) -> Configuration:
    return load({"CALLBOARD_CONFIG": written(folder, text), **environ})


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(("config", *arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_every_kind_of_setting_is_read_from_the_file(tmp_path: Path) -> None:
    configuration = loaded(tmp_path)
    process = configuration.process
    assert process.cors_origins == ("https://one.example", "https://two.example")
    assert (process.kafka_replication, process.enable_debug_mode) == (3, True)
    assert {role.value for role in process.roles} == {"front", "workers"}
    assert configuration.settings(DeliverySettings).smtp_port == 2525
    assert configuration.settings(IdentitySettings).email_undo_hours == 1.5


def test_the_environment_goes_before_the_file_and_each_value_says_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 40)
    configuration = loaded(tmp_path, SMTP_PORT="2626", JWT_SECRET_KEY_FILE=str(tmp_path / "key"))
    shown = {each.name: (each.value, each.origin) for each in configuration.described()}
    file = tmp_path / "callboard.toml"
    assert shown["SMTP_PORT"] == (2626, "environment SMTP_PORT")
    assert shown["SMTP_HOST"] == ("mail.example.org", f"{file}: smtp_host")
    assert shown["JWT_SECRET_KEY"] == ("***", "JWT_SECRET_KEY_FILE")
    assert shown["HTTP_PORT"] == (8000, "default")
    assert "file-secret" not in str(shown)


def test_a_file_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, FILE)
    monkeypatch.chdir(tmp_path)
    assert load({}).file == "callboard.toml"
    assert load({}).process.redis_url == "redis://cache"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("smtp_prot = 25", "smtp_prot: is no setting: did you mean smtp_port?"),
        ("xyzzy = 1", "xyzzy: is no setting"),
        ("SMTP_TLS = 'none'", "SMTP_TLS: is no setting"),
        ("callboard_config = 'other'", "callboard_config: is no setting"),
        ("http_port = 'eighty'", "http_port: must be a whole number, 1 to 65535"),
        ("http_idle_s = true", "http_idle_s: must be a whole number"),
        ("public_url = 3", "public_url: must be"),
        ("roles = ['kitchen']", "roles: must be some of front, streams, workers"),
        ("trusted_proxies = '10.0.0.0/8'", "trusted_proxies: must be a list"),
        ("smtp_tls = { a = 1 }", "smtp_tls: must be text"),
    ],
)
def test_a_fault_of_the_file_is_named_by_its_path(tmp_path: Path, line: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, f"{line}\n{FILE.replace(line.partition(' ')[0] + ' = [', '# [')}")
    assert [each for each in refused.value.faults if fault in each] == refused.value.faults
    assert all(each.startswith(f"{tmp_path}/callboard.toml: ") for each in refused.value.faults)


@pytest.mark.parametrize("text", ['log_level = "INFO"\rhttp_port = 1', "# a comment\rhttp_port = 1"])
def test_a_bare_carriage_return_ends_no_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "callboard.toml"
    file.write_bytes(text.encode())
    with pytest.raises(ConfigError, match=f"^{file}: TOML: "):
        read(str(file))
    file.write_bytes(text.encode().replace(b"\r", b"\r\n"))
    assert read(str(file))["http_port"] == 1


def test_a_check_lists_every_fault_of_the_environment_the_file_and_its_tables_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = FILE + "[limits.login]\nlimit = 0\n[pools.kitchen]\nsize = 3\n[ovens]\n"
    file = written(tmp_path, f"smtp_prot = 1\n{text.replace('2525', '0')}")
    monkeypatch.setenv("CALLBOARD_CONFIG", file)
    monkeypatch.setenv("HTTP_PORT", "eighty")
    monkeypatch.setenv("OPS_TOKEN_FILE", str(tmp_path / "none"))
    names = ["HTTP_PORT", "OPS_TOKEN_FILE", "smtp_port", "smtp_prot", "ovens", "pools.kitchen", "limits.login.limit"]
    assert run("check") == 2
    told = [line.removeprefix("callboard: ").removeprefix(f"{file}: ") for line in capsys.readouterr().err.splitlines()]
    assert [line.partition(" ")[0].rstrip(":") for line in told] == names
    assert run("check", "--json") == 2
    assert len([json.loads(line)["fault"] for line in capsys.readouterr().out.splitlines()]) == len(names)


def test_a_file_alone_is_checked_with_the_settings_that_every_process_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = 'database_url = "mysql://x"\nredis_url = "http://x"\njwt_secret_key = "short"\nkafka_brokers = ""\n'
    assert run("check", written(tmp_path, needed)) == 2
    told = capsys.readouterr().err
    assert [name for name in ("database_url", "redis_url", "jwt_secret_key", "kafka_brokers") if name not in told] == []
    assert run("check", written(tmp_path, "smtp_port = 25")) == 0


def test_a_number_that_python_reads_not_is_a_fault_and_a_mark_of_byte_order_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", written(tmp_path, f"smtp_port = {'1' * 4301}")) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run("check", written(tmp_path, "\ufeffsmtp_port = 25")) == 0


def test_the_settings_are_shown_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLBOARD_CONFIG", written(tmp_path, FILE))
    monkeypatch.setenv("SMTP_PORT", "2626")
    assert run("show", "--json") == 0
    told = capsys.readouterr().out
    shown: dict[str, Any] = {each["name"]: each for each in map(json.loads, told.splitlines())}
    assert shown["SMTP_PORT"]["origin"] == "environment SMTP_PORT"
    assert shown["DATABASE_URL"]["value"] == "postgresql://***@db/board"
    assert "file-secret" not in told
    assert run("show") == 0
    assert "environment SMTP_PORT" in capsys.readouterr().out


def test_a_password_of_its_own_goes_into_the_address_unless_that_has_one() -> None:
    from callboard.ops.config.urls import with_password  # noqa: PLC0415 - beside its one use

    assert with_password("postgresql://me@db/board?sslmode=require", "a/b@c") == (
        "postgresql://me:a%2Fb%40c@db/board?sslmode=require"
    )
    for url in ("postgresql://me:own@db/board", "postgresql://db/board", "postgresql:///board"):
        assert with_password(url, "word") == url
    assert with_password("postgresql://me@one:1,two:2/board", "word") == "postgresql://me:word@one:1,two:2/board"
