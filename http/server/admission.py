"""Admission of requests: rate limits, tokens and roles, for every route in one place."""

import logging
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from callboard.actors.errors import (
    AUTH_FORBIDDEN,
    AUTH_TOKEN_INVALID,
    AUTH_TOKEN_MISSING,
    REQUEST_LIMITED,
    SERVER_MAINTENANCE,
    ErrorKind,
    Problem,
)
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.rate_limiter import DEFAULT_LIMIT, LimitResult
from callboard.actors.infrastructure.token_signer import Claims
from callboard.http.server import headers as wire
from callboard.http.server.client_ip import rate_limit_address
from callboard.http.server.raw_request import RawRequest, ServerDependencies, Settings
from callboard.http.server.routing import Access, Authenticate, Route

MAINTENANCE_S = 60.0  # the time after which to try again, when nothing better is known

NEEDED: dict[Access, Role] = {
    Access.USER: Role.MEMBER,
    Access.SELF_OR_ADMIN: Role.MEMBER,
    Access.EDITOR: Role.EDITOR,
    Access.ADMIN: Role.ADMIN,
}

log = logging.getLogger(__name__)


class Admission:
    """The guard of one route: `admit` runs before the path is read, unless it is `idle`, and `authorise` after it."""

    def __init__(self, route: Route[Any], settings: Settings, dependencies: ServerDependencies) -> None:
        self._route = route
        self._dependencies = dependencies
        self._token = None if route.skips_limits_and_auth else settings.token
        self._needed = NEEDED.get(route.access)
        self._only_default = route.limit is None and route.caller_limit is None
        self._counted = dependencies.check_limit is not None and not route.skips_limits_and_auth
        self.idle = self._token is None and not self._counted and route.access is Access.PUBLIC
        if route.access not in (Access.PUBLIC, Access.KEY) and (
            dependencies.read_token is None or dependencies.authenticate is None
        ):
            raise ValueError(f"{route.method} {route.path} needs a caller, and the server has no authenticate")
        if (route.access is Access.KEY) is (route.authenticate is None):
            raise ValueError(f"{route.method} {route.path} has a key without `authenticate`, or the reverse")
        if route.access is Access.SELF_OR_ADMIN and "user_id" not in route.parameters:
            raise ValueError(f"{route.method} {route.path} has self access, but its path has no user_id")

    async def admit(self, exchange: RawRequest) -> None:
        """Count the request and authenticate its caller. Raises Problem: REQUEST_LIMITED, AUTH_..."""
        if self._token is not None:
            self._check_operator(exchange)
        if self._route.access is Access.PUBLIC:
            await self._count(exchange, None)
            return
        if self._route.authenticate is not None:
            await self._admit_key(exchange, self._route.authenticate)
            return
        try:
            claims = self._claims(exchange)
        except Problem:
            await self._count(exchange, None)  # guesses of tokens are counted too
            raise
        if claims is None or self._dependencies.authenticate is None:
            await self._count(exchange, None)
            return
        asked = self._dependencies.authenticate(claims)  # started before the count: both share one round trip
        await self._count(exchange, claims.user_id)
        exchange.caller = await asked

    async def only_admins(self, exchange: RawRequest) -> None:
        """Admit only an admin, even where the route needs no token. Raises Problem(SERVER_MAINTENANCE)."""
        token = wire.bearer(exchange.headers)
        if token and self._dependencies.read_token is not None and self._dependencies.authenticate is not None:
            with suppress(Problem):  # a bad token counts as anonymous
                if (await self._dependencies.authenticate(self._dependencies.read_token(token))).role is Role.ADMIN:
                    return
        raise Problem(SERVER_MAINTENANCE, retry_after_s=MAINTENANCE_S)

    def authorise(self, exchange: RawRequest, path: Mapping[str, Any]) -> None:
        """Check the caller against the route's access. Raises Problem: AUTH_FORBIDDEN, or the route's 404."""
        caller = exchange.caller
        if self._needed is None or caller is None:
            return
        if self._route.access is Access.SELF_OR_ADMIN:
            if path["user_id"] != caller.user_id and caller.role is not Role.ADMIN:
                raise Problem(self._route.not_found)
        elif not caller.role.includes(self._needed):
            raise Problem(AUTH_FORBIDDEN)

    def _claims(self, exchange: RawRequest) -> Claims | None:
        if self._dependencies.read_token is None:
            return None
        token = wire.bearer(exchange.headers)
        if token is None:
            if self._needed is None:
                return None
            raise Problem(AUTH_TOKEN_MISSING)
        if not token:
            raise Problem(AUTH_TOKEN_INVALID)
        return self._dependencies.read_token(token)

    def _check_operator(self, exchange: RawRequest) -> None:
        token = wire.bearer(exchange.headers)
        if token is None:
            raise Problem(AUTH_TOKEN_MISSING)
        if self._token is not None:
            self._token.check(token, exchange.ip)

    async def _admit_key(self, exchange: RawRequest, authenticate: Authenticate[Any]) -> None:
        """Count by address before the key is looked up, and then by its holder. Guesses count by the default too."""
        address = f"ip:{rate_limit_address(exchange.ip)}"
        if self._route.limit is not None:
            await self._check(exchange, [(self._route.limit.name, address)])
        try:
            exchange.holder = await authenticate(self._route.refs, wire.bearer(exchange.headers) or "")
        except Problem as problem:
            if problem.code.kind is ErrorKind.UNAUTHENTICATED:
                await self._check(exchange, [(DEFAULT_LIMIT.name, address)])
            raise
        policy = self._route.caller_limit or DEFAULT_LIMIT
        await self._check(exchange, [(policy.name, f"key:{exchange.holder.key_id}")])

    def _count(self, exchange: RawRequest, user_id: UUID | None) -> Awaitable[None]:
        """Count against all policies in one call: by address, and by user if there is one."""
        address = f"ip:{rate_limit_address(exchange.ip)}"
        caller = address if user_id is None else f"user:{user_id}"
        if self._only_default:
            return self._check(exchange, ((DEFAULT_LIMIT.name, caller),))
        route = self._route
        asked = [(limit.name, key) for limit, key in ((route.limit, address), (route.caller_limit, caller)) if limit]
        return self._check(exchange, (*asked, (DEFAULT_LIMIT.name, caller)))

    async def _check(self, exchange: RawRequest, asked: Sequence[tuple[str, str]]) -> None:
        """Count against these policies, each by its key. Raises Problem(REQUEST_LIMITED)."""
        check = self._dependencies.check_limit
        if check is None or not self._counted:
            return
        results = exchange.limit_results
        refused: list[float] = []
        for policy, pending in [(policy, check(policy, key)) for policy, key in asked]:
            try:
                result = await pending
            except Exception:
                # If the rate limiter fails in any way, the request goes on without it.
                log.warning("the rate limiter failed for policy %s", policy, exc_info=True)
                continue
            if not result.shadow:
                results[policy] = result
            if not result.allowed:
                refused.append(result.retry_after_s)
        if len(results) > 1:
            exchange.limit_results = dict(sorted(results.items(), key=_tightness))
        if refused:
            raise Problem(REQUEST_LIMITED, retry_after_s=max(refused))


def _tightness(seen: tuple[str, LimitResult]) -> tuple[bool, float]:
    """Sort the tightest policy first: one that refuses, then by the share that is left."""
    _, result = seen
    return result.allowed, result.remaining / result.limit
