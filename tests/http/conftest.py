"""A front door of its own for each test, over real sockets: a small route table, made-up users, no domain."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Annotated, Any
from uuid import UUID

import aiohttp
import anyio
import msgspec
import pytest
from kit.contract import Contract
from kit.running import Up
from kit.twins import ProcessGroup, twins
from kit.wire import to_the_end
from msgspec import Meta

from callboard.actors.editorial.errors import CONTENT_IF_MATCH_MISSING, CONTENT_NOT_FOUND
from callboard.actors.errors import AUTH_TOKEN_EXPIRED, AUTH_TOKEN_INVALID, AUTH_TOKEN_MISSING, ROUTE_NOT_FOUND, Problem
from callboard.actors.identity.errors import USERS_NOT_FOUND
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.rate_limiter import LimitResult, RateLimit
from callboard.actors.infrastructure.token_signer import Claims
from callboard.actors.ingestion.errors import KEYS_INVALID
from callboard.http.server.pagination import BY_NUMBER
from callboard.http.server.preconditions import Validators
from callboard.http.server.raw_request import ServerDependencies, Settings
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, Query, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.http.server.server import HttpServer
from callboard.runtime import ActorStoppedError, AskTimeoutError, Context, MailboxFullError, current_context

USERS = {
    role: Principal(UUID(int=index), UUID(int=100 + index), f"{role}@example.org", role)
    for index, role in enumerate(Role, start=1)
}
MODIFIED = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)
FAULTS = {
    "timeout": AskTimeoutError("library", object()),
    "full": MailboxFullError("library", object(), 10),
    "stopped": ActorStoppedError("library", object()),
    "bug": ZeroDivisionError("secret detail"),
    "problem": Problem(CONTENT_NOT_FOUND),
}


class Author(Body, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1)]


class Post(Body, frozen=True, kw_only=True):
    title: Annotated[str, Meta(min_length=1, max_length=20)]
    stars: int = 0
    tags: tuple[str, ...] = ()
    author: Author | None = None
    extra: Any = None


class Posted(msgspec.Struct, frozen=True):
    title: str
    by: str


class Filter(Page, frozen=True, kw_only=True):
    cursor: Annotated[str, BY_NUMBER.meta] | None = None
    mark: tuple[str, ...] = ()


class Needed(Query, frozen=True, kw_only=True):
    q: str


@dataclass
class Services:
    """What the handlers of these tests share with the tests."""

    entered: anyio.Event = field(default_factory=anyio.Event)
    leave: anyio.Event = field(default_factory=anyio.Event)
    contexts: list[Context | None] = field(default_factory=list)


async def create(call: HttpRequest[Post, None, Services]) -> Reply[Posted]:
    return Reply(Posted(call.body.title, call.caller.email if call.caller else "nobody"), message="Made.")


async def entries(call: HttpRequest[None, Filter, Services]) -> PageReply[int]:
    (after,) = BY_NUMBER.decode(call.query.cursor) if call.query.cursor else (0,)
    items = list(range(after, 250))[: call.query.limit]
    more = bool(items) and items[-1] < 249
    return PageReply(items, limit=call.query.limit, next_cursor=BY_NUMBER.encode(items[-1] + 1) if more else None)


async def search(call: HttpRequest[None, Needed, Services]) -> Reply[str]:
    return Reply(call.query.q)


async def read(call: HttpRequest[None, None, Services]) -> Reply[UUID]:
    content_id = call.uuid("content_id")
    if content_id.int:
        raise Problem(CONTENT_NOT_FOUND)
    return Reply(content_id, etag="7", modified=MODIFIED, is_public=True)


async def ahead(call: HttpRequest[None, None, Services]) -> Reply[str]:  # noqa: ARG001 - a handler's face
    return Reply("a", etag="1", modified=datetime.now(UTC) + timedelta(hours=1))


async def board(call: HttpRequest[None, Page, Services]) -> PageReply[str]:
    titles = ["public"] if call.caller is None else ["public", f"a draft of {call.caller.email}"]
    return PageReply(titles, limit=call.query.limit, next_cursor=None, is_public=call.caller is None)


async def tag_now(call: HttpRequest[Any, Any, Services]) -> Validators:
    if call.uuid("content_id").int:
        raise Problem(CONTENT_NOT_FOUND)
    return Validators("7", MODIFIED)


async def edit(call: HttpRequest[None, None, Services]) -> Reply[str]:
    return Reply(call.tag or "unconditional")


async def whoami(call: HttpRequest[None, None, Services]) -> Reply[str]:
    return Reply(call.caller.email if call.caller else "nobody")


@dataclass(frozen=True)
class Program:
    key_id: UUID


async def holder_of(_refs: Services, key: str) -> Program:
    if key != "a-key":
        raise Problem(KEYS_INVALID)
    return Program(UUID(int=9))


async def program(call: HttpRequest[None, None, Services]) -> Reply[str]:
    return Reply(str(call.holder(Program).key_id))


async def fail(call: HttpRequest[None, None, Services]) -> Reply[None]:
    raise FAULTS[call.text("kind")]


async def wait(call: HttpRequest[None, None, Services]) -> Reply[str]:
    call.refs.contexts.append(current_context())
    call.refs.entered.set()
    await call.refs.leave.wait()
    return Reply("done")


async def remove(call: HttpRequest[None, None, Services]) -> Reply[None]:  # noqa: ARG001 - a handler's face
    return Reply(None)


async def signed(call: HttpRequest[bytes, None, Services]) -> Reply[int]:
    return Reply(len(call.body))


ACCESSES: tuple[Route[Services], ...] = tuple(
    Route("GET", f"/access/{access}/{{user_id}}", whoami, "Who", "access", access, errors=(USERS_NOT_FOUND,))
    for access in Access
    if access is not Access.KEY
)
BY_KEY: Route[Services] = Route(
    *("GET", "/access/key/{user_id}", program, "Who", "access", Access.KEY),
    errors=(USERS_NOT_FOUND, KEYS_INVALID),
    authenticate=holder_of,
    limit=RateLimit("places", 10, 60),
    caller_limit=RateLimit("programs", 10, 60),
)
ROUTES: tuple[Route[Services], ...] = (
    Route("POST", "/posts", create, "Make", "posts", Access.OPTIONAL, status=201, limit=RateLimit("posts", 10, 60)),
    Route("GET", "/posts", entries, "List", "posts", Access.PUBLIC),
    Route("GET", "/posts/search", search, "Search", "posts", Access.PUBLIC),
    Route(
        *("GET", "/posts/{content_id}", read, "Read", "posts", Access.OPTIONAL),
        errors=(CONTENT_NOT_FOUND,),
        has_etag=True,
        has_date=True,
    ),
    Route("GET", "/ahead", ahead, "Read", "posts", Access.PUBLIC, has_etag=True, has_date=True),
    Route("GET", "/board", board, "List", "posts", Access.OPTIONAL, has_etag=True),
    Route("POST", "/board", create, "Add", "posts", Access.OPTIONAL, status=201),
    Route(
        *("PUT", "/posts/{content_id}", edit, "Edit", "posts", Access.PUBLIC),
        errors=(CONTENT_IF_MATCH_MISSING, CONTENT_NOT_FOUND),
        current=tag_now,
    ),
    Route(
        *("PATCH", "/posts/{content_id}", edit, "Change", "posts", Access.PUBLIC),
        errors=(CONTENT_NOT_FOUND,),
        current=tag_now,
    ),
    Route(
        *("DELETE", "/posts/{content_id}", remove, "Remove", "posts", Access.PUBLIC),
        status=204,
        errors=(CONTENT_NOT_FOUND,),
        current=tag_now,
    ),
    Route("GET", "/fail/{kind}", fail, "Fail", "faults", Access.PUBLIC, errors=(ROUTE_NOT_FOUND, CONTENT_NOT_FOUND)),
    Route("GET", "/wait", wait, "Wait", "faults", Access.PUBLIC),
    Route("POST", "/signed", signed, "Take bytes", "posts", Access.PUBLIC),
    Route("POST", "/remarks", signed, "Say", "posts", Access.USER, caller_limit=RateLimit("remarks", 10, 60)),
    *ACCESSES,
    BY_KEY,
)


def read_token(token: str) -> Claims:
    """`member`, `editor` and `admin` are good tokens here, `old` has expired."""
    if token == "old":
        raise Problem(AUTH_TOKEN_EXPIRED)
    if token not in {role.value for role in Role}:
        raise Problem(AUTH_TOKEN_INVALID)
    return Claims(USERS[Role(token)].user_id, USERS[Role(token)].session_id)


def authenticate(claims: Claims) -> asyncio.Future[Principal]:
    """Who has that id."""
    found: asyncio.Future[Principal] = asyncio.get_running_loop().create_future()
    found.set_result(next(each for each in USERS.values() if each.user_id == claims.user_id))
    return found


@dataclass
class LimitBatcher:
    """Lets through what is not in `spent`; raises `fault` if there is one."""

    spent: set[str] = field(default_factory=set)
    seen: list[tuple[str, str]] = field(default_factory=list)
    fault: Exception | None = None

    async def check(self, policy: str, key: str) -> LimitResult:
        self.seen.append((policy, key))
        if self.fault is not None:
            raise self.fault
        if policy in self.spent:
            return LimitResult(allowed=False, limit=10, window_s=60, remaining=0, reset_s=60, retry_after_s=4.2)
        return LimitResult(allowed=True, limit=100, window_s=60, remaining=50, reset_s=29.5, retry_after_s=0)


@dataclass
class Door:
    """A running front door, its client and what it saw."""

    server: HttpServer
    client: aiohttp.ClientSession
    port: int
    services: Services
    limiter: LimitBatcher
    observed: list[tuple[str, str, int]]
    contract: Contract

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        """Status, decoded body (None when empty) and response."""
        async with self.client.request(method, path, **options) as response:
            body = await response.read()
            # Whatever is asked in whatever test: nothing is answered that the documents do not say.
            self.contract.check(method, response.url.raw_path, response.status, body, response.headers)
            return response.status, msgspec.json.decode(body) if body else None, response

    async def raw(self, sent: bytes) -> bytes:
        """What comes back for these bytes, until the server closes."""
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(sent)
            return await to_the_end(stream, 30.0)


@asynccontextmanager
async def opened(settings: Settings | None = None, **options: Any) -> AsyncIterator[Door]:
    """A front door on a free port."""
    services, limiter, ports = Services(), LimitBatcher(), []
    observed: list[tuple[str, str, int]] = []
    dependencies = ServerDependencies(
        read_token=read_token,
        authenticate=authenticate,
        check_limit=options.pop("check_limit", limiter.check),
        observe=lambda path, method, status, _: observed.append((path, method, status)),
        maintenance=options.pop("maintenance", None),
        rng=Random(7),  # noqa: S311 - traces that repeat
    )
    server = HttpServer(
        Routes(Services, *options.pop("routes", ROUTES)).bind(services),
        host="127.0.0.1",
        port=options.pop("port", 0),
        checks=options.pop("checks", {}),
        essential=options.pop("essential", None),
        settings=settings or Settings(max_body_bytes=10_000),
        dependencies=dependencies,
        on_bound=lambda _, port: ports.append(port),
        **options,
    )
    await server.on_start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{ports[0]}") as client:
            settings = settings or Settings()
            operators = (AUTH_TOKEN_MISSING, AUTH_TOKEN_INVALID) if settings.token else ()
            contract = Contract(server._table, settings.base, operators)
            yield Door(server, client, ports[0], services, limiter, observed, contract)
    finally:
        await server.on_stop()


@pytest.fixture(scope="session")
def pair(up: Up) -> Iterator[ProcessGroup]:
    """Two processes side by side, shared: leave them as well as you found them."""
    with twins(up) as pair:
        yield pair


@pytest.fixture
def open_door() -> Callable[..., AbstractAsyncContextManager[Door]]:
    """Opens a front door with settings of the test's own."""
    return opened


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with opened() as door:
        yield door
