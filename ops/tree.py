"""The composition: every part is made here and put in its place. `Application.tree` is the whole system."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from callboard.actors.analytics.aggregator import Aggregator
from callboard.actors.delivery.mail_producers import MailProducers
from callboard.actors.delivery.mail_queue import MailQueue
from callboard.actors.delivery.notifier import Notifier
from callboard.actors.editorial.content_queries import ContentQueries
from callboard.actors.editorial.html_sanitizer import HtmlBounds, HtmlSanitizer
from callboard.actors.editorial.workflow import ContentWorkflow
from callboard.actors.identity.active_users import ActiveUsers
from callboard.actors.identity.authentication import Logins
from callboard.actors.identity.data_export import Exports
from callboard.actors.identity.email_requests import EmailRequests
from callboard.actors.identity.email_verification import RegistrationPolicy
from callboard.actors.identity.password_hasher import PasswordHasher
from callboard.actors.identity.password_policy import PasswordPolicy
from callboard.actors.identity.password_reset import Recovery
from callboard.actors.identity.profiles import Profiles
from callboard.actors.identity.session_cache import Authentication, SessionCache
from callboard.actors.identity.sessions import Sessions
from callboard.actors.identity.sessions import key_of as session_key
from callboard.actors.identity.user_generations import UserGenerations
from callboard.actors.identity.users import READ_USERS, Users
from callboard.actors.infrastructure.audit_log import AuditLog, AuditRecorder, FailedLogins
from callboard.actors.infrastructure.database import DatabaseGuard
from callboard.actors.infrastructure.feature_flags import FlagKeeper, FlagName, FlagSnapshot
from callboard.actors.infrastructure.idempotency import Idempotency
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.infrastructure.rate_limiter import CheckLimit, LimitBatcher, LimitResult, RateLimiter
from callboard.actors.infrastructure.redis import RedisConnector
from callboard.actors.infrastructure.row_loader import Reads
from callboard.actors.infrastructure.signing_keys import MIN_SECRET_BYTES
from callboard.actors.infrastructure.token_signer import Claims, Signer
from callboard.http.api.dependencies import Services
from callboard.http.api.routes import ROUTES
from callboard.http.server.client_ip import Proxies, network
from callboard.http.server.connection import ConnectionTimeouts
from callboard.http.server.raw_request import ServerDependencies, Settings
from callboard.http.server.server import HttpServer
from callboard.ops import job_routes, logs, operator_api, schema
from callboard.ops.clients import cache_of, database_of, policies_of
from callboard.ops.config.settings import Config, load
from callboard.ops.descriptors import OPERATORS_LIMITS, limits_of
from callboard.ops.embedded.servers import EmbeddedServer, Servers
from callboard.ops.jobs import Jobs
from callboard.ops.metrics import Metrics
from callboard.ops.stream_metrics import StreamCollector
from callboard.ops.streams import StreamParts, consumers
from callboard.runtime import (
    Backoff,
    Intensity,
    Mailbox,
    Message,
    Node,
    Overflow,
    Pool,
    Props,
    Strategy,
    Supervisor,
    System,
    Watcher,
    pool,
    supervisor,
    worker,
)

M = TypeVar("M", bound=Message | None)

# A server that dies again and again is brought back again and again, at a pace; only a storm is given up on.
SERVER_INTENSITY = Intensity(restarts=30, window_s=60)
# How many workers each pool has, unless the file that CALLBOARD_CONFIG names says otherwise.
SIZES = {
    "passwords": 2,
    "logins": 8,
    "sessions": 32,  # each mostly waits for PostgreSQL or Redis, and what waits together goes in one round trip
    "users": 4,
    "recovery": 4,
    "email_requests": 2,
    "profiles": 2,
    "exports": 2,
    "audit_log": 1,
    "limits": 2,
    "idempotency": 4,
    "content": 8,
    "library": 8,
}
SERVER_BACKOFF = Backoff(initial_s=0.1, max_s=5.0, jitter=0.2)
STALL_S = 0.1  # a handler that holds up the loop for so long is named in the log


class Application:
    """The actors of one process, and what they share. Nothing has been started."""

    def __init__(self, config: Config, data: Path, servers: Servers | None = None) -> None:
        self.config = config
        self.servers = servers
        self.data = data
        self.hopeless = asyncio.Event()  # set when waiting mends nothing and the process is to end
        self.hopeless_because = ""
        self.watchers: list[Watcher] = [logs.watch]
        self.pools: dict[str, Pool[Any]] = {}  # by name, those too that do not run in this role
        self._system: System | None = None
        self.metrics = Metrics()
        self.database = database = database_of(config, self.metrics.count_database_error)
        self.metrics.watch_database(database)
        database.server.observe_query = self.metrics.observe_query
        self.jobs = Jobs(database, self.metrics, works="workers" in config.roles, grace_s=config.jobs_grace_s)
        self.now = now = database.server.now  # what expires is judged by one clock in all processes
        self.cache = cache_of(config)
        self.signer = signer = Signer(
            config.jwt_secret_key,
            issuer=config.jwt_issuer,
            access_ttl_s=config.access_ttl_s,
            previous=config.jwt_previous_keys,
            private_key=config.jwt_private_key,
            public_keys=config.jwt_previous_public_keys,
            now=now,
        )
        # A full mailbox of a hasher or a login is a refusal, 503, and not a queue that nobody waits for any more: what
        # 8 workers with 4 waiting for each have accepted takes two hashers about a second.
        refusing = Mailbox(capacity=4, overflow=Overflow.REJECT)
        self.passwords = self._pool(
            "passwords", Props(PasswordHasher), mailbox=Mailbox(capacity=32, overflow=Overflow.REJECT)
        )
        self.identities = SessionCache(UserGenerations(self.cache, time.monotonic))
        self.sessions = self._pool("sessions", Props(Sessions, database, self.identities, signer, now), key=session_key)
        self.enrolment = RegistrationPolicy(
            PasswordPolicy(config.password_policy),
            conceal=config.registration_conflict == "conceal",
            undo_ttl_s=config.email_undo_hours * 3600,
        )
        self.users = self._pool(
            "users",
            Props(
                Users,
                database,
                self.passwords,
                signer,
                self.sessions,
                self.enrolment,
                reads=Reads(database, READ_USERS, "user_id"),
                step_up_s=config.step_up_s,
                on_registered=self.metrics.count_registration,
            ),
        )
        self.profiles = self._pool("profiles", Props(Profiles, database))
        self.exports = self._pool(
            "exports", Props(Exports, database, signer, self.jobs.queue, config.quotas, step_up_s=config.step_up_s)
        )
        self.policies = policies_of(config)
        self.flags = FlagSnapshot()
        self.flag_keeper = worker("flags", Props(FlagKeeper, database, self.flags))
        strict = partial(self.flags.on, FlagName.STRICT_LIMITS)
        self.limiter = LimitBatcher(
            self.cache, self.policies, time.monotonic, strict=strict, observe=self.metrics.count_checks
        )
        self.limits = self._pool("limits", Props(RateLimiter, self.limiter))
        self.failed_logins = FailedLogins(time.monotonic)
        self.audit_log = self._pool("audit_log", Props(AuditLog, database))
        login_parts = (database, self.passwords, self.sessions, self.limits, self.failed_logins)
        self.logins = self._pool(
            "logins",
            Props(
                Logins,
                *login_parts,
                signer=signer,
                conceal=self.enrolment.conceal,
                known_days=config.known_device_days,
            ),
            mailbox=refusing,
        )
        self.recovery = self._pool(
            "recovery",
            Props(Recovery, *login_parts, policy=PasswordPolicy(config.password_policy)),
            mailbox=refusing,
        )
        self.email_requests = self._pool("email_requests", Props(EmailRequests, database, self.jobs.queue))
        self.pools |= self.jobs.handle_all(config, signer, self.metrics)
        self.idempotency = self._pool("idempotency", Props(Idempotency, database, signer))
        sanitizer = HtmlSanitizer(
            HtmlBounds(config.html_max_depth, config.html_max_elements, config.html_max_attributes)
        )
        self.content = self._pool(
            "content",
            Props(ContentWorkflow, database, sanitizer, config.quotas),
            key=lambda message: message.content_id,
        )
        self.library = self._pool("library", Props(ContentQueries, database))
        self.mail_producers = MailProducers(config.mail_producers)
        self.mail_queue = worker("mail_queue", Props(MailQueue, database, self.jobs.queue, self.mail_producers))
        self.notifier = worker("notifier", Props(Notifier, database))
        self.stats = worker("aggregator", Props(Aggregator, database))
        wanted = consumers(self.mail_queue, self.notifier, self.stats, self.mail_producers)
        self.streams = StreamParts(config, database, wanted, embedded=servers is not None)

    def _pool(self, name: str, props: Props[M], **options: Any) -> Pool[M]:
        made = self.pools[name] = pool(name, props, size=SIZES[name], **options)
        return made

    async def _prepare(self, url: str) -> None:
        """See to the schema. A database that lacks what waiting does not bring ends the process: see `hopeless`."""
        try:
            await schema.prepare(url, migrate=self.config.migrate == "auto")
        except (schema.SchemaOutdatedError, schema.MigrationFailedError) as error:
            self.give_up(str(error))
            await asyncio.Event().wait()

    def give_up(self, reason: str) -> None:
        """End the process, with status 2 and this one line: waiting does not mend what is wrong."""
        self.hopeless_because = self.hopeless_because or reason
        self.hopeless.set()

    # What the front door asks --------------------------------------------------------------------------------------

    def authenticate(self, claims: Claims) -> Awaitable[Principal]:
        """Find the user of a token with these claims. Raises Problem(AUTH_...)."""
        return Authentication(self.identities, self.sessions, claims.user_id, claims.session_id)

    def check_limit(self, policy: str, key: str) -> Awaitable[LimitResult]:
        """Count a request. Not by the actor: that would be two turns of the loop more, and in a flood each is long."""
        return self.limiter.check(CheckLimit(policy, key))

    def checks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """The checks of /ready."""
        database = self.database.pool("operators")  # whatever flood there is of others
        return {
            "database": database.check,
            "redis": self.cache.check,
            "kafka": self.streams.check,
            "smtp": self.jobs.mail_monitor.check,
            "jobs": self.jobs.depths.check,
        }

    # The tree --------------------------------------------------------------------------------------------------------

    def tree(self) -> Supervisor:
        """The whole system, started from the top down and stopped from the bottom up."""
        roles = self.config.roles
        return supervisor(
            "callboard",
            *self._embedded(),
            supervisor(
                "guard",
                worker("database", Props(DatabaseGuard, self.database, self._prepare, self.give_up)),
                worker("cache", Props(RedisConnector, self.cache)),
            ),
            supervisor(
                "identity",
                self.audit_log,
                worker("audit_recorder", Props(AuditRecorder, self.database, self.failed_logins)),
                self.passwords,
                self.sessions,
                self.logins,
                self.users,
                self.profiles,
                self.exports,
                self.limits,
                self.recovery,
                self.email_requests,
                self.flag_keeper,
            ),
            supervisor("editorial", self.idempotency, self.content, self.library),
            supervisor(
                "insight",
                self.stats,
                worker("active_users", Props(ActiveUsers, self.database.pool("operators"), self.metrics.active_users)),
            ),
            # What acts starts before what reads, and what reads starts again when that had to.
            supervisor(
                "delivery",
                supervisor("consumers", self.notifier, self.mail_queue),
                *self.streams.nodes(self.data, SERVER_BACKOFF),
                strategy=Strategy.REST_FOR_ONE,
                intensity=SERVER_INTENSITY,
            ),
            self.jobs.node(backoff=SERVER_BACKOFF, intensity=SERVER_INTENSITY),
            *([self._front_door()] if "front" in roles else []),
            self._operators(),
            intensity=SERVER_INTENSITY,
        )

    def _embedded(self) -> list[Node]:
        if self.servers is None:
            return []
        children = [
            worker(each.name, Props(EmbeddedServer, each), backoff=SERVER_BACKOFF) for each in self.servers.all()
        ]
        return [supervisor("servers", *children, intensity=SERVER_INTENSITY)]

    def _front_door(self) -> Node:
        config, maintenance = self.config, partial(self.flags.on, FlagName.MAINTENANCE)
        server = Props(
            HttpServer,
            ROUTES,
            Services(
                self.users,
                self.logins,
                self.sessions,
                self.content,
                self.library,
                self.stats,
                self.now,
                self.signer.jwks,
                self.profiles,
                self.exports,
                self.recovery,
                self.flag_keeper,
                self.email_requests,
                self.enrolment.policy,
                self.audit_log,
                self.flags.view,
            ),
            host=config.http_host,
            port=config.http_port,
            checks=self.checks(),
            essential={"database"},
            settings=Settings(
                origins=frozenset(config.cors_origins),
                max_body_bytes=config.max_body_bytes,
                secure=config.public_url.startswith("https:"),
                proxies=Proxies([network(each) for each in config.trusted_proxies]),
            ),
            hooks=ServerDependencies(
                self.signer.read,
                self.authenticate,
                self.check_limit,
                self.metrics.observe,
                self.idempotency,
                maintenance,
                self.now,
                self.metrics.count_closed,
            ),
            grace_s=config.shutdown_grace_s,
            patience=ConnectionTimeouts(idle_s=config.http_idle_s),
            limits=limits_of(config),
        )
        return worker("front", server, backoff=SERVER_BACKOFF, shutdown_s=config.shutdown_grace_s + 2.0)

    def _operators(self) -> Node:
        config, catcher = self.config, self.servers and self.servers.catcher
        server = Props(
            HttpServer,
            (*operator_api.ROUTES, *job_routes.ROUTES, *([operator_api.MAILBOX] if catcher else [])),
            operator_api.OperatorServices(
                self.running,
                config,
                self.database.pool("operators"),
                self.metrics,
                catcher.mails if catcher else None,
                self.jobs.admin,
            ),
            host=config.ops_host,
            port=config.ops_port,
            checks=self.checks(),
            settings=operator_api.settings(config),
            hooks=ServerDependencies(),
            documents=False,
            grace_s=0.5,
            limits=OPERATORS_LIMITS,
        )
        return worker("operators", server, backoff=SERVER_BACKOFF)

    async def works(self) -> None:
        """Wait until the database is there and the streams are read."""
        await self.database.back.wait()
        await self.streams.wait_ready()

    def system(self) -> System:
        """The tree on the running event loop, with its metrics and logs; not started."""
        self._system = system = System(self.tree(), stall_after_s=STALL_S, log=False)
        self.metrics.watch(system)
        self.metrics.registry.register(StreamCollector(self.streams.metrics))
        for watcher in self.watchers:
            system.subscribe(watcher)
        return system

    def running(self) -> System:
        """The system that was made last. Raises RuntimeError before there is one."""
        if self._system is None:
            raise RuntimeError("there is no system yet")
        return self._system


def unconnected() -> Application:
    """The parts of a process that has no servers: to look at, not to start."""
    nowhere = {
        "DATABASE_URL": "postgresql://nowhere",
        "REDIS_URL": "redis://nowhere",
        "KAFKA_BROKERS": "nowhere:9092",
        "SMTP_HOST": "nowhere",
        "JWT_SECRET_KEY": "-" * MIN_SECRET_BYTES,
    }
    return Application(load(nowhere), Path())
