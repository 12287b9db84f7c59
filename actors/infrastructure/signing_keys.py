"""The keys that sign, verify and derive tokens. A replaced key still verifies its own tokens.

Each key has an id (`kid`) and one algorithm: a token is verified with the key of its `kid`, by that key's algorithm
only, even if its header names another (RFC 8725, 2.1 and 3.1). An HS256 key's id reveals nothing of it; an Ed25519
key's is its thumbprint (RFC 7638).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: a key of the size of the hash output or larger

_PEM = re.compile(r"-----BEGIN [^-]+-----.*?-----END [^-]+-----", re.DOTALL)


class Jwk(msgspec.Struct, frozen=True):
    """Return a public key in the form of RFC 8037."""

    kid: str
    x: str
    kty: str = "OKP"
    crv: str = "Ed25519"
    alg: str = "EdDSA"
    use: str = "sig"


class Key(msgspec.Struct, frozen=True):
    """A key that verifies tokens of one `kid` by one algorithm. No repr shows the key."""

    kid: str
    algorithm: str
    checking: Any  # bytes for HS256, an Ed25519PublicKey for EdDSA
    jwk: Jwk | None = None

    def __repr__(self) -> str:
        """Without the key."""
        return f"Key({self.kid}, {self.algorithm})"


class KeyRing:
    """`secret` signs, or `private_key` (an Ed25519 key in PEM) if there is one; all the others only verify.

    `previous` are earlier secrets, `public_keys` earlier Ed25519 public keys, in PEM, concatenated. Raises ValueError
    for an invalid key.
    """

    def __init__(
        self, secret: str, *, previous: Sequence[str] = (), private_key: str = "", public_keys: str = ""
    ) -> None:
        self._secrets = [each.encode() for each in (secret, *previous)]
        hashed = [_hashed(each) for each in self._secrets]
        signing: Any = self._secrets[0]
        signed: list[Key] = []
        if private_key:
            signing = read_private_key(private_key)
            signed.append(_signed(signing.public_key()))
        signed += [_signed(each) for each in read_public_keys(public_keys)]
        self.current = (signed if private_key else hashed)[0]
        self.signing = signing
        self.by_kid = {key.kid: key for key in (*hashed, *signed)}

    @property
    def jwks(self) -> list[Jwk]:
        """Return the public keys that verify our tokens. Secrets are not among them."""
        return [key.jwk for key in self.by_kid.values() if key.jwk is not None]

    def derive(self, purpose: bytes, value: bytes) -> str:
        """Derive 256 bits from a purpose, a value and the current secret, as a token."""
        return _derived(self._secrets[0], purpose, value)

    def derived(self, purpose: bytes, value: bytes, digest: bytes) -> str | None:
        """Derive again the value with this SHA-256, with any secret of the key ring; return None if its
        secret is gone.
        """
        made = (_derived(secret, purpose, value) for secret in self._secrets)
        return next((token for token in made if hashlib.sha256(token.encode()).digest() == digest), None)


def text_of(value: bytes) -> str:
    """Encode base64url without padding, as in tokens."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def parse_secret(text: str) -> str:
    """Check a secret of the settings. Raises ValueError."""
    if "-----BEGIN" in text:
        raise ValueError("must be a secret, and not a key in PEM")
    if len(text.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must have {MIN_SECRET_BYTES} bytes or more: openssl rand -base64 48 makes one")
    return text


def parse_private_key(pem: str) -> str:
    """Check an Ed25519 key of the settings. Raises ValueError."""
    read_private_key(pem)
    return pem


def parse_public_keys(pem: str) -> str:
    """Check public keys of the settings. Raises ValueError."""
    read_public_keys(pem)
    return pem


def read_private_key(pem: str) -> Ed25519PrivateKey:
    """Parse an Ed25519 private key in PEM. Raises ValueError for anything else."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("must be an Ed25519 private key in PEM, not encrypted") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("must be an Ed25519 private key in PEM: openssl genpkey -algorithm ed25519 makes one")  # noqa: TRY004 - a bad value
    return key


def read_public_keys(pem: str) -> list[Ed25519PublicKey]:
    """Parse concatenated Ed25519 public keys in PEM. Raises ValueError for anything else."""
    if _PEM.sub("", pem).strip():
        raise ValueError("must be Ed25519 public keys in PEM, and nothing else")
    try:
        keys = [load_pem_public_key(block.encode()) for block in _PEM.findall(pem)]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("must be Ed25519 public keys in PEM") from error
    found = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if len(found) != len(keys):
        raise ValueError("must be Ed25519 public keys in PEM: openssl pkey -pubout makes one")
    return found


def _derived(secret: bytes, purpose: bytes, value: bytes) -> str:
    return text_of(hmac.digest(hmac.digest(secret, purpose, "sha256"), value, "sha256"))


def _hashed(secret: bytes) -> Key:
    return Key(hashlib.sha256(b"kid" + secret).hexdigest()[:8], "HS256", secret)


def _signed(public: Ed25519PublicKey) -> Key:
    x = text_of(public.public_bytes_raw())
    kid = text_of(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())
    return Key(kid, "EdDSA", public, Jwk(kid, x))
