"""The department infrastructure: what all others build on."""

from functools import partial

from msgspec import Struct

from callboard.actors.department import Branch, Child, Department
from callboard.actors.infrastructure import audit_log, feature_flags
from callboard.actors.infrastructure.audit_log import AuditLog, AuditRecorder, FailedLogins
from callboard.actors.infrastructure.database import DatabaseGuard
from callboard.actors.infrastructure.feature_flags import OUR_FLAGS, FlagKeeper, FlagName, FlagSnapshot
from callboard.actors.infrastructure.idempotency import Idempotency
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.rate_limiter import DEFAULT_LIMIT, LimitBatcher, RateLimiter
from callboard.actors.infrastructure.redis import RedisConnector
from callboard.actors.infrastructure.refs import Clients, Declared, Infrastructure
from callboard.actors.infrastructure.retention import PURGE_EXPIRED, RetentionRule, table_rule
from callboard.actors.infrastructure.token_signer import Signer
from callboard.runtime import Props, pool, worker


class InfrastructureSettings(Struct, frozen=True, kw_only=True):
    """How tokens are signed, and how long security events are kept."""

    jwt_secret_key: str
    jwt_issuer: str = "callboard"
    access_ttl_s: int = 3600
    jwt_previous_keys: tuple[str, ...] = ()
    jwt_private_key: str = ""
    jwt_previous_public_keys: str = ""
    audit_retention_days: int = 365
    audit_failures_retention_days: int = 30


class InfrastructureNeeds(Struct, frozen=True):
    """The parts of a process that are there before its departments."""

    clients: Clients
    declared: Declared


def build(settings: InfrastructureSettings, needs: InfrastructureNeeds) -> Branch[Infrastructure]:
    """Construct the actors."""
    clients, declared = needs.clients, needs.declared
    database, cache = clients.database, clients.cache
    signer = Signer(
        settings.jwt_secret_key,
        issuer=settings.jwt_issuer,
        access_ttl_s=settings.access_ttl_s,
        previous=settings.jwt_previous_keys,
        private_key=settings.jwt_private_key,
        public_keys=settings.jwt_previous_public_keys,
        now=clients.now,
    )
    flags = FlagSnapshot(declared.flags)
    limiter = LimitBatcher(
        cache,
        declared.policies,
        clients.clock,
        strict=partial(flags.is_enabled, FlagName.STRICT_LIMITS),
        observe=clients.observers.limit_checks,
    )
    failed_logins = FailedLogins(clients.clock)
    limits = pool("limits", Props(RateLimiter, limiter), size=2)
    idempotency = pool("idempotency", Props(Idempotency, database, signer), size=4)
    flag_keeper = worker("flags", Props(FlagKeeper, database, flags))
    log = pool("audit_log", Props(AuditLog, database), size=1)
    refs = Infrastructure(
        database=database,
        cache=cache,
        jobs=JobQueue(declared.jobs),
        signer=signer,
        flags=flags,
        limiter=limiter,
        failed_logins=failed_logins,
        limits=limits,
        idempotency=idempotency,
        flag_keeper=flag_keeper,
        audit_log=log,
        now=clients.now,
        clock=clients.clock,
        observers=clients.observers,
    )
    return Branch(
        refs=refs,
        children=(
            Child(worker("database", Props(DatabaseGuard, database, clients.prepare, clients.give_up))),
            Child(worker("cache", Props(RedisConnector, cache))),
            Child(log),
            Child(worker("audit_recorder", Props(AuditRecorder, database, failed_logins))),
            Child(limits),
            Child(flag_keeper),
            Child(idempotency),
        ),
        retention=_retention(settings),
        checks={"database": database.pool("operators").check, "redis": cache.check},
    )


def _retention(settings: InfrastructureSettings) -> tuple[RetentionRule, ...]:
    days, failure_days = settings.audit_retention_days, settings.audit_failures_retention_days
    tables = ("idempotency_keys", "finished_jobs", "dead_jobs", "dead_letters")
    purge = partial(audit_log.purge, days=days, failure_days=failure_days)
    return (*map(table_rule, tables), RetentionRule("audit_log", purge))


INFRASTRUCTURE = Department(
    name="infrastructure",
    settings=InfrastructureSettings,
    needs=InfrastructureNeeds,
    offers=Infrastructure,
    build=build,
    limits=(DEFAULT_LIMIT,),
    flags=OUR_FLAGS,
    jobs=(PURGE_EXPIRED,),
    personal_data=(feature_flags.PERSONAL_DATA, audit_log.PERSONAL_DATA),
)
