"""A table that nobody can read or write for a while: whoever asks for it waits on the server."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import asyncpg


@contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Hold the table of the database at `url` for the length of the block."""
    ready, done = Event(), Event()

    async def hold() -> None:
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await connection.execute(f"lock table {table} in access exclusive mode")
                ready.set()
                await asyncio.to_thread(done.wait, 20)
        finally:
            await connection.close()

    thread = Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        done.set()
        thread.join()
