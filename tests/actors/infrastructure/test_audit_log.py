"""The audit log: every security event with its who, whom and whence, written once, changed by nobody, and bounded."""

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from kit.audited import TRACE, From, actions, entries, request
from kit.domain import PASSWORD, Domain, log_in, refused

from callboard.actors.identity.audit_actions import SESSIONS_REVOKED, USER_DELETED, USER_ERASED
from callboard.actors.identity.errors import USERS_LAST_ADMIN
from callboard.actors.identity.password_reset import ChangePassword, ResetPassword
from callboard.actors.identity.sessions import EndSessions, RefreshSession, RevokeSession
from callboard.actors.identity.users import ChangeUser, CreateUser, DeleteUser, UpdateUser, VerifyEmail
from callboard.actors.infrastructure import audit_log as audit
from callboard.actors.infrastructure.audit_log import (
    CommandLine,
    ListAuditEntries,
)
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.ops.logs import JsonFormatter

NEW_PASSWORD = "Another-Lantern-43"


async def test_an_entry_says_who_did_what_to_whom_from_where_and_in_which_trace(domain: Domain) -> None:
    admin, ada = await domain.person(Role.ADMIN), await domain.person()
    await domain.person(Role.ADMIN)
    with request(From(caller=admin)):
        await domain.users.ask(ChangeUser(ada.user_id, Role.EDITOR))
    (entry,) = await entries(domain)
    assert abs(entry.occurred_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert (entry.action, entry.actor, entry.actor_id, entry.user_id) == (
        "user.promoted",
        "user",
        admin.user_id,
        ada.user_id,
    )
    assert (entry.ip, entry.user_agent, entry.trace_id) == ("203.0.113.7", "a browser", TRACE)
    assert entry.detail == {"old_role": "member", "new_role": "editor"}


async def test_every_change_of_an_account_leaves_its_entry(domain: Domain) -> None:
    await domain.person(Role.ADMIN)
    ada = await domain.registered("ada@example.org")
    with request():
        await domain.users.ask(VerifyEmail(await domain.mail_token(ada)))
        login = await log_in(domain)
        claims = domain.signer.read(login.access_token)
        me = From(caller=Principal(ada, claims.session_id, "ada@example.org", Role.MEMBER))
    with request(me):
        await domain.password_reset.ask(ChangePassword(ada, claims.session_id, PASSWORD, NEW_PASSWORD))
        await domain.users.ask(UpdateUser(ada, "Ada", "ada@example.net"))
        await domain.users.ask(VerifyEmail(await domain.mail_token(ada)))
        await domain.answered("reset_password", "ada@example.net")
    with request():
        await domain.password_reset.ask(ResetPassword(await domain.mail_token(ada), PASSWORD))
        again = domain.signer.read((await log_in(domain, "ada@example.net")).access_token)
        await domain.sessions.ask(RevokeSession(ada, again.session_id))
        await domain.sessions.ask(EndSessions(ada))
        await domain.users.ask(ChangeUser(ada, Role.EDITOR, is_active=False))
        await domain.users.ask(ChangeUser(ada, Role.MEMBER, is_active=True))
        await domain.users.ask(DeleteUser(ada))
    assert await actions(domain, user_id=ada) == [
        *("email.verified", "login.succeeded", "password.changed"),
        *("email.change_requested", "user.changed", "email.changed"),
        *("password.reset", "login.succeeded", "session.revoked", "session.all_revoked"),
        *("user.promoted", "user.deactivated", "user.demoted", "user.activated", "user.deleted"),
    ]


async def test_a_refused_change_leaves_no_entry_and_no_line(domain: Domain, caplog: pytest.LogCaptureFixture) -> None:
    admin = await domain.person(Role.ADMIN)
    with caplog.at_level(logging.INFO, "callboard.audit"), refused(USERS_LAST_ADMIN):
        await domain.users.ask(ChangeUser(admin.user_id, Role.MEMBER))

    async def half_done() -> None:
        async with domain.database.transaction() as connection:
            await audit.record(connection, USER_DELETED, of=admin.user_id)
            raise ZeroDivisionError

    with caplog.at_level(logging.INFO, "callboard.audit"), pytest.raises(ZeroDivisionError):
        await half_done()
    await domain.execute("select 1")
    assert await entries(domain) == []
    assert [record for record in caplog.records if record.name == "callboard.audit"] == []


async def test_a_refresh_token_that_comes_again_leaves_an_entry(domain: Domain) -> None:
    ada = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await domain.sessions.ask(RefreshSession(login.refresh_token))
    await domain.pass_time(60)
    with pytest.raises(Exception, match="refresh"):
        await domain.sessions.ask(RefreshSession(login.refresh_token))
    assert await actions(domain, user_id=ada.user_id) == ["login.succeeded", "session.token_reused"]


async def test_what_an_operator_does_at_the_command_line_is_theirs(domain: Domain) -> None:
    with request(CommandLine("callboard, uid 0")):
        made = await domain.users.ask(CreateUser("boss@example.org", PASSWORD, "Boss", Role.ADMIN))
    (entry,) = await entries(domain)
    assert (entry.action, entry.actor, entry.actor_id, entry.ip) == ("user.created", "operator", None, None)
    assert (entry.user_id, entry.user_agent) == (made.user_id, "callboard, uid 0")


async def test_without_a_request_it_was_the_system(domain: Domain) -> None:
    ada = await domain.person()
    async with domain.database.transaction() as connection:
        await audit.record(connection, USER_ERASED, of=ada.user_id)
    (entry,) = await entries(domain)
    assert (entry.actor, entry.actor_id, entry.ip, entry.trace_id) == ("system", None, None, None)


@pytest.mark.parametrize("ip", ["unknown", "", "/run/socket", "fe80::1%eth0", "2001:db8::7", "203.0.113.7\x00"])
async def test_no_address_that_a_request_may_come_with_breaks_the_change(domain: Domain, ip: str) -> None:
    ada = await domain.person()
    with request(From(ip=ip, user_agent="x" * 5000)):
        await domain.sessions.ask(EndSessions(ada.user_id))
    (entry,) = await entries(domain)
    assert len(entry.user_agent or "") == audit.MAX_AGENT
    assert entry.ip in (None, "fe80::1", "2001:db8::7")


# In the database ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_log set action = 'user.erased'",
        "update audit_log set user_id = null where true",
        "delete from audit_log",
        "truncate audit_log",
        "with gone as (delete from audit_log returning 1) select count(*) from gone",
        "insert into audit_log (audit_id, action, actor) overriding system value "  # noqa: ISC004 - one statement
        "select audit_id, action, actor from audit_log on conflict (audit_id) do update set action = 'user.erased'",
    ],
)
async def test_the_database_itself_refuses_to_change_an_entry(domain: Domain, statement: str) -> None:
    await domain.sessions.ask(EndSessions((await domain.person()).user_id))
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await domain.execute(statement)
    assert await actions(domain) == ["session.all_revoked"]


async def test_the_right_to_change_entries_ends_with_the_function_that_has_it(domain: Domain) -> None:
    await domain.sessions.ask(EndSessions((await domain.person()).user_id))
    async with domain.database.transaction() as connection:
        assert await audit.QUERIES.purge(connection, days=1, failure_days=1, limit=10) == 0
        with pytest.raises(asyncpg.RaiseError):
            await connection.execute("delete from audit_log")


async def test_entries_are_kept_as_long_as_is_said_and_failed_logins_as_is_said_of_them(domain: Domain) -> None:
    ages = {"login.failed": (29, 31), "login.locked": (31,), "user.deleted": (31, 364, 366)}
    for action, days in ages.items():
        for age in days:
            await domain.rows(
                "insert into audit_log (action, actor, occurred_at) "
                "values ($1, 'system', now() - $2 * interval '1 day')",
                action,
                age,
            )
    async with domain.database.transaction() as connection:
        assert await audit.QUERIES.purge(connection, days=365, failure_days=30, limit=2) == 2
        assert await audit.QUERIES.purge(connection, days=365, failure_days=30, limit=100) == 1
    assert sorted(await actions(domain)) == ["login.failed", "user.deleted", "user.deleted"]


async def test_erasing_takes_the_place_and_the_addresses_and_leaves_what_happened(domain: Domain) -> None:
    ada, admin = await domain.person(), await domain.person(Role.ADMIN)
    with request(From(caller=ada)):
        await domain.users.ask(UpdateUser(ada.user_id, "Some One", "new@example.net"))
    with request(From(ip="198.51.100.1", caller=admin)):
        await domain.sessions.ask(EndSessions(ada.user_id))
    async with domain.database.transaction() as connection:
        assert await audit.erase(connection, ada.user_id) == 1
    by_admin, by_ada = await entries(domain)
    assert (by_ada.action, by_ada.ip, by_ada.user_agent, by_ada.detail) == ("email.change_requested", None, None, {})
    assert by_admin.ip == "198.51.100.1"


# Reading -------------------------------------------------------------------------------------------------------------


async def test_entries_are_listed_by_action_user_and_time_a_page_at_a_time(domain: Domain) -> None:
    ada, eve = await domain.person(), await domain.person()
    for nth in range(7):
        with request(From(caller=eve)):
            await domain.sessions.ask(EndSessions((ada, eve)[nth % 2].user_id))
    every = await entries(domain)
    assert len(every) == 7
    for filters in ({}, {"user_id": eve.user_id}, {"action": SESSIONS_REVOKED}):
        found, page = [], await entries(domain, limit=2, **filters)
        while page:
            found += page
            last = page[-1]
            page = await entries(domain, limit=2, before=last.occurred_at, before_id=last.audit_id, **filters)
        assert found == every
    assert len(await entries(domain, user_id=ada.user_id)) == 4
    assert await entries(domain, action=USER_DELETED) == []
    assert await entries(domain, since=every[2].occurred_at, until=every[0].occurred_at) == every[1:3]


@pytest.mark.parametrize("filters", [{}, {"action": USER_DELETED}, {"user_id": UUID(int=7)}])
async def test_a_page_reads_no_more_than_a_page_however_many_entries_there_are(
    domain: Domain, filters: dict[str, Any]
) -> None:
    """By what its plan has read, which must not hang on the values: the last row that a rare action has is as near."""
    some = ListAuditEntries(10, **filters)
    with domain.overheard() as said:
        await domain.audit_log.ask(some)
    arguments = [
        *filters.values(),
        *((None,) if "user_id" in filters else ()),
        *(None, datetime(2030, 1, 1, tzinfo=UTC), None, None, 10),
    ]
    async with domain.database.transaction() as connection:
        await connection.execute(
            "insert into audit_log (action, actor, user_id, occurred_at) select case when n % 100 = 0 "
            "then 'user.deleted' else 'login.succeeded' end, 'system', "
            "('00000000-0000-0000-0000-' || lpad((n % 50)::text, 12, '0'))::uuid, now() - n * interval '1 minute' "
            "from generate_series(1, 5000) n; set local plan_cache_mode = force_generic_plan; analyze audit_log"
        )
        (plan,) = await connection.fetchrow(f"explain (analyze, format json) {said[-1]}", *arguments)
    assert read_rows(json.loads(plan)[0]["Plan"]) <= 25


def read_rows(node: dict[str, Any]) -> float:
    """How many rows the scans of a plan have looked at."""
    here = 0.0
    if "Scan" in node["Node Type"] and node["Node Type"] != "CTE Scan":
        here = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    return float(here) + sum(read_rows(each) for each in node.get("Plans", ()))


# In the log ----------------------------------------------------------------------------------------------------------


async def test_each_entry_is_a_line_of_the_log_without_an_address_in_full(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    ada = await domain.person(email="ada@example.org")
    with caplog.at_level(logging.INFO, "callboard.audit"), request(From(caller=ada)):
        await domain.users.ask(UpdateUser(ada.user_id, "Some One", "augusta.king@example.net"))
        await domain.users.ask(DeleteUser(ada.user_id))
    lines = [JsonFormatter().format(each) for each in caplog.records if each.name == "callboard.audit"]
    assert "augusta" not in "".join(lines)
    asked, deleted = map(json.loads, lines)
    assert asked["detail"] == {"new_email": "a***@example.net"}
    assert (deleted["logger"], deleted["message"], deleted["action"]) == (
        "callboard.audit",
        "user.deleted",
        "user.deleted",
    )
    assert (deleted["user_id"], deleted["actor_id"], deleted["trace_id"]) == (str(ada.user_id),) * 2 + (TRACE,)
    assert deleted["context"] == {"ip_address": "203.0.113.7", "user_agent": "a browser"}
