"""Failed logins in the audit log: counted by account and network, bounded whoever fails, and seen by nobody's clock."""

import json
from uuid import UUID, uuid4

import pytest
from kit.audited import From, entries, request
from kit.domain import Domain

from callboard.actors.identity.audit_actions import LOGIN_FAILED, LOGIN_LOCKED
from callboard.actors.identity.authentication import LogIn
from callboard.actors.infrastructure.audit_log import AuditRecorder, FailedLogins, WriteFailures


async def failures(domain: Domain) -> list[tuple[str, UUID | None, str | None, int]]:
    await domain.audit_recorder.ask(WriteFailures())
    found = [each for each in reversed(await entries(domain)) if each.action in (LOGIN_FAILED, LOGIN_LOCKED)]
    return [(each.action, each.user_id, each.ip, each.detail["count"]) for each in found]


async def fail(domain: Domain, email: str, ip: str = "203.0.113.7") -> None:
    with request(From(ip=ip)), pytest.raises(Exception, match="AUTH_"):
        await domain.logins.ask(LogIn(email, "Wrong-Lantern-1", "a browser", ip))


async def test_failed_logins_leave_one_entry_at_once_and_one_for_all_that_follow(domain: Domain) -> None:
    ada = (await domain.person(email="ada@example.org")).user_id
    await fail(domain, "ada@example.org")
    assert await failures(domain) == [("login.failed", ada, "203.0.113.7", 1)]
    for _ in range(3):
        await fail(domain, "ADA@example.org")
    assert len(await failures(domain)) == 1
    await domain.pass_time(FailedLogins.WINDOW_S)
    assert (await failures(domain))[1:] == [("login.failed", ada, "203.0.113.7", 3)]


async def test_an_account_that_is_locked_leaves_an_entry_of_that(domain: Domain) -> None:
    ada = (await domain.person(email="ada@example.org")).user_id
    for _ in range(7):
        await fail(domain, "ada@example.org")
    assert [each[:2] for each in await failures(domain)] == [("login.failed", ada), ("login.locked", ada)]


async def test_an_unknown_address_is_counted_and_not_kept(domain: Domain) -> None:
    await fail(domain, "Summer-Secret-1@example.org")
    await fail(domain, "other@example.org")
    assert await failures(domain) == [("login.failed", None, "203.0.113.7", 2)]
    assert "Summer" not in json.dumps(await domain.rows("select detail::text, user_agent from audit_log"))


async def test_who_knows_no_account_fills_no_table_and_hides_no_attack() -> None:
    now = [0.0]
    failed = FailedLogins(lambda: now[0], most=10)
    for nth in range(10_000):
        with request(From(ip=f"2001:db8:{nth:x}::1")):
            failed.count(LOGIN_FAILED, None)
    ada = uuid4()
    with request(From(ip="203.0.113.7")):
        failed.count(LOGIN_FAILED, ada)
    due = dict(failed.due())
    assert len(due) == 12
    assert due[LOGIN_FAILED, None, ""].count == 9_990
    assert due[LOGIN_FAILED, ada, "203.0.113.7"].count == 1
    assert sum(each.count for each in due.values()) == 10_001


async def test_addresses_of_one_subscriber_are_one_network() -> None:
    failed = FailedLogins(lambda: 0.0)
    for nth in range(5):
        with request(From(ip=f"2001:db8::{nth:x}")):
            failed.count(LOGIN_FAILED, None)
    assert [key for key, _ in failed.due()] == [(LOGIN_FAILED, None, "2001:db8::/64")]


async def test_what_is_counted_while_an_entry_is_written_is_in_the_next_one() -> None:
    now = [0.0]
    failed = FailedLogins(lambda: now[0])
    failed.count(LOGIN_FAILED, None)
    due = failed.due()
    failed.count(LOGIN_FAILED, None)
    failed.subtract(due)
    assert failed.due() == []
    now[0] = FailedLogins.WINDOW_S
    assert [each.count for _, each in failed.due()] == [1]
    failed.subtract(failed.due())
    now[0] *= 3
    assert failed.due() == []
    assert failed._waiting == {}


async def test_failed_logins_that_cannot_be_written_are_written_later(domain: Domain) -> None:
    failed = FailedLogins(domain.clock)
    recorder = AuditRecorder(domain.database, failed)
    failed.count(LOGIN_FAILED, None)
    domain.database.unavailable.set()
    assert await recorder.write(WriteFailures()) == 1
    domain.database.unavailable.clear()
    failed.count(LOGIN_FAILED, None)
    await recorder.on_stop()
    assert [entry.detail for entry in await entries(domain)] == [{"count": 2}]


async def test_a_failed_login_asks_the_database_for_as_much_whether_the_account_is_there_or_not(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    said = {}
    for email in ("ada@example.org", "nobody@example.org"):
        with domain.overheard() as said[email]:
            await fail(domain, email)
    assert said["ada@example.org"] == said["nobody@example.org"]
    assert not any("audit_log" in each for each in said["ada@example.org"])
