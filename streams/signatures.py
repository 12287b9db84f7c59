"""Signatures of our own events: anybody may write to Kafka, but only we can speak as Callboard.

The relay signs what it publishes, and consumers refuse an event of ours without a good signature. The key follows from
the installation's secret; events that were signed under an earlier secret are accepted while that secret is listed.
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
    """Signs with the first of the secrets, and accepts what any of them has signed. The keys are in no repr."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [
            HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=_LABEL).derive(secret.encode())
            for secret in secrets
        ]

    def sign(self, *, event_id: str, source: str, type: str, time: str, data: bytes) -> str:  # noqa: A002 - CloudEvents' own word
        """The value of `ce_signature`: base64url of an HMAC-SHA256. `time` is the text of `ce_time`, as it is sent."""
        return _signature(self._keys[0], _signed(event_id, source, type, time, data))

    def verify(self, signature: str, *, event_id: str, source: str, type: str, time: str, data: bytes) -> bool:  # noqa: A002 - CloudEvents' own word
        """Whether one of the keys has signed exactly this."""
        signed, given = _signed(event_id, source, type, time, data), signature.encode()
        return any(hmac.compare_digest(_signature(key, signed).encode(), given) for key in self._keys)


def _signed(event_id: str, source: str, kind: str, time: str, data: bytes) -> bytes:
    """The signed bytes. Each part follows its length, so that no two events have the same."""
    parts: Iterable[bytes] = (event_id.encode(), source.encode(), kind.encode(), time.encode(), data)
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)


def _signature(key: bytes, signed: bytes) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"=").decode()
