"""Accounts that change: their owners' edits, deletion, what admins look for, and sessions that end with them."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from kit.domain import PASSWORD, Domain, at_once, refused

from callboard.actors.errors import REQUEST_INVALID, REQUEST_LIMITED
from callboard.actors.identity.authentication import LogIn
from callboard.actors.identity.email_verification import MAX_MAILS, RegistrationPolicy
from callboard.actors.identity.errors import (
    AUTH_INACTIVE,
    AUTH_INVALID_CREDENTIALS,
    AUTH_MAIL_TOKEN_INVALID,
    AUTH_SESSION_ENDED,
    USERS_EMAIL_TAKEN,
    USERS_LAST_ADMIN,
    USERS_NOT_FOUND,
    USERS_STALE,
)
from callboard.actors.identity.sessions import Authenticate
from callboard.actors.identity.users import (
    ChangeUser,
    DeleteUser,
    GetUser,
    ListUsers,
    RegisterUser,
    UpdateUser,
    User,
    Users,
    VerifyEmail,
)
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.runtime import Props, System, pool, supervisor


async def logged_in(domain: Domain, email: str) -> Authenticate:
    """What asks whether this new session is good."""
    login = await domain.logins.ask(LogIn(email, PASSWORD, "test", None))
    claims = domain.signer.read(login.access_token)
    return Authenticate(claims.user_id, claims.session_id)


async def letters(domain: Domain) -> list[str]:
    return [value["letter"] for _, _, value in await domain.events("letter.requested")]


# Edits ---------------------------------------------------------------------------------------------------------------


async def test_a_name_is_edited_and_told(domain: Domain) -> None:
    who = await domain.person(email="ada@example.org")
    user = await domain.users.ask(UpdateUser(who.user_id, "  Ada King "))
    assert (user.full_name, user.email) == ("Ada King", "ada@example.org")
    assert await domain.users.ask(GetUser(who.user_id)) == user
    await domain.users.ask(UpdateUser(who.user_id, "Ada King", "ada@example.org"))  # nothing changes, nothing is told
    assert [value["changed"] for _, _, value in await domain.events()] == [["full_name"]]


async def test_another_address_is_in_force_once_it_is_proved_and_not_before(domain: Domain) -> None:
    who = await domain.person(email="ada@example.org")
    asks = await logged_in(domain, "ada@example.org")
    user = await domain.users.ask(UpdateUser(who.user_id, "Ada", "Ada.King@EXAMPLE.org", session_id=asks.session_id))
    assert user.email == "ada@example.org"
    assert await letters(domain) == ["email_change_asked", "change_email"]
    assert "king" not in str(await domain.events()).lower()
    with refused(AUTH_INVALID_CREDENTIALS):
        await logged_in(domain, "ada.king@example.org")
    assert (await domain.sessions.ask(asks)).email == "ada@example.org"
    proved = await domain.users.ask(VerifyEmail(await domain.mail_token(who.user_id)))
    assert (proved.email, proved.is_verified) == ("Ada.King@example.org", True)
    assert (await domain.sessions.ask(asks)).email == "Ada.King@example.org"
    await logged_in(domain, "ada.king@example.org")
    with refused(AUTH_INVALID_CREDENTIALS):
        await logged_in(domain, "ada@example.org")


async def test_what_was_mailed_to_the_earlier_address_is_worth_nothing_after_the_change(domain: Domain) -> None:
    user_id = await domain.registered("ada@example.org")
    earlier = await domain.mail_token(user_id)
    await domain.users.ask(UpdateUser(user_id, "Ada", "king@example.org"))
    await domain.users.ask(VerifyEmail(await domain.mail_token(user_id)))
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(VerifyEmail(earlier))


async def test_a_letter_about_a_new_address_goes_there_and_the_notice_to_the_old_one(domain: Domain) -> None:
    from callboard.actors.delivery.mail_queue import QUERIES  # noqa: PLC0415 - used here alone

    who = await domain.person(email="ada@example.org")
    await domain.users.ask(UpdateUser(who.user_id, "Ada", "king@example.org"))
    token_id = await domain.value("select token_id from mail_tokens")
    async with domain.database.acquire() as connection:
        for token, email in ((token_id, "king@example.org"), (None, "ada@example.org"), (uuid4(), "ada@example.org")):
            assert await QUERIES.address_of(connection, user_id=who.user_id, token_id=token) == email
        other = await domain.person(email="eve@example.org")
        found = await QUERIES.address_of(connection, user_id=other.user_id, token_id=token_id)
        assert found == "eve@example.org"


async def test_a_taken_address_is_refused_when_it_is_asked_for_and_when_it_is_proved(domain: Domain) -> None:
    who = await domain.person(email="ada@example.org")
    await domain.users.ask(UpdateUser(who.user_id, "Ada", "king@example.org"))
    await domain.person(email="King@example.org")
    with refused(USERS_EMAIL_TAKEN):
        await domain.users.ask(VerifyEmail(await domain.mail_token(who.user_id)))
    with refused(USERS_EMAIL_TAKEN):
        await domain.users.ask(UpdateUser(who.user_id, "Ada", "KING@example.org"))
    assert (await domain.users.ask(GetUser(who.user_id))).email == "ada@example.org"


async def test_the_same_address_in_another_case_needs_no_proof(domain: Domain) -> None:
    who = await domain.person(email="ada@example.org")
    assert (await domain.users.ask(UpdateUser(who.user_id, "Some One", "Ada@Example.org"))).email == "Ada@example.org"
    assert await letters(domain) == []


@pytest.mark.parametrize(
    ("full_name", "email", "field"), [("  ", None, "full_name"), ("x" * 256, None, "full_name"), ("Al", "ada", "email")]
)
async def test_a_bad_edit_is_named_and_changes_nothing(
    domain: Domain, full_name: str, email: str | None, field: str
) -> None:
    who = await domain.person()
    with refused(REQUEST_INVALID) as caught:
        await domain.users.ask(UpdateUser(who.user_id, full_name, email))
    assert [detail.field for detail in caught.value.details] == [field]
    assert (await domain.users.ask(GetUser(who.user_id))).full_name == "Some One"


async def test_of_sixteen_who_edit_one_version_at_once_exactly_one_wins(domain: Domain) -> None:
    who = await domain.person()
    tag = (await domain.users.ask(GetUser(who.user_id))).tag
    won, lost = await at_once(*(domain.users.ask(UpdateUser(who.user_id, f"Name {n}", None, tag)) for n in range(16)))
    assert len(won) == 1
    assert lost == [USERS_STALE] * 15
    assert await domain.users.ask(UpdateUser(who.user_id, "Last", None, won[0].tag))
    assert await domain.users.ask(UpdateUser(who.user_id, "Very last", None, None))


async def test_no_account_is_changed_or_deleted_that_has_changed_since_it_was_read(domain: Domain) -> None:
    who = await domain.person()
    tag = (await domain.users.ask(GetUser(who.user_id))).tag
    newer = await domain.users.ask(UpdateUser(who.user_id, "Somebody Else", None, tag))
    for stale in (DeleteUser(who.user_id, tag), ChangeUser(who.user_id, Role.EDITOR, tag=tag)):
        with refused(USERS_STALE):
            await domain.users.ask(stale)
    assert await domain.users.ask(GetUser(who.user_id)) == newer
    await domain.users.ask(DeleteUser(who.user_id, newer.tag))


# Deletion ------------------------------------------------------------------------------------------------------------


async def test_who_is_deleted_is_not_there_has_no_session_and_leaves_the_address_free(domain: Domain) -> None:
    who = await domain.person(email="ada@example.org")
    asks = await logged_in(domain, "ada@example.org")
    await domain.sessions.ask(asks)
    await domain.users.ask(DeleteUser(who.user_id))
    with refused(AUTH_SESSION_ENDED):
        await domain.sessions.ask(asks)
    with refused(AUTH_INVALID_CREDENTIALS):
        await logged_in(domain, "ada@example.org")
    for gone in (GetUser(who.user_id), DeleteUser(who.user_id), UpdateUser(who.user_id, "Ada")):
        with refused(USERS_NOT_FOUND):
            await domain.users.ask(gone)
    assert await domain.users.ask(ListUsers(10)) == []
    assert await domain.value("select count(*) from sessions where ended_at is null") == 0
    assert await domain.events() == [("users.v1", "user.deleted", {"user_id": str(who.user_id)})]
    await domain.registered("Ada@example.org")


async def test_what_was_mailed_to_who_is_deleted_is_worth_nothing(domain: Domain) -> None:
    user_id = await domain.registered()
    token = await domain.mail_token(user_id)
    await domain.users.ask(DeleteUser(user_id))
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(VerifyEmail(token))


async def test_the_last_admin_is_not_deleted_and_of_two_at_once_one_stays(domain: Domain) -> None:
    first, second = [await domain.person(Role.ADMIN) for _ in range(2)]
    won, lost = await at_once(domain.users.ask(DeleteUser(first.user_id)), domain.users.ask(DeleteUser(second.user_id)))
    assert (len(won), lost) == (1, [USERS_LAST_ADMIN])
    assert await domain.value("select count(*) from users where deleted_at is null") == 1


# What admins change and see ------------------------------------------------------------------------------------------


async def test_a_role_is_in_force_at_the_next_look_and_a_deactivation_ends_every_session(domain: Domain) -> None:
    who = await domain.person(email="ada@example.org")
    asks = await logged_in(domain, "ada@example.org")
    assert (await domain.sessions.ask(asks)).role is Role.MEMBER
    await domain.users.ask(ChangeUser(who.user_id, Role.EDITOR))
    assert (await domain.sessions.ask(asks)).role is Role.EDITOR
    await domain.users.ask(ChangeUser(who.user_id, is_active=False))
    for _ in range(2):
        with refused(AUTH_SESSION_ENDED):
            await domain.sessions.ask(asks)
        with refused(AUTH_INACTIVE):
            await logged_in(domain, "ada@example.org")
    await domain.users.ask(ChangeUser(who.user_id, is_active=True))
    with refused(AUTH_SESSION_ENDED):  # and stays ended
        await domain.sessions.ask(asks)
    await logged_in(domain, "ada@example.org")


async def people(domain: Domain) -> dict[str, Principal]:
    made = {
        "ada": await domain.person(email="ada@example.org"),
        "eve": await domain.person(Role.EDITOR, email="eve@example.org", is_verified=False),
        "al_l": await domain.person(Role.ADMIN, email="al_l@example.org"),
        "allan": await domain.person(email="allan@example.org", is_active=False),
    }
    await domain.execute("update users set full_name = 'Ada 100%' where email = 'ada@example.org'")
    return made


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["allan", "al_l", "eve", "ada"]),
        ({"email": "ADA@example.org"}, ["ada"]),
        ({"email": "example.org"}, []),
        ({"role": Role.EDITOR}, ["eve"]),
        ({"is_verified": False}, ["eve"]),
        ({"is_active": False}, ["allan"]),
        ({"q": "al"}, ["allan", "al_l"]),
        ({"q": "L_L"}, ["al_l"]),
        ({"q": "0%"}, ["ada"]),
        ({"q": "%"}, ["ada"]),
        ({"q": "\\"}, []),
        ({"q": "some one"}, ["allan", "al_l", "eve"]),
        ({"role": Role.MEMBER, "is_active": True}, ["ada"]),
    ],
)
async def test_a_list_has_whom_the_filters_leave_newest_first(
    domain: Domain, filters: dict[str, Any], found: list[str]
) -> None:
    await people(domain)
    listed = await domain.users.ask(ListUsers(10, **filters))
    assert [user.email.partition("@")[0] for user in listed] == found


async def test_pages_of_a_list_have_everybody_once_also_those_of_one_moment(domain: Domain) -> None:
    await people(domain)
    await domain.execute("update users set created_at = '2026-01-01' where email like 'a%'")
    seen: list[User] = []
    while page := await domain.users.ask(
        ListUsers(1, before=seen[-1].created_at, before_id=seen[-1].user_id) if seen else ListUsers(1)
    ):
        seen += page
    assert len({user.user_id for user in seen}) == len(seen) == 4
    newest = seen[0].created_at
    assert await domain.users.ask(ListUsers(10, created_after=newest)) == []
    assert len(await domain.users.ask(ListUsers(10, created_after=newest - timedelta(microseconds=1)))) == 1


# Registering again ---------------------------------------------------------------------------------------------------


async def test_the_same_registration_again_is_the_same_account_and_one_mail(domain: Domain) -> None:
    message = RegisterUser("ada@example.org", PASSWORD, "Ada", terms_accepted=True, user_id=uuid4())
    first, second = await domain.users.ask(message), await domain.users.ask(message)
    assert first == second
    assert first.user_id == message.user_id
    assert await letters(domain) == ["verify_email"]


async def test_an_account_has_so_many_new_addresses_written_to_in_an_hour(domain: Domain) -> None:
    who = await domain.person(email="ada@example.org")
    asks = (UpdateUser(who.user_id, "Ada", f"victim{n % 2}@example.org") for n in range(2 * MAX_MAILS))
    won, lost = await at_once(*(domain.users.ask(each) for each in asks))
    assert (len(won), set(lost)) == (MAX_MAILS, {REQUEST_LIMITED})
    assert (await letters(domain)).count("change_email") == MAX_MAILS
    await domain.users.ask(UpdateUser(who.user_id, "Ada King"))
    await domain.pass_time(3600)
    await domain.users.ask(UpdateUser(who.user_id, "Ada", "king@example.org"))


async def test_a_concealed_conflict_looks_like_a_new_account_and_tells_the_owner_alone(domain: Domain) -> None:
    owner = await domain.person(email="ada@example.org")
    shared = (domain.database, domain.passwords, domain.signer, domain.sessions)
    concealing = pool("users", Props(Users, *shared, RegistrationPolicy(conceal=True)), size=2)
    async with System(supervisor("concealing", concealing)):
        taken, new = [
            await concealing.ask(RegisterUser(email, PASSWORD, " Ada L. ", terms_accepted=True, user_id=uuid4()))
            for email in ("Ada@example.org", "new@example.org")
        ]
        assert (taken.email, taken.full_name, taken.role) == ("Ada@example.org", new.full_name, new.role)
        assert (taken.is_verified, taken.is_active) == (new.is_verified, new.is_active)
        assert abs(new.created_at - taken.created_at) < timedelta(seconds=5)
        with refused(USERS_NOT_FOUND):
            await concealing.ask(GetUser(taken.user_id))
        await concealing.ask(UpdateUser(new.user_id, "Ada", "ada@example.org"))  # nor does an edit tell
        with refused(USERS_EMAIL_TAKEN):
            await concealing.ask(VerifyEmail(await domain.mail_token(new.user_id)))
    told = [value for _, _, value in await domain.events("letter.requested") if value["letter"] == "address_taken"]
    assert told == [{"letter": "address_taken", "user_id": str(owner.user_id), "data": {}}]
    assert (await domain.users.ask(GetUser(owner.user_id))).full_name == "Some One"


async def test_a_concealed_conflict_says_the_same_to_the_database_as_a_new_account(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    shared = (domain.database, domain.passwords, domain.signer, domain.sessions)
    concealing, statements = Users(*shared, RegistrationPolicy(conceal=True)), []
    for email in ("ada@example.org", "new@example.org"):
        with domain.overheard() as said:
            await concealing.register(RegisterUser(email, PASSWORD, "Ada L.", terms_accepted=True))
        assert [said[0], said[-1]] == ["BEGIN;", "COMMIT;"]
        statements.append([statement.split("__")[0] for statement in said])  # of a savepoint without its name
    taken, new = statements
    (turned,) = [(one, other) for one, other in zip(taken, new, strict=True) if one != other]
    assert turned == ("ROLLBACK TO ", "RELEASE SAVEPOINT ")
    assert await domain.value("select count(*) from users") == 2


async def test_of_sixteen_who_register_one_address_at_once_none_is_told_who_was_first(domain: Domain) -> None:
    shared = (domain.database, domain.passwords, domain.signer, domain.sessions)
    concealing = pool("users", Props(Users, *shared, RegistrationPolicy(conceal=True)), size=2)
    mine = RegisterUser("ada@example.org", PASSWORD, "Ada", terms_accepted=True, user_id=uuid4())
    async with System(supervisor("concealing", concealing)):
        registered = [RegisterUser("ADA@example.org", PASSWORD, "Ada", terms_accepted=True) for _ in range(12)]
        won, lost = await at_once(*(concealing.ask(each) for each in (*registered, *[mine] * 4)))
        assert (len(won), lost) == (16, [])
        assert {user.user_id for user in won if user.email == mine.email} == {mine.user_id}
        again = await concealing.ask(mine)
    assert again.user_id == mine.user_id
    assert await domain.value("select count(*) from users") == 1
    told = await letters(domain)
    assert told == ["verify_email"] * MAX_MAILS
    assert await domain.value("select count(*) from mail_tokens") == MAX_MAILS


async def test_several_links_of_one_account_used_at_once_do_not_wait_for_each_other(domain: Domain) -> None:
    """The change of address spends all links, while each of them holds its own: locked in one order, none is stuck."""
    for n in range(20):
        who = await domain.person(email=f"a{n}@example.org")
        links = []
        for name in "bc":
            await domain.users.ask(UpdateUser(who.user_id, "Ada", f"{name}{n}@example.org"))
            links.append(await domain.mail_token(who.user_id))
        won, lost = await at_once(*(domain.users.ask(VerifyEmail(token)) for token in links * 4))
        assert (len(won), lost) == (1, [AUTH_MAIL_TOKEN_INVALID] * 7)
        assert await domain.value("select email from users where user_id = $1", who.user_id) == won[0].email
