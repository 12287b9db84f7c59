"""The domain's actors on a real database, the people who ask them, and what tests look at afterwards."""

import asyncio
import atexit
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid4

import msgspec
import pytest
from argon2 import PasswordHasher as Argon2Hasher

from callboard.actors.analytics.aggregator import Aggregator
from callboard.actors.analytics.department import ANALYTICS, AnalyticsSettings
from callboard.actors.analytics.hourly_run import CLOSE_HOURS
from callboard.actors.analytics.live_counters import StatBounds
from callboard.actors.delivery.department import DELIVERY, DeliverySettings
from callboard.actors.delivery.notification_digest import SEND_DIGESTS
from callboard.actors.delivery.notification_recorder import NotificationRecorder
from callboard.actors.delivery.notifier import Notifier
from callboard.actors.editorial.category_removal import REMOVE_CATEGORY
from callboard.actors.editorial.content_import import IMPORT_CONTENT, ContentImporter
from callboard.actors.editorial.department import EDITORIAL, EditorialSettings
from callboard.actors.editorial.scheduled_publishing import RUN_SCHEDULE
from callboard.actors.editorial.search_refill import REFILL_SEARCH
from callboard.actors.editorial.sitemaps import PLAN_SITEMAP
from callboard.actors.editorial.workflow import Content, CreateContent, Draft, TransitionContent
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.errors import ErrorCode, Problem
from callboard.actors.identity.authentication import LogIn
from callboard.actors.identity.data_export import MAKE_EXPORT, MAX_ARCHIVE_BYTES
from callboard.actors.identity.department import IDENTITY, IdentitySettings
from callboard.actors.identity.email_requests import EMAIL_REQUEST, RequestEmail
from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.identity.session_cache import Authentication
from callboard.actors.identity.sessions import LoginResult
from callboard.actors.identity.user_import_job import IMPORT_USERS
from callboard.actors.identity.users import RegisterUser
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.department import INFRASTRUCTURE, InfrastructureSettings
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.job_worker import JobWorker
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.rate_limiter import Policy
from callboard.actors.infrastructure.redis import RedisClient
from callboard.actors.infrastructure.refs import Clients, Infrastructure
from callboard.actors.ingestion.department import INGESTION, IngestionSettings
from callboard.ops import schema
from callboard.ops.departments import OURS, build, build_unchecked, declared_by
from callboard.runtime import Crashed, Lifecycle, Message, Props, Route, System, apply_pools, pool, supervisor, worker
from callboard.streams.event_types import ConsumeEvents, Envelope, type_of

T = TypeVar("T")

SECRET = "the tests' own secret, long enough for HS512 too: 64 bytes and some more"
ISSUER = "callboard"
PASSWORD = "Lantern-Walk-42"
# A true hash of PASSWORD that costs next to nothing: what is tested is seldom the hashing.
CHEAP_HASH = Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)

UPLOADS = tempfile.mkdtemp(prefix="callboard-uploads-")
atexit.register(shutil.rmtree, UPLOADS, ignore_errors=True)

POLICIES = {"account": Policy(5, 900), "account_total": Policy(50, 900)}
SETTINGS: dict[str, Any] = {
    INFRASTRUCTURE.name: InfrastructureSettings(
        jwt_secret_key=SECRET, jwt_issuer=ISSUER, access_token_ttl_s=900, uploads_folder=UPLOADS
    ),
    IDENTITY.name: IdentitySettings(),
    EDITORIAL.name: EditorialSettings(sitemap_page_urls=10),
    DELIVERY.name: DeliverySettings(smtp_host="127.0.0.1", smtp_port=1, mail_from="a@example.org"),
    ANALYTICS.name: AnalyticsSettings(),
    INGESTION.name: IngestionSettings(),
}
OF_TESTS = (INFRASTRUCTURE.name, IDENTITY.name, EDITORIAL.name, DELIVERY.name, INGESTION.name)
WORKED_ON = (
    EMAIL_REQUEST,
    MAKE_EXPORT,
    REFILL_SEARCH,
    SEND_DIGESTS,
    CLOSE_HOURS,
    IMPORT_USERS,
    RUN_SCHEDULE,
    REMOVE_CATEGORY,
    PLAN_SITEMAP,
)
STAT_BOUNDS = StatBounds(metrics=20, metrics_of_source=8, subjects=50)
# More workers, so that more happens at once, and mailboxes that wait, so that nothing is refused.
WIDE = {
    "pools": {
        "users": {"size": 16},
        "password_reset": {"size": 16, "mailbox": 1024, "overflow": "wait"},
        "logins": {"mailbox": 1024, "overflow": "wait"},
        "passwords": {"mailbox": 1024, "overflow": "wait"},
        "email_requests": {"size": 4},
    }
}

EMPTY = """
delete from uploads; delete from discarded_objects;
delete from content; delete from categories; delete from sitemap_pages; delete from subscriptions;
delete from users; delete from outbox;
delete from consumed_events;
delete from aggregated_stats; delete from live_stats; delete from stat_metrics;
delete from idempotency_keys; delete from mails; delete from dead_letters;
delete from feature_flags; delete from mail_producer_usage; delete from producer_keys; delete from notifications;
delete from notification_settings;
select purge_audit_log('-1 day', '-1 day', 1000000);
delete from jobs; delete from finished_jobs; delete from dead_jobs; delete from job_kinds; delete from schedules;
"""


PASS_TIME = """
update sessions
set expires_at = expires_at - $1, proved_at = proved_at - $1, used_at = used_at - $1, ended_at = ended_at - $1;
update refresh_tokens set spent_at = spent_at - $1;
update mail_tokens set expires_at = expires_at - $1, created_at = created_at - $1;
update users set unproven_since = unproven_since - $1;
update known_networks set seen_at = seen_at - $1;
"""


class Domain:
    """All departments, composed as the product composes them. Content is in a pool without a key: what must hold
    between processes must hold between workers. The first in a process is checked as well: all have the same parts.

    Two of these on one database and one Redis, each with a `RedisClient` of its own, are two processes.
    """

    _checked = False

    def __init__(self, database: Database, cache: RedisClient) -> None:
        self.database = database
        self.cache = cache
        self.passed_s = 0.0  # by how much our clocks are ahead of the machine's
        self.crashes: list[Lifecycle] = []
        self.clients = Clients(database, cache, schema.install, lambda _reason: None, self.now, self.clock)
        declared = msgspec.structs.replace(declared_by(OURS), policies=POLICIES)
        composed = build_unchecked if Domain._checked else build
        built = self.built = composed(OURS, SETTINGS, self.clients, declared)
        Domain._checked = True
        shared = built.refs(Infrastructure)
        self.signer, self.failed_logins, self.jobs = shared.signer, shared.failed_logins, shared.jobs
        self.rules = built.retention
        pools: dict[str, Any] = built.pools
        self.passwords, self.sessions, self.logins = pools["passwords"], pools["sessions"], pools["logins"]
        self.users, self.password_reset, self.content = pools["users"], pools["password_reset"], pools["content"]
        self.email_requests, self.content_queries = pools["email_requests"], pools["content_queries"]
        self.comments, self.comment_queries = pools["comments"], pools["comment_queries"]
        self.comment_moderation = pools["comment_moderation"]
        self.content_search = pools["content_search"]
        self.revisions, self.deleted_content = pools["revisions"], pools["deleted_content"]
        self.tags, self.categories = pools["tags"], pools["categories"]
        self.feeds, self.sitemaps = pools["feeds"], pools["sitemaps"]
        self.public_url = shared.public_url
        self.user_jobs, self.user_imports = pools["user_jobs"], pools["user_imports"]
        self.preferences, self.notifications = pools["preferences"], pools["notifications"]
        self.kinds = {kind.name: kind for kind in declared.notifications}
        self.limits, self.audit_log, self.statistics = pools["limits"], pools["audit_log"], pools["statistics"]
        self.session_cache = built.refs(IdentityRefs).session_cache
        self.generations = self.session_cache.generations
        children = built.branches[INFRASTRUCTURE.name].children
        self.audit_recorder: Any = next(child.node for child in children if child.node.name == "audit_recorder")
        # One consumer a process: these stand for several processes.
        self.refused_activity: Counter[str] = Counter()
        self.aggregator = pool("aggregator", Props(Aggregator, database, STAT_BOUNDS, self.refused_activity), size=4)
        self.notifier = pool("notifier", Props(Notifier, database), size=2)
        self.recorder = pool("recorder", Props(NotificationRecorder, database, self.kinds, keep=200), size=4)
        self.max_archive_bytes = MAX_ARCHIVE_BYTES

    @asynccontextmanager
    async def playing(self, *, guarded: bool = True) -> AsyncIterator[None]:
        """Run the actors. None may have crashed at the end, but those that the test has taken out of `crashes`.

        Without the guard the test itself says when Redis is back: `cache.probe()`.
        """
        await apply_pools(self.built.pools, WIDE)
        self.content._key = None
        self.content.route = Route.ROUND_ROBIN
        left_out = {
            "database",
            "flags",
            "mail_queue",
            "notifier",
            "notification_recorder",
            *(() if guarded else ("cache",)),
        }
        branches = {each: self.built.branches[each].children for each in OF_TESTS}
        running = [
            supervisor(name, *(child.node for child in children if child.node.name not in left_out))
            for name, children in branches.items()
        ]
        try:
            others = (self.aggregator, self.statistics, self.notifier, self.recorder)
            async with System(supervisor("domain", *running, *others)) as system:
                system.subscribe(lambda event: self.crashes.append(event) if isinstance(event, Crashed) else None)
                yield
        finally:
            await self.cache.close()
        assert not self.crashes

    def figures(self, department: str, name: str) -> dict[str, float]:
        """A department's counter or gauge, by its label."""
        found = next(each for each in self.built.branches[department].figures if each.name == name)
        return {label: value for (label,), value in found.read().items()}

    # Time ------------------------------------------------------------------------------------------------------------

    def clock(self) -> float:
        """What goes on evenly, in seconds."""
        return time.monotonic() + self.passed_s

    def now(self) -> datetime:
        """What the calendar says."""
        return datetime.now(UTC) + timedelta(seconds=self.passed_s)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass: for our clocks, and for what PostgreSQL has of sessions and their tokens."""
        self.passed_s += seconds
        await self.execute(PASS_TIME.replace("$1", f"interval '{seconds} seconds'"))

    # The database ----------------------------------------------------------------------------------------------------

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        async with self.database.acquire() as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]

    async def value(self, query: str, *arguments: Any) -> Any:
        async with self.database.acquire() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, statement: str) -> None:
        async with self.database.acquire() as connection:
            await connection.execute(statement)

    @contextmanager
    def overheard(self) -> Iterator[list[str]]:
        """What is said to the database during the block, statement by statement."""
        acquire, said = self.database.acquire, list[str]()

        @asynccontextmanager
        async def listening() -> AsyncIterator[Any]:
            async with acquire() as connection:
                with connection.query_logger(lambda record: said.append(record.query)):
                    yield connection

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.database, "acquire", listening)
            yield said

    async def events(self, *types: str) -> list[tuple[str, str, dict[str, Any]]]:
        """What stands in the outbox, as (topic, type, value), in order; only of these types if any are given."""
        rows = await self.rows("select topic, type, value from outbox order by outbox_id")
        read = [(row["topic"], row["type"], msgspec.json.decode(row["value"])) for row in rows]
        return [event for event in read if not types or event[1] in types]

    # People and articles ---------------------------------------------------------------------------------------------

    async def person(
        self,
        role: Role = Role.MEMBER,
        *,
        email: str | None = None,
        is_verified: bool = True,
        is_active: bool = True,
        password_hash: str = CHEAP_HASH,
    ) -> Principal:
        """Somebody with an account, without the ceremony of registering."""
        user_id = uuid4()
        email = email or f"{role}-{user_id.hex[:8]}@example.org"
        await self.rows(
            "insert into users (user_id, email, password_hash, full_name, role, is_verified, is_active) "
            "values ($1, $2, $3, 'Some One', $4, $5, $6)",
            user_id,
            email,
            password_hash,
            role.value,
            is_verified,
            is_active,
        )
        return Principal(user_id, uuid4(), email, role)

    async def registered(self, email: str = "ada@example.org") -> UUID:
        """Somebody who has registered and not verified."""
        return (await self.users.ask(RegisterUser(email, PASSWORD, "Ada Lovelace", terms_accepted=True))).user_id

    async def answered(self, letter: Literal["reset_password", "verify_email"], email: str) -> None:
        """Have a letter asked for, and the request answered."""
        await self.email_requests.ask(RequestEmail(letter, email))
        await self.work()

    async def work(self) -> None:
        """Do the jobs that are due, to their end."""
        settings = SETTINGS | {IDENTITY.name: IdentitySettings(export_max_bytes=self.max_archive_bytes)}
        built = build_unchecked(
            OURS, settings, self.clients, self.built.declared
        )  # pools that have stopped do not start again
        handlers = [each for branch in built.branches.values() for each in branch.jobs if each.kind in WORKED_ON]
        importer = Props(ContentImporter, self.content, self.categories)  # it asks pools that run
        handlers.append(job_pool(IMPORT_CONTENT, importer))
        pools = [each.pool for each in handlers]
        runner = worker("worker", Props(JobWorker, self.database, self.jobs, handlers, JobCounts(), name="domain"))
        due = "select count(*) from jobs where state = 'running' or (state = 'waiting' and run_at <= clock_timestamp())"
        async with System(supervisor("work", *pools, runner)), asyncio.timeout(20):
            while await self.value(due):  # noqa: ASYNC110 - what is awaited is in PostgreSQL
                await asyncio.sleep(0.002)

    async def clean_up(self) -> None:
        """Purge everything that is due."""
        async with self.database.acquire() as connection:
            for rule in self.rules:
                while await rule.purge(connection, 1000):
                    pass

    async def mail_token(self, user_id: UUID) -> str:
        """The newest secret that was mailed to a user, as the mail sender derives it."""
        query = "select token_id from mail_tokens where user_id = $1 order by created_at desc limit 1"
        return self.signer.mail_token(UUID(str(await self.value(query, user_id))))

    async def draft(self, author: Principal, title: str = "A title", body: str = "A body", **more: Any) -> Content:
        return await self.content.ask(CreateContent(uuid4(), Draft(title, body, **more), author))

    async def move(self, content_id: UUID, action: Action, caller: Principal, note: str | None = None) -> Content:
        return await self.content.ask(TransitionContent(content_id, action, note, caller))

    async def published(self, author: Principal, editor: Principal, title: str = "A title", body: str = "") -> Content:
        content = await self.draft(author, title, body)
        await self.move(content.content_id, Action.SUBMIT_FOR_REVIEW, author)
        await self.move(content.content_id, Action.APPROVE, editor)
        return await self.move(content.content_id, Action.PUBLISH, editor)


def envelope(event: Message, event_id: str | None = None, **more: Any) -> Envelope:
    """An event as a consumer gets it."""
    declared = type_of(event)
    facts = {"topic": declared.topics[0].name, "source": "/tests", "occurred_at": datetime.now(UTC)} | more
    return Envelope(event_id=event_id or str(uuid4()), type=declared.name, traceparent=None, event=event, **facts)


def consume(*envelopes: Envelope) -> ConsumeEvents:
    """The envelopes as one batch."""
    return ConsumeEvents(envelopes)


@contextmanager
def refused(code: ErrorCode) -> Iterator[pytest.ExceptionInfo[Problem]]:
    """The block is refused, with this code."""
    with pytest.raises(Problem) as caught:
        yield caught
    assert caught.value.code is code, caught.value


async def at_once(*asks: Awaitable[T]) -> tuple[list[T], list[ErrorCode]]:
    """Run them all at once: the replies of those that won, and why the others were refused."""
    results = await asyncio.gather(*asks, return_exceptions=True)
    won: list[T] = []
    lost: list[ErrorCode] = []
    for result in results:
        if isinstance(result, Problem):
            lost.append(result.code)
        elif isinstance(result, BaseException):
            raise result
        else:
            won.append(result)
    return won, lost


async def log_in(domain: Domain, email: str = "ada@example.org", password: str = PASSWORD) -> LoginResult:
    return await domain.logins.ask(LogIn(email, password, "a browser", "127.0.0.1"))


async def whoami(domain: Domain, login: LoginResult) -> Principal:
    """Whom a login's access token speaks for now."""
    claims = domain.signer.read(login.access_token)
    return await Authentication(domain.session_cache, domain.sessions, claims.user_id, claims.session_id)
