"""The names of aiohttp that its documentation does not promise: they are all in one place, and as they are used."""

import asyncio
import re
from importlib.metadata import version
from pathlib import Path

from callboard.http.server import aiohttp_private
from callboard.http.server.aiohttp_private import EMPTY_PAYLOAD, StreamReader, is_compiled, new_parser

ROOT = Path(__file__).parents[3]
PUBLIC = re.compile(r"from aiohttp\.hdrs import|from aiohttp import (?!base_protocol|http|streams)")


class Flow:
    connected = True

    def pause_reading(self) -> None:
        """Never: the bodies here are small."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Nothing was paused."""


def test_aiohttp_is_pinned_to_the_version_whose_names_are_used() -> None:
    assert f'"aiohttp=={version("aiohttp")}"' in (ROOT / "pyproject.toml").read_text()


def test_no_other_module_of_the_server_takes_a_private_name() -> None:
    for path in ROOT.glob("http/*.py"):
        if path.name != "aiohttp_private.py":
            lines = [line for line in path.read_text().splitlines() if re.match(r"\s*(from|import) aiohttp", line)]
            assert [line for line in lines if not PUBLIC.match(line)] == [], path.name


async def test_the_parser_is_the_compiled_one_and_gives_what_is_used_of_it() -> None:
    assert is_compiled()
    parser = new_parser(Flow(), asyncio.get_running_loop(), buffer=100, max_line=100, max_headers=10)
    head = b"POST /a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    ((message, payload),), upgraded, rest = parser.feed_data(head)
    assert (message.method, message.path, message.headers["host"]) == ("POST", "/a?b", "x")
    assert (message.chunked, message.should_close, upgraded, rest) == (True, True, False, b"")
    assert message.version is aiohttp_private.HttpVersion11
    assert message.url.raw_path_qs == "/a?b"
    assert isinstance(payload, StreamReader)
    parser.feed_data(b"2\r\nab\r\n")
    assert not payload.is_eof()
    parser.feed_data(b"0\r\n\r\n")
    assert payload.is_eof()
    assert payload.total_bytes == 2
    assert payload.read_nowait() == b"ab"
    assert payload.at_eof()


async def test_a_request_without_a_body_has_the_payload_that_is_compared_with() -> None:
    parser = new_parser(Flow(), asyncio.get_running_loop(), buffer=100, max_line=100, max_headers=10)
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    ((message, payload),), upgraded, _ = parser.feed_data(head)
    assert payload is EMPTY_PAYLOAD
    assert message.upgrade
    assert upgraded
    parser.set_upgraded(False)
    assert len(parser.feed_data(b"GET / HTTP/1.0\r\n\r\n")[0]) == 1
