"""The settings of the second mail server."""

import pytest

from callboard.actors.delivery.department import DeliverySettings
from callboard.actors.delivery.smtp_settings import Tls
from callboard.ops.config.configuration import load
from callboard.ops.config.sources import ConfigError

NEEDED = {
    "DATABASE_URL": "postgresql://callboard@db/callboard",
    "REDIS_URL": "redis://cache:6379/0",
    "KAFKA_BROKERS": "one:9092",
    "JWT_SECRET_KEY": "jwt-secret-" * 4,
    "SMTP_HOST": "mail",
}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PORT": "465", "TLS": "starttls"}, "SMTP_FALLBACK_TLS must be implicit on port 465"),
        ({"USERNAME": "x"}, "SMTP_FALLBACK_PASSWORD is missing"),
        ({"PASSWORD": "x"}, "SMTP_FALLBACK_USERNAME is missing"),
        ({"HOST": NEEDED["SMTP_HOST"]}, "SMTP_FALLBACK_HOST must be another server than SMTP_HOST"),
        ({"TLS": "maybe"}, "SMTP_FALLBACK_TLS must be starttls, implicit or none"),
    ],
    ids=str,
)
def test_the_second_mail_server_has_the_rules_of_the_first(settings: dict[str, str], said: str) -> None:
    given = {f"SMTP_FALLBACK_{name}": value for name, value in ({"HOST": "second.example"} | settings).items()}
    with pytest.raises(ConfigError) as caught:
        load(NEEDED | given)
    (fault,) = caught.value.faults
    assert fault.startswith(said)
    given |= {"SMTP_FALLBACK_HOST": "second.example", "SMTP_FALLBACK_PORT": "465", "SMTP_FALLBACK_TLS": ""}
    given |= {"SMTP_FALLBACK_USERNAME": "u", "SMTP_FALLBACK_PASSWORD": "p"}
    second = load(NEEDED | given).settings(DeliverySettings).smtp_fallback
    assert second is not None
    assert (second.name, second.tls, second.password) == ("second.example:465", Tls.IMPLICIT, "p")
