"""Erasure: some time after an account is deleted, all data that identifies its owner is erased.

Each kind of data erases its own rows, one batch in one statement and transaction. Departments are erased in reverse
order of building: mails are found by the address of the account, so they go first. The account is marked last, so an
interrupted erasure continues.
"""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from callboard.actors.identity.audit_actions import USER_ERASED
from callboard.actors.infrastructure import audit_log
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

BATCH = 500  # rows in one statement

log = logging.getLogger(__name__)


async def erase_due(connection: Any, limit: int, *, days: int, parts: Sequence[PersonalData]) -> int:
    """Erase accounts that were deleted `days` ago, `limit` rows in one statement; return the number of accounts."""
    due = [row["user_id"] async for row in QUERIES.due(connection, days=days, limit=limit)]
    for user_id in due:
        await erase_user(connection, user_id, parts, limit)
    return len(due)


async def erase_user(connection: Any, user_id: UUID, parts: Sequence[PersonalData], limit: int = BATCH) -> None:
    """Erase a deleted account; an active one is left alone. Two simultaneous erasures do no harm: the second finds
    nothing.
    """
    if not await QUERIES.is_deleted(connection, user_id=user_id):
        return
    for part in parts:
        while part.erase is not None and await part.erase(connection, user_id=user_id, limit=limit) >= limit:
            pass
    async with connection.transaction():
        if await QUERIES.mark_erased(connection, user_id=user_id):
            await audit_log.record(connection, USER_ERASED, of=user_id, by=audit_log.SYSTEM)
    log.info("the personal data of a deleted account has been erased", extra={"user_id": str(user_id)})
