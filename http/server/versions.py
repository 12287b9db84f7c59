"""Versions of the API side by side: a version serves what the one before it does, except what changed in it.

A route declares the first version that has it, and perhaps the first that lacks it. The current version is the highest
that a route declares; it and the one before it are served. http/VERSIONS.md has the policy; a table that breaks it is
refused at the start.
"""

from calendar import monthrange
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from callboard.http.server.routing import PARAMETER, Deprecation, Route

SERVED = 2  # versions: the current one, and the one before it
NOTICE_MONTHS = 6  # from the deprecation of a call to its end

Key = tuple[str, str]  # method, and path without the names of its parameters


def in_versions(routes: Sequence[Route[Any]], base: str) -> list[Route[Any]]:
    """Return the routes of every version that is served, each with the version of its path.

    Raises ValueError with a line for each fault: a call that ends without six months of notice, a replacement that is
    not there, a route that no version serves.
    """
    current = max((route.version for route in routes), default=1)
    oldest = max(1, current - SERVED + 1)
    table: list[Route[Any]] = []
    used = {id(route) for route in routes if route.absolute}
    for version in range(oldest, current + 1):
        serving = {id(route) for route in _serving(routes, version).values()}
        used |= serving
        table += [
            route if route.absolute else replace(route, version=version)
            for route in routes  # in their order
            if id(route) in serving or (route.absolute and version == oldest)
        ]
    faults = [
        f"{route.method} {route.full_path(base)} is served in no version: remove it"
        for route in routes
        if id(route) not in used
    ]
    faults += _faults(routes, current, {route.full_path(base) for route in table}, base)
    if faults:
        raise ValueError("\n".join(faults))
    return table


def _key(route: Route[Any]) -> Key:
    return route.method, PARAMETER.sub("{}", route.path)


def _serving(routes: Sequence[Route[Any]], version: int) -> dict[Key, Route[Any]]:
    """Return the route that serves each call in a version. Raises ValueError for two of one version."""
    found: dict[Key, Route[Any]] = {}
    for route in sorted(routes, key=lambda route: route.version):
        before = found.get(_key(route))
        if route.absolute or route.version > version:
            continue
        if before is not None and before.version == route.version:
            raise ValueError(f"{route.method} {route.path} is routed twice in version {route.version}")
        found[_key(route)] = route
    return {key: route for key, route in found.items() if route.removed_in is None or route.removed_in > version}


def _faults(routes: Sequence[Route[Any]], current: int, paths: set[str], base: str) -> Iterator[str]:
    successors = {(*_key(route), route.version) for route in routes}
    for route in routes:
        name = f"{route.method} {route.full_path(base)}"
        ends_in = [
            version for version in range(route.version + 1, current + 1) if (*_key(route), version) in successors
        ]
        if route.removed_in is not None:
            ends_in.append(route.removed_in)
            if not route.version < route.removed_in <= current:
                yield f"{name} is removed in version {route.removed_in}, which is not after its own or not there yet"
        if route.deprecated is None:
            if ends_in:
                yield f"{name} ends in version {min(ends_in)} and is not deprecated: clients must be told"
            continue
        if ends_in and route.deprecated.sunset is None:
            yield f"{name} ends in version {min(ends_in)}: its deprecation needs the date of its sunset"
        yield from (f"{name}: {fault}" for fault in _notice(route.deprecated, paths))


def _notice(deprecated: Deprecation, paths: set[str]) -> Iterator[str]:
    """Yield the faults of a notice: a sunset that is too near, and a replacement of ours that is not there."""
    if deprecated.sunset is not None and deprecated.sunset < earliest_sunset(deprecated.since):
        yield f"the sunset must be {NOTICE_MONTHS} months after the deprecation, at {earliest_sunset(deprecated.since)}"
    if deprecated.successor is not None and deprecated.successor.startswith("/") and deprecated.successor not in paths:
        yield f"its successor {deprecated.successor} is no route of this table"


def earliest_sunset(since: datetime) -> datetime:
    """Return the moment six months later; a day that the month lacks becomes its last."""
    year, month = divmod(since.year * 12 + since.month - 1 + NOTICE_MONTHS, 12)
    return since.replace(year=year, month=month + 1, day=min(since.day, monthrange(year, month + 1)[1]))
