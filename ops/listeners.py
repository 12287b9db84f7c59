"""The two listeners of a process: the public HTTP server, and the operator plane."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from callboard.actors.errors import ErrorCode
from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.infrastructure.feature_flags import FlagName
from callboard.actors.infrastructure.rate_limiter import CheckLimit
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.http.server.client_ip import Proxies, network
from callboard.http.server.connection import ConnectionTimeouts
from callboard.http.server.headers import Samples
from callboard.http.server.health import Checks
from callboard.http.server.raw_request import BodyPace, ServerDependencies, Settings
from callboard.http.server.routing import Route, Routes
from callboard.http.server.server import HttpServer
from callboard.ops import dead_letter_routes, flag_routes, job_routes, operator_api, settings_routes
from callboard.ops.access_log import AccessLog
from callboard.ops.config.settings import Config
from callboard.ops.descriptors import OPERATORS_LIMITS, limits_of
from callboard.ops.metrics import Metrics
from callboard.runtime import Backoff, Node, Props, worker


def server_dependencies(
    config: Config, shared: Infrastructure, identity: IdentityRefs, metrics: Metrics, samples: Samples | None
) -> ServerDependencies:
    """Return the functions by which the public server asks departments.

    It counts limits without their actor: that would be two more turns of the loop, which are long in a flood.
    """
    return ServerDependencies(
        read_token=shared.signer.read,
        authenticate=identity.authenticate,
        check_limit=lambda policy, key: shared.limiter.check(CheckLimit(policy, key)),
        observe=metrics.observe,
        keys=shared.idempotency,
        maintenance=partial(shared.flags.is_enabled, FlagName.MAINTENANCE),
        now=shared.now,
        connection_closed=metrics.count_closed,
        samples=samples,
        access=AccessLog(config.access_log_share),
    )


def front_settings(config: Config, errors: Sequence[ErrorCode], public_url: str) -> Settings:
    """Return the settings of the public server, with the catalogue of errors."""
    return Settings(
        origins=frozenset(config.cors_origins),
        max_body_bytes=config.max_body_bytes,
        answer_s=config.request_timeout_ms / 1000,
        target_s=config.overload_target_ms / 1000,
        secure=public_url.startswith("https:"),
        proxies=Proxies([network(each) for each in config.trusted_proxies]),
        errors=errors,
        pace=BodyPace(config.body_min_bytes_per_s, config.body_grace_s),
    )


def front_door(
    config: Config,
    routes: Sequence[Route[Any]],
    settings: Settings,
    dependencies: ServerDependencies,
    checks: Checks,
    *,
    backoff: Backoff,
) -> Node:
    """Return the public HTTP server."""
    server = Props(
        HttpServer,
        routes,
        host=config.http_host,
        port=config.http_port,
        checks=checks,
        essential={"database"},
        settings=settings,
        dependencies=dependencies,
        delay_s=config.shutdown_delay_s,
        grace_s=config.shutdown_grace_s,
        timeouts=ConnectionTimeouts(idle_s=config.http_idle_s),
        limits=limits_of(config),
        reuse_port=config.http_reuse_port,
    )
    return worker("front", server, backoff=backoff, shutdown_s=config.shutdown_delay_s + config.shutdown_grace_s + 2.0)


def operator_plane(view: operator_api.OperatorServices, checks: Checks, backoff: Backoff) -> Node:
    """Return the operators' listener; it shows caught mails only if there is a catcher."""
    config = view.reloader.configuration.process
    mailbox = [operator_api.MAILBOX] if view.mails else []
    tables = (operator_api, job_routes, dead_letter_routes, flag_routes, settings_routes)
    routes = Routes(operator_api.OperatorServices, *(route for each in tables for route in each.ROUTES), *mailbox)
    server = Props(
        HttpServer,
        routes.bind(view),
        host=config.ops_host,
        port=config.ops_port,
        checks=checks,
        settings=operator_api.settings(config),
        dependencies=ServerDependencies(samples=lambda *_: False),  # probes and scrapes make no traces
        documents=False,
        grace_s=0.5,
        limits=OPERATORS_LIMITS,
    )
    return worker("operators", server, backoff=backoff)
