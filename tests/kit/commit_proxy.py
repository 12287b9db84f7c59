"""A TCP proxy before PostgreSQL that harms the next COMMIT which passes, or carries one byte at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK = 1 << 16
COMMIT = b"COMMIT;"
BEFORE = "a reset before the commit"
AFTER = "a reset after the commit"
HALF_OPEN = "no reply to the commit, and no end"
BYTES = "one byte at a time"


class CommitProxy:
    """What it does is set by `fault`, and undone by the first commit; `harmed` counts these."""

    def __init__(self, host: str, port: int) -> None:
        self.fault = ""
        self.harmed = 0
        self.port = 0
        self._server = host, port

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, until either side ends it."""
        there, back = await asyncio.open_connection(*self._server)
        mute = asyncio.Event()  # set when no byte goes back any more
        pumps = [
            asyncio.create_task(self._forward(reader, back, mute)),
            asyncio.create_task(self._backward(there, writer, mute)),
        ]
        try:
            await asyncio.wait(pumps, return_when="FIRST_COMPLETED")
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for each in (writer, back):
                each.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mute: asyncio.Event) -> None:
        while data := await reader.read(CHUNK):
            if self.fault not in ("", BYTES) and COMMIT in data:
                fault, self.fault = self.fault, ""
                self.harmed += 1
                if fault == BEFORE:
                    return
                mute.set()
                writer.write(data)
                if fault == AFTER:
                    await asyncio.sleep(0.2)  # the server commits
                    return
                continue
            await self._write(writer, data)

    async def _backward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mute: asyncio.Event) -> None:
        while data := await reader.read(CHUNK):
            if not mute.is_set():
                await self._write(writer, data)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self.fault != BYTES:
            writer.write(data)
            return
        for number in range(len(data)):
            writer.write(data[number : number + 1])
            await asyncio.sleep(0)
        await writer.drain()


@asynccontextmanager
async def commit_proxy(host: str, port: int) -> AsyncIterator[CommitProxy]:
    """A proxy that listens while the block runs."""
    made = CommitProxy(host, port)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await made.carry(reader, writer)

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
