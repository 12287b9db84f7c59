"""A department: one branch of the supervision tree, with everything that it adds to the product.

Ours and those of other packages have one shape. Everything in a `Department` can be listed without building it;
`build` constructs its actors and starts nothing. A process composes departments in the order of their needs.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

from msgspec import Struct

from callboard.actors.errors import ErrorCode
from callboard.actors.figures import Figure
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.feature_flags import FeatureFlag
from callboard.actors.infrastructure.job_kinds import JobHandler, JobKind
from callboard.actors.infrastructure.notification_kinds import NotificationKind
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.actors.infrastructure.retention import Retain, RetentionRule
from callboard.actors.infrastructure.schedules import Schedule
from callboard.runtime import Node, Strategy
from callboard.streams.consumers import Consumer
from callboard.streams.event_types import EventType

S = TypeVar("S", bound=Struct)  # settings
N = TypeVar("N", bound=Struct)  # needs
R = TypeVar("R", bound=Struct)  # offered references


class Role(StrEnum):
    """A part of the work that a process may leave to others."""

    FRONT = "front"
    STREAMS = "streams"
    WORKERS = "workers"


class Child(Struct, frozen=True):
    """A node, and the role without which it does not run here; None: it runs in every process."""

    node: Node
    role: Role | None = None


class Branch(Struct, Generic[R], frozen=True, kw_only=True):
    """The result of a build: everything that holds a reference to an actor, in the order of starting.

    The pools of `jobs` run in the processes that work on jobs. `checks` are asked by /ready, `figures` by /metrics, and
    the circuit `breakers` by both. `live` names the settings that change while it runs: each function adopts
    the new settings of the department.
    """

    refs: R
    children: Sequence[Child]
    consumers: Sequence[Consumer] = ()
    jobs: Sequence[JobHandler[Any]] = ()
    retention: Sequence[RetentionRule] = ()
    checks: Mapping[str, Callable[[], Awaitable[None]]] = {}
    figures: Sequence[Figure] = ()
    live: Mapping[str, Callable[[Any], None]] = {}
    breakers: Sequence[CircuitBreaker] = ()
    strategy: Strategy = Strategy.ONE_FOR_ONE


class Department(Struct, Generic[S, N, R], frozen=True, kw_only=True):
    """A department of a process; packages name theirs by the entry point group `callboard.departments`.

    `needs` is a Struct whose fields are Structs that other departments offer, found by their type: they give the order
    of building, and `build` gets it filled. A field `EditorialRefs | None = None` is an optional need. Names of the
    limits, flags, kinds of jobs and notifications, schedules and retention rules of a package begin with the name of
    its department and a dot. `migrations` is the folder of its own history of Alembic's.
    """

    name: str
    settings: type[S]
    needs: type[N]
    offers: type[R]
    build: Callable[[S, N], Branch[R]]
    events: Sequence[EventType] = ()
    errors: Sequence[ErrorCode] = ()
    limits: Sequence[RateLimit] = ()
    flags: Sequence[FeatureFlag] = ()
    jobs: Sequence[JobKind[Any]] = ()
    schedules: Sequence[Schedule] = ()
    notifications: Sequence[NotificationKind] = ()
    retention: Sequence[Retain | RetentionRule] = ()
    personal_data: Sequence[PersonalData] = ()
    migrations: Path | None = None


AnyDepartment = Department[Any, Any, Any]
