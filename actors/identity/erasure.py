"""Erasure: some time after an account was deleted, everything that says whose it was is forgotten.

Every part forgets its own, a batch in a statement, which is a transaction of its own; the account itself comes last and
is marked then. So an erasure that was cut off goes on where it was.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import aiosql

from callboard.actors.delivery import mail_queue
from callboard.actors.editorial import workflow
from callboard.actors.identity import accounts, data_export, profiles, sessions
from callboard.actors.infrastructure import audit_log, feature_flags
from callboard.actors.infrastructure.audit_log import AuditAction
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.streams import dead_letters

QUERIES: Any = aiosql.from_path(Path(__file__).with_name("erasure.sql"), "asyncpg")

BATCH = 500  # rows in a statement

log = logging.getLogger(__name__)

# In the order in which they are erased: mails and dead letters are found by the address of the account.
DEAD_LETTERS = PersonalData(
    "dead_letters",
    {"dead_letters": ("key", "value", "headers", "detail")},
    dead_letters.QUERIES.export_dead_letters,
    dead_letters.QUERIES.erase_dead_letters,
)
PERSONAL_DATA: tuple[PersonalData, ...] = (
    sessions.PERSONAL_DATA,
    sessions.NETWORKS,
    data_export.PERSONAL_DATA,
    mail_queue.PERSONAL_DATA,
    DEAD_LETTERS,
    *workflow.PERSONAL_DATA,
    feature_flags.PERSONAL_DATA,
    profiles.PERSONAL_DATA,
    audit_log.PERSONAL_DATA,
    accounts.PERSONAL_DATA,
)


async def erase_due(connection: Any, days: int, limit: int) -> int:
    """Erase accounts that were deleted so many days ago, and so many rows in a statement; how many accounts."""
    due = [row["user_id"] async for row in QUERIES.due(connection, days=days, limit=limit)]
    for user_id in due:
        await erase_user(connection, user_id, limit)
    return len(due)


async def erase_user(
    connection: Any, user_id: UUID, limit: int = BATCH, parts: Sequence[PersonalData] = PERSONAL_DATA
) -> None:
    """Erase a deleted account; leave a living one. Two at once do no harm: what one forgets the other does not find."""
    if not await QUERIES.is_deleted(connection, user_id=user_id):
        return
    for part in parts:
        while part.erase is not None and await part.erase(connection, user_id=user_id, limit=limit) >= limit:
            pass
    async with connection.transaction():
        if await QUERIES.mark_erased(connection, user_id=user_id):
            await audit_log.record(connection, AuditAction.USER_ERASED, of=user_id, by=audit_log.SYSTEM)
    log.info("the personal data of a deleted account has been erased", extra={"user_id": str(user_id)})
