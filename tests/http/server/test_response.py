"""Answers as bytes: what goes on the wire for each method, status and version of HTTP, and that nobody adds a line."""

from typing import Any

import pytest

from callboard.http.server.raw_request import Settings
from callboard.http.server.response import encoded


async def test_an_answer_has_its_length_its_date_and_its_body(door: Any) -> None:
    head, _, body = (await door.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).partition(
        b"\r\n\r\n"
    )
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert f"Content-Length: {len(body)}".encode() in lines
    assert b"Connection: close" in lines
    assert [line for line in lines if line.startswith(b"Date: ") and line.endswith(b" GMT")]
    assert len({line.partition(b":")[0].lower() for line in lines}) == len(lines)  # no header twice


@pytest.mark.parametrize(
    "sent",
    [
        b"OPTIONS /api/v1/posts HTTP/1.1\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n",
        b"OPTIONS /api/v1/posts HTTP/1.1\r\n",
        b"GET /api/v1/posts HTTP/1.1\r\nOrigin: https://a.example\r\n",
        b"GET /api/v1/posts/00000000-0000-0000-0000-000000000000 HTTP/1.1\r\nOrigin: https://b.example\r\n",
        b"PATCH /api/v1/posts HTTP/1.1\r\nOrigin: https://a.example\r\nAccept: application/problem+json\r\n",
        b"GET /nowhere HTTP/1.1\r\nOrigin: https://a.example\r\n",
    ],
)
async def test_no_header_comes_twice(open_door: Any, sent: bytes) -> None:
    """A browser takes an Access-Control-Allow-Origin that comes twice for none."""
    async with open_door(Settings(origins=frozenset({"https://a.example"}), secure=True)) as door:
        answer = await door.raw(sent + b"Host: x\r\nConnection: close\r\n\r\n")
    names = [line.partition(b":")[0].lower() for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    assert sorted(set(names)) == sorted(names)
    assert b"vary" in names


async def test_a_head_has_the_length_of_what_it_leaves_out(door: Any) -> None:
    whole = await door.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head = await door.raw(b"HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")
    length = len(whole.partition(b"\r\n\r\n")[2])
    assert f"Content-Length: {length}".encode() in head


async def test_a_204_has_neither_body_nor_length(door: Any) -> None:
    sent = b"DELETE /api/v1/posts/00000000-0000-0000-0000-000000000001 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await door.raw(sent)
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"content-length" not in answer.lower()


async def test_a_client_of_http_1_0_is_told_whether_the_connection_stays(door: Any) -> None:
    assert b"\r\nConnection: close\r\n" in await door.raw(b"GET /health HTTP/1.0\r\n\r\n")
    kept = await door.raw(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /health HTTP/1.0\r\n\r\n")
    assert kept.count(b"HTTP/1.1 200 OK") == 2
    assert kept.count(b"\r\nConnection: keep-alive\r\n") == 1


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b"])
def test_no_header_becomes_two(value: str) -> None:
    with pytest.raises(ValueError, match="has a line break or a NUL"):
        encoded({"X-Request-ID": value})
