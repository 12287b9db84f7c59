"""Accounts: registration, verification, and what an admin may change."""

import inspect
import logging
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from kit.domain import PASSWORD, SECRET, Domain, at_once, refused

from callboard.actors.delivery import email_templates, mail_message, mail_queue, smtp_settings
from callboard.actors.errors import REQUEST_INVALID
from callboard.actors.identity import password_hasher, sessions, users
from callboard.actors.identity.authentication import LogIn
from callboard.actors.identity.email_requests import RequestEmail
from callboard.actors.identity.email_verification import MAX_MAILS
from callboard.actors.identity.errors import (
    AUTH_INVALID_CREDENTIALS,
    AUTH_MAIL_TOKEN_INVALID,
    AUTH_PASSWORD_NEEDED,
    USERS_EMAIL_TAKEN,
    USERS_LAST_ADMIN,
    USERS_NOT_FOUND,
)
from callboard.actors.identity.users import (
    ChangeUser,
    CreateUser,
    GetUser,
    ListUsers,
    RegisterUser,
    VerifyEmail,
)
from callboard.actors.infrastructure import token_signer
from callboard.actors.infrastructure.principals import Role

SECRET_FIELDS = {"password", "token", "access_token", "refresh_token"}


def registration(**changes: Any) -> RegisterUser:
    good: dict[str, Any] = {
        "email": "ada@example.org",
        "password": PASSWORD,
        "full_name": "Ada Lovelace",
        "terms_accepted": True,
    }
    return RegisterUser(**(good | changes))


# Registering ---------------------------------------------------------------------------------------------------------


async def test_registering_makes_an_account_that_is_a_member_and_not_verified(domain: Domain) -> None:
    user = await domain.users.ask(registration(full_name="  Ada Lovelace "))
    assert (user.email, user.full_name, user.role) == ("ada@example.org", "Ada Lovelace", Role.MEMBER)
    assert user.is_active
    assert not user.is_verified
    assert await domain.users.ask(GetUser(user.user_id)) == user


async def test_registering_tells_of_the_account_and_asks_for_its_letter(domain: Domain) -> None:
    user_id = await domain.registered()
    token_id = await domain.value("select token_id from mail_tokens")
    registered_at = (await domain.value("select created_at from users")).isoformat(timespec="seconds")
    assert await domain.events() == [
        ("users.v1", "user.registered", {"user_id": str(user_id), "email": "ada@example.org"}),
        (
            "priority.v1",
            "letter.requested",
            {
                "letter": "verify_email",
                "user_id": str(user_id),
                "data": {"token_id": str(token_id), "requested_at": registered_at},
            },
        ),
    ]
    assert {row["key"] for row in await domain.rows("select key from outbox")} == {str(user_id)}


async def test_the_account_and_all_that_belongs_to_it_come_from_one_transaction(domain: Domain) -> None:
    await domain.registered()
    tables = ("users", "user_profiles", "mail_tokens", "outbox")
    union = " union all ".join(f"select xmin::text from {table}" for table in tables)  # noqa: S608 - our own names
    assert await domain.value(f"select count(distinct xmin) from ({union}) as rows") == 1  # noqa: S608


async def test_a_registration_whose_last_row_fails_leaves_nothing(domain: Domain) -> None:
    await domain.execute("alter table outbox add constraint broken check (type <> 'letter.requested')")
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            await domain.registered()
    finally:
        await domain.execute("alter table outbox drop constraint broken")
    for table in ("users", "user_profiles", "mail_tokens", "outbox"):
        assert await domain.value(f"select count(*) from {table}") == 0  # noqa: S608
    domain.crashes.clear()
    await domain.registered()


@pytest.mark.parametrize("email", ["ada@example.org", "ADA@example.org", "Ada@EXAMPLE.org"])
async def test_an_address_is_taken_in_any_case(domain: Domain, email: str) -> None:
    await domain.person(email="Ada@example.org")
    with refused(USERS_EMAIL_TAKEN) as caught:
        await domain.users.ask(registration(email=email))
    assert [detail.field for detail in caught.value.details] == ["email"]
    assert await domain.events() == []


async def test_of_sixteen_who_register_one_address_at_once_one_account_is_left_and_five_mails(domain: Domain) -> None:
    emails = ["ada@example.org", "ADA@example.org", "Ada@example.org", "adA@example.org"] * 4
    won, lost = await at_once(*(domain.users.ask(registration(email=email)) for email in emails))
    assert (len(won), lost) == (16, [])
    (left,) = await domain.rows("select user_id, password_needed from users")
    assert left["user_id"] in {user.user_id for user in won}
    assert left["password_needed"]
    assert len(await domain.events("letter.requested")) == MAX_MAILS
    gone = {value["user_id"] for _, _, value in await domain.events("user.deleted")}
    assert gone == {str(user.user_id) for user in won} - {str(left["user_id"])}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"email": "ada"}, ("email", "@-sign")),
        ({"email": "ada@"}, ("email", "")),
        ({"email": "a@b@example.org"}, ("email", "")),
        ({"email": "ada@example.org\r\nBcc: all@example.org"}, ("email", "")),
        ({"email": f"{'a' * 250}@example.org"}, ("email", "")),
        ({"password": "Brfkt-7"}, ("password", "8 to 128")),
        ({"password": "Aa1" + "x" * 126}, ("password", "8 to 128")),
        ({"password": "lantern-walk-42"}, ("password", "upper case")),
        ({"password": "Lantern-Walk"}, ("password", "digit")),
        ({"password": "Password1"}, ("password", "common")),
        ({"password": "Lovelace-1815"}, ("password", "your name")),
        ({"email": "countess@example.org", "password": "Countess-1815"}, ("password", "your name or address")),
        ({"terms_accepted": False}, ("terms_accepted", "true")),
        ({"full_name": ""}, ("full_name", "empty")),
        ({"full_name": "   "}, ("full_name", "empty")),
        ({"full_name": "x"}, ("full_name", "2 to 255")),
        ({"full_name": "x" * 256}, ("full_name", "2 to 255")),
    ],
)
async def test_a_fault_of_a_registration_is_named(
    domain: Domain, changes: dict[str, Any], fault: tuple[str, str]
) -> None:
    with refused(REQUEST_INVALID) as caught:
        await domain.users.ask(registration(**changes))
    (detail,) = caught.value.details
    assert detail.field == fault[0]
    assert fault[1] in detail.message
    assert await domain.events() == []


async def test_all_faults_of_a_registration_are_named_at_once(domain: Domain) -> None:
    with refused(REQUEST_INVALID) as caught:
        await domain.users.ask(registration(email="x", password="short", full_name=" ", terms_accepted=False))
    fields = [detail.field for detail in caught.value.details]
    assert fields == ["email", "full_name", "terms_accepted", "password", "password", "password"]


# Verifying -----------------------------------------------------------------------------------------------------------


async def test_the_secret_of_the_mail_verifies_the_address(domain: Domain) -> None:
    user_id = await domain.registered()
    user = await domain.users.ask(VerifyEmail(await domain.mail_token(user_id)))
    assert user.is_verified
    assert await domain.events("user.verified") == [("users.v1", "user.verified", {"user_id": str(user_id)})]


async def test_of_sixteen_who_use_one_secret_at_once_exactly_one_wins(domain: Domain) -> None:
    token = await domain.mail_token(await domain.registered())
    won, lost = await at_once(*(domain.users.ask(VerifyEmail(token)) for _ in range(16)))
    assert len(won) == 1
    assert lost == [AUTH_MAIL_TOKEN_INVALID] * 15
    assert len(await domain.events("user.verified")) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        "update mail_tokens set used_at = now()",
        "update mail_tokens set expires_at = now()",
        "update mail_tokens set purpose = 'reset_password'",
        "update users set deleted_at = now()",
    ],
)
async def test_a_secret_that_is_used_expired_or_for_something_else_is_refused(domain: Domain, spoil: str) -> None:
    token = await domain.mail_token(await domain.registered())
    await domain.execute(spoil)
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(VerifyEmail(token))
    assert not await domain.value("select is_verified from users")
    assert await domain.events("user.verified") == []


@pytest.mark.parametrize("token", ["", "x", "é", "../..", "A" * 128])
async def test_a_made_up_secret_is_refused(domain: Domain, token: str) -> None:
    await domain.registered()
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(VerifyEmail(token))


async def test_the_id_of_a_token_is_no_secret_that_verifies(domain: Domain) -> None:
    await domain.registered()
    token_id = await domain.value("select token_id from mail_tokens")
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(VerifyEmail(str(token_id)))


async def test_a_resent_mail_is_answered_alike_for_every_address(domain: Domain) -> None:
    await domain.registered("new@example.org")
    await domain.person(email="verified@example.org")
    await domain.person(email="inactive@example.org", is_verified=False, is_active=False)
    answers = [
        await domain.email_requests.ask(RequestEmail("verify_email", f"{who}@example.org"))
        for who in ("NEW", "verified", "inactive", "nobody")
    ]
    assert answers == [None] * 4  # type: ignore[comparison-overlap]
    await domain.work()
    letters_asked = await domain.events("letter.requested")
    assert len(letters_asked) == 2  # that of the registration, and one more for who needs it
    assert letters_asked[0][2]["user_id"] == letters_asked[1][2]["user_id"]


async def test_after_a_resent_mail_either_link_verifies_with_a_password_and_neither_without(domain: Domain) -> None:
    user_id = await domain.registered()
    first = await domain.mail_token(user_id)
    await domain.answered("verify_email", "ada@example.org")
    assert await domain.mail_token(user_id) != first
    second = await domain.mail_token(user_id)
    for link in (first, second):
        with refused(AUTH_PASSWORD_NEEDED):
            await domain.users.ask(VerifyEmail(link))
    assert (await domain.users.ask(VerifyEmail(first, "Lighthouse-Keeper-7"))).is_verified
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(VerifyEmail(second, "Lighthouse-Keeper-8"))


# Looking up and changing ---------------------------------------------------------------------------------------------


async def test_who_is_unknown_or_deleted_is_not_there(domain: Domain) -> None:
    gone = await domain.person()
    await domain.execute("update users set deleted_at = now()")
    for user_id in (gone.user_id, uuid4()):
        with refused(USERS_NOT_FOUND):
            await domain.users.ask(GetUser(user_id))
        with refused(USERS_NOT_FOUND):
            await domain.users.ask(ChangeUser(user_id, Role.EDITOR))
    assert await domain.events() == []


async def test_a_change_leaves_what_it_does_not_name_and_tells_what_it_does(domain: Domain) -> None:
    member = await domain.person()
    user = await domain.users.ask(ChangeUser(member.user_id, role=Role.EDITOR))
    assert (user.role, user.is_active) == (Role.EDITOR, True)
    user = await domain.users.ask(ChangeUser(member.user_id, is_active=False))
    assert (user.role, user.is_active) == (Role.EDITOR, False)
    assert [value["changed"] for _, _, value in await domain.events("user.updated")] == [["role"], ["is_active"]]


@pytest.mark.parametrize("change", [{"role": Role.EDITOR}, {"role": Role.MEMBER}, {"is_active": False}])
async def test_the_last_active_admin_stays_one(domain: Domain, change: dict[str, Any]) -> None:
    admin = await domain.person(Role.ADMIN)
    await domain.person(Role.ADMIN, is_active=False)
    with refused(USERS_LAST_ADMIN):
        await domain.users.ask(ChangeUser(admin.user_id, **change))
    assert await domain.events() == []
    await domain.users.ask(ChangeUser(admin.user_id, role=Role.ADMIN, is_active=True))


async def test_of_two_admins_who_demote_each_other_at_once_one_stays(domain: Domain) -> None:
    admins = [await domain.person(Role.ADMIN) for _ in range(2)]
    for _ in range(10):
        await domain.execute("update users set role = 'admin', is_active = true")
        won, lost = await at_once(
            domain.users.ask(ChangeUser(admins[0].user_id, role=Role.MEMBER)),
            domain.users.ask(ChangeUser(admins[1].user_id, is_active=False)),
        )
        assert len(won) == 1
        assert lost == [USERS_LAST_ADMIN]
        assert await domain.value("select count(*) from users where role = 'admin' and is_active") == 1


async def test_an_operator_adds_an_account_that_can_log_in_at_once(domain: Domain) -> None:
    user = await domain.users.ask(CreateUser("root@example.org", PASSWORD, "The Admin", Role.ADMIN))
    assert (user.role, user.is_verified) == (Role.ADMIN, True)
    login = await domain.logins.ask(LogIn("root@example.org", PASSWORD, "test", None))
    assert login.user_id == user.user_id
    assert [event[1] for event in await domain.events()] == ["user.registered"]


async def test_adding_an_account_that_exists_gives_it_the_role_and_leaves_its_password(domain: Domain) -> None:
    before = await domain.person(email="ada@example.org", is_active=False)
    after = await domain.users.ask(CreateUser("ADA@example.org", "Lighthouse-Keeper-7", "Other", Role.ADMIN))
    assert (after.user_id, after.role, after.is_verified, after.is_active) == (before.user_id, Role.ADMIN, True, True)
    assert (await domain.logins.ask(LogIn("ada@example.org", PASSWORD, "test", None))).user_id == before.user_id
    count = len(await domain.events())
    await domain.users.ask(CreateUser("ada@example.org", PASSWORD, "Other", Role.ADMIN))  # nothing left to change
    assert len(await domain.events()) == count


async def test_adding_an_account_that_was_never_verified_gives_nothing_to_whoever_registered_it(domain: Domain) -> None:
    await domain.registered("ada@example.org")
    after = await domain.users.ask(CreateUser("ADA@example.org", "Lighthouse-Keeper-7", "Ada", Role.ADMIN))
    assert (after.role, after.is_verified, after.is_active) == (Role.ADMIN, True, True)
    with refused(AUTH_INVALID_CREDENTIALS):
        await domain.logins.ask(LogIn("ada@example.org", PASSWORD, "test", None))
    login = await domain.logins.ask(LogIn("ada@example.org", "Lighthouse-Keeper-7", "test", None))
    assert login.user_id == after.user_id


async def test_an_operator_is_told_every_fault_too(domain: Domain) -> None:
    with refused(REQUEST_INVALID) as caught:
        await domain.users.ask(CreateUser("root", "short", "", Role.ADMIN))
    assert {detail.field for detail in caught.value.details} == {"email", "full_name", "password"}


# Secrets -------------------------------------------------------------------------------------------------------------


async def dump(domain: Domain) -> str:
    """Every row of every table, with what stands in bytea as text too."""
    tables = await domain.rows("select tablename from pg_tables where schemaname = 'public'")
    parts = []
    for table in tables:
        rows = await domain.rows(f'select t::text as row from "{table["tablename"]}" as t')  # noqa: S608
        parts += [row["row"] for row in rows]
    parts += [row["value"].decode() for row in await domain.rows("select value from outbox")]
    return "\n".join(parts)


async def test_no_password_and_no_token_is_at_rest_anywhere(domain: Domain, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    user_id = await domain.registered()
    token = await domain.mail_token(user_id)
    await domain.users.ask(VerifyEmail(token))
    login = await domain.logins.ask(LogIn("ada@example.org", PASSWORD, "test", "127.0.0.1"))
    whole = await dump(domain) + caplog.text
    assert "ada@example.org" in whole
    assert str(user_id) in whole
    for secret in (PASSWORD, SECRET, token, login.access_token, login.refresh_token):
        assert secret not in whole
        assert secret.encode().hex() not in whole


@pytest.mark.parametrize(
    "module",
    [email_templates, mail_message, mail_queue, password_hasher, sessions, smtp_settings, token_signer, users],
    ids=lambda m: m.__name__,
)
def test_whatever_holds_a_secret_keeps_it_out_of_its_repr(module: ModuleType) -> None:
    for name, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, msgspec.Struct) and SECRET_FIELDS & set(kind.__struct_fields__):
            assert "__repr__" in vars(kind), f"{name} shows {SECRET_FIELDS & set(kind.__struct_fields__)}"
            made = kind(*("hidden" for _ in kind.__struct_fields__))
            assert "hidden" not in repr(made).replace("user_id=hidden", "").replace("SmtpSettings(hidden:hidden)", "")


def test_the_signer_shows_nothing_of_its_secret() -> None:
    signer = token_signer.Signer(SECRET, issuer="callboard", access_ttl_s=1)
    assert SECRET not in repr(signer)
    assert signer.mail_token(UUID(int=1)) not in repr(signer)


async def test_an_operator_finds_an_account_by_any_spelling_of_its_address(domain: Domain) -> None:
    who = await domain.person(email="ada@xn--bcher-kva.example")
    old = await domain.person(email=f"{'x' * 65}@example.org")
    for spelling in ("ada@b\u00fccher.example", " ADA@xn--bcher-kva.example ", "ada@bu\u0308cher.example"):
        assert [user.user_id for user in await domain.users.ask(ListUsers(5, email=spelling))] == [who.user_id]
    assert [user.user_id for user in await domain.users.ask(ListUsers(5, email=old.email))] == [old.user_id]
