"""The actor: it binds or says why not, and drains before it closes."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiohttp
import anyio
import pytest

from callboard.actors.errors import Problem
from callboard.http.server.errors import CannotListenError
from callboard.http.server.pagination import (
    BY_NUMBER,
    BY_NUMBER_AND_TEXT,
    BY_RANK,
    BY_TEXT,
    BY_TIME,
    BY_TIME_AND_NUMBER,
    CursorFormat,
)
from callboard.http.server.raw_request import ServerDependencies, Settings
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Route, Router, shape_of
from callboard.http.server.server import HttpServer
from callboard.runtime import Props, System, supervisor, worker


async def test_a_taken_port_is_a_clear_error(door: Any, open_door: Any) -> None:
    with pytest.raises(CannotListenError, match=f"cannot listen on 127.0.0.1:{door.port}: the port is taken"):
        async with open_door(port=door.port):
            pass


async def test_it_listens_in_a_tree_until_the_tree_stops() -> None:
    ports: list[int] = []
    start = Props(
        HttpServer,
        (),
        host="127.0.0.1",
        port=0,
        checks={},
        settings=Settings(),
        dependencies=ServerDependencies(),
        on_bound=lambda _, port: ports.append(port),
    )
    async with (
        System(supervisor("root", worker("front", start))),
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{ports[0]}/health") as response,
    ):
        assert response.status == 200
    with pytest.raises(OSError, match="connect"):
        await anyio.connect_tcp("127.0.0.1", ports[0])


async def test_requests_in_flight_finish_and_new_ones_are_refused_while_draining(door: Any) -> None:
    await door.call("GET", "/health")  # a kept connection
    answers: list[tuple[int, Any]] = []

    async def ask() -> None:
        status, body, _ = await door.call("GET", "/api/v1/wait")
        answers.append((status, body["data"]))

    async with await anyio.connect_tcp("127.0.0.1", door.port) as kept, anyio.create_task_group() as group:
        await kept.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await kept.receive()).startswith(b"HTTP/1.1 200")
        group.start_soon(ask)
        await door.services.entered.wait()
        group.start_soon(door.server.on_stop)
        with anyio.fail_after(5):
            while not door.server._dispatcher.draining:
                await anyio.lowlevel.checkpoint()
        await kept.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        refused = await kept.receive()
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"SERVER_DRAINING_004" in refused
        assert b"Connection: close" in refused
        door.services.leave.set()
    assert answers == [(200, "done")]
    with pytest.raises(OSError, match="connect"):
        await anyio.connect_tcp("127.0.0.1", door.port)


async def test_what_does_not_finish_within_the_grace_is_cut(open_door: Any) -> None:
    async with open_door(grace_s=0.05) as door, await anyio.connect_tcp("127.0.0.1", door.port) as stream:
        await stream.send(b"GET /api/v1/wait HTTP/1.1\r\nHost: a\r\n\r\n")
        await door.services.entered.wait()
        with anyio.fail_after(5):
            await door.server.on_stop()


def test_a_fixed_segment_goes_before_a_parameter() -> None:
    router: Router[str] = Router()
    for path in ("/users/{user_id}", "/users/me", "/users/{user_id}/profile", "/files/{name}"):
        router.add("GET", path, path)

    def found(path: str) -> Any:
        methods = router.find(path)
        return methods and (methods[0].by_method["GET"], *methods[1])

    assert found("/users/me") == ("/users/me",)
    assert found("/users/%6de") == ("/users/me",)
    assert found("/users/you") == ("/users/{user_id}", "you")
    assert found("/users/me/profile") == ("/users/{user_id}/profile", "me")
    assert found("/files/a%2Fb") == ("/files/{name}", "a/b")
    for path in ("/users/", "/users", "/users/a/b", "/files/{}/x", "/", ""):
        assert found(path) is None


def test_a_route_given_twice_is_refused() -> None:
    router: Router[str] = Router()
    router.add("GET", "/users/{user_id}", "a")
    with pytest.raises(ValueError, match="routed twice"):
        router.add("GET", "/users/{id}", "b")


def test_a_handler_that_declares_nothing_is_refused() -> None:
    async def plain(call: Any) -> Reply[None]:  # noqa: ARG001 - a handler's face
        return Reply(None)

    with pytest.raises(TypeError, match="must be annotated"):
        shape_of(Route("GET", "/", plain, "", "", Access.PUBLIC))


def test_a_handlers_annotation_is_its_declaration() -> None:
    async def handler(call: HttpRequest[None, None, object]) -> Reply[int]:  # noqa: ARG001 - a handler's face
        return Reply(1)

    shape = shape_of(Route("GET", "/", handler, "", "", Access.PUBLIC))
    assert (shape.body, shape.answer, shape.listed) == (type(None), int, False)


FORMATS = pytest.mark.parametrize(
    ("form", "key"),
    [
        (BY_TIME, (datetime(2026, 3, 29, 1, 30, 0, 123_456, UTC), UUID(int=7))),
        (BY_TIME, (datetime.min.replace(tzinfo=UTC), UUID(int=2**128 - 1))),
        (BY_TIME_AND_NUMBER, (datetime(1969, 12, 31, tzinfo=UTC), 0)),
        (BY_NUMBER, (2**63 - 1,)),
        (BY_RANK, (0.0759908527135849, UUID(int=0))),
    ],
)


@FORMATS
def test_a_cursor_is_the_sort_key_it_was_made_of(form: CursorFormat[Any], key: tuple[Any, ...]) -> None:
    assert form.decode(form.encode(*key)) == key


@FORMATS
def test_every_text_of_the_form_is_a_sort_key_and_no_other_is_taken(
    form: CursorFormat[Any], key: tuple[Any, ...]
) -> None:
    """Its greatest, its least, and what is one character from it."""
    assert form.meta.extra_json_schema is not None
    pattern, length = (form.meta.extra_json_schema[name] for name in ("pattern", "maxLength"))
    for text in (fitting(pattern, -1), fitting(pattern, 0), form.encode(*key)):
        assert (len(text), form.encode(*form.decode(text))) == (length, text)
        for other in (
            text[1:],
            f"{text}0",
            f"{text}\n",
            f"g{text[1:]}",
            f"f{text[1:]}",
            text[:-1] + "\u0663",
            text[:-1] + "A",
        ):
            if not re.fullmatch(pattern, other):
                with pytest.raises(Problem, match="REQUEST_CURSOR_INVALID"):
                    form.decode(other)


@pytest.mark.parametrize("text", ["a", "a b-c", "\u6771\u4eac", "\U0001f3ee" * 100, "\u0130"])
def test_a_cursor_with_a_text_is_the_sort_key_it_was_made_of(text: str) -> None:
    cursor = BY_NUMBER_AND_TEXT.encode(7, text)
    assert BY_NUMBER_AND_TEXT.decode(cursor) == (7, text)
    assert BY_TEXT.decode(BY_TEXT.encode(text)) == (text,)


@pytest.mark.parametrize("digits", ["00", "ff", "c3", "eda080", "f4908080", "610062", "ff" * 400])
def test_an_invented_cursor_with_a_text_is_a_position_that_can_be_stored(digits: str) -> None:
    (text,) = BY_TEXT.decode(digits)
    assert "\0" not in text
    assert text.encode().decode() == text
    for other in (digits[1:], f"{digits}\n", f"{digits}A", "ff" * 401):
        with pytest.raises(Problem, match="REQUEST_CURSOR_INVALID"):
            BY_TEXT.decode(other)


def fitting(pattern: str, which: int) -> str:
    """A text that fits, of the first or the last character of each class."""
    return re.sub(r"\[(.*?)\](?:\{(\d+)\})?", lambda found: found[1][which] * int(found[2] or 1), pattern.strip("^$"))
