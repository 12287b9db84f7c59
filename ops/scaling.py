"""The actor that resizes elastic pools by the age of what waits for them."""

from collections.abc import Callable
from time import monotonic
from typing import Any

from callboard.actors.infrastructure.job_monitor import JobDepths
from callboard.runtime import Node, Pool, PoolScaler, Props, System, find_pools, worker


def scaling(running: Callable[[], System], depths: JobDepths) -> Node:
    """Return the actor that resizes elastic pools; a kind of jobs waits in PostgreSQL."""

    def pools() -> dict[str, Pool[Any]]:
        return {name: each for name, each in find_pools(running()).items() if isinstance(each, Pool)}

    def age_of(name: str) -> float:
        return depths.kinds[name].oldest_s if name in depths.kinds else 0.0

    return worker("scaling", Props(PoolScaler, pools, age_of, monotonic))
