"""Quotas: the amount of a user's data, and the frequency of costly actions.

Triggers count a user's data in the transaction of each change. Actions are counted in a row that only grows. Every
change locks these rows, so simultaneous changes cannot exceed a quota together. A refused change is rolled back with
its count.
"""

from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.errors import QUOTA_CONTENT, QUOTA_RATE
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

HOUR_S = 3600.0


class Quotas(msgspec.Struct, frozen=True):
    """The limits on the articles of one user, and on the lines that a user adds to the history of articles."""

    content_rows: int = 10_000
    content_bytes: int = 100_000_000
    drafts_per_hour: int = 1_000
    transitions_per_hour: int = 1_000


DEFAULT_QUOTAS = Quotas()


async def check_content(connection: Any, quotas: Quotas, user_id: UUID) -> None:
    """Check a user's data against the quotas, after a change and in its transaction.

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
    """Count an action that a user may do `most` times in any window. Raises Problem(QUOTA_RATE)."""
    row = await QUERIES.use(connection, user_id=user_id, name=name, window_s=window_s)
    left_s = window_s - row["elapsed_s"]
    if row["used"] + row["previous"] * left_s / window_s > most:
        raise Problem(QUOTA_RATE, retry_after_s=_wait_s(row, most, window_s))


def _wait_s(row: Any, most: int, window_s: float) -> float:
    """Return when the next action passes: as the earlier period leaves the window, or at the latest as this
    one does.
    """
    free = most - row["used"]
    if free >= 0:
        passes_at = window_s * (1 - free / row["previous"])
    else:  # in the next period, this period's count is the earlier one
        passes_at = window_s * (2 - (most - 1) / (row["used"] - 1))
    return float(max(passes_at - row["elapsed_s"], 1.0))
