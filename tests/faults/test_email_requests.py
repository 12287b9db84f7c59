"""Forgotten passwords and verifications that were acknowledged, whatever dies before their mails are on the way."""

import asyncio
import secrets
from collections.abc import Iterator

import asyncpg
import pytest
from kit.domain import CHEAP_HASH
from kit.running import Up, gone, succession, until, working_in

PATHS = {"/auth/password/forgot": "Reset your password", "/auth/resend-verification": "Confirm"}


@pytest.fixture(scope="module")
def folder() -> Iterator[list[Up]]:
    """The living `up` is the last; each test that kills it adds its successor."""
    with succession() as held:
        yield held


def accounts(up: Up, count: int) -> list[str]:
    """So many addresses of accounts that are not verified yet."""
    emails = [f"{secrets.token_hex(6)}@example.org" for _ in range(count)]

    async def run() -> None:
        connection = await asyncpg.connect(up.facts["DATABASE_URL"])
        try:
            await connection.execute(
                "insert into users (email, password_hash, full_name) "
                "select email, $2, 'Ada' from unnest($1::text[]) as e (email)",
                emails,
                CHEAP_HASH,
            )
        finally:
            await connection.close()

    asyncio.run(run())
    return emails


def ask(up: Up, path: str, email: str) -> int:
    return up.call("POST", path, body={"email": email}, timeout_s=4).status


def mailed(up: Up, path: str, emails: list[str]) -> bool:
    """Whether each of them has the letter."""
    got = {mail["to"] for mail in up.look("/ops/v1/mailbox") if PATHS[path] in mail["subject"]}
    return got >= set(emails)


@pytest.mark.parametrize("path", PATHS)
async def test_the_mail_comes_though_the_process_was_killed_right_after_the_202(folder: list[Up], path: str) -> None:
    up = folder[-1]
    emails = await asyncio.to_thread(accounts, up, 3)
    connection = await asyncpg.connect(up.facts["DATABASE_URL"])
    # Nobody can look an account up before the kill, however fast: what is there afterwards was there at the 202.
    await connection.execute("begin; lock table users in access exclusive mode")
    statuses = [await asyncio.to_thread(ask, up, path, email) for email in emails]
    family = up.family()
    up.kill()
    assert statuses == [202] * 3
    connection.terminate()
    assert gone(family) == []
    assert working_in(up.data) == []
    folder.append(again := Up(up.data, environment={"HTTP_PORT": up.environment["HTTP_PORT"]}))
    await asyncio.to_thread(again.ready)
    await asyncio.to_thread(until, "the mails", lambda: mailed(again, path, emails))


def test_without_postgresql_nothing_is_acknowledged_and_what_was_is_mailed(folder: list[Up]) -> None:
    up = folder[-1]
    emails = iter(accounts(up, 2000))
    acknowledged: dict[str, list[str]] = {path: [] for path in PATHS}
    for _ in range(10):
        for path, its in acknowledged.items():
            its.append(next(emails))
            assert ask(up, path, its[-1]) == 202
    (process,) = [each for each in up.family() if each.pid == up.server_pids()["postgres"]]
    process.kill()  # while the last of them may not have been taken up
    refused = 0

    def works(path: str) -> bool:
        nonlocal refused
        email = next(emails)
        status = ask(up, path, email)
        assert status in (202, 503)
        refused += status == 503
        acknowledged[path].extend([email] * (status == 202))
        return refused > 0 and status == 202

    until("a 503, and a 202 of each after it", lambda: all(works(path) for path in PATHS))
    until("the mails", lambda: all(mailed(up, path, its) for path, its in acknowledged.items()), 40.0)
    nodes = up.nodes()
    assert {node["state"] for node in nodes.values()} == {"running"}
    assert [path for path, node in nodes.items() if node.get("restarts") and path.startswith("identity")] == []
