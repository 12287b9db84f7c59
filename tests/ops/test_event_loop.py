"""The event loop: a lookup that hangs stops no other, is shared, and is not waited for at the end."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from callboard.ops.event_loop import EventLoop

HANGING = 8  # names
lookup = socket.getaddrinfo


class Lookups:
    """Names that end in .hang are looked up until the test ends."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, *arguments: Any, **options: Any) -> Any:
        self.asked.append(host)
        if host.endswith(".hang"):
            self.release.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "it took too long")
        if host == "two.test":
            host = "127.0.0.1"
            return [*lookup("127.0.0.2", *arguments, **options), *lookup(host, *arguments, **options)]
        return lookup(host, *arguments, **options)


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lookups]:
    made = Lookups()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.release.set()


async def serve() -> tuple[asyncio.Server, int]:
    """A server on 127.0.0.1 that closes each connection."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


def run(work: Any) -> Any:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        return runner.run(work)


@pytest.mark.parametrize("host", ["localhost", "two.test", "127.0.0.1"])
def test_lookups_that_hang_stop_no_other_and_the_end_does_not_wait_for_them(lookups: Lookups, host: str) -> None:
    """Seen to fail on uvloop's own loop: localhost was not found, and the end waited for the others."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        hanging = [
            asyncio.ensure_future(loop.create_connection(asyncio.Protocol, f"n{number}.hang", 80))
            for number in range(HANGING)
        ]
        server, port = await serve()
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection(host, port)
            assert await reader.read() == b""
        writer.close()
        server.close()
        assert not any(each.done() for each in hanging)
        for each in hanging:
            each.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    run(work())
    assert not lookups.release.is_set()


def test_callers_who_ask_for_one_name_share_its_lookup(lookups: Lookups) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        asking = [asyncio.ensure_future(loop.getaddrinfo("n.hang", 80)) for _ in range(50)]
        await asyncio.sleep(0)
        asking[0].cancel()  # its caller gives up, and the others do not
        await asyncio.sleep(0)
        lookups.release.set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(each) for each in results} == {asyncio.CancelledError, socket.gaierror}

    run(work())
    assert lookups.asked.count("n.hang") == 1


def test_the_errors_of_all_addresses_are_named(lookups: Lookups) -> None:
    async def work() -> None:
        server, port = await serve()
        server.close()
        await server.wait_closed()
        with pytest.raises(OSError, match=r"no address of two\.test can be connected to"):
            await asyncio.open_connection("two.test", port)

    run(work())
    assert lookups.asked
