"""The stages of a request: route, admit, authorise, parse, handle, respond. Each route is compiled into one endpoint;
there is no chain of middlewares, and everything that depends on the route alone is made at the start.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from callboard.actors.errors import (
    REQUEST_SLOW,
    ROUTE_METHOD,
    ROUTE_NOT_FOUND,
    SERVER_BUG,
    SERVER_DRAINING,
    SERVER_TIMEOUT,
    Problem,
)
from callboard.actors.infrastructure.idempotency import Claim
from callboard.http.server import headers as wire
from callboard.http.server.admission import Admission
from callboard.http.server.deadlines import Deadlines, cancelled_by_deadline
from callboard.http.server.errors import problem_of
from callboard.http.server.idempotency import IdempotencyStep, key_of
from callboard.http.server.load_shedder import LoadShedder
from callboard.http.server.operator_access import AllowedHosts
from callboard.http.server.preconditions import Condition, Validators, condition_of, stale_code
from callboard.http.server.raw_request import RawRequest, ServerDependencies, Settings
from callboard.http.server.request import HttpRequest
from callboard.http.server.request_parser import NOTHING, RequestParser
from callboard.http.server.request_reader import KnownHeads
from callboard.http.server.response import Response
from callboard.http.server.response_builder import ResponseBuilder
from callboard.http.server.routing import Answer, Current, Resource, Route, Router, check_tags, is_streamed
from callboard.runtime import Context, Span, SpanKind, is_sampled, use_context

READY = "/ready"
# After these the connection is closed: its next bytes belong to this request, or the server is stopping.
CLOSE_AFTER = {REQUEST_SLOW.name, SERVER_DRAINING.name}
SERVER_ERROR = 500

log = logging.getLogger(__name__)


class Endpoint:
    """One compiled route."""

    def __init__(self, route: Route[Any], dispatcher: "Dispatcher") -> None:
        settings, dependencies = dispatcher.settings, dispatcher.dependencies
        self._handler = route.handler
        self._status = route.status
        self._changes = route.makes_changes
        self._is_conditional = route.is_conditional
        self._current = route.current
        self._match_missing = route.match_missing
        self._stale = stale_code(route.errors)
        self._refs = route.refs
        self._builder = dispatcher.builder
        self._deadlines = dispatcher.deadlines
        self._idempotency = (
            IdempotencyStep(dependencies.keys, route.headers)
            if route.accepts_idempotency_key and dependencies.keys is not None
            else None
        )
        self._route_headers = route.route_headers or None
        self._is_streamed = is_streamed(route)
        self._maintenance = (
            None if route.skips_limits_and_auth or route.open_in_maintenance else dependencies.maintenance
        )
        self._admission = Admission(route, settings, dependencies)
        self._parser = RequestParser(route, settings, lambda: dispatcher.draining)
        is_exempt = self._is_streamed or route.skips_limits_and_auth
        self._shedder = None if is_exempt else LoadShedder(settings.target_s, asyncio.get_running_loop().time)

    async def serve(self, exchange: RawRequest) -> Response:
        """Answer a request within its deadline. Raises Problem, or any exception of the handler."""
        admission, parser, idempotency, shedder = self._admission, self._parser, self._idempotency, self._shedder
        exchange.route_headers = self._route_headers
        headers = exchange.headers
        is_late = parser.takes_body and not exchange.payload.is_eof()  # a slow client takes no place meanwhile
        entered = None if shedder is None or is_late else shedder.enter()
        self._deadlines.begin(exchange, wire.timeout_s(headers) if wire.TIMEOUT in headers else None)
        try:
            # The deadline of a streamed body moves: each ask and each statement then has its own time limit.
            with use_context(Context(exchange.traceparent, None if self._is_streamed else exchange.deadline, exchange)):
                if self._maintenance is not None and self._maintenance():
                    await admission.only_admins(exchange)
                if not admission.idle:
                    await admission.admit(exchange)
                path = parser.path(exchange.values) if exchange.values else NOTHING
                if exchange.caller is not None:
                    admission.authorise(exchange, path)
                query = parser.query(exchange) if parser.takes_query or "?" in exchange.message.path else None
                key = None if idempotency is None else key_of(headers)
                body = await parser.body(exchange) if parser.takes_body else None
                if is_late and shedder is not None:
                    entered = shedder.enter()
                call = HttpRequest(body, query, path, self._refs, exchange)
                if idempotency is not None and key is not None:
                    return await idempotency.answer(exchange, key, partial(self._run_once, call), self._builder.replay)
                if self._current is not None:
                    await self._check_precondition(call, self._current, condition_of(headers))
                return self._respond(await self._handler(call), exchange)
        except asyncio.CancelledError:
            if not cancelled_by_deadline(exchange):
                raise
            raise Problem(REQUEST_SLOW if exchange.reading else SERVER_TIMEOUT) from None
        finally:
            self._deadlines.end(exchange)
            if shedder is not None and entered is not None:
                shedder.leave(entered)

    def _respond(self, reply: Answer, exchange: RawRequest) -> Response:
        """Build the response to a handler's reply, after a check of a read's precondition. Raises Problem with the code
        of a stale tag.
        """
        if not self._changes:
            tag = self._builder.tag(reply)
            condition = (
                condition_of(exchange.headers) if self._is_conditional else None
            )  # malformed, also without a tag
            if tag is not None and condition is not None:
                if not condition.matches(tag, reply.modified):
                    raise Problem(self._stale)
                if condition.is_unchanged(tag, reply.modified):
                    return self._builder.not_modified(exchange, reply)
        return self._builder.success(exchange, reply, self._status)

    async def _check_precondition(
        self, call: HttpRequest[Any, Any, Any], current: Current[Any], condition: Condition | None
    ) -> None:
        """Check a change's precondition against its resource's current tag."""
        if self._match_missing is not None and (condition is None or condition.match is None):
            raise Problem(self._match_missing)
        if condition is not None:
            found = await current(call)
            version = Validators(found) if isinstance(found, str) else found
            if not condition.holds_for(*version):
                raise Problem(self._stale)
            call.tag = version.tag

    async def _run_once(self, call: HttpRequest[Any, Any, Any], exchange: RawRequest, claim: Claim) -> Response:
        """Run the handler once for an Idempotency-Key; an error response counts as a response."""
        call.make_as(claim.new_id)
        try:
            if self._current is not None:
                await self._check_precondition(call, self._current, condition_of(exchange.headers))
            return self._respond(await self._handler(call), exchange)
        except Problem as problem:
            return self._builder.failure(exchange, problem)


class Dispatcher:
    """A route table, ready to answer, on the running event loop.

    An invalid table raises ValueError or TypeError at once: a duplicate route, a handler without a usable annotation, a
    route for the caller's own resource without a user_id.
    """

    def __init__(self, routes: Sequence[Route[Any]], settings: Settings, dependencies: ServerDependencies) -> None:
        self.settings = settings
        self.dependencies = dependencies
        self.builder = ResponseBuilder(settings, dependencies)
        self.heads = KnownHeads()
        self.deadlines = Deadlines(settings.timeout_s, settings.answer_s, asyncio.get_running_loop())
        self._time = asyncio.get_running_loop().time
        self._behind_proxies = bool(settings.proxies)
        self.leaving = False  # /ready is 503, and each response is the last of its connection
        self.draining = False  # every request is refused
        self.in_flight = 0
        self._idle: asyncio.Event | None = None  # tasks that wait until no request is in flight
        check_tags(routes)
        self._router: Router[Endpoint] = Router()
        for route in routes:
            self._router.add(route.method, route.full_path(settings.base), Endpoint(route, self), route.options_headers)
        self._anything: Resource[Endpoint] = Resource("*")
        self._anything.allowed = tuple(sorted({"HEAD", "OPTIONS"} | {route.method for route in routes}))

    async def handle(self, exchange: RawRequest) -> Response:
        """Answer any request; the only exception that leaves it is cancellation."""
        started = self._time()
        headers, dependencies = exchange.headers, self.dependencies
        exchange.traceparent, exchange.trace_id, exchange.parent_id = wire.trace_context(
            headers, dependencies.rng, dependencies.samples
        )
        exchange.request_id = exchange.trace_id
        if wire.REQUEST_ID in headers:
            exchange.request_id = wire.request_id(headers, exchange.trace_id)
        if self._behind_proxies:
            exchange.ip = self.settings.proxies.client(exchange.ip, headers)
        self.in_flight += 1
        try:
            methods = self._find(exchange)
            endpoint = methods.by_method.get(exchange.method)
            if endpoint is None:
                response = self.builder.options(exchange, methods.allowed, methods.capabilities)
            else:
                response = await endpoint.serve(exchange)
        except Exception as error:  # noqa: BLE001 - the one place where a bug of ours becomes an answer
            response = self._failure(exchange, error)
        finally:
            self.done()
        if self.leaving:
            response.closing = True
        took_s = self._time() - started
        if dependencies.observe is not None:
            dependencies.observe(exchange.template, exchange.method, response.status, took_s)
        if dependencies.access is not None:
            dependencies.access(exchange, response.status, took_s)
        if dependencies.samples is not None and is_sampled(exchange.traceparent):
            _record(exchange, response, took_s)
        return response

    def done(self) -> None:
        """Note that a request, or a live body, is no longer in flight."""
        self.in_flight -= 1
        if self._idle is not None and not self.in_flight:
            self._idle.set()
            self._idle = None

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        while self.in_flight:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()

    def _find(self, exchange: RawRequest) -> Resource[Endpoint]:
        """Find the resource at the request's path that accepts its method. OPTIONS is answered for the whole path."""
        if exchange.fault is not None:
            raise Problem(exchange.fault)
        if self.draining:
            raise Problem(SERVER_DRAINING)
        if self.settings.hosts is not None:
            _check_host(exchange, self.settings.hosts)
        found = self._router.find(exchange.target)
        if found is None:
            if exchange.message.path == "*":  # `*` is a target of OPTIONS only
                return self._anything
            raise Problem(ROUTE_NOT_FOUND)
        methods, exchange.values = found
        exchange.template = methods.template
        if self.leaving and methods.template == READY:
            raise Problem(SERVER_DRAINING)
        if exchange.method not in methods.by_method and exchange.method != "OPTIONS":
            raise Problem(ROUTE_METHOD, allowed=methods.allowed)
        return methods

    def _failure(self, exchange: RawRequest, error: Exception) -> Response:
        problem = problem_of(error)
        if problem is None:
            where = exchange.method, exchange.template, exchange.trace_id
            log.error("%s %s failed, trace %s", *where, exc_info=error)
            problem = Problem(SERVER_BUG)
        response = self.builder.failure(exchange, problem)
        response.closing = problem.code.name in CLOSE_AFTER or exchange.fault is not None
        return response


def _record(exchange: RawRequest, response: Response, took_s: float) -> None:
    """Record the span of a request. Its path is the route's pattern."""
    ended_ns = time.time_ns()
    Span(
        f"HTTP {exchange.method} {exchange.template}",
        SpanKind.SERVER,
        exchange.traceparent,
        exchange.parent_id,
        ended_ns - round(took_s * 1e9),
        {"http.method": exchange.method, "http.route": exchange.template, "http.status_code": response.status},
        error=str(response.status) if response.status >= SERVER_ERROR else None,
    ).end()


def _check_host(exchange: RawRequest, hosts: AllowedHosts) -> None:
    """Check the host, and a browser's origin. HTTP/1.0 may omit the host: no browser does. The host in a target goes
    before the header.
    """
    headers = exchange.headers
    for host in headers.getall("Host", ()):
        hosts.check(host)
    for origin in headers.getall("Origin", ()):
        hosts.check_origin(origin, headers.get("Host", ""))
    if not exchange.message.path.startswith("/") and exchange.message.url.raw_authority:
        hosts.check(exchange.message.url.raw_authority)
