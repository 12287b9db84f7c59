"""Names in the environment: one that is nearly ours is warned of, and those of others are not."""

import pytest

from callboard.ops.config.names import warnings

NEEDED = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS", "JWT_SECRET_KEY", "SMTP_HOST"), "x")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RATE_LIMIT_PER_MINTE", "RATE_LIMIT_PER_MINUTE"),
        ("JWT_SECRETKEY", "JWT_SECRET_KEY"),
        ("SMTP_PASWORD_FILE", "SMTP_PASSWORD_FILE"),
        ("database_url", "DATABASE_URL"),
        ("LOG_LEVELS", "LOG_LEVEL"),
        ("JWT_SECRET", "JWT_SECRET_KEY"),
        ("SMTP_PASS", "SMTP_PASSWORD"),
        ("SMTP_USER", "SMTP_USERNAME"),
        ("CALLBOARD_HTTP_PORT", "HTTP_PORT"),
        ("CALLBOARD_CONF", "CALLBOARD_CONFIG"),
        ("MAX_BODY", "MAX_BODY_BYTES"),
    ],
)
def test_a_name_that_is_nearly_ours_is_warned_of(name: str, meant: str) -> None:
    (said,) = warnings(NEEDED | {name: "secret"})
    assert said == f"{name} is not a setting and is ignored: did you mean {meant}?"


def test_names_of_others_are_not_warned_of() -> None:
    others = (
        "PATH",
        "HOME",
        "LANG",
        "HTTP_PROXY",
        "PGHOST",
        "KUBERNETES_PORT",
        "CALLBOARD_PORT",
        "CALLBOARD_SERVICE_HOST",
        "HOSTNAME",
        "CALLBOARD_DATA_DIR",
        "TZ",
    )
    assert warnings(NEEDED | dict.fromkeys(others, "x")) == []
