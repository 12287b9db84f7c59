"""Elastic pools: their size follows the age of what waits, between a least and a most size.

A pool grows by half as soon as a message has waited for `age_s`, and shrinks by one worker once nothing has waited for
half of that during `idle_s`. Between the two it stays, so that it does not swing. `cooldown_s` separates two changes.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from callboard.runtime.actor.actor import Actor
from callboard.runtime.actor.errors import RuntimeFault
from callboard.runtime.actor.handlers import on
from callboard.runtime.actor.messages import Message

if TYPE_CHECKING:
    from callboard.runtime.supervision.pool import Pool

INTERVAL_S = 1.0
REST_S = 5.0  # the same while no pool is elastic
GROWTH = 1.5

log = logging.getLogger(__name__)


class Elasticity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bounds of an elastic pool, in workers, and its times in seconds."""

    least: int
    most: int
    age_s: float = 1.0
    idle_s: float = 30.0
    cooldown_s: float = 5.0


class Sizing:
    """Decides the size of one pool, from one look to the next."""

    def __init__(self) -> None:
        self._changed_at = -math.inf
        self._calm_since: float | None = None

    def decide(self, rule: Elasticity, *, size: int, oldest_s: float, now: float) -> int:
        """Return the size that the pool should have now; `oldest_s` is the age of what has waited longest."""
        if not rule.least <= size <= rule.most:
            return self._change(min(max(size, rule.least), rule.most), now)
        if oldest_s > rule.age_s / 2:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        if now - self._changed_at < rule.cooldown_s:
            return size
        if oldest_s >= rule.age_s and size < rule.most:
            return self._change(min(rule.most, math.ceil(size * GROWTH)), now)
        if self._calm_since is not None and now - self._calm_since >= rule.idle_s and size > rule.least:
            return self._change(size - 1, now)
        return size

    def _change(self, size: int, now: float) -> int:
        self._changed_at = now
        return size


class LookAtPools(Message, frozen=True):
    """Compare the sizes of elastic pools with what waits for them."""


class PoolScaler(Actor[LookAtPools]):
    """Resizes the elastic pools among these. `age_of` returns the age in seconds of what waits outside of a pool's
    mailboxes, by the pool's name.
    """

    def __init__(
        self,
        pools: Callable[[], Mapping[str, "Pool[Any]"]],
        age_of: Callable[[str], float],
        now: Callable[[], float],
    ) -> None:
        self._pools = pools
        self._age_of = age_of
        self._now = now
        self._sizings: dict[str, Sizing] = {}

    async def on_start(self) -> None:
        """Start the rounds."""
        self.after(INTERVAL_S, LookAtPools())

    @on(LookAtPools)
    async def look(self, _message: LookAtPools) -> None:
        """A worker that does not start leaves its pool as it was; the next round tries again."""
        pools = self._pools()
        is_any = any(pool.elastic is not None for pool in pools.values())
        self.after(INTERVAL_S if is_any else REST_S, LookAtPools())
        for name, pool in pools.items():
            if pool.elastic is None:
                self._sizings.pop(name, None)
                continue
            sizing = self._sizings.setdefault(name, Sizing())
            before, oldest_s = pool.size, max(pool.oldest_s(), self._age_of(name))
            size = sizing.decide(pool.elastic, size=before, oldest_s=oldest_s, now=self._now())
            if size == before:
                continue
            try:
                await pool.resize(size)
            except RuntimeFault:
                return  # the pool is stopping
            except Exception:  # a start hook may raise anything
                log.exception("the pool %s stays at %d workers: a new one did not start", name, before)
            else:
                log.info(
                    "the pool %s had %d workers, has %d: the oldest message waits %.1f s", name, before, size, oldest_s
                )
