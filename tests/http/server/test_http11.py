"""HTTP/1.1 on the wire: each request with the answers that RFC 9110 and RFC 9112 ask for, in whatever pieces it comes.

Bytes that a server may read in two ways are refused, and the connection ends: what a proxy before us takes for a body
must never be a request here.
"""

import asyncio
from typing import Any

import pytest
from kit.http11 import AWAITED, CHUNKED, ENDED, GET, LAST, REFUSED, SERVED, head, post
from kit.memory_transport import Memory

from callboard.http.server.request import HttpRequest, RawReply
from callboard.http.server.request_reader import KNOWN_HEADS, LONGEST_KNOWN
from callboard.http.server.routing import Access, Route


async def page(call: HttpRequest[None, None, Any]) -> RawReply:  # noqa: ARG001 - a handler's face
    return RawReply(b"page", "text/plain")


async def echo(call: HttpRequest[bytes, None, Any]) -> RawReply:
    return RawReply(call.body, "text/plain")


ROUTES = (
    Route("GET", "/", page, "Page", "x", Access.PUBLIC, absolute=True, skips_limits_and_auth=True),
    Route("POST", "/", echo, "Echo", "x", Access.PUBLIC, absolute=True, skips_limits_and_auth=True),
)


@pytest.fixture
async def memory() -> Memory:
    return Memory(ROUTES)


def splits(sent: bytes) -> list[tuple[bytes, ...]]:
    """The bytes in two packets, cut at each place, and each byte in a packet of its own."""
    at = range(1, len(sent)) if len(sent) < 700 else range(1, len(sent), len(sent) // 60)
    return [(sent[:n], sent[n:]) for n in at] + [tuple(sent[n : n + 1] for n in range(len(sent)))]


@pytest.mark.parametrize("name", REFUSED)
async def test_a_request_that_can_be_read_in_two_ways_is_refused_and_the_connection_ends(
    memory: Memory, name: str
) -> None:
    for pieces in [(REFUSED[name] + GET,), *splits(REFUSED[name])]:
        heard = await memory.hear(*pieces)
        assert (heard.statuses, heard.ended) == ((400,), True), pieces
        assert b"Connection: close" in heard.raw


@pytest.mark.parametrize("name", ENDED)
async def test_an_answer_after_which_the_connection_ends_says_so(memory: Memory, name: str) -> None:
    sent, status = ENDED[name]
    for knows, all_pieces in ((False, [(sent, GET), *splits(sent), (sent,)]), (True, [(sent,), (sent, GET)])):
        for pieces in all_pieces:
            heard = await memory.hear(*pieces, knows=knows)
            assert (heard.statuses, heard.ended) == ((status,), True), pieces
            assert b"Connection: close" in heard.raw


@pytest.mark.parametrize("name", SERVED)
async def test_a_good_request_is_served_in_whatever_pieces_it_comes(memory: Memory, name: str) -> None:
    """And when its heads are known; these are cut at fewer places."""
    sent, statuses, last = SERVED[name]
    for knows, all_pieces in ((False, [*splits(sent), (sent,)]), (True, [(sent,), *splits(sent)[::-7]])):
        for pieces in all_pieces:
            heard = await memory.hear(*pieces, knows=knows)
            assert (heard.statuses, heard.ended) == (statuses, False), pieces
            assert last is None or heard.bodies[-1] == last


async def test_a_body_is_never_that_of_an_earlier_request_with_the_same_head(memory: Memory) -> None:
    first, second = post(b"5", b"hello"), post(b"5", b"world")
    await memory.hear(first)
    for pieces in [(second + first,), *splits(second + first)]:
        heard = await memory.hear(*pieces, knows=True)
        assert heard.bodies == (b"world", b"hello"), pieces


async def test_few_heads_are_known_and_none_that_is_long(memory: Memory) -> None:
    await memory.hear(GET * 2 + head(b"X: " + b"x" * LONGEST_KNOWN))
    assert len(memory.front.heads) == 1
    many = b"".join(head(b"X: %d" % number) for number in range(KNOWN_HEADS * 2))
    heard = await memory.hear(many, turns=KNOWN_HEADS)
    assert len(heard.statuses) == KNOWN_HEADS * 2
    assert 0 < len(memory.front.heads) <= KNOWN_HEADS


@pytest.mark.parametrize("name", SERVED)
async def test_good_requests_before_a_bad_one_are_answered_and_those_behind_it_are_not(
    memory: Memory, name: str
) -> None:
    sent, statuses, _ = SERVED[name]
    heard = await memory.hear(sent + b"BAD\0\r\n\r\n" + GET * 10)
    assert (heard.statuses, heard.ended) == ((*statuses, 400), True)


@pytest.mark.parametrize("name", AWAITED)
async def test_a_request_that_is_not_whole_is_not_answered(memory: Memory, name: str) -> None:
    for pieces in [(AWAITED[name],), *splits(AWAITED[name])]:
        heard = await memory.hear(*pieces)
        assert (heard.statuses, heard.ended) == ((), False), pieces


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"DELETE", b"HEAD", b"TRACE"])
@pytest.mark.parametrize("body", [post(b"%d" % len(GET), GET), CHUNKED + b"%x\r\n" % len(GET) + GET + b"\r\n" + LAST])
async def test_a_body_that_nobody_wants_is_never_a_request(memory: Memory, method: bytes, body: bytes) -> None:
    """Where it has not come when the request is answered, the answer says that the connection ends."""
    bodiless = method == b"HEAD"
    follows = b"HEAD / HTTP/1.1" if bodiless else b"GET / HTTP/1.1"
    sent = body.replace(b"POST", method, 1) + head(b"X-Request-ID: next", start=follows)
    whole = await memory.hear(sent, head=bodiless)
    assert (len(whole.statuses), whole.statuses[-1], whole.ended) == (2, 200, False)
    for pieces in splits(sent):
        heard = await memory.hear(*pieces, head=bodiless)
        assert heard.statuses[0] == whole.statuses[0]
        assert heard.ended is (len(heard.statuses) == 1) is (b"Connection: close" in heard.raw)
        assert b"X-Request-ID: next" in heard.raw or heard.ended


async def test_what_follows_a_close_is_ignored(memory: Memory) -> None:
    heard = await memory.hear(GET * 3 + head(b"Connection: close") + GET * 10 + b"\0\0\0")
    assert (heard.statuses, heard.ended) == ((200,) * 4, True)


async def test_head_gives_the_length_of_get_and_no_body(memory: Memory) -> None:
    heard = await memory.hear(GET.replace(b"GET", b"HEAD") * 2, head=True)
    assert (heard.statuses, heard.ended) == ((200, 200), False)
    assert heard.raw.count(b"Content-Length: 4\r\n") == 2


async def test_a_refused_head_has_no_body_in_its_answer(memory: Memory) -> None:
    for sent in (
        b"HEAD * HTTP/1.1\r\nHost: a",
        b"HEAD / HTTP/1.1\r\nHost: a b",
        b"HEAD / HTTP/9.9\r\nHost: a",
        b"HEAD /\0",
    ):
        heard = await memory.hear(sent + b"\r\n\r\n", head=True)
        assert (len(heard.statuses), heard.ended) == (1, True), sent
        assert heard.raw.endswith(b"\r\n\r\n")


async def test_a_client_that_sends_many_requests_at_once_lets_others_have_their_turn() -> None:
    asked, order = 500, list[str]()

    async def note(call: HttpRequest[None, None, Any]) -> RawReply:
        order.append(call.trace_id)
        return RawReply(b"noted", "text/plain")

    memory = Memory((Route("GET", "/", note, "Note", "x", Access.PUBLIC, absolute=True, skips_limits_and_auth=True),))
    first, second = (head(b"traceparent: 00-%032d-%016d-01" % (number, number)) for number in (1, 2))
    many, one = await asyncio.gather(memory.hear(first * asked, turns=asked), memory.hear(second))
    assert (many.statuses, one.statuses) == ((200,) * asked, (200,))
    assert order.index(f"{2:032}") < asked


async def test_the_server_says_which_methods_it_takes(memory: Memory) -> None:
    for sent, allowed in ((b"OPTIONS *", b"GET, HEAD, OPTIONS, POST"), (b"DELETE /", b"GET, HEAD, OPTIONS, POST")):
        heard = await memory.hear(sent + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"\r\nAllow: " + allowed + b"\r\n" in heard.raw


async def test_a_client_of_http_1_0_is_sent_no_interim_answer(memory: Memory) -> None:
    for version, interim in ((b"1.0", 0), (b"1.1", 1)):
        sent = b"POST / HTTP/" + version + b"\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        heard = await memory.hear(sent, b"hello")
        assert heard.statuses == (200,)
        assert heard.raw.count(b"HTTP/1.1 100 Continue\r\n\r\n") == interim
