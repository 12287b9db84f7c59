"""What comes over a raw connection."""

import socket
from typing import Any

import anyio


async def to_the_end(stream: Any, within_s: float = 5.0) -> bytes:
    """All that still comes, until the server closes or resets."""
    received = b""
    with anyio.fail_after(within_s):
        try:
            while True:
                received += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return received


def refuses(address: tuple[str | None, int | None]) -> bool:
    """Whether nobody listens at an address."""
    try:
        socket.create_connection(address, 1).close()  # type: ignore[arg-type]  # of a URL that has both
    except ConnectionRefusedError:
        return True
    return False
