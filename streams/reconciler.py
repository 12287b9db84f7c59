"""The reconciler: marks events pending again that were published and not recorded in time, and purges finished ones.

Every statement has a size that fits into its time, however many rows there are.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from callboard.streams.adaptive_batch import AdaptiveBatch
from callboard.streams.consumers import Expected
from callboard.streams.queries import queries_beside
from callboard.streams.topics import EVENT_LIFE_S, REMEMBERED_S

QUERIES = queries_beside(__file__, "relay")

_LOG = logging.getLogger(__name__)
_RECONCILE_EVERY_S = 10.0
_PURGE_EVERY_S = 60.0
_BATCH = 5000
_ROUNDS = 20  # statements in a row, before the relay has its turn again
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Reconciler:
    """The periodic repair work, over one connection at a time. An event counts as lost if it was published `after_s`
    ago and one of the `expected` consumers has not recorded it.
    """

    def __init__(self, expected: Sequence[Expected], after_s: float) -> None:
        self._expected = {
            "topics": [each.topic for each in expected],
            "types": [each.type for each in expected],
            "consumers": [each.consumer for each in expected],
        }
        self._after_s = after_s
        self._suspicious = False
        self._recorded_until = (_LONG_AGO, 0)
        self._due: dict[str, float] = {}
        self._batch = AdaptiveBatch(_BATCH)
        self._purge_batch = AdaptiveBatch(_BATCH)

    def suspect(self) -> None:
        """The broker may have lost its records: reconcile at the next turn, without a grace time."""
        self._suspicious = True

    async def run_due(self, connection: Any) -> None:
        """Run the due statements."""
        if self._suspicious:
            await self._reconcile(connection, at_once=True)
            self._suspicious = False
        elif self._is_due("reconcile", _RECONCILE_EVERY_S):
            await self._reconcile(connection, at_once=False)
        if self._is_due("purge", _PURGE_EVERY_S):
            await self._purge(
                lambda limit: QUERIES.purge_outbox(connection, keep_s=REMEMBERED_S, limit=limit, **self._expected)
            )
            await self._purge(lambda limit: QUERIES.purge_consumed(connection, keep_s=REMEMBERED_S, limit=limit))

    async def _reconcile(self, connection: Any, *, at_once: bool) -> None:
        again = 0
        while True:
            since_at, since_id = self._recorded_until
            size = self._batch.size
            found = await _sized(
                self._batch,
                lambda limit: QUERIES.reconcile(
                    connection,
                    at_once=at_once,
                    since_at=since_at,  # noqa: B023 - it is run before the next turn
                    since_id=since_id,  # noqa: B023 - it is run before the next turn
                    limit=limit,
                    grace_s=0.0 if at_once else self._after_s,
                    window_s=EVENT_LIFE_S,
                    **self._expected,
                ),
                count=lambda _: size,  # noqa: B023 - it is run before the next turn
            )
            again += found["again"]
            if found["until_at"] is not None:
                self._recorded_until = (found["until_at"], found["until_id"])
            if not found["is_full"]:
                break
        if again:
            _LOG.warning("%d events were published but not recorded; they are sent again", again)

    async def _purge(self, purge: Callable[[int], Awaitable[int]]) -> None:
        for _ in range(_ROUNDS):
            size = self._purge_batch.size
            if await _sized(self._purge_batch, purge, count=lambda dropped: dropped) < size:
                return

    def _is_due(self, what: str, every_s: float) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True


async def _sized(
    batch: AdaptiveBatch, statement: Callable[[int], Awaitable[Any]], *, count: Callable[[Any], int]
) -> Any:
    """Run a statement of the batch's size, a smaller one if it runs out of time."""
    while True:
        began = asyncio.get_running_loop().time()
        try:
            result = await statement(batch.size)
        except asyncpg.QueryCanceledError:
            if not batch.timed_out():
                raise
        else:
            batch.succeeded(count(result), asyncio.get_running_loop().time() - began)
            return result
