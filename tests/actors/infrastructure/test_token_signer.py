"""Tokens: what is accepted as one is exactly what we have made."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.domain import ISSUER, SECRET, refused
from kit.property_examples import examples

from callboard.actors.errors import AUTH_TOKEN_EXPIRED, AUTH_TOKEN_INVALID, Problem
from callboard.actors.infrastructure.token_signer import Claims, Signer, fingerprint, refresh_token

SIGNER = Signer(SECRET, issuer=ISSUER, access_ttl_s=900)
OTHER = "another secret, which is as long as the first one"
USER, SESSION = uuid4(), uuid4()


def issued(signer: Signer = SIGNER, age_s: float = 0) -> str:
    now = datetime.now(UTC) - timedelta(seconds=age_s)
    return signer.issue(user_id=USER, email="ada@example.org", session_id=SESSION, token_id=uuid4(), now=now)


def forged(key: str = SECRET, algorithm: str = "HS256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token like ours but for what is given; a claim of None is left out."""
    ours = jwt.decode(issued(), options={"verify_signature": False})
    kid = jwt.get_unverified_header(issued())["kid"]
    whole = {name: value for name, value in (ours | claims).items() if value is not None}
    return jwt.encode(whole, key if algorithm != "none" else None, algorithm, headers={"kid": kid} | (header or {}))


def part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def test_what_we_issue_we_read() -> None:
    assert SIGNER.read(issued()) == Claims(USER, SESSION)
    assert SIGNER.read(forged()) == Claims(USER, SESSION)


def test_a_token_carries_the_claims_of_the_contract() -> None:
    claims = jwt.decode(issued(), options={"verify_signature": False})
    assert set(claims) == {"sub", "email", "iat", "exp", "iss", "jti", "sid", "type"}
    assert (claims["sub"], claims["sid"], claims["exp"] - claims["iat"]) == (str(USER), str(SESSION), 900)


def test_an_expired_token_is_called_expired() -> None:
    with refused(AUTH_TOKEN_EXPIRED):
        SIGNER.read(issued(age_s=901))


HEAD, BODY, _ = issued().split(".")
CLAIMS = ("sub", "iat", "exp", "iss", "jti", "sid", "type")
BAD = {
    "no algorithm": forged(algorithm="none"),
    "no algorithm, our signature": ".".join((part(b'{"alg":"none","typ":"JWT"}'), *issued().split(".")[1:])),
    "HS512": forged(algorithm="HS512"),
    "HS384": forged(algorithm="HS384"),
    "another secret": forged(OTHER),
    "another secret, expired": forged(OTHER, exp=1),
    "another signer's": issued(Signer(OTHER, issuer=ISSUER, access_ttl_s=900)),
    "another key's id": forged(header={"kid": "other"}),
    "another type": forged(type="refresh"),
    "another issuer": forged(iss="elsewhere"),
    "another issuer's": issued(Signer(SECRET, issuer="elsewhere", access_ttl_s=900)),
    "from the future": forged(iat=4_000_000_000),
    "a user that is no id": forged(sub="ada"),
    "a session that is no id": forged(sid="one"),
    "a session that is a number": forged(sid=7),
    **{f"no {claim}": forged(**{claim: None}) for claim in CLAIMS},
    "a signature cut short": issued()[:-2],
    "an empty signature": f"{HEAD}.{BODY}.",
    "no signature": f"{HEAD}.{BODY}",
    "a part too many": issued() + ".x",
    "a space before": " " + issued(),
    "padding": issued() + "=",
    "a line end": issued() + "\n",
    "nothing": "",
    "dots": "..",
    "no ASCII": "é.é.é",
    "very long": "x" * 8000,
    "a header nested deeply": f"{part(b'[' * 5000)}.{BODY}.x",
    "a header that is a list": f"{part(b'[]')}.{BODY}.x",
    "a list of algorithms": part(b'{"alg":["HS256"]}') + f".{BODY}.x",
    "a critical extension": forged(header={"crit": ["exp"]}),
}


@pytest.mark.parametrize("why", BAD)
def test_anything_else_is_no_token(why: str) -> None:
    with refused(AUTH_TOKEN_INVALID):
        SIGNER.read(BAD[why])


SEGMENTS = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60).map(part),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["alg", "kid", "crit"]), inner),
        max_leaves=5,
    ).map(lambda value: part(json.dumps(value).encode())),
    st.sampled_from(issued().split(".")),
)


@settings(max_examples=examples(300))
@given(st.one_of(st.text(), st.lists(SEGMENTS, min_size=1, max_size=5).map(".".join)))
def test_arbitrary_text_as_a_token_gives_a_problem_and_nothing_else(text: str) -> None:
    try:
        claims = SIGNER.read(text)
    except Problem as problem:
        assert problem.code in (AUTH_TOKEN_INVALID, AUTH_TOKEN_EXPIRED)  # noqa: PT017 - it may also be ours, whole
    else:
        assert claims == Claims(USER, SESSION)


def test_a_mail_token_follows_from_its_row_and_the_secret_alone() -> None:
    again = Signer(SECRET, issuer="elsewhere", access_ttl_s=1)
    other = Signer(OTHER, issuer=ISSUER, access_ttl_s=900)
    tokens = {SIGNER.mail_token(UUID(int=number)) for number in range(50)}
    assert len(tokens) == 50
    assert tokens == {again.mail_token(UUID(int=number)) for number in range(50)}
    assert not tokens & {other.mail_token(UUID(int=number)) for number in range(50)}
    assert all(len(base64.urlsafe_b64decode(token + "=")) == 32 for token in tokens)


def test_refresh_tokens_are_256_random_bits_and_stored_as_a_hash() -> None:
    tokens = {refresh_token() for _ in range(50)}
    assert len(tokens) == 50
    assert all(len(base64.urlsafe_b64decode(token + "=")) == 32 for token in tokens)
    assert all(token.encode() not in fingerprint(token) for token in tokens)


def test_a_child_token_follows_from_its_parent_and_the_secret_alone() -> None:
    parent = refresh_token()
    assert SIGNER.derive_refresh_token(parent) == Signer(SECRET, issuer="x", access_ttl_s=1).derive_refresh_token(
        parent
    )
    assert SIGNER.derive_refresh_token(parent) not in (
        parent,
        Signer(OTHER, issuer="x", access_ttl_s=1).derive_refresh_token(parent),
    )
    assert len(base64.urlsafe_b64decode(SIGNER.derive_refresh_token(parent) + "=")) == 32


def test_what_mails_and_sessions_hold_of_an_earlier_key_is_found_again_and_new_ones_are_todays() -> None:
    earlier = Signer(OTHER, issuer=ISSUER, access_ttl_s=900)
    rotated = Signer(SECRET, issuer=ISSUER, access_ttl_s=900, previous=["x" * 32, OTHER])
    token_id, parent = uuid4(), refresh_token()
    for signer in (earlier, SIGNER):
        sent, child = signer.mail_token(token_id), signer.derive_refresh_token(parent)
        assert rotated.mail_token_of(token_id, fingerprint(sent)) == sent
        assert rotated.derive_refresh_token(parent, fingerprint(child)) == child
    assert rotated.mail_token(token_id) == SIGNER.mail_token(token_id)
    assert rotated.derive_refresh_token(parent) == SIGNER.derive_refresh_token(parent)
    assert SIGNER.mail_token_of(token_id, fingerprint(earlier.mail_token(token_id))) is None
