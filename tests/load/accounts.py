"""The accounts of locust's users, with passwords hashed as the product does: a login costs what it costs."""

import asyncio

import asyncpg
from kit.running import PASSWORD, Up

from callboard.actors.identity.password_hasher import HASHER

__all__ = ["PASSWORD", "create_accounts"]


def create_accounts(up: Up, count: int) -> None:
    """Create verified accounts `load-0@example.org` and on."""
    asyncio.run(_create(up.facts["DATABASE_URL"], count))


async def _create(url: str, count: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "with made as (insert into users (email, password_hash, full_name, role, is_verified) "
            "select format('load-%s@example.org', n), $2, 'Some One', 'member', true from generate_series(0, $1 - 1) n "
            "returning user_id) insert into user_profiles (user_id) select user_id from made",
            count,
            HASHER.hash(PASSWORD),
        )
        await connection.execute("analyze users, user_profiles")
    finally:
        await connection.close()
