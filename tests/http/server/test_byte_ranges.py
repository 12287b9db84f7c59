"""Ranges of bytes: one is sent, several and strange ones are not, and conditions go first."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from callboard.actors.errors import REQUEST_RANGE, Problem
from callboard.http.server.byte_ranges import RangedBody, range_of
from callboard.http.server.request import HttpRequest, RawReply
from callboard.http.server.routing import Access, Route

WHOLE = bytes(range(256)) * 40
SIZE = len(WHOLE)
CHANGED = datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)
DATE = "Fri, 02 Jan 2026 03:04:05 GMT"


async def read(start: int, stop: int) -> AsyncIterator[bytes]:
    for at in range(start, stop, 1000):
        yield WHOLE[at : min(at + 1000, stop)]


async def serve(_call: HttpRequest[None, None, object]) -> RawReply:
    return RawReply(RangedBody(SIZE, read), "application/zip", etag="t1", modified=CHANGED)


TABLE: tuple[Route[object], ...] = (
    Route(
        *("GET", "/file", serve, "File", "posts", Access.PUBLIC),
        has_etag=True,
        has_date=True,
        serves_ranges=True,
        content_type="application/zip",
    ),
)


async def asked(door: Any, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with door.client.request(method, "/api/v1/file", headers=named) as response:
        body = await response.read()
        door.contract.check(method, "/api/v1/file", response.status, body, response.headers)
        return response.status, body, response.headers


@pytest.mark.parametrize(
    ("sent", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        ("bytes=100-3099", 100, 3100),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes=5-{SIZE * 10}", 5, SIZE),
        ("bytes=5-" + "9" * 1900, 5, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        (f"bytes=-{SIZE + 9}", 0, SIZE),
        ("Bytes = 007-008 ", 7, 9),
    ],
)
async def test_one_range_is_sent_alone(open_door: Any, sent: str, start: int, stop: int) -> None:
    async with open_door(routes=TABLE) as door:
        status, body, headers = await asked(door, Range=sent)
        assert status == 206
        assert body == WHOLE[start:stop]
        assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert headers["Content-Length"] == str(stop - start)
        assert headers["ETag"] == '"t1"'
        assert headers["Last-Modified"] == DATE


@pytest.mark.parametrize(
    "sent", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0", "bytes=" + "9" * 1900 + "-"]
)
async def test_a_range_without_a_byte_is_refused_with_the_size(open_door: Any, sent: str) -> None:
    async with open_door(routes=TABLE) as door:
        status, body, headers = await asked(door, Range=sent)
        assert status == 416
        assert headers["Content-Range"] == f"bytes */{SIZE}"
        assert REQUEST_RANGE.name.encode() in body


@pytest.mark.parametrize(
    "sent",
    [
        "bytes=0-1,5-6",
        "bytes=0-0," * 50 + "0-0",
        "bytes=5-4",
        "bytes=-",
        "bytes=",
        "bytes=a-b",
        "bytes=0x1-5",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes=\u0661-2",
        "items=0-1",
        "0-1",
    ],
)
async def test_several_ranges_and_what_is_no_range_are_answered_whole(open_door: Any, sent: str) -> None:
    async with open_door(routes=TABLE) as door:
        status, body, headers = await asked(door, Range=sent)
        assert (status, body) == (200, WHOLE)
        assert headers["Accept-Ranges"] == "bytes"
        assert "Content-Range" not in headers


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ('"t1"', 206),
        ('"t2"', 200),
        ('W/"t1"', 200),  # weak tags never match strongly
        ("t1", 200),
        (DATE, 206),
        ("Fri, 02 Jan 2026 03:04:06 GMT", 200),  # another time, if later too
        ("yesterday", 200),
        ("", 200),
    ],
)
async def test_a_range_of_what_has_changed_is_the_whole(open_door: Any, condition: str, status: int) -> None:
    async with open_door(routes=TABLE) as door:
        assert (await asked(door, Range="bytes=0-9", If_Range=condition))[0] == status
        assert (await asked(door, Range=f"bytes={SIZE}-", If_Range=condition))[0] == (416 if status == 206 else 200)


async def test_conditions_go_before_ranges(open_door: Any) -> None:
    async with open_door(routes=TABLE) as door:
        for bad in ("bytes=0-9", f"bytes={SIZE}-"):
            assert (await asked(door, Range=bad, If_None_Match='"t1"'))[0] == 304
            assert (await asked(door, Range=bad, If_Modified_Since=DATE))[0] == 304
            assert (await asked(door, Range=bad, If_Match='"t2"'))[0] == 412


async def test_head_tells_the_size_of_the_whole(open_door: Any) -> None:
    async with open_door(routes=TABLE) as door:
        status, body, headers = await asked(door, "HEAD", Range="bytes=0-9")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(SIZE))
        assert headers["Accept-Ranges"] == "bytes"


async def test_a_download_that_broke_off_goes_on(open_door: Any) -> None:
    async with open_door(routes=TABLE) as door:
        async with door.client.get("/api/v1/file") as response:
            first = await response.content.readexactly(777)
            tag = response.headers["ETag"]
        _, rest, _ = await asked(door, Range="bytes=777-", If_Range=tag)
        assert first + rest == WHOLE


@given(st.text(max_size=60) | st.from_regex(r"bytes=[0-9]{0,25}-[0-9]{0,25}", fullmatch=True), st.integers(0, 3000))
def test_no_header_asks_for_a_byte_that_is_not_there(sent: str, size: int) -> None:
    headers = CIMultiDictProxy(CIMultiDict({"Range": sent}))
    found = None
    with suppress(Problem):  # 416
        found = range_of(headers, size, "t1", CHANGED)
    if found is not None:
        assert 0 <= found[0] < found[1] <= size
