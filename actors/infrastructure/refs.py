"""The clients that a process gives to its infrastructure, and the infrastructure's offers to every department."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from callboard.actors.errors import ErrorCode
from callboard.actors.infrastructure.audit_log import FailedLogins, ListAuditEntries
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.feature_flags import FeatureFlag, FlagMessage, FlagSnapshot
from callboard.actors.infrastructure.idempotency import ClaimKey, ReleaseKey, StoreResponse
from callboard.actors.infrastructure.job_kinds import JobKind
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.actors.infrastructure.notification_kinds import NotificationKind
from callboard.actors.infrastructure.object_store import ObjectStore
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.rate_limiter import CheckLimit, LimitBatcher, Policy
from callboard.actors.infrastructure.redis import RedisClient
from callboard.actors.infrastructure.retention import RetentionRule
from callboard.actors.infrastructure.schedules import Schedule
from callboard.actors.infrastructure.token_signer import Signer
from callboard.actors.infrastructure.user_jobs import CancelUserJob, GetUserJob, RetryUserJob, StartImport
from callboard.runtime import Ref
from callboard.streams.event_types import EventType
from callboard.streams.signatures import EventSigner


def count_nothing(*_: Any) -> None:
    """Ignore a count."""


class Gauge:
    """A number that an actor sets and the metrics show; None until it is known."""

    def __init__(self) -> None:
        self.value: int | None = None


class Observers(Struct, frozen=True):
    """Counters of a process, for its departments."""

    registrations: Callable[[int], None] = count_nothing
    limit_checks: Callable[[str, str, int], None] = count_nothing  # policy, outcome, how many
    mail: Callable[[str, str], None] = count_nothing  # result, reason
    active_users: Gauge = msgspec.field(default_factory=Gauge)


class Clients(Struct, frozen=True):
    """The connections and clocks of a process. `prepare(url)` checks the schema before each connection."""

    database: Database
    cache: RedisClient
    prepare: Callable[[str], Awaitable[None]]
    give_up: Callable[[str], None]
    now: Callable[[], datetime]  # one clock for all processes
    clock: Callable[[], float]  # monotonic
    observers: Observers = Observers()


class Declared(Struct, frozen=True):
    """All declarations of a process's departments. A reload changes `policies` in place; `personal_data` is in the
    order of erasure.
    """

    events: Sequence[EventType] = ()
    jobs: Sequence[JobKind[Any]] = ()
    errors: Sequence[ErrorCode] = ()
    policies: dict[str, Policy] = {}
    personal_data: Sequence[PersonalData] = ()
    flags: Sequence[FeatureFlag] = ()
    retention: Sequence[RetentionRule] = ()
    schedules: Sequence[Schedule] = ()
    notifications: Sequence[NotificationKind] = ()


class Infrastructure(Struct, frozen=True):
    """References and values that every department may use."""

    database: Database
    cache: RedisClient
    jobs: JobQueue
    objects: ObjectStore
    user_jobs: Ref[StartImport | GetUserJob | CancelUserJob | RetryUserJob]
    signer: Signer
    flags: FlagSnapshot
    limiter: LimitBatcher
    failed_logins: FailedLogins
    limits: Ref[CheckLimit]
    idempotency: Ref[ClaimKey | StoreResponse | ReleaseKey]
    flag_keeper: Ref[FlagMessage]
    audit_log: Ref[ListAuditEntries]
    event_signer: EventSigner
    public_url: str
    now: Callable[[], datetime]
    clock: Callable[[], float]
    observers: Observers
