"""The domain's actors on a real database, the people who ask them, and what tests look at afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid4

import msgspec
import pytest
from argon2 import PasswordHasher as Argon2Hasher

from callboard.actors.analytics.aggregator import Aggregator
from callboard.actors.delivery.notifier import Notifier
from callboard.actors.editorial.content_queries import ContentQueries
from callboard.actors.editorial.html_sanitizer import HtmlSanitizer
from callboard.actors.editorial.search_refill import REFILL_SEARCH, SearchRefill
from callboard.actors.editorial.workflow import Content, ContentWorkflow, CreateContent, Draft, TransitionContent
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.errors import ErrorCode, Problem
from callboard.actors.identity.authentication import LogIn, Logins
from callboard.actors.identity.data_export import MAKE_EXPORT, MAX_ARCHIVE_BYTES, ExportWorker
from callboard.actors.identity.email_requests import EMAIL_REQUEST, EmailRequests, EmailRequestWorker, RequestEmail
from callboard.actors.identity.erasure import PERSONAL_DATA
from callboard.actors.identity.password_hasher import PasswordHasher
from callboard.actors.identity.password_reset import Recovery
from callboard.actors.identity.session_cache import Authentication, SessionCache
from callboard.actors.identity.sessions import LoginResult, Sessions, key_of
from callboard.actors.identity.user_generations import UserGenerations
from callboard.actors.identity.users import RegisterUser, Users
from callboard.actors.infrastructure.audit_log import AuditLog, AuditRecorder, FailedLogins
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.job_worker import JobWorker
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.rate_limiter import LimitBatcher, Policy, RateLimiter
from callboard.actors.infrastructure.redis import RedisClient, RedisConnector
from callboard.actors.infrastructure.retention import rules
from callboard.actors.infrastructure.token_signer import Signer
from callboard.runtime import Crashed, Lifecycle, Message, Props, System, pool, supervisor, worker
from callboard.streams.event_types import ConsumeEvents, Envelope, type_of

T = TypeVar("T")

SECRET = "the tests' own secret, long enough for HS512 too: 64 bytes and some more"
ISSUER = "callboard"
PASSWORD = "Lantern-Walk-42"
# A true hash of PASSWORD that costs next to nothing: what is tested is seldom the hashing.
CHEAP_HASH = Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)

POLICIES = {"account": Policy(5, 900), "account_total": Policy(50, 900)}

EMPTY = """
delete from content; delete from categories; delete from subscriptions; delete from users; delete from outbox;
delete from consumed_events;
delete from aggregated_stats; delete from idempotency_keys; delete from mails; delete from dead_letters;
delete from feature_flags; delete from mail_producer_usage;
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
    """Every actor of the domain, in pools without a key: what must hold between processes must hold between workers.

    Two of these on one database and one Redis, each with a `RedisClient` of its own, are two processes.
    """

    def __init__(self, database: Database, cache: RedisClient) -> None:
        self.database = database
        self.cache = cache
        self.passed_s = 0.0  # by how much our clocks are ahead of the machine's
        self.signer = signer = Signer(SECRET, issuer=ISSUER, access_ttl_s=900, now=self.now)
        self.identities = SessionCache(UserGenerations(cache, self.clock))
        self.epochs = self.identities.epochs
        self.passwords = pool("passwords", PasswordHasher, size=2)
        self.sessions = pool(
            "sessions", Props(Sessions, database, self.identities, signer, self.now), size=16, key=key_of
        )
        self.limits = pool("limits", Props(RateLimiter, LimitBatcher(cache, POLICIES, self.clock)), size=2)
        self.failed_logins = FailedLogins(self.clock)
        self.audit_recorder = worker("audit_recorder", Props(AuditRecorder, database, self.failed_logins))
        self.audit_log = pool("audit_log", Props(AuditLog, database), size=2)
        checks = (database, self.passwords, self.sessions, self.limits, self.failed_logins)
        self.logins = pool("logins", Props(Logins, *checks, signer=signer), size=4)
        recovers = checks
        self.recovery = pool("recovery", Props(Recovery, *recovers), size=16)
        self.jobs = JobQueue([EMAIL_REQUEST, MAKE_EXPORT, REFILL_SEARCH])
        self.email_requests = pool("email_requests", Props(EmailRequests, database, self.jobs), size=4)
        self.users = pool("users", Props(Users, database, self.passwords, signer, self.sessions), size=16)
        self.content = pool("content", Props(ContentWorkflow, database, HtmlSanitizer()), size=8)
        self.library = pool("library", Props(ContentQueries, database), size=2)
        self.aggregator = pool("aggregator", Props(Aggregator, database), size=4)
        self.notifier = pool("notifier", Props(Notifier, database), size=2)
        self.max_archive_bytes = MAX_ARCHIVE_BYTES
        self.crashes: list[Lifecycle] = []

    @asynccontextmanager
    async def playing(self, *, guarded: bool = True) -> AsyncIterator[None]:
        """Run the actors. None may have crashed at the end, but those that the test has taken out of `crashes`.

        Without the guard the test itself says when Redis is back: `cache.probe()`.
        """
        guard = [worker("cache", Props(RedisConnector, self.cache))] if guarded else []
        identity = supervisor(
            "identity",
            self.audit_log,
            self.audit_recorder,
            self.passwords,
            self.sessions,
            self.limits,
            self.logins,
            self.users,
            self.recovery,
        )
        others = (self.email_requests, self.content, self.library, self.aggregator, self.notifier)
        try:
            async with System(supervisor("domain", *guard, identity, *others)) as system:
                system.subscribe(lambda event: self.crashes.append(event) if isinstance(event, Crashed) else None)
                yield
        finally:
            await self.cache.close()
        assert not self.crashes

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
        handlers = [job_pool(EMAIL_REQUEST, Props(EmailRequestWorker, self.signer))]
        handlers.append(
            job_pool(MAKE_EXPORT, Props(ExportWorker, self.database, PERSONAL_DATA, self.max_archive_bytes))
        )
        handlers.append(job_pool(REFILL_SEARCH, Props(SearchRefill, self.database)))
        pools = [each.pool for each in handlers]
        runner = worker("worker", Props(JobWorker, self.database, self.jobs, handlers, JobCounts(), name="domain"))
        due = "select count(*) from jobs where state = 'running' or (state = 'waiting' and run_at <= clock_timestamp())"
        async with System(supervisor("work", *pools, runner)), asyncio.timeout(20):
            while await self.value(due):  # noqa: ASYNC110 - what is awaited is in PostgreSQL
                await asyncio.sleep(0.002)

    async def clean_up(self) -> None:
        """Purge everything that is due."""
        async with self.database.acquire() as connection:
            for rule in rules():
                while await rule.purge(connection, 1000):
                    pass

    async def mail_token(self, user_id: UUID) -> str:
        """The newest secret that was mailed to a user, as the mail sender derives it."""
        query = "select token_id from mail_tokens where user_id = $1 order by created_at desc limit 1"
        return self.signer.mail_token(UUID(str(await self.value(query, user_id))))

    async def draft(self, author: Principal, title: str = "A title", body: str = "A body", **more: Any) -> Content:
        return await self.content.ask(CreateContent(uuid4(), Draft(title, body, **more), author))

    async def move(self, content_id: UUID, action: Action, who: Principal, note: str | None = None) -> Content:
        return await self.content.ask(TransitionContent(content_id, action, note, who))

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
    return await Authentication(domain.identities, domain.sessions, claims.user_id, claims.session_id)
