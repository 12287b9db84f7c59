"""Passwords that are forgotten, reset and changed, and what becomes of sessions and links."""

from typing import Any
from uuid import UUID

import pytest
from kit.domain import PASSWORD, POLICIES, Domain, at_once, log_in, refused, whoami

from callboard.actors.errors import REQUEST_INVALID
from callboard.actors.identity import password_reset
from callboard.actors.identity.email_verification import MAX_MAILS
from callboard.actors.identity.errors import (
    AUTH_ACCOUNT_LIMITED,
    AUTH_INVALID_CREDENTIALS,
    AUTH_MAIL_TOKEN_INVALID,
    AUTH_REFRESH_INVALID,
    AUTH_SESSION_ENDED,
)
from callboard.actors.identity.password_policy import PasswordPolicy
from callboard.actors.identity.password_reset import RESET_TTL_S, ChangePassword, PasswordReset, ResetPassword
from callboard.actors.identity.sessions import RefreshSession
from callboard.actors.identity.users import UpdateUser, VerifyEmail

NEW = "Paper-Boats-77"


async def asked(domain: Domain, email: str = "ada@example.org") -> str:
    """The secret of a reset that was asked for."""
    await told(domain, email)
    return await domain.mail_token(await domain.value("select user_id from mail_tokens limit 1"))


async def told(domain: Domain, email: str) -> None:
    await domain.answered("reset_password", email)


async def letters(domain: Domain) -> list[tuple[str, str]]:
    return [(value["letter"], value["user_id"]) for _, _, value in await domain.events("letter.requested")]


async def change(domain: Domain, login: Any, current: str = PASSWORD, new: str = NEW) -> None:
    claims = domain.signer.read(login.access_token)
    await domain.password_reset.ask(ChangePassword(claims.user_id, claims.session_id, current, new))


# Forgotten -----------------------------------------------------------------------------------------------------------


async def test_a_forgotten_password_is_reset_by_the_secret_of_a_mail(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    token = await asked(domain, "ADA@example.org")
    await domain.password_reset.ask(ResetPassword(token, NEW))
    await log_in(domain, password=NEW)
    with refused(AUTH_INVALID_CREDENTIALS):
        await log_in(domain)
    assert await letters(domain) == [
        ("reset_password", str(user.user_id)),
        ("password_changed", str(user.user_id)),
    ]
    assert [value for _, _, value in await domain.events("user.updated")] == [
        {"user_id": str(user.user_id), "changed": ["password"]}
    ]


async def test_only_active_accounts_are_written_to(domain: Domain) -> None:
    await domain.person(email="inactive@example.org", is_active=False)
    unverified = await domain.person(email="unverified@example.org", is_verified=False)
    await domain.person(email="deleted@example.org")
    await domain.execute("update users set deleted_at = now() where email = 'deleted@example.org'")
    for who in ("inactive", "unverified", "deleted", "nobody", "not an address"):
        await told(domain, f"{who}@example.org")
    assert await letters(domain) == [("reset_password", str(unverified.user_id))]


async def test_an_account_gets_so_many_mails_an_hour_whoever_asks(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    other = await domain.person(email="grace@example.org")
    await at_once(*(told(domain, "ada@example.org") for _ in range(3 * MAX_MAILS)))
    assert len(await letters(domain)) == MAX_MAILS
    await told(domain, "grace@example.org")
    assert (await letters(domain))[-1] == ("reset_password", str(other.user_id))
    await domain.pass_time(3600)
    await told(domain, "ada@example.org")
    assert len(await letters(domain)) == MAX_MAILS + 2


async def test_a_reset_ends_all_sessions_in_every_process(domain: Domain, other: Domain) -> None:
    await domain.person(email="ada@example.org")
    logins = [await log_in(domain) for _ in range(3)]
    for login in logins * 2:
        await whoami(other, login)
    await domain.password_reset.ask(ResetPassword(await asked(domain), NEW))
    for login in logins:
        for process in (domain, other):
            with refused(AUTH_SESSION_ENDED):
                await whoami(process, login)
        with refused(AUTH_REFRESH_INVALID):
            await domain.sessions.ask(RefreshSession(login.refresh_token))


async def test_of_sixteen_who_use_one_secret_at_once_exactly_one_wins(domain: Domain, other: Domain) -> None:
    await domain.person(email="ada@example.org")
    token = await asked(domain)
    passwords = [f"{NEW}-{each}" for each in range(16)]
    asks = [
        process.password_reset.ask(ResetPassword(token, password))
        for process, password in zip((domain, other) * 8, passwords, strict=True)
    ]
    won, lost = await at_once(*asks)
    assert len(won) == 1
    assert lost == [AUTH_MAIL_TOKEN_INVALID] * 15
    (winner,) = [password for ask, password in zip(asks, passwords, strict=True) if ask.exception() is None]
    await log_in(domain, password=winner)
    assert len(await domain.events("user.updated")) == 1


async def test_of_different_secrets_of_one_account_used_at_once_one_wins_and_none_waits_for_another(
    domain: Domain,
) -> None:
    user = await domain.person(email="ada@example.org")
    for _ in range(MAX_MAILS):
        await told(domain, "ada@example.org")
    ids: list[UUID] = [row["token_id"] for row in await domain.rows("select token_id from mail_tokens")]
    asks = [domain.password_reset.ask(ResetPassword(domain.signer.mail_token(each), NEW)) for each in ids]
    won, lost = await at_once(*asks)
    assert (len(won), set(lost)) == (1, {AUTH_MAIL_TOKEN_INVALID})
    assert await domain.value("select count(*) from mail_tokens where used_at is null") == 0
    assert user.user_id


@pytest.mark.parametrize(
    "spoil",
    [
        "update mail_tokens set used_at = now()",
        "update mail_tokens set purpose = 'verify_email'",
        "update users set is_active = false",
        "update users set deleted_at = now()",
    ],
)
async def test_a_secret_that_is_not_good_resets_nothing_and_costs_no_hashing(
    domain: Domain, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await domain.person(email="ada@example.org")
    token = await asked(domain)
    await domain.execute(spoil)
    before = await domain.value("select password_hash from users")
    monkeypatch.setattr(password_reset, "HashPassword", None)
    for each in (token, "", "é", "x" * 128):
        with refused(AUTH_MAIL_TOKEN_INVALID):
            await domain.password_reset.ask(ResetPassword(each, NEW))
    assert await domain.value("select password_hash from users") == before


async def test_a_secret_is_good_for_an_hour(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    token = await asked(domain)
    await domain.pass_time(RESET_TTL_S)
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.password_reset.ask(ResetPassword(token, NEW))


@pytest.mark.parametrize("how", ["changed", "reset"])
async def test_with_the_password_goes_the_change_of_address_that_somebody_else_has_asked_for(
    domain: Domain, how: str
) -> None:
    """As the letter to the old address says: if this was not you, change your password."""
    user = await domain.person(email="ada@example.org")
    await domain.users.ask(UpdateUser(user.user_id, "Ada", "mallory@example.org"))
    link = await domain.mail_token(user.user_id)
    if how == "changed":
        await change(domain, await log_in(domain))
    else:
        await told(domain, "ada@example.org")
        await domain.password_reset.ask(ResetPassword(await domain.mail_token(user.user_id), NEW))
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(VerifyEmail(link))
    await log_in(domain, "ada@example.org", NEW)


async def test_a_password_that_will_not_do_is_named_and_the_secret_stays_good(domain: Domain) -> None:
    await domain.person(email="countess@example.org")
    token = await asked(domain, "countess@example.org")
    for bad in ("short", "Password1", "Countess-1815", "A1" + "x" * 127):
        with refused(REQUEST_INVALID) as caught:
            await domain.password_reset.ask(ResetPassword(token, bad))
        assert {detail.field for detail in caught.value.details} == {"new_password"}
    await domain.password_reset.ask(ResetPassword(token, NEW))


async def test_the_policy_of_new_passwords_is_the_configured_one(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    token = await asked(domain)
    parts = (domain.database, domain.passwords, domain.sessions, domain.limits, domain.failed_logins)
    strict = PasswordReset(*parts, policy=PasswordPolicy.NIST)
    with refused(REQUEST_INVALID):
        await strict.reset(ResetPassword(token, NEW))
    await strict.reset(ResetPassword(token, "a lantern walks by night"))


async def test_a_reset_spends_the_other_links_too(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    first, second = [await asked(domain) for _ in range(2)]
    await domain.password_reset.ask(ResetPassword(first, NEW))
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.password_reset.ask(ResetPassword(second, "Other-Boats-88"))


# Changed -------------------------------------------------------------------------------------------------------------


async def test_a_changed_password_ends_all_sessions_but_this_one(domain: Domain, other: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    mine, *others = [await log_in(domain) for _ in range(3)]
    for login in (mine, *others) * 2:
        await whoami(other, login)
    await change(domain, mine)
    for process in (domain, other):
        await whoami(process, mine)
        for login in others:
            with refused(AUTH_SESSION_ENDED):
                await whoami(process, login)
    await domain.sessions.ask(RefreshSession(mine.refresh_token))
    await log_in(domain, password=NEW)
    assert await letters(domain) == [("password_changed", str(user.user_id))]


async def test_a_changed_password_spends_a_link_that_is_under_way(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    token = await asked(domain)
    await change(domain, await log_in(domain))
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.password_reset.ask(ResetPassword(token, "Other-Boats-88"))


async def test_a_wrong_current_password_changes_nothing_and_is_counted_by_its_session(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    mine, theirs = [await log_in(domain) for _ in range(2)]
    for _ in range(POLICIES["account"].limit):
        with refused(AUTH_INVALID_CREDENTIALS):
            await change(domain, mine, current="Wrong-Word-42")
    with refused(AUTH_ACCOUNT_LIMITED):
        await change(domain, mine)
    await log_in(domain)  # who has a session cannot lock its owner out
    await whoami(domain, theirs)
    assert await letters(domain) == []


async def test_a_new_password_that_will_not_do_is_named_before_the_current_one_is_checked(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    mine = await log_in(domain)
    for _ in range(2 * POLICIES["account"].limit):
        with refused(REQUEST_INVALID) as caught:
            await change(domain, mine, current="Wrong-Word-42", new="short")
    assert {detail.field for detail in caught.value.details} == {"new_password"}


async def test_of_sixteen_changes_at_once_exactly_one_wins(domain: Domain, other: Domain) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    won, lost = await at_once(
        *(change(process, login, new=f"{NEW}-{each}") for each, process in enumerate((domain, other) * 8))
    )
    assert len(won) == 1
    assert set(lost) <= {AUTH_INVALID_CREDENTIALS, AUTH_ACCOUNT_LIMITED}
    assert len(await domain.events("user.updated")) == 1


async def test_a_change_of_who_is_gone_is_of_nobody(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await domain.execute("update users set deleted_at = now()")
    with refused(AUTH_SESSION_ENDED):
        await change(domain, login)
