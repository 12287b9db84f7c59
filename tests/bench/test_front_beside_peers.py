"""That `make bench-http` measures what it says; not how fast anything is."""

import asyncio
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.insert(0, str(Path(__file__).with_name("http")))

import compare
import load
import page

from callboard.ops.config.configuration import load as load_settings

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
FACTS = page.Facts("2000-01-01", 3, 2.0, 0.5, ["FastAPI"])
RATES = {
    "Callboard": {"health": [30.0, 60.0, 90.0], "login": [19.0, 19.0, 20.0]},
    "FastAPI": {"health": [10.0, 15.0, 45.0]},
    "argon2 alone": {"login": [20.0, 20.0, 20.0]},
}


class Server(asyncio.Protocol):
    """Answers in two pieces, the first of its requests with a 503."""

    seen = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert data == GET
        Server.seen += 1
        status = b"503 Away" if Server.seen % 5 == 0 else b"200 OK"
        self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 4\r\n\r\nab")  # type: ignore[attr-defined]
        self.transport.write(b"cd")  # type: ignore[attr-defined]


async def test_the_load_counts_whole_answers_and_other_statuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "WARM_S", 0.0)
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    async with server:
        seen = await load.load(server.sockets[0].getsockname()[1], 0.2, 4, [GET])
    counted = float(str(seen["rate"])) * 0.2
    assert 0.5 * Server.seen < counted <= Server.seen
    others = seen["others"]
    assert isinstance(others, dict)
    assert set(others) == {"503"}
    assert 0.1 < others["503"] / counted < 0.3


def test_the_goals_are_ratios_within_a_round_and_their_median_decides() -> None:
    goals = page.goals(RATES)
    assert "| GET /health | 5.5 times FastAPI | not met: 3 (2-4) |" in goals
    assert "| GET /health | 2 times bare aiohttp | not compared |" in goals
    assert "| password logins | 0.95 times argon2 alone | met: 0.95 (0.95-1) |" in goals


def test_the_page_names_what_is_missing_and_the_picture_is_one() -> None:
    assert "- FastAPI: not installed" in page.table(RATES, FACTS)
    root = ET.fromstring(page.picture(RATES, FACTS))  # noqa: S314 - our own
    bars = [each for each in root.iter() if each.get("class") in ("ours", "bar")]
    assert len(bars) == 4


def test_the_limits_that_the_benchmark_sets_are_taken_by_the_server() -> None:
    secret = {
        "JWT_SECRET_KEY": "k" * 43,
        "DATABASE_URL": "postgres://a@h/d",
        "REDIS_URL": "redis://r",
        "KAFKA_BROKERS": "k:9092",
        "SMTP_HOST": "m",
    }
    load_settings({**compare.GENEROUS, **secret})  # raises a ConfigError that names what is refused
