"""Redaction: no address, no token, no password and no key leaves by the log, however it gets there."""

import base64
import io
import json
import logging
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.property_examples import examples

from callboard.actors.identity.users import RegisterUser
from callboard.ops.logs import JsonFormatter
from callboard.ops.redaction import MAX_TEXT, is_secret_key, redact, redact_text
from callboard.streams.email_address import REDACTED, redact_email

WORD = st.text(string.ascii_letters + string.digits, min_size=8, max_size=20)
ADDRESS = st.builds("{}@{}.{}".format, WORD, WORD, st.sampled_from(["org", "co.uk", "example", "xn--p1ai"]))
TOKEN = st.binary(min_size=32, max_size=32).map(lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode())
JWT = st.builds("eyJhbGciOiJIUzI1NiJ9.{}.{}".format, TOKEN, TOKEN)
HASH = st.builds("$argon2id$v=19$m=19456,t=2,p=1${}${}".format, WORD, WORD)
BY_SHAPE = st.one_of(ADDRESS, JWT, HASH, TOKEN.filter(lambda text: text.lower() != text != text.upper()))
BEFORE = st.sampled_from(
    ["", "for ", "(", "'", '"', "<", "Key (lower(email))=(", "to: ", "token ", "https://x.org/a?b="]
)
AFTER = st.sampled_from(["", " failed", ")", "'", '"', ">", ") already exists.", ", again", "\n"])

Send = Callable[[logging.Logger, str], None]


def as_message(logger: logging.Logger, text: str) -> None:
    logger.warning(text)


def as_argument(logger: logging.Logger, text: str) -> None:
    logger.warning("it is %s", text)


def as_nested_argument(logger: logging.Logger, text: str) -> None:
    logger.warning("it is %s", {"seen": [text]})


def as_field(logger: logging.Logger, text: str) -> None:
    logger.warning("it is", extra={"context": {"user_agent": text}, "action": text})


def as_key(logger: logging.Logger, text: str) -> None:
    logger.warning("it is", extra={"context": {text: 1}})


def fail(text: str) -> None:
    raise KeyError(text)


def as_exception(logger: logging.Logger, text: str) -> None:
    try:
        fail(text)
    except KeyError:
        logger.exception("it failed")


def as_cause(logger: logging.Logger, text: str) -> None:
    try:
        try:
            fail(text)
        finally:
            fail("another")
    except KeyError:
        logger.exception("it failed")


WAYS: list[Send] = [as_message, as_argument, as_nested_argument, as_field, as_key, as_exception, as_cause]


def logged(send: Send, text: str) -> str:
    """The line that a logger of ours writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("callboard.test")  # noqa: LOG001 - one that only this call knows
    logger.addHandler(handler)
    send(logger, text)
    return stream.getvalue()


@pytest.mark.parametrize("send", WAYS, ids=lambda way: way.__name__)
@settings(deadline=None, max_examples=examples(60))
@given(secret=BY_SHAPE, before=BEFORE, after=AFTER)
def test_no_address_token_or_hash_leaves_by_its_shape(send: Send, secret: str, before: str, after: str) -> None:
    line = logged(send, before + secret + after)
    assert secret not in line
    assert secret not in json.dumps(json.loads(line), ensure_ascii=False)


@settings(deadline=None, max_examples=examples(100))
@given(
    password=st.text(string.printable.strip() + "äß", min_size=8).filter(lambda text: text.strip("*'\"") == text),
    key=st.sampled_from(
        ["password", "new_password", "current-password", "PASSWORD", "access_token", "api_key", "secret"]
    ),
)
def test_no_password_leaves_by_its_key(password: str, key: str) -> None:
    def by_field(logger: logging.Logger, text: str) -> None:
        logger.warning("it is", extra={"context": {key: text, "more": {key: [text]}}})

    assert password not in json.loads(logged(by_field, password))["context"].__repr__()
    if not set(password) & set("'\"\\"):
        text = redact_text(f"Body({key}='{password}', full_name='Ada') and {{\"{key}\": \"{password}\"}}")
        assert password not in text
        assert "full_name='Ada'" in text


def test_a_message_that_holds_a_password_shows_none() -> None:
    message = RegisterUser("ada@example.org", "Lantern-Walk-42", "Ada", terms_accepted=True)
    for send in WAYS:
        assert "Lantern" not in logged(lambda logger, _, send=send: send(logger, str(message)), "")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://callboard:pa/ss+word@db:5432/x", f"postgresql://{REDACTED}@db:5432/x"),
        ("redis://:hidden@cache:6379/0", f"redis://{REDACTED}@cache:6379/0"),
        ("Authorization: Bearer abc.def", f"Authorization: {REDACTED} {REDACTED}"),
        ("https://x.org/reset?token=abcd&x=1", f"https://x.org/reset?token={REDACTED}&x=1"),
        (
            "Key (lower(email))=(ada@example.org) already exists.",
            f"Key (lower(email))=(a{REDACTED}@example.org) already exists.",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----", REDACTED),
    ],
)
def test_what_looks_secret_is_hidden_and_its_surroundings_are_not(text: str, shown: str) -> None:
    assert redact_text(text) == shown
    assert redact_text(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "0af7651916cd43dd8448eb211c80319c",
        "3f0e7a52-4d1b-4f0e-9a52-0d1b3f0e7a52",
        "callboard/identity/sessions/0 restarted, 2 times so far",
        "callboard.streams.dead_letters",
        "pools.mail.size was 5, is 8",
        'File "/srv/callboard/actors/users.py", line 12, in register',
        "the limit policy token_bucket is on",
    ],
)
def test_what_an_operator_needs_is_left_as_it_is(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("email", "shown"),
    [
        ("user@example.com", "u***@example.com"),
        ("u***@example.com", "u***@example.com"),
        ("secret.name***@example.com", "s***@example.com"),
        ("***@example.com", "***@example.com"),
        ("@", "***"),
        ("", "***"),
        ("a", "***"),
    ],
)
def test_an_address_is_told_by_its_first_letter_and_its_domain(email: str, shown: str) -> None:
    assert redact_email(email) == shown


def test_an_address_in_a_field_is_told_by_its_first_letter_and_its_domain() -> None:
    assert redact({"email": "user@example.com"}) == {"email": "u***@example.com"}


@pytest.mark.parametrize(
    "key", ["password", "newPassword", "refresh_token", "X-Api-Key", "set-cookie", "OPS_TOKEN", "password_hash"]
)
def test_a_secret_is_known_by_the_name_of_its_field(key: str) -> None:
    assert is_secret_key(key)
    assert redact({key: "x"}) == {key: REDACTED}


@pytest.mark.parametrize("key", ["user_id", "tokenizer", "action", "passenger", "path", "monkey"])
def test_other_names_are_not(key: str) -> None:
    assert not is_secret_key(key)


def test_a_line_is_written_whatever_it_is_given() -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no")

    deep: Any = "secret-at-the-bottom"
    for _ in range(50):
        deep = {"in": deep}

    def odd(logger: logging.Logger, _: str) -> None:
        logger.warning("%s and %d", Odd(), "no number")
        logger.warning("lone \ud800 surrogate", extra={"context": deep})
        logger.warning("x" * 10 * MAX_TEXT)

    first, second, third = map(json.loads, logged(odd, "").splitlines())
    assert "do not fit" in first["message"]
    assert second["message"] == "lone ? surrogate"
    assert "bottom" not in str(second)
    assert len(third["message"]) == MAX_TEXT
