"""A connection of the front door without a network: bytes in, bytes out, and what was done to the connection."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from callboard.http.server.connection import Connection, ConnectionTimeouts
from callboard.http.server.connection_limits import ConnectionLimits, OpenConnections
from callboard.http.server.dispatcher import Dispatcher
from callboard.http.server.raw_request import ServerDependencies, Settings
from callboard.http.server.request_reader import KnownHeads
from callboard.http.server.routing import Route

TURNS = 12  # of the loop, within which a request is answered whose handler waits for nothing


class MemoryTransport(asyncio.Transport):
    """Takes what is written; a client that does not read leaves it in `unsent`."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.ended = False  # our side has said all
        self.aborted = False
        self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        assert not self.ended, "written after the end"
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = self.aborted = True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@dataclass(frozen=True)
class Heard:
    """The statuses and bodies of a connection's answers, and whether it was ended."""

    statuses: tuple[int, ...]
    bodies: tuple[bytes, ...]
    ended: bool
    raw: bytes


class Memory:
    """Connections of one route table."""

    def __init__(self, routes: Sequence[Route[Any]], settings: Settings | None = None) -> None:
        self.front = Dispatcher(routes, settings or Settings(), ServerDependencies())

    async def hear(self, *pieces: bytes, head: bool = False, turns: int = TURNS, knows: bool = False) -> Heard:
        """What a new connection answers to these packets within so many turns of the loop; one that `knows` has the
        heads of the one before.
        """
        loop = asyncio.get_running_loop()
        if not knows:
            self.front.heads = KnownHeads()
        open_: OpenConnections[Connection] = OpenConnections(ConnectionLimits())
        connection = Connection(self.front, open_, ConnectionTimeouts(), loop)
        transport = MemoryTransport()
        connection.connection_made(transport)
        await asyncio.sleep(0)
        for piece in pieces:
            connection.data_received(piece)
            if len(pieces) < 3:
                await turn(2)
        await turn(turns)
        heard = Heard(*parsed(bytes(transport.written), head=head), transport.ended, bytes(transport.written))
        connection.connection_lost(None)
        await turn(2)
        assert len(open_) == 0
        return heard


async def turn(count: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


def parsed(raw: bytes, *, head: bool) -> tuple[tuple[int, ...], tuple[bytes, ...]]:
    """Read answers by their own framing: what is left over is a fault of the server."""
    statuses, bodies = [], []
    while raw:
        top, found, raw = raw.partition(b"\r\n\r\n")
        assert found, f"an answer without an end: {top!r}"
        lines = top.split(b"\r\n")
        assert lines[0].startswith(b"HTTP/1.1 "), lines[0]
        status = int(lines[0][9:12])
        fields = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines[1:])}
        assert len(fields) == len(lines) - 1, "a header came twice"
        if status == 100:
            continue
        assert b"date" in fields
        assert b"x-request-id" in fields
        bodiless = status in (204, 304)
        assert (b"content-length" in fields) is not bodiless
        length = 0 if bodiless or head else int(fields[b"content-length"])
        statuses.append(status)
        bodies.append(raw[:length])
        assert len(raw) >= length
        raw = raw[length:]
    return tuple(statuses), tuple(bodies)
