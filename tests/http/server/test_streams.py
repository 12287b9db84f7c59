"""Answers that are read while they are sent: whole, or cut off, and never more in memory than a piece."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anyio
import anyio.lowlevel
import pytest

from callboard.http.server.connection import ConnectionTimeouts
from callboard.http.server.request import HttpRequest, RawReply
from callboard.http.server.response import Stream
from callboard.http.server.routing import Access, Route

PIECE = b"0123456789" * 30_000
SAID = {"whole": 5, "empty": 0, "short": 6, "long": 4.5, "failed": 5, "large": 100}
read: list[str] = []


async def pieces(kind: str) -> AsyncIterator[bytes]:
    for number in range({"empty": 0, "large": 100}.get(kind, 5)):
        if kind == "failed" and number == 3:
            raise ZeroDivisionError("the database is away")
        read.append(kind)
        yield PIECE


async def stream(call: HttpRequest[None, None, object]) -> RawReply:
    kind = call.text("kind")
    return RawReply(Stream(int(SAID[kind] * len(PIECE)), pieces(kind)), "application/zip")


TABLE: tuple[Route[object], ...] = (Route("GET", "/streams/{kind}", stream, "Stream", "posts", Access.PUBLIC),)


@pytest.mark.parametrize("kind", ["whole", "empty"])
async def test_a_stream_is_sent_whole_and_the_connection_stays(open_door: Any, kind: str) -> None:
    async with open_door(routes=TABLE) as door:
        for _ in range(2):
            async with door.client.get(f"/api/v1/streams/{kind}") as response:
                assert response.content_length == SAID[kind] * len(PIECE)
                assert await response.read() == PIECE * int(SAID[kind])
        async with door.client.head(f"/api/v1/streams/{kind}") as response:
            assert response.content_length == SAID[kind] * len(PIECE)
        assert len(door.server.connections) == 1


@pytest.mark.parametrize("kind", ["short", "long", "failed"])
async def test_a_stream_that_fails_is_cut_off_so_that_nobody_takes_it_for_whole(
    open_door: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_door(routes=TABLE) as door:
        async with door.client.get(f"/api/v1/streams/{kind}") as response:
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        assert (await door.call("GET", "/health"))[0] == 200
    assert [record.message for record in caplog.records if "a response was aborted" in record.message]


async def test_of_a_stream_whose_client_does_not_read_no_more_is_read_and_it_is_cut(open_door: Any) -> None:
    read.clear()
    async with open_door(routes=TABLE, timeouts=ConnectionTimeouts(reader_s=0.15)) as door:
        with socket.socket() as client, anyio.fail_after(10):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", door.port))
            client.sendall(b"GET /api/v1/streams/large HTTP/1.1\r\nHost: a\r\n\r\n")
            while not read:
                await anyio.lowlevel.checkpoint()
            while door.server.connections:
                await anyio.lowlevel.checkpoint()
        assert (await door.call("GET", "/health"))[0] == 200
    assert len(read) < SAID["large"] / 2
