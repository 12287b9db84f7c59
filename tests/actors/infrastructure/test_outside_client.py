"""The client of a service that is not ours, against a real server that limits, hangs, cuts its answers off and goes."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from kit.domain import refused
from kit.outside import Service, client_of, service

from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.answer_cache import ENTRY_BYTES, AnswerCache, OutsideAnswer
from callboard.actors.infrastructure.circuit_breaker import BreakerState
from callboard.actors.infrastructure.outside_client import OutsideClient, OutsideSettings
from callboard.actors.infrastructure.outside_errors import parse_retry_after
from callboard.actors.infrastructure.public_addresses import is_public

OK = web.Response(text="sunny")


def limited(retry_after: str = "") -> web.Response:
    return web.Response(status=429, headers={"Retry-After": retry_after} if retry_after else {})


@pytest.fixture
async def weather() -> AsyncIterator[Service]:
    async with service() as made:
        yield made


def state(client: OutsideClient) -> BreakerState:
    return client.breaker.state(client.breaker.clock())


# 429 ------------------------------------------------------------------------------------------------------------------


async def test_after_a_429_requests_wait_in_the_queue_and_none_leaves_before_its_time(weather: Service) -> None:
    async with client_of(weather.url, max_retry_after_s=0.3, concurrency=2) as client:
        weather.will(limited("3600"), OK)
        began = time.monotonic()
        first = asyncio.create_task(client.get("/today"))
        await weather.arrived.wait()
        answers = await asyncio.gather(first, *(client.get(f"/{n}") for n in range(10)))
    assert {each.body for each in answers} == {b"sunny"}
    assert len(weather.requests) == 12
    assert time.monotonic() - began >= 0.3
    assert (state(client), client.breaker.opened) == (BreakerState.CLOSED, 0)  # one that limits us works


async def test_a_429_for_longer_than_we_wait_is_told_at_once_with_its_time_and_asked_no_more(weather: Service) -> None:
    async with client_of(weather.url) as client:
        weather.will(limited("50"))
        with pytest.raises(Problem) as told:
            await client.get("/today")
        assert told.value.code is SERVER_UNAVAILABLE
        assert told.value.retry_after_s == pytest.approx(50, abs=2)
        for _ in range(5):
            with refused(SERVER_UNAVAILABLE):
                await client.get("/today")
        assert len(weather.requests) == 1
        assert client.outcomes == {"limited": 6}


async def test_a_429_gives_way_to_an_earlier_answer_marked_as_stale(weather: Service) -> None:
    async with client_of(weather.url) as client:
        weather.will(OK)
        assert not (await client.get("/today")).is_stale
        weather.will(limited("50"))
        answer = await client.get("/today")
        assert (answer.body, answer.is_stale) == (b"sunny", True)
        with refused(SERVER_UNAVAILABLE):
            await client.get("/tomorrow")


async def test_a_429_without_a_time_is_tried_a_bounded_number_of_times(weather: Service) -> None:
    async with client_of(weather.url, attempts=3) as client:
        weather.will(limited())
        with refused(SERVER_UNAVAILABLE):
            await client.get("/today")
        assert len(weather.requests) == 3


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), (" 0 ", 0.0), ("", None), ("soon", None), ("-5", None), ("9" * 400, None)]
)
def test_a_retry_after_is_a_number(text: str, seconds: float | None) -> None:
    assert parse_retry_after(text) == seconds


def test_a_retry_after_is_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert parse_retry_after(later) == pytest.approx(90, abs=5)
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert parse_retry_after("Wed, 99 Oct 9999 99:28:00 GMT") is None


# Slow, cut off, away --------------------------------------------------------------------------------------------------


async def test_a_service_that_does_not_answer_is_given_up_and_then_left_alone(weather: Service) -> None:
    async with client_of(weather.url, attempt_s=0.05, attempts=2) as client:
        weather.will(Service.HANG)
        with refused(SERVER_UNAVAILABLE):
            await client.get("/today")
        assert state(client) is BreakerState.OPEN
        asked = len(weather.requests)
        for _ in range(5):
            with refused(SERVER_UNAVAILABLE):
                await client.get("/today")
        assert len(weather.requests) == asked
        assert client.breaker.refused >= 5


async def test_all_attempts_and_waits_of_a_request_end_in_its_time(weather: Service) -> None:
    async with client_of(weather.url, attempt_s=60.0, within_s=0.1) as client:
        weather.will(Service.HANG)
        with refused(SERVER_UNAVAILABLE):
            await asyncio.wait_for(client.get("/today"), 30)
        assert client.waiting == 0


@pytest.mark.parametrize("fault", [Service.HALF, web.Response(status=503), web.Response(status=500)], ids=str)
async def test_a_passing_fault_costs_an_attempt(weather: Service, fault: web.Response) -> None:
    async with client_of(weather.url) as client:
        client.breaker.failed = lambda *_: None  # type: ignore[method-assign] # else the second attempt is refused
        weather.will(fault, fault, OK)
        assert (await client.get("/today")).body == b"sunny"
        assert len(weather.requests) == 3


async def test_a_service_that_is_away_and_comes_back_is_probed_by_one_request(weather: Service) -> None:
    async with client_of(weather.url, attempts=1) as client:
        weather.will(OK)
        await client.get("/today")
        port = int(weather.url.rpartition(":")[2])
        await weather.stop()
        assert (await client.get("/today")).is_stale
        with refused(SERVER_UNAVAILABLE):
            await client.get("/tomorrow")
        await weather.start(port)
        weather.release.clear()
        weather.will(Service.HANG, OK)
        client.breaker._open_until = 0.0  # its second has passed
        weather.arrived.clear()
        probe = asyncio.create_task(client.get("/tomorrow"))
        await weather.arrived.wait()
        for _ in range(5):
            with refused(SERVER_UNAVAILABLE):
                await client.get("/tomorrow")
        assert len(weather.requests) == 1
        weather.release.set()
        assert (await probe).body == b"late"
        assert (await client.get("/tomorrow")).body == b"sunny"


async def test_the_queue_is_bounded(weather: Service) -> None:
    async with client_of(weather.url, concurrency=1, queue=2) as client:
        weather.will(Service.HANG)
        waiting = [asyncio.create_task(client.get(f"/{n}")) for n in range(3)]
        await weather.arrived.wait()
        with refused(SERVER_UNAVAILABLE):
            await client.get("/one-too-many")
        weather.release.set()
        await asyncio.gather(*waiting)
        assert client.outcomes == {"refused": 1, "answered": 3}


# Requests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 301, 400, 401, 404, 409, 422])
async def test_whatever_the_service_says_of_a_request_is_an_answer_and_opens_nothing(
    weather: Service, status: int
) -> None:
    async with client_of(weather.url) as client:
        weather.will(web.Response(status=status, text="so", headers={"Location": "/elsewhere"}))
        for _ in range(3):
            assert (await client.get("/today")).status == status
        assert len(weather.requests) == 3  # a redirect is not followed
        assert client.breaker.opened == 0


async def test_what_may_have_arrived_is_sent_again_only_with_its_key(weather: Service) -> None:
    async with client_of(weather.url) as client:
        client.breaker.failed = lambda *_: None  # type: ignore[method-assign]
        weather.will(Service.HALF, OK)
        with refused(SERVER_UNAVAILABLE):
            await client.send("POST", "/orders", b"{}")
        assert len(weather.requests) == 1
        weather.will(Service.HALF, OK)
        assert (await client.send("POST", "/orders", b"{}", key="order-7")).body == b"sunny"
        assert [each.headers["Idempotency-Key"] for each in weather.requests] == ["order-7"] * 2


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(weather: Service) -> None:
    async with client_of(weather.url, answer_bytes=1000) as client:
        weather.will(web.Response(body=bytes(1 << 20)))
        with refused(SERVER_UNAVAILABLE):
            await client.get("/today")
        assert (len(weather.requests), client.breaker.opened) == (1, 0)


async def test_no_cookie_of_the_service_is_sent_back(weather: Service) -> None:
    async with client_of(weather.url) as client:
        weather.will(web.Response(headers={"Set-Cookie": "a=b; Path=/"}))
        await client.get("/one")
        await client.get("/two")
        assert "Cookie" not in weather.requests[-1].headers


# Other hosts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["//evil.example/a", "@evil.example/", ".evil.example/", ":80@evil.example", "/\\evil.example", "", "../b"]
)
async def test_no_path_leads_to_another_host(weather: Service, path: str) -> None:
    weather.will(OK)
    async with client_of(f"{weather.url}/v1/") as client:
        with pytest.raises(ValueError, match="another host"):
            await client.get(path)
        with pytest.raises(ValueError, match="another host"):
            await client.get("/../../admin")
        assert weather.requests == []


async def test_a_private_address_is_not_connected_to(weather: Service) -> None:
    for host in ("127.0.0.1", "localhost"):
        url = weather.url.replace("127.0.0.1", host)
        async with client_of(url, allows_private=False, attempts=1) as client:
            with refused(SERVER_UNAVAILABLE):
                await client.get("/today")
    assert weather.requests == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - refused
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
        ("2002:5db8:d822::", True),
    ],
)
def test_an_address_is_public_by_what_it_leads_to(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("url", ["ftp://a.example", "http://", "http://me:word@a.example", "http://a.example?b=c", "a"])
def test_an_address_that_names_no_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the address of a service"):
        OutsideSettings(base_url=url)


def test_a_secret_in_the_headers_is_not_shown() -> None:
    assert "s3cret" not in repr(OutsideSettings(base_url="https://a.example", headers={"X-Key": "s3cret"}))


# Kept answers ---------------------------------------------------------------------------------------------------------


async def test_a_fresh_answer_spares_the_request(weather: Service) -> None:
    weather.will(OK)
    async with client_of(weather.url, fresh_s=60.0) as client:
        for _ in range(5):
            await client.get("/today")
        assert len(weather.requests) == 1
        assert client.outcomes == {"answered": 1, "cached": 4}


def test_kept_answers_are_bounded_by_bytes_and_by_age() -> None:
    now = 0.0
    cache = AnswerCache(10.0, 100.0, 10 * (ENTRY_BYTES + 102), lambda: now)
    for n in range(50):
        cache.put(f"/{n}"[:2], OutsideAnswer(200, "text/plain", bytes(100)))
        cache.put(f"/{n:03}", OutsideAnswer(200, "text/plain", bytes(100)))
    assert cache.bytes <= 10 * (ENTRY_BYTES + 102)
    cache.put("/big", OutsideAnswer(200, "text/plain", bytes(1 << 20)))
    assert cache.stale("/big") is None
    cache.put("/a", OutsideAnswer(200, "text/plain", b"a"))
    now = 10.0
    assert cache.fresh("/a") is None
    assert (kept := cache.stale("/a")) is not None
    assert kept.is_stale
    now = 100.0
    assert cache.stale("/a") is None
    cache.put("/a", OutsideAnswer(200, "text/plain", b"a"))
    cache.put("/a", OutsideAnswer(404, "text/plain", b"gone"))
    assert cache.stale("/a") is None
