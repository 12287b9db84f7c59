"""Keys: a rotation logs nobody out, and no token is checked by an algorithm that is not its key's."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from kit.domain import ISSUER, SECRET, refused

from callboard.actors.errors import AUTH_TOKEN_EXPIRED, AUTH_TOKEN_INVALID
from callboard.actors.infrastructure import token_signer
from callboard.actors.infrastructure.signing_keys import KeyRing, read_private_key, read_public_keys, text_of
from callboard.actors.infrastructure.token_signer import Claims, Signer

OTHER = "another secret, which is as long as the first one"
USER, SESSION = uuid4(), uuid4()


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def public_pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


PRIVATE, EARLIER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def signer(secret: str = SECRET, **options: Any) -> Signer:
    return Signer(secret, issuer=ISSUER, access_ttl_s=900, **options)


SECRETS = signer()
SIGNED = signer(private_key=pem(PRIVATE))


def issued(by: Signer, now: datetime | None = None) -> str:
    now = now or datetime.now(UTC)
    return by.issue(user_id=USER, email="ada@example.org", session_id=SESSION, token_id=uuid4(), now=now)


def head(token: str) -> dict[str, Any]:
    return jwt.get_unverified_header(token)


def forged(like: str, key: Any, algorithm: str, **header: Any) -> str:
    """The claims and the kid of a good token, signed otherwise."""
    claims = jwt.decode(like, options={"verify_signature": False})
    return jwt.encode(claims, key, algorithm, headers={"kid": head(like)["kid"]} | header)


def hmac_signed(like: str, key: bytes) -> str:
    """A token that is made by hand: PyJWT itself would not take a PEM for a secret."""
    header = text_of(json.dumps({"alg": "HS256", "typ": "JWT", "kid": head(like)["kid"]}).encode())
    signed = f"{header}.{like.split('.')[1]}"
    return f"{signed}.{text_of(jwt.get_algorithm_by_name('HS256').sign(signed.encode(), key))}"


# Rotation ------------------------------------------------------------------------------------------------------------


def test_what_an_earlier_key_has_signed_stays_good_and_new_tokens_have_todays_kid() -> None:
    before = signer(OTHER)
    rotated = signer(previous=[OTHER])
    assert rotated.read(issued(before)) == Claims(USER, SESSION)
    assert head(issued(rotated))["kid"] == head(issued(SECRETS))["kid"] != head(issued(before))["kid"]
    with refused(AUTH_TOKEN_INVALID):
        before.read(issued(rotated))
    with refused(AUTH_TOKEN_INVALID):
        SECRETS.read(issued(before))


def test_going_to_ed25519_and_back_logs_nobody_out() -> None:
    assert head(issued(SIGNED))["alg"] == "EdDSA"
    assert SIGNED.read(issued(SIGNED)) == SIGNED.read(issued(SECRETS)) == Claims(USER, SESSION)
    back = signer(public_keys=public_pem(PRIVATE))
    assert head(issued(back))["alg"] == "HS256"
    assert back.read(issued(SIGNED)) == Claims(USER, SESSION)


def test_an_earlier_ed25519_key_still_checks() -> None:
    earlier = signer(private_key=pem(EARLIER))
    rotated = signer(private_key=pem(PRIVATE), public_keys=public_pem(EARLIER))
    assert rotated.read(issued(earlier)) == Claims(USER, SESSION)
    with refused(AUTH_TOKEN_INVALID):
        SIGNED.read(issued(earlier))


# One algorithm a key -------------------------------------------------------------------------------------------------


def test_the_public_key_as_a_secret_forges_nothing() -> None:
    good = issued(SIGNED)
    raw = PRIVATE.public_key().public_bytes_raw()
    for key in (raw, public_pem(PRIVATE).encode(), public_pem(PRIVATE).strip().encode(), raw.hex().encode()):
        with refused(AUTH_TOKEN_INVALID):
            SIGNED.read(hmac_signed(good, key))


def test_a_key_takes_no_algorithm_but_its_own() -> None:
    by_secret, by_key = issued(SECRETS), issued(SIGNED)
    for token in (
        forged(by_secret, SECRET, "HS512"),
        forged(by_secret, SECRET, "HS384"),
        forged(by_secret, PRIVATE, "EdDSA"),
        forged(by_secret, None, "none"),
        forged(by_key, SECRET, "HS256"),
        forged(by_key, None, "none"),
        forged(by_key, generate_private_key(SECP256R1()), "ES256"),
        forged(by_key, EARLIER, "EdDSA"),
    ):
        with refused(AUTH_TOKEN_INVALID):
            SIGNED.read(token)


def test_a_key_that_the_token_brings_itself_is_not_looked_at() -> None:
    public = jwt.algorithms.OKPAlgorithm.to_jwk(EARLIER.public_key(), as_dict=True)
    for header in ({"jwk": public}, {"jku": "https://example.org/jwks"}, {"kid": "../../dev/null"}, {"kid": ""}):
        with refused(AUTH_TOKEN_INVALID):
            SIGNED.read(forged(issued(SIGNED), EARLIER, "EdDSA", **header))


def test_a_token_of_ours_for_something_else_is_refused_by_any_key() -> None:
    claims = jwt.decode(issued(SIGNED), options={"verify_signature": False}) | {"type": "refresh"}
    token = jwt.encode(claims, PRIVATE, "EdDSA", headers={"kid": head(issued(SIGNED))["kid"]})
    with refused(AUTH_TOKEN_INVALID):
        SIGNED.read(token)


# What is shown -------------------------------------------------------------------------------------------------------


def test_the_key_set_has_the_public_keys_and_no_secret() -> None:
    keys = KeyRing(SECRET, previous=[OTHER], private_key=pem(PRIVATE), public_keys=public_pem(EARLIER))
    assert [base64.urlsafe_b64decode(key.x + "=") for key in keys.jwks] == [
        each.public_key().public_bytes_raw() for each in (PRIVATE, EARLIER)
    ]
    assert {(key.kty, key.crv, key.alg, key.use) for key in keys.jwks} == {("OKP", "Ed25519", "EdDSA", "sig")}
    assert keys.jwks[0].kid == head(issued(SIGNED))["kid"]
    assert KeyRing(SECRET).jwks == []
    assert SECRET not in repr(keys.by_kid)
    assert SECRET.encode().hex() not in repr(keys.by_kid)


def test_others_check_our_tokens_with_the_key_set_alone() -> None:
    (shown,) = SIGNED.jwks
    key = jwt.PyJWK({"kid": shown.kid, "kty": shown.kty, "crv": shown.crv, "x": shown.x, "alg": shown.alg})
    claims = jwt.decode(issued(SIGNED), key, algorithms=["EdDSA"], issuer=ISSUER)
    assert claims["sub"] == str(USER)


# What is remembered --------------------------------------------------------------------------------------------------


def test_a_good_token_is_decoded_once_and_refused_when_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    began = now = datetime.now(UTC)
    remembering = signer(private_key=pem(PRIVATE), now=lambda: now)
    token = issued(remembering, began)
    decoded: list[str] = []
    decode = remembering._decode
    monkeypatch.setattr(remembering, "_decode", lambda token: decoded.append(token) or decode(token))
    for seconds in (0, 100, 899):
        now = began + timedelta(seconds=seconds)
        assert remembering.read(token) == Claims(USER, SESSION)
    assert decoded == [token]
    now = began + timedelta(seconds=900)
    with refused(AUTH_TOKEN_EXPIRED):
        remembering.read(token)
    assert not remembering._known
    with refused(AUTH_TOKEN_INVALID):
        remembering.read(token + "x")
    assert not remembering._known


def test_only_so_many_are_remembered_and_the_least_used_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_signer, "MAX_CACHED", 3)
    remembering = signer()
    made = [issued(remembering) for _ in range(4)]
    for token in (*made[:3], made[0], made[3]):
        remembering.read(token)
    assert list(remembering._known) == [made[2], made[0], made[3]]


# What is no key ------------------------------------------------------------------------------------------------------


def test_what_is_no_ed25519_key_is_refused() -> None:
    curve = generate_private_key(SECP256R1())
    locked = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")).decode()
    for bad in ("", "nonsense", public_pem(PRIVATE), pem(curve), locked):
        with pytest.raises(ValueError, match="must be an Ed25519 private key"):
            read_private_key(bad)
    for bad in ("nonsense", pem(PRIVATE), public_pem(curve), public_pem(PRIVATE) + "and more"):
        with pytest.raises(ValueError, match="must be Ed25519 public keys"):
            read_public_keys(bad)
    assert len(read_public_keys(public_pem(PRIVATE) + public_pem(EARLIER))) == 2
