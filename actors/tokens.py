"""Tokens: signed access tokens, opaque refresh tokens, and the secrets that travel by mail.

Access tokens are JWTs whose algorithm is pinned (RFC 8725). The others are 256 bits, stored as SHA-256 only. A mail
token is the HMAC of its row's id: whoever sends the mail derives it, so it is never stored, queued or published.
"""

import base64
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import msgspec

from callboard.actors.errors import AUTH_TOKEN_EXPIRED, AUTH_TOKEN_INVALID, Problem

ALGORITHM = "HS256"
MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: a key of the size of the hash output or larger


class Claims(msgspec.Struct, frozen=True):
    """What a checked access token says: its user and its session."""

    user_id: UUID
    session_id: UUID


class Signer:
    """Makes and reads tokens with one secret. The secret is in no repr."""

    def __init__(self, secret: str, *, issuer: str, access_ttl_s: int) -> None:
        self._key = secret.encode()
        self._mail_key = hmac.digest(self._key, b"callboard mail tokens, version 1", "sha256")
        self._kid = hashlib.sha256(b"kid" + self._key).hexdigest()[:8]
        self._issuer = issuer
        self.access_ttl_s = access_ttl_s

    def issue(self, *, user_id: UUID, email: str, session_id: UUID, token_id: UUID, now: datetime) -> str:
        """An access token, good for `access_ttl_s` seconds from `now`."""
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
        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self._kid})

    def read(self, token: str) -> Claims:
        """Check an access token. Raises Problem(AUTH_TOKEN_EXPIRED or AUTH_TOKEN_INVALID)."""
        try:
            whole: dict[str, Any] = jwt.decode_complete(
                token,
                self._key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                options={"require": ["sub", "iat", "exp", "iss", "jti", "sid", "type"]},
            )
            header, claims = whole["header"], whole["payload"]
            if header.get("kid") != self._kid or claims["type"] != "access":
                raise Problem(AUTH_TOKEN_INVALID)
            return Claims(UUID(str(claims["sub"])), UUID(str(claims["sid"])))
        except jwt.ExpiredSignatureError as error:
            raise Problem(AUTH_TOKEN_EXPIRED) from error
        except (jwt.InvalidTokenError, ValueError) as error:
            raise Problem(AUTH_TOKEN_INVALID) from error

    def mail_token(self, token_id: UUID) -> str:
        """The secret of a mail_tokens row."""
        return _text(hmac.digest(self._mail_key, token_id.bytes, "sha256"))


def refresh_token() -> str:
    """A new refresh token: 256 random bits."""
    return _text(secrets.token_bytes(32))


def fingerprint(token: str) -> bytes:
    """What is stored of an opaque token. A fast hash does: there is nothing to guess in 256 bits."""
    return hashlib.sha256(token.encode()).digest()


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
