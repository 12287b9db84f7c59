"""SIGKILL of a running `up` under a crowd of writers, and what must be there afterwards."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import aiohttp
import asyncpg

from kit.oracle import Client, Oracle, check_accounts, check_articles, check_mails, owners, settle
from kit.running import Up, request


@asynccontextmanager
async def crowd(up: Up, oracle: Oracle) -> AsyncIterator[Client]:
    """Fifty writers; the block kills the server under them, and then they end."""
    _, editor, author = up.people()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(up, oracle, session)
        writers = [
            asyncio.create_task(client.enrol() if n % 3 == 0 else client.edit(author, editor)) for n in range(50)
        ]
        yield client
        outcomes = await asyncio.wait_for(asyncio.gather(*writers, return_exceptions=True), 10)
        assert [type(each) for each in outcomes] == [ConnectionError] * 50, outcomes


def is_ready(up: Up) -> bool:
    assert up.process.poll() is None, up.output + up.errors
    try:
        return request("GET", f"{up.operators}/ready", timeout_s=2).status == 200
    except OSError:
        return False


async def verify(again: Up, oracle: Oracle, killed_at: datetime) -> None:
    """Compare the successor's data and mails with what the clients were told."""
    connection = await asyncpg.connect(again.facts["DATABASE_URL"])
    try:
        await settle(connection, killed_at)
        await check_accounts(connection, oracle)
        await check_articles(connection, oracle)
        check_mails(again.look("/ops/v1/mailbox"), oracle, await owners(connection, oracle))
    finally:
        await connection.close()
