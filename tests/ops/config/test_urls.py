"""Addresses of servers: what is wrong with one is a line that quotes nothing of it, and what is right goes through."""

import pytest
from kit.commands import run_command

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
        "postgresql://u@/callboard?host=one,two:5433&port=5432,5433&target_session_attrs=prefer-standby",
        "postgresql://u@db/callboard?options=-c%20search_path=callboard&ssl_min_protocol_version=TLSv1.3",
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
        "postgresql://db/callboard?sslmode=require&sslcert=/no/such/file",
        "postgresql:///callboard?host=one,two&port=1,2,3",
        "postgresql://db/callboard\n",
        "http://db/callboard",
        "db:5432",
    ],
)
def test_a_bad_address_of_postgresql_is_found_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        database_url(url)


# Each option, and a word of its line. No line quotes a value: it may be a piece of a secret.
REFUSED_OPTIONS = {
    "port=s3cret": "port",
    "port=5432,s3cret": "port",
    "port=0": "port",
    "port=65536": "port",
    "port=%D9%A3": "port",
    "host=s3cret:x": "host",
    "host=a%20s3cret": "host",
    "nonsense=s3cret": "nonsense",
    "hostaddr=10.0.0.1": "hostaddr",
    "hostaddr=": "hostaddr",
    "connect_timeout=s3cret": "connect_timeout",
    "channel_binding=require": "channel_binding",
    "target_session_attrs=s3cret": "target_session_attrs",
    "target_session_attrs=": "target_session_attrs",
    "sslmode=s3cret": "sslmode",
    "sslmode=verify_full": "sslmode",
    "sslnegotiation=s3cret": "sslnegotiation",
    "sslnegotiation=direct": "sslmode",
    "gsslib=s3cret": "gsslib",
    "ssl_min_protocol_version=s3cret": "ssl_min_protocol_version",
    "ssl_min_protocol_version=SSLv3": "ssl_min_protocol_version",
    "password=s3cret&target_session_attrs=s3cret": "target_session_attrs",
}


@pytest.mark.parametrize("setting", ["DATABASE_URL", "DATABASE_DIRECT_URL"])
@pytest.mark.parametrize("option", REFUSED_OPTIONS)
def test_an_option_that_the_client_or_the_server_refuses_is_named_in_one_line(setting: str, option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(NEEDED | {setting: f"postgresql://u:pa55word@db/callboard?{option}"})
    (fault,) = caught.value.faults
    assert fault.startswith(f"{setting} must ")
    assert REFUSED_OPTIONS[option] in fault
    assert not any(piece in fault for piece in ("\n", "s3cret", "pa55word", "<", "10.0.0.1"))


@pytest.mark.parametrize("piece", ["w0rd", "word"])
def test_a_piece_of_a_password_is_not_named_as_an_option(piece: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(NEEDED | {"DATABASE_URL": f"postgresql://user:123?{piece}=rest@db:5432/callboard"})
    assert piece not in str(caught.value.faults).replace("password", "")


@pytest.mark.parametrize("command", [("serve",), ("config", "check")])
def test_a_command_says_one_line_and_ends_with_status_2(command: tuple[str, ...]) -> None:
    url = "postgresql://u:pa55word@db/callboard?port=abc"
    ran = run_command(*command, environment=NEEDED | {"DATABASE_URL": url})
    assert ran.status == 2
    (line,) = ran.errors.splitlines()
    assert "DATABASE_URL must have numbers from 1 to 65535 for port" in line
    assert "pa55word" not in line + ran.output


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
