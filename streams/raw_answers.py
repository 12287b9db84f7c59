"""Requests whose responses are taken as bytes: most repeated requests get the same response as before.

A comparison costs nothing beside parsing, for aiokafka's protocol is written in Python.
"""

from io import BytesIO
from typing import Any


class _Bytes:
    """An unparsed response."""

    @staticmethod
    def decode(response: BytesIO) -> bytes:
        return response.read()


class RawAnswer:
    """One of aiokafka's requests, encoded once; a connection answers it with bytes, which `read` parses."""

    RESPONSE_TYPE = _Bytes

    def __init__(self, request: Any) -> None:
        self._request = request
        self._versions: Any = None
        self._struct: Any = None
        self._encoded = b""

    def prepare(self, versions: Any) -> "RawAnswer":
        """Choose the version that the broker supports."""
        if versions is not self._versions:
            self._versions, self._struct = versions, self._request.prepare(versions)
            self._encoded = self._struct.encode()
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> Any:
        """Return the request's own."""
        return self._struct.build_request_header(correlation_id=correlation_id, client_id=client_id)

    def parse_response_header(self, response: BytesIO) -> Any:
        """Return the request's own."""
        return self._struct.parse_response_header(response)

    def encode(self) -> bytes:
        """Return the same bytes each time."""
        return self._encoded

    def frame(self) -> bytes:
        """Return the request as it is sent, once the broker's version is known."""
        message: bytes = self.build_request_header(0, "callboard").encode() + self._encoded
        return len(message).to_bytes(4, "big") + message

    def body(self, message: bytes) -> bytes:
        """Return the response without its header."""
        response = BytesIO(message)
        self.parse_response_header(response)
        return response.read()

    def read(self, answer: bytes) -> Any:
        """Decode the response to this request."""
        return self._struct.RESPONSE_TYPE.decode(BytesIO(answer))
