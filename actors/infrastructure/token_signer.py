"""Tokens: signed access tokens, opaque refresh tokens, and the secrets of mailed links.

Access tokens are JWTs whose algorithm is pinned by their key (RFC 8725). The others are 256 bits, stored as SHA-256
only. A mail token is the HMAC of its row's id: the mail writer derives it, so it is never stored, queued or published.
A refresh token's child is the HMAC of its parent, so that the same parent has the same child.
"""

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import jwt
import msgspec

from callboard.actors.errors import AUTH_TOKEN_EXPIRED, AUTH_TOKEN_INVALID, Problem
from callboard.actors.infrastructure.signing_keys import Jwk, KeyRing, text_of

MAX_CACHED = 4096  # verified tokens, each about 700 bytes

SKEW_S = 30  # the allowed difference between the clocks of two machines

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # RFC 7515, 7.1
_MAIL = b"callboard mail tokens, version 1"
_REFRESH = b"callboard refresh tokens, version 1"
_VALUE = b"callboard fingerprints, version 1"
_DEVICE = b"callboard device tokens, version 1"
_UNSUBSCRIBE = b"callboard unsubscribe links, version 1"


class Claims(msgspec.Struct, frozen=True):
    """The claims of a verified access token: its user and its session."""

    user_id: UUID
    session_id: UUID


class _Payload(msgspec.Struct, frozen=True):
    """The claims of an access token; all are required."""

    sub: UUID
    sid: UUID
    iss: str
    jti: str
    iat: int
    exp: int
    type: Literal["access"]


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Signer:
    """Makes and verifies tokens with the keys of `KeyRing`; no repr shows them.

    A verified token is cached until it expires, so that it is decoded once: 4096 of them, the least recently used are
    dropped first.
    """

    def __init__(
        self,
        secret: str,
        *,
        issuer: str,
        access_ttl_s: int,
        previous: Sequence[str] = (),
        private_key: str = "",
        public_keys: str = "",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.replace_keys(KeyRing(secret, previous=previous, private_key=private_key, public_keys=public_keys))
        self._issuer = issuer
        self._now = now
        self.access_ttl_s = access_ttl_s

    def replace_keys(self, keys: KeyRing) -> None:
        """Sign and verify with these keys from now on; tokens that were verified with others are verified again."""
        self._keys = keys
        self._known: OrderedDict[str, tuple[int, int, Claims]] = OrderedDict()

    @property
    def jwks(self) -> list[Jwk]:
        """Return the public keys that verify our tokens; none while only secrets sign."""
        return self._keys.jwks

    def issue(self, *, user_id: UUID, email: str, session_id: UUID, token_id: UUID, now: datetime) -> str:
        """Return an access token, valid for `access_ttl_s` seconds from `now`."""
        claims = {
            "sub": str(user_id),
            "email": email,
            "iat": now,
            "exp": now + timedelta(seconds=self.access_ttl_s),
            "iss": self._issuer,
            "jti": str(token_id),
            "sid": str(session_id),
            "type": "access",
        }
        key = self._keys.current
        return jwt.encode(claims, self._keys.signing, key.algorithm, headers={"kid": key.kid})

    def read(self, token: str) -> Claims:
        """Verify an access token. Raises Problem(AUTH_TOKEN_EXPIRED or AUTH_TOKEN_INVALID)."""
        known = self._known.get(token)
        if known is None:
            issued_at, expires_at, claims = self._decode(token)
        else:
            issued_at, expires_at, claims = known
        now = self._now().timestamp()
        if now >= expires_at:
            self._known.pop(token, None)
            raise Problem(AUTH_TOKEN_EXPIRED)
        if issued_at > now + SKEW_S:
            raise Problem(AUTH_TOKEN_INVALID)
        self._known[token] = issued_at, expires_at, claims
        self._known.move_to_end(token)
        if len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
        return claims

    def _decode(self, token: str) -> tuple[int, int, Claims]:
        if _COMPACT.fullmatch(token) is None:  # the library also reads padding, and so one token in several texts
            raise Problem(AUTH_TOKEN_INVALID)
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = self._keys.by_kid.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise Problem(AUTH_TOKEN_INVALID)
            # `read` checks the times, for cached tokens too.
            claims = jwt.decode(
                token,
                key.checking,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                options={"verify_exp": False, "verify_iat": False},
            )
            payload = msgspec.convert(claims, _Payload)
        except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
            raise Problem(AUTH_TOKEN_INVALID) from error
        return payload.iat, payload.exp, Claims(payload.sub, payload.sid)

    def mail_token(self, token_id: UUID) -> str:
        """Return the secret for a new mail_tokens row."""
        return self._keys.derive(_MAIL, token_id.bytes)

    def mail_token_of(self, token_id: UUID, token_hash: bytes) -> str | None:
        """Return the secret of a mail_tokens row, also of one made under an earlier key; None if that key is gone."""
        return self._keys.derived(_MAIL, token_id.bytes, token_hash)

    def derive_refresh_token(self, parent: str, child_hash: bytes | None = None) -> str:
        """Return the refresh token that follows `parent`; with the fingerprint of its child, also the child made under
        an earlier key. If that key is gone, it is made with the current one.
        """
        value = parent.encode()
        made = self._keys.derived(_REFRESH, value, child_hash) if child_hash is not None else None
        return made or self._keys.derive(_REFRESH, value)

    def device_proof(self, user_id: UUID, device_id: bytes) -> str:
        """Return the proof that we have issued this device id to this user."""
        return self._keys.derive(_DEVICE, user_id.bytes + device_id)

    def is_device_proof(self, user_id: UUID, device_id: bytes, proof: str) -> bool:
        """Whether the proof is valid, also one made under an earlier key."""
        return self._keys.derived(_DEVICE, user_id.bytes + device_id, fingerprint(proof)) is not None

    def unsubscribe_proof(self, value: bytes) -> str:
        """Return the proof that we have issued an unsubscribe link; it stays valid while its key is in the ring."""
        return self._keys.derive(_UNSUBSCRIBE, value)

    def is_unsubscribe_proof(self, value: bytes, proof: str) -> bool:
        """Whether the proof is valid, also one made under an earlier key."""
        return self._keys.derived(_UNSUBSCRIBE, value, fingerprint(proof)) is not None

    def keyed_fingerprint(self, value: bytes) -> bytes:
        """Return a keyed hash that recognises a value which may hold a guessable secret; the hash reveals nothing of
        the value.
        """
        return fingerprint(self._keys.derive(_VALUE, value))

    def is_fingerprint_of(self, value: bytes, digest: bytes) -> bool:
        """Whether a fingerprint is of this value, also one made under an earlier key."""
        return self._keys.derived(_VALUE, value, digest) is not None


def refresh_token() -> str:
    """A new refresh token: 256 random bits."""
    return text_of(secrets.token_bytes(32))


def fingerprint(token: str) -> bytes:
    """Return the hash that is stored for an opaque token. A fast hash is enough: 256 random bits cannot be guessed."""
    return hashlib.sha256(token.encode()).digest()
