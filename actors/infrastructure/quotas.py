"""Quotas: how much a user may have, and how often a user may do what costs much.

What a user has is kept by triggers, in the transaction of each change; how often, in a row that is only ever added to.
Both rows are locked by whoever changes them, so of any number at once none passes that is one too many; and what is
refused is rolled back with its count.
"""

from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.errors import QUOTA_CONTENT, QUOTA_RATE, Problem
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

HOUR_S = 3600.0


class Quotas(msgspec.Struct, frozen=True):
    """The limits on the data and actions of one user."""

    content_rows: int = 10_000
    content_bytes: int = 100_000_000
    drafts_per_hour: int = 1_000
    exports_per_hour: int = 5


DEFAULT_QUOTAS = Quotas()


async def check_content(connection: Any, quotas: Quotas, user_id: UUID) -> None:
    """Hold what a user has against the quotas, after a change of it and in its transaction.

    Raises Problem(QUOTA_CONTENT), which rolls the change back.
    """
    usage = await QUERIES.usage(connection, user_id=user_id)
    if usage is None:
        return
    if usage["content_rows"] > quotas.content_rows:
        raise Problem(QUOTA_CONTENT, f"You may have {quotas.content_rows} articles; delete some to write more.")
    if usage["content_bytes"] > quotas.content_bytes:
        raise Problem(
            QUOTA_CONTENT, f"You may have {quotas.content_bytes} bytes of content; delete some to write more."
        )


async def count_use(connection: Any, name: str, user_id: UUID, *, most: int, window_s: float = HOUR_S) -> None:
    """Count one of what a user may do `most` times in any window. Raises Problem(QUOTA_RATE)."""
    row = await QUERIES.use(connection, user_id=user_id, name=name, window_s=window_s)
    left_s = window_s - row["elapsed_s"]
    if row["used"] + row["previous"] * left_s / window_s > most:
        raise Problem(QUOTA_RATE, retry_after_s=_wait_s(row, most, window_s))


def _wait_s(row: Any, most: int, window_s: float) -> float:
    """When the next one passes: as the period before leaves the window, or at the latest as this one does."""
    free = most - row["used"]
    if free >= 0:
        passes_at = window_s * (1 - free / row["previous"])
    else:  # in the next period, to which what is used in this one is the one before
        passes_at = window_s * (2 - (most - 1) / (row["used"] - 1))
    return float(max(passes_at - row["elapsed_s"], 1.0))
