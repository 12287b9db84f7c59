"""Addresses of servers: what is wrong with one is a line that quotes nothing of it, and what is right goes through."""

import pytest

from callboard.ops.config.configuration import load
from callboard.ops.config.conversion import convert
from callboard.ops.config.forms import KeyPart, TopicPrefix
from callboard.ops.config.sources import ConfigError
from callboard.ops.config.urls import brokers, database_url, redis_url

NEEDED = {
    "DATABASE_URL": "postgresql://db/callboard",
    "REDIS_URL": "redis://cache",
    "KAFKA_BROKERS": "broker:9092",
    "SMTP_HOST": "mail",
    "JWT_SECRET_KEY": "x" * 32,
}
# Each stands in a password as it was typed, with pieces before and after that must not be shown.
TYPED = ("/", "?", "#", "[", "]", "@", "%", "%2", "%zz", " ", "\t", "//", "/+", ":/", "?#", "@:@")


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize("pieces", [("pa55word", "rest"), ("123", "xyz2"), ("1", "w0rd")], ids=str)
@pytest.mark.parametrize(
    ("setting", "form"),
    [
        ("DATABASE_URL", "postgresql://user:{}@db:5432/callboard"),
        ("DATABASE_URL", "postgresql://{}@db"),
        ("REDIS_URL", "redis://:{}@cache:6379/0"),
    ],
)
def test_a_password_that_is_not_encoded_is_one_line_without_a_piece_of_it(
    setting: str, form: str, pieces: tuple[str, str], typed: str
) -> None:
    url = form.format(pieces[0] + typed + pieces[1])
    with pytest.raises(ConfigError) as caught:
        load(NEEDED | {setting: url})
    (fault,) = caught.value.faults
    assert fault.startswith(f"{setting} must ")
    assert "\n" not in fault
    assert not any(piece in fault for piece in pieces if len(piece) > 1)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:pa%2Fss+w%40rd@db:5432/callboard",
        "postgres://u:a:b:c@db/callboard",
        "postgresql://one:5432,two:5433/callboard?target_session_attrs=read-write",
        "postgresql:///callboard?host=/var/run/postgresql",
        "postgresql://[::1]:5432/callboard",
        "postgresql://ü:ä@db/callboard",
        "postgresql://u@db/callboard?sslmode=require&application_name=x",
    ],
)
def test_a_good_address_of_postgresql_goes_through(url: str) -> None:
    assert database_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db:0/callboard",
        "postgresql://db:99999/callboard",
        "postgresql://db:abc/callboard",
        "postgresql://one,two:1,three:2:3/callboard",
        "postgresql://db/callboard?sslmode=perhaps",
        "postgresql://db/callboard?sslmode",
        "postgresql://db/callboard?sslmode=verify-full&sslrootcert=/no/such/file",
        "postgresql://u:a%00b@db/callboard",
        "postgresql://db/callboard\n",
        "http://db/callboard",
        "db:5432",
    ],
)
def test_a_bad_address_of_postgresql_is_found_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        database_url(url)


@pytest.mark.parametrize("url", ["redis://h", "rediss://u:p@h:6379/1", "redis://[::1]:6379", "redis://h/0?protocol=3"])
def test_a_good_address_of_redis_goes_through(url: str) -> None:
    assert redis_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "redis://h/x",
            "redis://h:0",
            "redis://h/0?no_such=1",
            "redis://h?socket_timeout=a",
            "h",
            "redis://one,two/0",
        ),
        *("redis://h/0?protocol=9", "rediss://h/0?ssl_cert_reqs=perhaps", "redis://h/-1", "redis://:a%00b@h"),
    ],
)
def test_a_bad_address_of_redis_is_found_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        redis_url(url)


def test_brokers_may_be_named_by_ipv6() -> None:
    assert brokers("[::1]:9092, kafka-1.example:9093") == "[::1]:9092,kafka-1.example:9093"
    for bad in ("::1:9092", "h", "h:0", "h:65536", "h:9092,,g:1", "[::1]", "h\n:9092", "a b:1", "kafka://h:9092"):
        with pytest.raises(ValueError, match="must be host:port"):
            brokers(bad)


@pytest.mark.parametrize("bad", ["a\n", "a\nb", "", "a b", ".", "-a", "ä", "a:b", "a/b", "{a}", "a" * 101])
def test_a_prefix_that_kafka_or_redis_would_not_take_is_found_at_the_start(bad: str) -> None:
    for form in (TopicPrefix, KeyPart):
        with pytest.raises(ValueError, match=r"^must "):
            convert(form, bad, text=True)
        assert convert(form, "acme.callboard_2-x", text=True) == "acme.callboard_2-x"
