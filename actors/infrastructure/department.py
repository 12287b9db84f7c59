"""The department infrastructure: what all others build on."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from callboard.actors.department import Branch, Child, Department
from callboard.actors.infrastructure import audit_log, feature_flags, user_jobs
from callboard.actors.infrastructure.audit_log import AuditLog, AuditRecorder, FailedLogins
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.database import DatabaseGuard
from callboard.actors.infrastructure.dead_records import REPLAY_RECORD
from callboard.actors.infrastructure.disk_store import THREADS, DiskStore
from callboard.actors.infrastructure.errors import ERRORS
from callboard.actors.infrastructure.events import JOB_EVENTS
from callboard.actors.infrastructure.feature_flags import OUR_FLAGS, FlagKeeper, FlagName, FlagSnapshot
from callboard.actors.infrastructure.idempotency import Idempotency
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.object_store import ObjectStore, ObjectStoreKeeper
from callboard.actors.infrastructure.rate_limiter import DEFAULT_LIMIT, LimitBatcher, RateLimiter
from callboard.actors.infrastructure.redis import RedisConnector
from callboard.actors.infrastructure.refs import Clients, Declared, Infrastructure
from callboard.actors.infrastructure.retention import HOURLY, PURGE_EXPIRED, Retain, query_rule
from callboard.actors.infrastructure.signing_keys import KeyRing, parse_private_key, parse_public_keys, parse_secret
from callboard.actors.infrastructure.token_signer import Signer
from callboard.actors.infrastructure.user_jobs import IMPORTS_PER_HOUR, UserJobs
from callboard.actors.settings import SECRET, Count, Days, Folder, Hours, Line, Parsed, Settings, WebAddress, in_vault
from callboard.runtime import Props, pool, worker
from callboard.streams.signatures import EventSigner

Secret = Annotated[str, Parsed(parse_secret)]
KEYS = ("jwt_secret_key", "jwt_previous_keys", "jwt_private_key", "jwt_previous_public_keys")
USUAL_FOLDER = "/var/lib/callboard/uploads"


class InfrastructureSettings(Settings, frozen=True, kw_only=True):
    """The public address, how tokens are signed, how many requests may come, and how long security events are kept."""

    jwt_secret_key: Annotated[
        Secret,
        SECRET,
        in_vault("jwt_secret"),
        Meta(description="the secret that signs access tokens; 32 bytes or more"),
    ]
    jwt_previous_keys: Annotated[
        tuple[Secret, ...],
        SECRET,
        Meta(description="earlier values of JWT_SECRET_KEY, separated by lines or commas: they still verify"),
    ] = ()
    jwt_private_key: Annotated[
        str, Parsed(parse_private_key), SECRET, Meta(description="an Ed25519 key in PEM that signs access tokens")
    ] = ""
    jwt_previous_public_keys: Annotated[
        str,
        Parsed(parse_public_keys),
        SECRET,  # they are long, and at home in a file
        Meta(description="the public keys of earlier values of JWT_PRIVATE_KEY, in PEM: they still verify"),
    ] = ""
    jwt_issuer: Annotated[Line, Meta(description="the issuer of access tokens")] = "callboard"
    jwt_expiration_hours: Annotated[
        Hours, Meta(description="the lifetime of an access token in hours, such as 0.25")
    ] = 1.0
    access_token_ttl_s: Annotated[
        Annotated[int, Meta(ge=1, le=8760 * 3600)] | None,
        Meta(description="the lifetime of an access token in seconds; replaces JWT_EXPIRATION_HOURS"),
    ] = None
    public_url: Annotated[
        WebAddress,
        Meta(description="the base URL of links in mails; with https, responses carry Strict-Transport-Security"),
    ] = "http://127.0.0.1:8000"
    rate_limit_per_minute: Annotated[Count, Meta(description="requests per minute, by user or address")] = (
        DEFAULT_LIMIT.limit
    )
    quota_imports_per_hour: Annotated[
        Count, Meta(description="imports of articles that one user may start in an hour")
    ] = IMPORTS_PER_HOUR
    dead_letter_retention_days: Annotated[
        Days, Meta(description="days to keep dead letters of records, of jobs and so of mails")
    ] = 30
    audit_retention_days: Annotated[Days, Meta(description="days to keep entries of the audit log")] = 365
    audit_failures_retention_days: Annotated[Days, Meta(description="days to keep its entries of failed logins")] = 30
    uploads_folder: Annotated[Folder, Meta(description="the folder of uploaded files")] = USUAL_FOLDER
    uploads_threads: Annotated[
        int, Meta(ge=1, le=64, description="threads that read and write uploaded files at once")
    ] = THREADS
    aws_s3_bucket: Annotated[
        Line, Meta(description="the bucket of uploaded files, in place of UPLOADS_FOLDER; needs callboard[s3]")
    ] = ""
    aws_region: Annotated[Line, Meta(description="the region of the bucket")] = ""
    aws_endpoint_url: Annotated[
        WebAddress | None,
        Meta(description="the address of a server like S3; default: Amazon's"),
    ] = None
    aws_access_key_id: Annotated[
        Line, SECRET, Meta(description="the id of the bucket's key; default: the role of the machine")
    ] = ""
    aws_secret_access_key: Annotated[Line, SECRET, Meta(description="the secret of that key")] = ""

    def __post_init__(self) -> None:
        """Raise ValueError for a half of a key, and for a bucket without the package that reaches it."""
        if bool(self.aws_access_key_id) != bool(self.aws_secret_access_key):
            raise ValueError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together")
        if self.aws_s3_bucket and find_spec("aiobotocore") is None:
            raise ValueError("AWS_S3_BUCKET needs a package that is not installed: pip install 'callboard[s3]'")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the secrets, the current one first."""
        return (self.jwt_secret_key, *self.jwt_previous_keys)

    @property
    def keys(self) -> KeyRing:
        """Return the keys of access tokens."""
        return KeyRing(
            self.jwt_secret_key,
            previous=self.jwt_previous_keys,
            private_key=self.jwt_private_key,
            public_keys=self.jwt_previous_public_keys,
        )

    @property
    def access_ttl_s(self) -> int:
        """Return the life of an access token in seconds."""
        return self.access_token_ttl_s or max(1, round(self.jwt_expiration_hours * 3600))


class InfrastructureNeeds(Struct, frozen=True):
    """The parts of a process that are there before its departments."""

    clients: Clients
    declared: Declared


def store_of(settings: InfrastructureSettings, breaker: CircuitBreaker) -> ObjectStore:
    """Return the store of uploads: a bucket behind the breaker if one is set, or the folder."""
    if not settings.aws_s3_bucket:
        return DiskStore(Path(settings.uploads_folder), threads=settings.uploads_threads)
    from callboard.actors.infrastructure.s3_connection import S3Settings  # noqa: PLC0415 - it takes a second
    from callboard.actors.infrastructure.s3_store import S3Store  # noqa: PLC0415 - the same

    return S3Store(
        S3Settings(
            settings.aws_s3_bucket,
            settings.aws_region,
            settings.aws_endpoint_url or "",
            settings.aws_access_key_id,
            settings.aws_secret_access_key,
        ),
        breaker=breaker,
    )


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
    event_signer = EventSigner(settings.secrets)
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
    queue = JobQueue(declared.jobs)
    bucket = CircuitBreaker("s3")
    objects = store_of(settings, bucket)
    users_jobs = pool("user_jobs", Props(UserJobs, database, queue, settings.quota_imports_per_hour), size=2)
    refs = Infrastructure(
        database=database,
        cache=cache,
        jobs=queue,
        objects=objects,
        user_jobs=users_jobs,
        signer=signer,
        flags=flags,
        limiter=limiter,
        failed_logins=failed_logins,
        limits=limits,
        idempotency=idempotency,
        flag_keeper=flag_keeper,
        audit_log=log,
        event_signer=event_signer,
        public_url=settings.public_url,
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
            Child(users_jobs),
            Child(worker("objects", Props(ObjectStoreKeeper, objects))),
        ),
        retention=(
            query_rule(
                "audit_log",
                audit_log.QUERIES.purge,
                days=settings.audit_retention_days,
                failure_days=settings.audit_failures_retention_days,
            ),
        ),
        checks={"database": database.pool("operators").check, "redis": cache.check, "uploads": objects.check},
        breakers=(database.server.breaker, cache.breaker, *([bucket] if settings.aws_s3_bucket else [])),
        live=dict.fromkeys(KEYS, partial(_replace_keys, signer, event_signer)),
    )


def _replace_keys(signer: Signer, event_signer: EventSigner, settings: InfrastructureSettings) -> None:
    signer.replace_keys(settings.keys)
    event_signer.replace_secrets(settings.secrets)


INFRASTRUCTURE = Department(
    name="infrastructure",
    settings=InfrastructureSettings,
    needs=InfrastructureNeeds,
    offers=Infrastructure,
    build=build,
    events=JOB_EVENTS,
    errors=ERRORS,
    limits=(DEFAULT_LIMIT,),
    flags=OUR_FLAGS,
    jobs=(PURGE_EXPIRED, REPLAY_RECORD),
    schedules=(HOURLY,),
    retention=(
        Retain("idempotency_keys", "idempotency_keys", "expires_at", 0),
        Retain("finished_jobs", "finished_jobs", "keep_until", 0),
        Retain("dead_jobs", "dead_jobs", "died_at", 30, "dead_letter_retention_days"),
        Retain("dead_letters", "dead_letters", "created_at", 30, "dead_letter_retention_days"),
        Retain("user_jobs", "user_jobs", "updated_at", 7),
    ),
    personal_data=(feature_flags.PERSONAL_DATA, audit_log.PERSONAL_DATA, user_jobs.PERSONAL_DATA),
)
