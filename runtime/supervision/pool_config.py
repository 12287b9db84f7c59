"""Settings of pools: read from TOML, held against the running tree, and applied to what differs.

    [pools.mail]
    size = 5                    # workers; not of entities
    mailbox = 1024              # messages that may wait for each
    overflow = "wait"           # reject, drop_newest, drop_oldest
    route = "round_robin"       # least_busy; not of a pool that is routed by key
    restart = "permanent"       # transient, temporary
    intensity = 3               # restarts that are borne in window_s
    window_s = 5
    retries = 0
    shutdown_s = 5
    backoff = { initial_s = 0.1, factor = 2, max_s = 30, jitter = 0.2, healthy_s = 10 }
    elastic = { least = 2, most = 10, age_s = 1, idle_s = 30, cooldown_s = 5 }    # false: the size stays

    [pools.carts]               # entities
    limit = 10000
    idle_s = 300

What a source does not name stays as it is.
"""

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from callboard.runtime.actor.errors import SettingsError
from callboard.runtime.actor.mailbox import Overflow
from callboard.runtime.dispatch.child_spec import Restart
from callboard.runtime.supervision.elastic import Elasticity
from callboard.runtime.supervision.entities import Entities
from callboard.runtime.supervision.pool import Pool, Route
from callboard.runtime.supervision.supervisor import Intensity, Supervisor
from callboard.runtime.supervision.system import System

MAX_SIZE = 10_000  # workers: more than that is a slip of the pen

AnyPool = Pool[Any] | Entities[Any]
Tree = System | Supervisor | Mapping[str, AnyPool]


class Change(msgspec.Struct, frozen=True):
    """One setting of one pool that differs, or has been changed; `field` is like `size` or `backoff.max_s`."""

    pool: str
    field: str
    before: Any
    after: Any


class Field(msgspec.Struct, frozen=True):
    """A setting: what it reads from a source (raises ValueError: "must be ...") and what it is in a pool.

    `kind` is the class of pools that have it.
    """

    parse: Callable[[Any], Any]
    read: Callable[[Any], Any]
    kind: Any = (Pool, Entities)


def _whole(least: int, most: int | None = None) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("must be a whole number")  # noqa: TRY004 - all faults of a source are of one kind
        if value < least:
            raise ValueError(f"must be {least} or more")
        if most is not None and value > most:
            raise ValueError(f"must be {most} or less")
        return value

    return parse


def _number(least: float, most: float = math.inf, *, above: bool = False) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError("must be a number")
        if above and value <= least:
            raise ValueError(f"must be more than {least:g}")
        if value < least:
            raise ValueError(f"must be {least:g} or more")
        if value > most:
            raise ValueError(f"must be {most:g} or less")
        return float(value)

    return parse


def _word(kind: type[StrEnum], *left_out: StrEnum) -> Callable[[Any], StrEnum]:
    words = [word for word in kind if word not in left_out]

    def parse(value: Any) -> StrEnum:
        if value not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return kind(value)

    return parse


def _elastic(value: Any) -> Elasticity | None:
    if value is False:
        return None
    try:
        found = msgspec.convert(value, Elasticity)
    except msgspec.ValidationError as error:
        raise ValueError(f"must be false or a table of workers and seconds: {error}") from None
    if not 1 <= found.least <= found.most <= MAX_SIZE:
        raise ValueError(f"must have 1 <= least <= most <= {MAX_SIZE}")
    if not all(0 < each < math.inf for each in (found.age_s, found.idle_s, found.cooldown_s)):
        raise ValueError("must have times of more than 0 seconds")
    return found


FIELDS = {
    "size": Field(_whole(1, MAX_SIZE), lambda pool: pool.size, Pool),
    "route": Field(_word(Route, Route.KEY), lambda pool: pool.route, Pool),
    "elastic": Field(_elastic, lambda pool: pool.elastic, Pool),
    "limit": Field(_whole(1), lambda pool: pool.limit, Entities),
    "idle_s": Field(_number(0, above=True), lambda pool: pool.idle_s, Entities),
    "mailbox": Field(_whole(1), lambda pool: pool.spec.mailbox.capacity),
    "overflow": Field(_word(Overflow), lambda pool: pool.spec.mailbox.overflow),
    "restart": Field(_word(Restart), lambda pool: pool.spec.restart),
    "intensity": Field(_whole(0), lambda pool: pool.intensity.restarts),
    "window_s": Field(_number(0, above=True), lambda pool: pool.intensity.window_s),
    "retries": Field(_whole(0), lambda pool: pool.spec.retry.times),
    "shutdown_s": Field(_number(0), lambda pool: pool.spec.shutdown_s),
    "backoff.initial_s": Field(_number(0), lambda pool: pool.spec.backoff.initial_s),
    "backoff.factor": Field(_number(1), lambda pool: pool.spec.backoff.factor),
    "backoff.max_s": Field(_number(0), lambda pool: pool.spec.backoff.max_s),
    "backoff.jitter": Field(_number(0, 1), lambda pool: pool.spec.backoff.jitter),
    "backoff.healthy_s": Field(_number(0), lambda pool: pool.spec.backoff.healthy_s),
}


def find_pools(tree: System | Supervisor) -> dict[str, AnyPool]:
    """The pools and entities of a tree by name, and those whose name another has too by their path below the root."""
    root = tree.root if isinstance(tree, System) else tree
    found = list(_walk(root, ""))
    names = [pool.name for _, pool in found]
    return {pool.name if names.count(pool.name) == 1 else path: pool for path, pool in found}


def _walk(node: Supervisor, above: str) -> Iterator[tuple[str, AnyPool]]:
    for child in node.children:
        path = f"{above}/{child.name}" if above else child.name
        if isinstance(child, Pool | Entities):
            yield path, child
        elif isinstance(child, Supervisor):
            yield from _walk(child, path)


def plan_pools(tree: Tree, source: str | Mapping[str, Any]) -> list[Change]:
    """Return the changes that a source (TOML or its tables) would make, or raise SettingsError with every fault's path.

    `tree` may also be pools by name, where not all of them run.
    """
    pools = dict(tree) if isinstance(tree, Mapping) else find_pools(tree)
    faults: list[str] = []
    changes: list[Change] = []
    for name, table in _tables(source, faults):
        pool = pools.get(name)
        if pool is None:
            faults.append(f"pools.{name}: is unknown; there are {', '.join(pools) or 'none'}")
            continue
        for key, value in _flat(f"pools.{name}", table, faults):
            try:
                after = _read(pool, key, value)
            except ValueError as error:
                faults.append(f"pools.{name}.{key}: {error}")
                continue
            before = FIELDS[key].read(pool)
            if after != before:
                changes.append(Change(name, key, before, after))
    if faults:
        raise SettingsError(faults)
    return changes


def _tables(source: str | Mapping[str, Any], faults: list[str]) -> Iterator[tuple[str, Any]]:
    """The tables below `pools`."""
    try:
        read = tomllib.loads(source) if isinstance(source, str) else source
    except tomllib.TOMLDecodeError as error:
        faults.append(f"TOML: {error}")
        return
    faults += [f"{key}: is unknown; there is pools" for key in read if key != "pools"]
    pools = read.get("pools", {})
    if isinstance(pools, Mapping):
        yield from pools.items()
    else:
        faults.append("pools: must be a table, [pools.NAME]")


def _flat(path: str, table: Any, faults: list[str]) -> Iterator[tuple[str, Any]]:
    """The settings of one pool, those of its backoff as `backoff.max_s`."""
    if not isinstance(table, Mapping):
        faults.append(f"{path}: must be a table, [{path}]")
        return
    for key, value in table.items():
        if key != "backoff":
            yield key, value
        elif isinstance(value, Mapping):
            yield from ((f"backoff.{inner}", each) for inner, each in value.items())
        else:
            faults.append(f"{path}.backoff: must be a table, like {{ initial_s = 0.1 }}")


def _read(pool: AnyPool, key: str, value: Any) -> Any:
    field = FIELDS.get(key)
    if field is None or not isinstance(pool, field.kind):
        known = [each for each, field in FIELDS.items() if isinstance(pool, field.kind)]
        raise ValueError(f"is unknown; there are {', '.join(known)}")
    if key == "route" and isinstance(pool, Pool) and pool.route is Route.KEY:
        if value == Route.KEY:
            return Route.KEY
        raise ValueError("must be key: messages of one key would lose their order")
    return field.parse(value)


async def apply_pools(tree: Tree, source: str | Mapping[str, Any]) -> list[Change]:
    """Change what differs, and nothing else: sizes by `Pool.resize`, the rest in place; no message is lost.

    Raises SettingsError, and then nothing has changed; and what the start hook of a new worker raises, and then the
    sizes are set back, and nothing has changed either.
    """
    pools = dict(tree) if isinstance(tree, Mapping) else find_pools(tree)
    changes = plan_pools(pools, source)
    done: list[tuple[Pool[Any], int]] = []
    try:
        for change in changes:
            pool = pools[change.pool]
            if change.field == "size" and isinstance(pool, Pool):
                await pool.resize(change.after)
                done.append((pool, change.before))
    except Exception:
        for pool, size in reversed(done):
            await pool.resize(size)
        raise
    for name in dict.fromkeys(change.pool for change in changes):
        _adopt(pools[name], {change.field: change.after for change in changes if change.pool == name})
    return changes


def _adopt(pool: AnyPool, new: dict[str, Any]) -> None:
    """Everything but the size, in place."""

    def value(field: str) -> Any:
        return new.get(field, FIELDS[field].read(pool))

    if "route" in new:
        pool.route = new["route"]  # type: ignore[union-attr]
    if "elastic" in new:
        pool.elastic = new["elastic"]  # type: ignore[union-attr]
    if "limit" in new:
        pool.limit = new["limit"]  # type: ignore[union-attr]
    if "idle_s" in new:
        pool.idle_s = new["idle_s"]  # type: ignore[union-attr]
    if new.keys() - {"size", "route", "elastic", "limit", "idle_s"}:
        replace, spec = msgspec.structs.replace, pool.spec
        backoff = {name: value(f"backoff.{name}") for name in spec.backoff.__struct_fields__}
        spec = replace(
            spec,
            mailbox=replace(spec.mailbox, capacity=value("mailbox"), overflow=value("overflow")),
            restart=value("restart"),
            backoff=replace(spec.backoff, **backoff),
            retry=replace(spec.retry, times=value("retries")),
            shutdown_s=value("shutdown_s"),
        )
        pool.adopt(spec, Intensity(value("intensity"), value("window_s")))
