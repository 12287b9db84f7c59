"""Signatures of our own events: anybody may be able to write to Kafka, but only we can write in Callboard's name.

The relay signs the events that it publishes, and consumers refuse an event of ours without a valid signature. The key
is derived from the installation's secret; a signature of an earlier secret is valid while that secret is listed.
"""

import base64
import hmac
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEADER = "ce_signature"
_LABEL = b"callboard event signatures, version 1"
_KEY_BYTES = 32
_LENGTH_BYTES = 8


class EventSigner:
    """Signs with the first of the secrets, and accepts signatures of any of them. No repr shows the keys."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self.replace_secrets(secrets)

    def replace_secrets(self, secrets: Sequence[str]) -> None:
        """Sign with the first of these from now on, and accept signatures of any of them."""
        self._keys = [
            HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=_LABEL).derive(secret.encode())
            for secret in secrets
        ]

    def sign(self, *, event_id: str, source: str, type: str, time: str, data: bytes) -> str:  # noqa: A002 - CloudEvents' own word
        """Return the value of `ce_signature`: base64url of an HMAC-SHA256. `time` is the text of `ce_time`, as it is
        sent.
        """
        return _signature(self._keys[0], _signed(event_id, source, type, time, data))

    def verify(self, signature: str, *, event_id: str, source: str, type: str, time: str, data: bytes) -> bool:  # noqa: A002 - CloudEvents' own word
        """Whether one of the keys has signed exactly this."""
        signed, given = _signed(event_id, source, type, time, data), signature.encode()
        return any(hmac.compare_digest(_signature(key, signed).encode(), given) for key in self._keys)


def _signed(event_id: str, source: str, kind: str, time: str, data: bytes) -> bytes:
    """Return the signed bytes. Each part follows its length, so that no two events have the same."""
    parts: Iterable[bytes] = (event_id.encode(), source.encode(), kind.encode(), time.encode(), data)
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)


def _signature(key: bytes, signed: bytes) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"=").decode()
