"""The configuration of packages: tables and variables, each fault by its path or its variable."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from callboard.actors.department import Branch, Department
from callboard.actors.infrastructure.feature_flags import FeatureFlag
from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.actors.infrastructure.refs import Declared
from callboard.actors.infrastructure.retention import Retain
from callboard.actors.settings import SECRET, Settings
from callboard.ops.config.configuration import REDACTED, load
from callboard.ops.config.departments import Configured, read_packages
from callboard.ops.config.sources import ConfigError, Reader
from callboard.ops.departments import OURS, declared_by


class Nothing(Struct, frozen=True):
    pass


class Nested(Struct, frozen=True):
    length: Annotated[int, Meta(ge=1, le=100)] = 20


class Sample(Struct, frozen=True, kw_only=True):
    needed: str
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    feed: Nested = Nested()

    def __post_init__(self) -> None:
        if self.needed == "all" and self.share < 1:
            raise ValueError("all needs a share of 1")


QUIZ = Department(
    name="quiz",
    settings=Sample,
    needs=Nothing,
    offers=Nothing,
    build=lambda _settings, _needs: Branch(refs=Nothing(), children=()),
    limits=(RateLimit("quiz.ask", 5, 60),),
    flags=(FeatureFlag("quiz.open"),),
    retention=(Retain("quiz.answers", "answers", "given_at", 365),),
)


def configured(tables: dict[str, Any], environ: dict[str, str]) -> tuple[Configured, list[str]]:
    reader = Reader(environ)
    return read_packages([QUIZ], tables, reader)["quiz"], reader.faults


def test_a_table_and_variables_configure_settings_limits_flags_and_retention() -> None:
    tables = {
        "quiz": {"needed": "x", "feed": {"length": 3}, "limits": {"ask": {"limit": 7}}, "retention": {"answers": 9}}
    }
    environ = {"CALLBOARD_QUIZ__SHARE": "0.25", "CALLBOARD_QUIZ__FLAGS__OPEN": "true", "CALLBOARD_CONFIG": "x.toml"}
    found, faults = configured(tables, environ)
    assert faults == []
    assert found.settings == Sample(needed="x", share=0.25, feed=Nested(3))
    assert found.limits == [RateLimit("quiz.ask", 7, 60)]
    assert found.flags == [FeatureFlag("quiz.open", default=True)]
    assert found.retention == [Retain("quiz.answers", "answers", "given_at", 9)]
    declared = declared_by([QUIZ], {"quiz": found})
    assert isinstance(declared, Declared)
    assert declared.policies["quiz.ask"].limit == 7


@pytest.mark.parametrize(
    ("table", "environ", "fault"),
    [
        ({}, {}, "quiz.needed: is missing"),
        ({"needed": 3}, {}, "quiz.needed: must be text"),
        ({"needed": "x", "share": float("inf")}, {}, "quiz.share: must be a number, 0 to 1"),
        ({"needed": "x", "share": float("nan")}, {}, "quiz.share: must be a number, 0 to 1"),
        ({"needed": "x"}, {"CALLBOARD_QUIZ__SHARE": "inf"}, "CALLBOARD_QUIZ__SHARE must be a number, 0 to 1"),
        ({"needed": "x", "colour": 1}, {}, "quiz.colour: is unknown; there are needed, share, feed"),
        ({"needed": "x", "feed": 1}, {}, "quiz.feed: must be a table"),
        ({"needed": "x", "feed": {"length": 0}}, {}, "quiz.feed.length: must be a whole number, 1 to 100"),
        ({"needed": "all"}, {}, "quiz: all needs a share of 1"),
        ({"needed": "x", "limits": {"ask": {"limit": 0}}}, {}, "quiz.limits.ask.limit: must be a whole number, 1 to"),
        ({"needed": "x", "limits": {"tell": {}}}, {}, "quiz.limits.tell: is unknown; there are ask"),
        ({"needed": "x", "flags": {"open": "yes"}}, {}, "quiz.flags.open: must be true or false"),
        ({"needed": "x", "retention": {"answers": 0}}, {}, "quiz.retention.answers: must be a whole number, 1 to"),
        ({"needed": "x"}, {"CALLBOARD_QUIZ__FLAGS__SHUT": "true"}, "CALLBOARD_QUIZ__FLAGS__SHUT: is unknown"),
        ({"needed": "x"}, {"CALLBOARD_QUIZ__SHARE__X": "1"}, "CALLBOARD_QUIZ__SHARE__X: is unknown"),
        ({"needed": "x"}, {"CALLBOARD_QUIZ__FEED": "1"}, "CALLBOARD_QUIZ__FEED: is unknown"),
        ({"needed": "x"}, {"CALLBOARD_QUIZ__SHARE_FILE": "/no"}, "CALLBOARD_QUIZ__SHARE_FILE cannot be read"),
        ({"needed": "x"}, {"CALLBOARD_QUIZZ__X": "1"}, "CALLBOARD_QUIZZ__X: no package has the department quizz"),
    ],
)
def test_a_fault_of_the_configuration_is_named_by_its_path_or_its_variable(
    table: dict[str, Any], environ: dict[str, str], fault: str
) -> None:
    _, faults = configured({"quiz": table}, environ)
    assert any(each.startswith(fault) for each in faults), faults


@pytest.mark.parametrize(("table", "column"), [("a b", "c"), ("t; drop table users", "c"), ("t", "c)"), ("", "c")])
def test_a_retention_rule_takes_names_of_tables_and_columns_alone(table: str, column: str) -> None:
    with pytest.raises(ValueError, match="keeps rows of a table by a column"):
        Retain("quiz.answers", table, column, 1)


class Keyed(Settings, frozen=True, kw_only=True):
    key: Annotated[str, SECRET, Meta(description="the key of the quiz")] = ""
    rounds: Annotated[int, Meta(ge=1, le=9, description="questions of a quiz")] = 3


KEYED = Department(
    name="quiz",
    settings=Keyed,
    needs=Nothing,
    offers=Nothing,
    build=lambda _settings, _needs: Branch(refs=Nothing(), children=()),
)
SERVERS = {
    "DATABASE_URL": "postgresql://db",
    "REDIS_URL": "redis://cache",
    "KAFKA_BROKERS": "broker:9092",
    "SMTP_HOST": "mail",
    "JWT_SECRET_KEY": "x" * 32,
}


def test_settings_of_a_package_are_shown_with_ours_and_its_secrets_are_not(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("quiz-secret\n")
    (tmp_path / "callboard.toml").write_text("[quiz]\nrounds = 5\n")
    given = {"CALLBOARD_QUIZ__KEY_FILE": str(tmp_path / "key"), "CALLBOARD_CONFIG": str(tmp_path / "callboard.toml")}
    configuration = load(SERVERS | given, [*OURS, KEYED])
    assert configuration.settings(Keyed).key == "quiz-secret"
    shown = configuration.redacted()
    assert (shown["CALLBOARD_QUIZ__KEY"], shown["CALLBOARD_QUIZ__ROUNDS"], shown["SMTP_PORT"]) == (REDACTED, 5, 587)
    assert "secret" not in repr(configuration.settings(Keyed))


def test_faults_of_ours_and_of_a_package_are_named_together_each_with_its_meaning(tmp_path: Path) -> None:
    file = tmp_path / "callboard.toml"
    file.write_text("[quiz]\nrounds = 10\n")
    both = {"CALLBOARD_QUIZ__KEY": "a", "CALLBOARD_QUIZ__KEY_FILE": "/b"}
    with pytest.raises(ConfigError) as caught:
        load(SERVERS | both | {"CALLBOARD_CONFIG": str(file), "HTML_MAX_DEPTH": "0"}, [*OURS, KEYED])
    assert caught.value.faults == [
        "HTML_MAX_DEPTH must be a whole number, 1 to 500 (the nesting of an article's HTML elements)",
        "CALLBOARD_QUIZ__KEY must be given once, and CALLBOARD_QUIZ__KEY_FILE is set too (the key of the quiz)",
        f"{file}: quiz.rounds: must be a whole number, 1 to 9 (questions of a quiz)",
    ]


def numbered(declared: RateLimit | Retain) -> int:
    return declared.limit if isinstance(declared, RateLimit) else declared.days


def test_each_limit_and_rule_of_ours_has_the_number_of_the_setting_that_it_names() -> None:
    named = [
        (each, declared)
        for each in OURS
        for declared in (*each.limits, *each.retention)
        if isinstance(declared, RateLimit | Retain) and declared.setting
    ]
    assert {declared.name for _, declared in named} >= {"default", "login", "register", "search", "known_networks"}
    for department, declared in named:
        usual = load(SERVERS).settings(department.settings)
        assert getattr(usual, declared.setting) == numbered(declared)
        set_to_30 = load(SERVERS | {declared.setting.upper(): "30"}).configured[department.name]
        (found,) = (each for each in (*set_to_30.limits, *set_to_30.retention) if each.name == declared.name)
        assert numbered(found) == 30  # type: ignore[arg-type]
