"""Settings: what is missing or bad is named before anything starts, and what is secret is never shown."""

import io
from pathlib import Path
from typing import Any

import pytest
from msgspec import Meta, Struct
from rich.console import Console

from callboard.actors.delivery.department import DeliverySettings
from callboard.actors.delivery.smtp_settings import Tls
from callboard.actors.department import Role
from callboard.actors.infrastructure.department import InfrastructureSettings
from callboard.actors.settings import Parsed
from callboard.ops.cli import main
from callboard.ops.config.configuration import REDACTED, load
from callboard.ops.config.conversion import form_of
from callboard.ops.config.lookup import read_setting
from callboard.ops.config.names import warnings
from callboard.ops.config.settings import Config
from callboard.ops.config.sources import ConfigError, Declaration, declarations
from callboard.ops.departments import OURS

NEEDED = {
    "DATABASE_URL": "postgresql://callboard:pg-secret@db:5432/callboard?sslpassword=also-secret",
    "REDIS_URL": "redis://:redis-secret@cache:6379/0",
    "KAFKA_BROKERS": "one:9092,two:9092",
    "JWT_SECRET_KEY": "jwt-secret-" * 4,
    "SMTP_HOST": "mail",
}
STRUCTS: tuple[type[Struct], ...] = (Config, *(each.settings for each in OURS))
# Every setting of the process and of our departments, by its name in the environment.
OF_STRUCT = {each.field.name.upper(): kind for kind in STRUCTS for each in declarations(kind)}
DECLARED = {each.field.name.upper(): each for kind in STRUCTS for each in declarations(kind)}


def faults(**settings: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(NEEDED | settings)
    return caught.value.faults


def read(environ: dict[str, str], name: str) -> Any:
    return read_setting(OF_STRUCT[name], name.lower(), environ)


def test_no_two_of_our_departments_declare_a_setting_of_one_name() -> None:
    assert len(DECLARED) == sum(len(kind.__struct_fields__) for kind in STRUCTS)


def test_every_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        load({})
    assert [fault.split()[0] for fault in caught.value.faults] == list(NEEDED)
    assert all("is missing" in fault for fault in caught.value.faults)


def test_what_is_given_is_read_and_the_rest_has_its_default() -> None:
    config = load(NEEDED | {"HTTP_PORT": "8080", "ROLES": "front, workers"}).process
    assert (config.http_port, config.roles) == (8080, {"front", "workers"})
    assert (config.ops_port, config.cors_origins) == (9000, ())
    assert load(NEEDED).settings(DeliverySettings).mail_from.startswith("Callboard")
    assert load(NEEDED).process.roles == frozenset(Role)


def test_an_empty_setting_is_as_good_as_none() -> None:
    assert load(NEEDED | {"HTTP_PORT": "", "OPS_TOKEN": ""}) == load(NEEDED)
    assert faults(DATABASE_URL="") == ["DATABASE_URL is missing (PostgreSQL 15 or later)"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://db/callboard"),
        ("REDIS_URL", "cache:6379"),
        ("KAFKA_BROKERS", "one"),
        ("KAFKA_BROKERS", "one:9092,,two:9092"),
        ("KAFKA_BROKERS", "one: 9092"),
        ("JWT_SECRET_KEY", "x" * 31),
        ("HTTP_PORT", "eighty"),
        ("HTTP_PORT", "0"),
        ("OPS_PORT", "65536"),
        ("SMTP_PORT", "-1"),
        ("SMTP_TLS", "ssl"),
        ("MAIL_FROM", "Callboard"),
        ("MAIL_FROM", "a@b.example, c@d.example"),
        ("MAIL_LINK_URL", "board.example"),
        ("ACCESS_TOKEN_TTL_S", "0"),
        ("ACCESS_TOKEN_TTL_S", "1.5"),
        ("ROLES", "front,kitchen"),
        ("ROLES", ","),
        ("PUBLIC_URL", "callboard.example"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "https://board.example/?next=1"),
        ("PUBLIC_URL", "https://u:p@board.example"),
        ("PUBLIC_URL", "https://board.example:99999"),
        ("PUBLIC_URL", "https://board example"),
        ("MAIL_LINK_URL", "https://[::1"),
        ("HTTP_HOST", "0.0.0.0:80"),
        ("OPS_HOST", "*"),
        ("SMTP_HOST", "smtp://mail.example"),
        ("HTTP_IDLE_S", "8_0"),
        ("HTTP_IDLE_S", "\u0668"),  # an eight, to int()
        ("CORS_ORIGINS", "https://app.example:443"),
        ("CORS_ORIGINS", "https://app.example:99999"),
        ("OPS_TOKEN", "a token of 16 and more"),
        ("LOG_LEVEL", "loud"),
        ("UPLOADS_FOLDER", "uploads"),
        ("UPLOADS_FOLDER", "/var/lib/\x1b[31m"),
        ("UPLOADS_THREADS", "0"),
    ],
)
def test_a_bad_value_is_named_with_what_it_must_be_and_no_secret_in_the_words(name: str, value: str) -> None:
    (fault,) = faults(**{name: value})
    assert fault.startswith(f"{name} must ")
    assert name != "JWT_SECRET_KEY" or value not in fault


def is_number(declared: Declaration) -> bool:
    return form_of(declared.field.type)[0] in (int, float)


NUMBERS = [name for name, each in DECLARED.items() if is_number(each)]


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_beyond_what_clocks_memory_and_postgresql_can_hold(name: str) -> None:
    of_whole = ("1.5", "1e3") if form_of(DECLARED[name].field.type)[0] is int else ("nan", "inf")
    for value in ("9" * 18, "9" * 5000, "-2", "0x10", "one", "\u0668", "8_0", *of_whole):
        with pytest.raises(ConfigError) as caught:
            read({name: value}, name)
        (fault,) = caught.value.faults
        assert fault.startswith(f"{name} must be ")
        assert len(fault) < 300


def test_every_number_has_a_bound_on_either_side() -> None:
    for name in NUMBERS:
        metadata = form_of(DECLARED[name].field.type)[1]
        metas = [each for each in metadata if isinstance(each, Meta)]
        bounded = all(any(getattr(each, bound) is not None for each in metas) for bound in ("ge", "le"))
        assert bounded or any(isinstance(each, Parsed) for each in metadata), name


def test_addresses_are_kept_in_one_form() -> None:
    given = {"PUBLIC_URL": "HTTPS://board.example/app/", "HTTP_HOST": "[::1]", "OPS_HOST": "::1", "SMTP_HOST": " mail "}
    config = load(NEEDED | given | {"CORS_ORIGINS": "https://[::1]:3000"})
    assert config.settings(InfrastructureSettings).public_url == "https://board.example/app"
    assert (config.process.http_host, config.settings(DeliverySettings).smtp_host) == ("::1", "mail")
    assert config.process.cors_origins == ("https://[::1]:3000",)


@pytest.mark.parametrize("name", [*NEEDED, "HTTP_PORT", "SMTP_PASSWORD", "CORS_ORIGINS", "ENABLE_DEBUG_MODE"])
def test_any_setting_may_come_from_a_file_and_is_the_same_from_there(name: str, tmp_path: Path) -> None:
    others = {"HTTP_PORT": "8080", "CORS_ORIGINS": "https://app.example", "ENABLE_DEBUG_MODE": "true"}
    text = (NEEDED | others).get(name, "a password")
    for form in (text, f"{text}\n", f"\ufeff{text}\r\n", f"\n {text} \n"):
        (tmp_path / "file").write_text(form, encoding="utf-8", newline="")
        assert read({f"{name}_FILE": str(tmp_path / "file")}, name) == read({name: text}, name)


def test_a_file_that_is_too_large_or_endless_is_named() -> None:
    assert faults(OPS_TOKEN_FILE="/dev/zero")[0].startswith("OPS_TOKEN must have 65536 characters at most")


def test_all_faults_are_named_at_once() -> None:
    named = [fault.split()[0] for fault in faults(HTTP_PORT="x", SMTP_HOST="", ROLES="x")]
    assert named == ["HTTP_PORT", "ROLES", "SMTP_HOST"]


def test_secrets_and_addresses_with_a_login_may_come_from_files(tmp_path: Path) -> None:
    for name in ("JWT_SECRET_KEY", "OPS_TOKEN", "DATABASE_URL"):
        (tmp_path / name).write_text(f"{NEEDED.get(name, 'a-token-of-16-and-more')}\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in ("JWT_SECRET_KEY", "OPS_TOKEN", "DATABASE_URL")}
    rest = {name: value for name, value in NEEDED.items() if f"{name}_FILE" not in files}
    config = load(rest | files)
    assert config.settings(InfrastructureSettings).jwt_secret_key == NEEDED["JWT_SECRET_KEY"]
    assert config.process.database_url == NEEDED["DATABASE_URL"]
    assert config.process.ops_token == "a-token-of-16-and-more"


def test_a_secrets_file_that_cannot_be_read_is_named() -> None:
    assert faults(OPS_TOKEN_FILE="/nowhere/token") == ["OPS_TOKEN_FILE cannot be read: No such file or directory"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "ops.example"])  # noqa: S104 - what is refused
def test_the_operator_plane_does_not_listen_beyond_loopback_without_a_token(host: str) -> None:
    assert [fault.split()[0] for fault in faults(OPS_HOST=host)] == ["OPS_TOKEN"]
    assert load(NEEDED | {"OPS_HOST": host, "OPS_TOKEN": "t" * 16}).process.ops_host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_it_needs_none(host: str) -> None:
    assert load(NEEDED | {"OPS_HOST": host}).process.ops_token == ""


def test_the_two_listeners_do_not_share_a_port() -> None:
    assert [fault.split()[0] for fault in faults(HTTP_PORT="9000")] == ["OPS_PORT"]


def test_what_is_shown_has_every_setting_by_its_name_and_no_secret() -> None:
    config = load(
        NEEDED | {"OPS_TOKEN": "ops-secret-of-16-and-more", "SMTP_USERNAME": "u", "SMTP_PASSWORD": "smtp-secret"}
    )
    shown = config.redacted()
    assert "secret" not in str(shown.values())
    assert list(shown) == list(DECLARED)
    assert shown["JWT_SECRET_KEY"] == shown["OPS_TOKEN"] == shown["SMTP_PASSWORD"] == REDACTED
    assert shown["DATABASE_URL"] == "postgresql://***@db:5432/callboard"
    assert shown["KAFKA_BROKERS"] == "one:9092,two:9092"


def test_no_secret_stands_in_the_repr() -> None:
    config = load(NEEDED | {"SMTP_USERNAME": "u", "SMTP_PASSWORD": "a-secret"})
    console = Console(file=io.StringIO(), width=1000)
    for shown in (config, config.process, *(config.settings(each.settings) for each in OURS)):
        console.print(shown)
        assert "secret" not in repr(shown)
    assert "secret" not in console.file.getvalue()


def test_earlier_keys_are_read_one_a_line_or_with_commas_between(tmp_path: Path) -> None:
    first, second = "first-" * 8, "second-" * 8
    assert read({"JWT_PREVIOUS_KEYS": f"{first},{second}"}, "JWT_PREVIOUS_KEYS") == (first, second)
    (tmp_path / "keys").write_text(f"{first}\n{second}\n")
    assert read({"JWT_PREVIOUS_KEYS_FILE": str(tmp_path / "keys")}, "JWT_PREVIOUS_KEYS") == (first, second)
    assert faults(JWT_PREVIOUS_KEYS=f"{first},short")[0].startswith("JWT_PREVIOUS_KEYS must have 32 bytes")


@pytest.mark.parametrize("name", ["JWT_PRIVATE_KEY", "JWT_PREVIOUS_PUBLIC_KEYS"])
def test_what_is_no_ed25519_key_is_named_and_not_shown(name: str) -> None:
    (fault,) = faults(**{name: "-----BEGIN nonsense"})
    assert fault.startswith(f"{name} must be ")
    assert "nonsense" not in fault


def test_a_key_in_pem_is_no_secret() -> None:
    pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----"
    for name in ("JWT_SECRET_KEY", "JWT_PREVIOUS_KEYS"):
        assert faults(**{name: pem})[0].startswith(f"{name} must be a secret")


def test_a_setting_and_its_file_are_not_both_given(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another token")
    (fault,) = faults(OPS_TOKEN="a-token-of-16-and-more", OPS_TOKEN_FILE=str(tmp_path / "token"))
    assert fault.startswith("OPS_TOKEN must be given once, and OPS_TOKEN_FILE is set too")


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    assert faults(OPS_TOKEN_FILE=str(tmp_path / "token"))[0].startswith("OPS_TOKEN must be text")


@pytest.mark.parametrize("name", ["JWT_ISSUER", "SMTP_HOST", "MAIL_FROM", "HTTP_HOST"])
@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "a\x1bb"])
def test_no_setting_of_one_line_holds_a_control_character(name: str, text: str) -> None:
    assert faults(**{name: text})[0].startswith(f"{name} must be one line")


@pytest.mark.parametrize("text", ["INFO", "info", " Info "])
def test_case_does_not_matter_where_there_are_few_choices(text: str) -> None:
    assert load(NEEDED | {"LOG_LEVEL": text}).process.log_level == "INFO"


def test_config_check_reads_the_environment_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (NEEDED | {"HTTP_PORT": "eighty", "LOG_LEVELS": "x"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["config", "check"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "HTTP_PORT must be a whole number" in said
    assert "did you mean LOG_LEVEL?" in said
    monkeypatch.delenv("HTTP_PORT")
    with pytest.raises(SystemExit) as ended:
        main(["config", "check"])
    assert (ended.value.code, capsys.readouterr().out) == (0, "the environment is good\n")


@pytest.mark.parametrize("brokers", ["[::1]:9092", "kafka.example:9092, [2001:db8::7]:9093", "127.0.0.1:9092"])
def test_kafka_is_addressed_by_name_and_by_either_kind_of_address(brokers: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load({"KAFKA_BROKERS": brokers})
    assert not [fault for fault in refused.value.faults if fault.startswith("KAFKA_BROKERS")]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"KAFKA_BROKERS": "::1:9092"}, "KAFKA_BROKERS must"),
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL must be PLAINTEXT, SSL"),
        ({"KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM must be PLAIN"),
        ({"KAFKA_REPLICATION": "0"}, "KAFKA_REPLICATION must be -1"),
        ({"KAFKA_PARTITIONS": "0"}, "KAFKA_PARTITIONS must be a whole number, 1 to"),
    ],
)
def test_a_bad_setting_of_kafka_is_named(settings: dict[str, str], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load(settings)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_USERNAME": "u"}, "KAFKA_PASSWORD is missing"),
        ({"KAFKA_PASSWORD": "p"}, "KAFKA_PASSWORD needs a KAFKA_SECURITY_PROTOCOL"),
        ({"KAFKA_CA_FILE": "/nowhere.pem"}, "KAFKA_CA_FILE holds no certificates"),
    ],
)
def test_settings_of_kafka_that_contradict_each_other_are_named(settings: dict[str, str], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load(NEEDED | settings)


@pytest.mark.parametrize(
    ("settings", "port", "tls"),
    [
        ({}, 587, Tls.STARTTLS),
        ({"SMTP_PORT": "25"}, 25, Tls.STARTTLS),
        ({"SMTP_PORT": "465"}, 465, Tls.IMPLICIT),
        ({"SMTP_PORT": "465", "SMTP_TLS": "none"}, 465, Tls.NONE),
        ({"SMTP_TLS": "none"}, 587, Tls.NONE),
        ({"SMTP_TLS": "implicit"}, 587, Tls.IMPLICIT),
        ({"SMTP_STARTTLS": "false"}, 587, Tls.NONE),
        ({"SMTP_STARTTLS": "true"}, 587, Tls.STARTTLS),
        ({"SMTP_STARTTLS": "false", "SMTP_TLS": "starttls"}, 587, Tls.STARTTLS),
    ],
)
def test_mail_is_encrypted_unless_none_is_said(settings: dict[str, str], port: int, tls: Tls) -> None:
    smtp = load(NEEDED | settings).settings(DeliverySettings).smtp
    assert (smtp.port, smtp.tls) == (port, tls)


def test_starttls_on_the_port_of_implicit_tls_is_a_fault() -> None:
    (fault,) = faults(SMTP_PORT="465", SMTP_TLS="starttls")
    assert fault.startswith("SMTP_TLS must be implicit on port 465")


@pytest.mark.parametrize(("given", "missing"), [("SMTP_USERNAME", "SMTP_PASSWORD"), ("SMTP_PASSWORD", "SMTP_USERNAME")])
def test_half_a_login_is_a_fault(given: str, missing: str) -> None:
    assert faults(**{given: "x"})[0].startswith(f"{missing} is missing")


def row(name: str, each: Declaration) -> str:
    """The row of a setting in the page for operators."""
    default = each.field.default
    words = ", ".join(sorted(default)) if isinstance(default, frozenset) else default
    shown = "**needed**" if each.field.required else "" if words in (None, "", ()) else f"`{words}`"
    secret = " (secret)" if each.secret else ""
    return f"| `{name}`{secret} | {shown} | {each.meaning} |"


def test_the_page_for_operators_has_every_setting_as_it_is_declared() -> None:
    page = (Path(__file__).parents[3] / "ops" / "SETTINGS.md").read_text(encoding="utf-8")
    assert "\n".join(row(name, each) for name, each in DECLARED.items()) in page


def test_what_is_likely_not_meant_is_warned_of() -> None:
    assert [said.split()[0] for said in load(NEEDED).cautions] == ["PUBLIC_URL"]
    public = {"PUBLIC_URL": "https://board.example"}
    assert load(NEEDED | public).cautions == []
    assert load(NEEDED | {"MAIL_LINK_URL": "https://pages.example"}).cautions == []
    risky = public | {"TRUSTED_PROXIES": "0.0.0.0/0", "SMTP_TLS": "none", "SMTP_USERNAME": "u", "SMTP_PASSWORD": "p"}
    assert [said.split()[0] for said in load(NEEDED | risky).cautions] == ["TRUSTED_PROXIES", "SMTP_TLS"]
    (old,) = warnings(NEEDED | {"SMTP_STARTTLS": "true"})
    assert old.startswith("SMTP_STARTTLS is deprecated")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 3600),
        ({"JWT_EXPIRATION_HOURS": "24"}, 86400),
        ({"JWT_EXPIRATION_HOURS": "0.25"}, 900),
        ({"JWT_EXPIRATION_HOURS": "24", "ACCESS_TOKEN_TTL_S": "60"}, 60),
    ],
)
def test_an_access_token_lives_for_an_hour_unless_a_setting_says_otherwise(given: dict[str, str], seconds: int) -> None:
    assert load(NEEDED | given).settings(InfrastructureSettings).access_ttl_s == seconds


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "1e9", "an hour"])
def test_hours_that_are_none_are_named(hours: str) -> None:
    with pytest.raises(ConfigError, match="JWT_EXPIRATION_HOURS"):
        load(NEEDED | {"JWT_EXPIRATION_HOURS": hours})
