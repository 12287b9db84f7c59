"""The operator plane's routes: the tree, the settings, refused events, the metrics, and the caught mails."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from callboard.actors.errors import REQUEST_CURSOR_INVALID, Problem
from callboard.actors.identity.users import UserMessage
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.audit_actions import POOL_RESIZED
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.dead_letters import DeadLetters
from callboard.actors.infrastructure.errors import POOLS_NOT_FOUND
from callboard.actors.infrastructure.feature_flags import FlagMessage, FlagSnapshot
from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.actors.infrastructure.rate_limiter import Policy
from callboard.http.server.operator_access import AllowedHosts, OperatorToken
from callboard.http.server.pagination import BY_NUMBER
from callboard.http.server.raw_request import Settings
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, RawReply, Reply
from callboard.http.server.routing import Access, Route
from callboard.ops.config.fleet import FleetChange
from callboard.ops.config.reload import Reloader
from callboard.ops.config.settings import Config
from callboard.ops.embedded.mail_catcher import Mail
from callboard.ops.metrics import CONTENT_TYPE, Metrics
from callboard.runtime import Entities, Pool, Ref, System, TreeNode, find_pools
from callboard.streams.reconciler import QUERIES as RELAY

MAX_SIZE = 1000  # workers: more is taken for a typing error


class OperatorServices(msgspec.Struct, frozen=True):
    """The sources of the operator plane's data; `mails` is set only with the embedded catcher."""

    system: Callable[[], System]
    reloader: Reloader
    database: Database
    metrics: Metrics
    mails: Callable[[], list[Mail]] | None
    jobs: JobAdmin
    letters: DeadLetters
    flags: FlagSnapshot
    flag_keeper: Ref[FlagMessage]
    users: Ref[UserMessage]


def settings(config: Config) -> Settings:
    """The operators' listener: its allowed host names, and its token."""
    wrong = Policy(config.ops_wrong_tokens_per_minute, 60)
    token = OperatorToken(config.ops_token, wrong=wrong) if config.ops_token else None
    return Settings(base="/ops/v1", token=token, hosts=AllowedHosts(frozenset(config.ops_hosts)))


async def tree(request: HttpRequest[None, None, OperatorServices]) -> Reply[TreeNode]:
    """Show the supervision tree as of now."""
    return Reply(request.refs.system().dump())


async def config(request: HttpRequest[None, None, OperatorServices]) -> Reply[dict[str, Any]]:
    """Show the settings in force, by their names in the environment, without secrets."""
    return Reply(request.refs.reloader.configuration.redacted())


class PoolView(msgspec.Struct, frozen=True):
    """A pool: its workers, the capacity of each one's mailbox, and the number of messages in all of them."""

    name: str
    size: int
    mailbox: int
    overflow: str
    route: str
    depth: int
    restarts: int


class Resize(Body, frozen=True):
    """How many workers a pool is to have."""

    size: Annotated[int, Meta(ge=1, le=MAX_SIZE, description="Workers.")]


async def list_pools(request: HttpRequest[None, None, OperatorServices]) -> Reply[list[PoolView]]:
    """List the pools of this process."""
    return Reply([_pool(name, each) for name, each in find_pools(request.refs.system()).items()])


async def resize_pool(request: HttpRequest[Resize, None, OperatorServices]) -> Reply[PoolView]:
    """Resize a pool in each process behind this port, until its next start or reload. No message is lost, and each key
    keeps its order.
    """
    name = request.text("name")
    found = find_pools(request.refs.system()).get(name)
    if not isinstance(found, Pool):
        raise Problem(POOLS_NOT_FOUND)
    before = found.size
    await found.resize(request.body.size)
    request.refs.reloader.fleet.tell(FleetChange(pools={name: request.body.size}))
    async with request.refs.database.transaction() as connection:
        await audit.record(connection, POOL_RESIZED, by=audit.OPERATOR, pool=name, old_size=before, new_size=found.size)
    return Reply(_pool(name, found))


def _pool(name: str, found: Pool[Any] | Entities[Any]) -> PoolView:
    workers = found.dump().children
    return PoolView(
        name=name,
        size=found.size,
        mailbox=found.spec.mailbox.capacity,
        overflow=found.spec.mailbox.overflow,
        route=found.route if isinstance(found, Pool) else "entities",
        depth=sum(each.depth or 0 for each in workers),
        restarts=sum(each.restarts for each in workers),
    )


async def mailbox(request: HttpRequest[None, None, OperatorServices]) -> Reply[list[Mail]]:
    """List the mails of the embedded catcher, newest first."""
    return Reply(request.refs.mails() if request.refs.mails else [])


async def metrics(request: HttpRequest[None, None, OperatorServices]) -> RawReply:
    """Return the metrics in Prometheus's text format."""
    return RawReply(request.refs.metrics.page(), CONTENT_TYPE)


class RefusedEventQuery(Page, frozen=True, kw_only=True):
    """The page of the events that the broker refuses."""

    cursor: Annotated[str, BY_NUMBER.meta] | None = None


class RefusedEventView(msgspec.Struct, frozen=True):
    """An event of ours that the broker has refused; `retry_at` is its next attempt."""

    outbox_id: int
    event_id: UUID
    topic: str
    key: str
    type: str
    bytes: int
    refusals: int
    error: str
    retry_at: datetime
    occurred_at: datetime


async def refused_events(
    request: HttpRequest[None, RefusedEventQuery, OperatorServices],
) -> PageReply[RefusedEventView]:
    """List the events in the outbox that the broker refuses, oldest first. Later events of the same key wait."""
    query = request.query
    after = BY_NUMBER.decode(query.cursor)[0] if query.cursor else 0
    async with request.refs.database.acquire() as connection:
        rows = RELAY.refused_rows(connection, after=after, limit=query.limit + 1)
        views = [msgspec.convert(dict(row), RefusedEventView) async for row in rows]
    return BY_NUMBER.page(views, query.limit, lambda last: (last.outbox_id,))


ROUTES: tuple[Route[OperatorServices], ...] = (
    Route("GET", "/tree", tree, summary="Show the supervision tree", tag="operators", access=Access.PUBLIC),
    Route("GET", "/pools", list_pools, summary="The pools", tag="operators", access=Access.PUBLIC),
    Route(
        "PATCH",
        "/pools/{name}",
        resize_pool,
        summary="Resize a pool",
        tag="operators",
        access=Access.PUBLIC,
        errors=(POOLS_NOT_FOUND,),
    ),
    Route("GET", "/config", config, summary="Show the settings in force", tag="operators", access=Access.PUBLIC),
    Route(
        "GET",
        "/outbox/refused",
        refused_events,
        summary="List events that the broker refuses",
        tag="operators",
        access=Access.PUBLIC,
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route("GET", "/metrics", metrics, summary="Metrics", tag="operators", access=Access.PUBLIC, absolute=True),
)
MAILBOX: Route[OperatorServices] = Route(
    "GET", "/mailbox", mailbox, summary="Caught mails", tag="operators", access=Access.PUBLIC
)
