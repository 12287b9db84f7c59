"""The departments of a process: ours and those of installed packages, ordered by their needs, and built."""

import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import EntryPoint, entry_points
from types import NoneType
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from callboard.actors.analytics.department import ANALYTICS
from callboard.actors.delivery.department import DELIVERY
from callboard.actors.department import AnyDepartment, Branch, Department
from callboard.actors.editorial.department import EDITORIAL
from callboard.actors.errors import ERRORS
from callboard.actors.identity.department import IDENTITY
from callboard.actors.infrastructure.department import INFRASTRUCTURE
from callboard.actors.infrastructure.refs import Clients, Declared
from callboard.actors.infrastructure.retention import Retain, RetentionRule
from callboard.actors.ingestion.department import INGESTION
from callboard.http.api.routes import OUR_ROUTES
from callboard.http.server.routing import Route, Routes
from callboard.ops.config.departments import RESERVED, Configured
from callboard.ops.config.file import TABLES
from callboard.ops.config.sources import ConfigError
from callboard.ops.reach import out_of_reach
from callboard.ops.schema import History
from callboard.runtime import Entities, Node, Pool, Supervisor, supervisor

OURS: tuple[AnyDepartment, ...] = (INFRASTRUCTURE, IDENTITY, EDITORIAL, DELIVERY, ANALYTICS, INGESTION)
GIVEN: tuple[type[Struct], ...] = (Clients, Declared)  # the offers that exist before any department

T = TypeVar("T")


class CompositionError(ConfigError):
    """The departments do not fit together; `faults` has one line for each reason."""


def installed() -> tuple[AnyDepartment, ...]:
    """Return ours, and those of the entry point group `callboard.departments`. Raises CompositionError."""
    return (*OURS, *_load("callboard.departments", Department))


def installed_routes() -> tuple[Routes[Any], ...]:
    """Return ours, and those of the entry point group `callboard.routes`. Raises CompositionError."""
    return (*OUR_ROUTES, *_load("callboard.routes", Routes))


@cache
def _points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group; reading the files of every installed package takes a while."""
    return tuple(entry_points(group=group))


def _load(group: str, kind: type[T]) -> list[T]:
    found: list[T] = []
    faults: list[str] = []
    for point in _points(group):
        where = f"{point.dist.name if point.dist else 'unknown'}: entry point {group}, {point.name} = {point.value}"
        try:
            value = point.load()
        except Exception as error:  # noqa: BLE001 - whatever a package does when it is imported
            faults.append(f"{where}: {type(error).__name__}: {error}")
            continue
        if isinstance(value, kind):
            found.append(value)
        else:
            faults.append(f"{where}: is a {type(value).__name__}, not a {kind.__name__}")
    if faults:
        raise CompositionError(faults)
    return found


# Order ---------------------------------------------------------------------------------------------------------------


def needs_of(department: AnyDepartment) -> Iterator[tuple[str, type[Struct], bool]]:
    """Yield the name and type of every need of a department, and whether it is required."""
    for field in msgspec.structs.fields(department.needs):
        (kind,) = [each for each in typing.get_args(field.type) or (field.type,) if each is not NoneType]
        yield field.name, kind, field.required


def in_order(departments: Sequence[AnyDepartment]) -> list[AnyDepartment]:
    """Sort departments: an offer comes before its needs; otherwise the order stays. Raises CompositionError."""
    faults = list(_clashes(departments))
    by_offer = {each.offers: each for each in departments}
    graph: dict[str, list[str]] = {}  # lists: a set has another order in each process
    for each in departments:
        graph[each.name] = [by_offer[kind].name for _, kind, _ in needs_of(each) if kind in by_offer]
        for _, kind, required in needs_of(each):
            if required and kind not in by_offer and kind not in GIVEN:
                faults.append(f"{each.name} needs {kind.__name__}, which no installed department offers")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        faults.append(f"departments need one another in a circle: {' <- '.join(error.args[1])}")
    if faults:
        raise CompositionError(faults)
    by_name = {each.name: each for each in departments}
    order: dict[str, AnyDepartment] = {}

    def place(name: str) -> None:
        for need in graph[name]:
            place(need)
        order.setdefault(name, by_name[name])

    for name in graph:
        place(name)
    return list(order.values())


def _clashes(departments: Sequence[AnyDepartment]) -> Iterator[str]:
    """Yield duplicate names, and names of packages that do not begin with the name of their department."""
    names = {
        "are called": [each.name for each in departments],
        "offer": [f"{each.offers.__module__}.{each.offers.__qualname__}" for each in departments],
        "declare the event": [event.name for each in departments for event in each.events],
        "declare the error": [
            error.name for errors in (ERRORS, *(each.errors for each in departments)) for error in errors
        ],
        "declare the limit": [limit.name for each in departments for limit in each.limits],
        "declare the flag": [flag.name for each in departments for flag in each.flags],
        "declare the rule of retention": [rule.name for each in departments for rule in each.retention],
        "declare the schedule": [schedule.name for each in departments for schedule in each.schedules],
        "declare the kind of jobs": [kind.name for each in departments for kind in each.jobs],
        "declare the kind of notifications": [kind.name for each in departments for kind in each.notifications],
        "export": [part.name for each in departments for part in each.personal_data],
    }
    for what, taken in names.items():
        yield from (f"{count} departments {what} {name}" for name, count in Counter(taken).items() if count > 1)
    for each in departments:
        if not each.name.isidentifier() or "__" in each.name or each.name != each.name.lower():
            yield f"{each.name}: the name of a department is one word in lower case"
        if each in OURS:  # their names are older than this rule, and in use in configurations
            continue
        declared: Sequence[Any] = (
            *(*each.limits, *each.flags, *each.jobs, *each.schedules, *each.notifications, *each.retention),
        )
        for name in (one.name for one in declared):
            if name.partition(".")[0] != each.name:
                yield f"{each.name}: {name} must be called {each.name}.NAME"
        yield from (
            f"{each.name}: a setting may not be called {field}"
            for field in each.settings.__struct_fields__
            if field in RESERVED
        )
        if each.name in TABLES:
            yield f"a department may not be called {each.name}"


def histories_of(departments: Sequence[AnyDepartment]) -> list[History]:
    """Return the migrations of packages, in the order of building."""
    return [History(each.name, each.migrations) for each in departments if each.migrations is not None]


def declared_by(departments: Sequence[AnyDepartment], configured: Mapping[str, Configured] | None = None) -> Declared:
    """Return all declarations of departments, as configured."""
    as_declared = {each.name: Configured(None, each.limits, each.flags, each.retention) for each in departments}
    all_of = {**as_declared, **(configured or {})}
    return Declared(
        events=[event for each in departments for event in each.events],
        jobs=[kind for each in departments for kind in each.jobs],
        schedules=[schedule for each in departments for schedule in each.schedules],
        errors=[*ERRORS, *(error for each in departments for error in each.errors)],
        policies={limit.name: limit.policy for each in departments for limit in all_of[each.name].limits},
        personal_data=[part for each in reversed(departments) for part in each.personal_data],
        flags=[flag for each in departments for flag in all_of[each.name].flags],
        retention=[
            rule.rule() if isinstance(rule, Retain) else rule
            for each in departments
            for rule in all_of[each.name].retention
        ],
        notifications=[kind for each in departments for kind in each.notifications],
    )


# Building ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    """Departments that are built, in order; nothing is started."""

    declared: Declared
    branches: Mapping[str, Branch[Any]]
    offered: Mapping[type[Any], Any]

    def refs(self, kind: type[T]) -> T:
        """Return the references of the department that offers this type."""
        found: T = self.offered[kind]
        return found

    def supervisors(self, roles: frozenset[str]) -> list[Supervisor]:
        """Return the branches, without the children whose role does not run here."""
        return [
            supervisor(
                name,
                *(child.node for child in branch.children if child.role is None or child.role in roles),
                strategy=branch.strategy,
            )
            for name, branch in self.branches.items()
        ]

    @property
    def retention(self) -> list[RetentionRule]:
        """Return all rules of retention, declared and built."""
        return [*self.declared.retention, *(rule for branch in self.branches.values() for rule in branch.retention)]

    @property
    def pools(self) -> dict[str, Pool[Any] | Entities[Any]]:
        """Return every pool by its name, whether it runs in this process or not."""
        nodes: list[Node] = [child.node for branch in self.branches.values() for child in branch.children]
        nodes += [handler.pool for branch in self.branches.values() for handler in branch.jobs]
        return {node.name: node for node in nodes if isinstance(node, Pool | Entities)}

    def bind(self, routes: Iterable[Routes[Any]]) -> list[Route[Any]]:
        """Return the routes with the references of their departments. Raises CompositionError."""
        faults = [
            f"{each.refs.__name__} has routes, and no installed department offers it"
            for each in routes
            if each.refs not in self.offered
        ]
        bound = [route for each in routes if each.refs in self.offered for route in each.bind(self.offered[each.refs])]
        faults += [
            f"{route.method} {route.path}: no department declares the error {code.name}"
            for route in bound
            for code in route.errors
            if code not in self.declared.errors
        ]
        faults += [
            f"{route.method} {route.path}: no department declares the limit {limit.name}"
            for route in bound
            for limit in (route.limit, route.caller_limit)
            if limit is not None and limit.name not in self.declared.policies
        ]
        if faults:
            raise CompositionError(faults)
        return bound


def build(
    departments: Sequence[AnyDepartment], settings: Mapping[str, Any], clients: Clients, declared: Declared
) -> Built:
    """Build departments, which are in order. Raises CompositionError for parts that do not fit one another."""
    built = build_unchecked(departments, settings, clients, declared)
    branches = built.branches
    faults = list(out_of_reach(branches))
    events = {event.struct for each in departments for event in each.events}
    faults += [
        f"{name}: the consumer {consumer.name} accepts {accepted.__name__}, which no installed department declares"
        for name, branch in branches.items()
        for consumer in branch.consumers
        for accepted in consumer.accepts
        if accepted not in events
    ]
    # The kinds of infrastructure serve all departments: their pools are built after these.
    worked_on = {*INFRASTRUCTURE.jobs, *(handler.kind for branch in branches.values() for handler in branch.jobs)}
    faults += [
        f"{each.name}: no actor works on {kind.name}"
        for each in departments
        for kind in each.jobs
        if kind not in worked_on
    ]
    payloads = {kind.payload for kind in declared.jobs}
    faults += [
        f"{each.name}: no kind of jobs takes the {type(schedule.payload).__name__} of the schedule {schedule.name}"
        for each in departments
        for schedule in each.schedules
        if type(schedule.payload) not in payloads
    ]
    if faults:
        raise CompositionError(faults)
    return built


def build_unchecked(
    departments: Sequence[AnyDepartment], settings: Mapping[str, Any], clients: Clients, declared: Declared
) -> Built:
    """Build departments that `build` has checked before."""
    offered: dict[type[Any], Any] = {Clients: clients, Declared: declared}
    branches: dict[str, Branch[Any]] = {}
    for each in departments:
        needs = each.needs(**{name: offered[kind] for name, kind, _ in needs_of(each) if kind in offered})
        branches[each.name] = branch = each.build(settings[each.name], needs)
        offered[each.offers] = branch.refs
    return Built(declared, branches, offered)
