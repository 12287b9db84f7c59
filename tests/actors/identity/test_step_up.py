"""Step-up and the way back: what decides who has an account needs a fresh password, and a change can be undone."""

from uuid import UUID

import msgspec
import pytest
from kit.domain import PASSWORD, Domain, at_once, refused

from callboard.actors.identity.authentication import LogIn, StepUp
from callboard.actors.identity.data_export import Exports, RequestExport
from callboard.actors.identity.email_verification import RegistrationPolicy
from callboard.actors.identity.errors import (
    AUTH_INVALID_CREDENTIALS,
    AUTH_MAIL_TOKEN_INVALID,
    AUTH_SESSION_ENDED,
    AUTH_STEP_UP_REQUIRED,
    USERS_EMAIL_TAKEN,
)
from callboard.actors.identity.password_hasher import NO_PASSWORD
from callboard.actors.identity.password_reset import ResetPassword
from callboard.actors.identity.session_cache import Authenticate
from callboard.actors.identity.sessions import STEP_UP_S
from callboard.actors.identity.users import (
    ChangeUser,
    DeleteUser,
    GetUser,
    RegisterUser,
    UndoEmailChange,
    UpdateUser,
    Users,
    VerifyEmail,
)
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.token_signer import Claims

EVE = UUID(int=0)  # whom each test makes


async def log_in(domain: Domain, email: str = "ada@example.org", password: str = PASSWORD) -> Claims:
    return domain.signer.read((await domain.logins.ask(LogIn(email, password, "test", None))).access_token)


async def token(domain: Domain, user_id: UUID, purpose: str) -> str:
    """The newest secret of a purpose that was mailed to a user."""
    query = "select token_id from mail_tokens where user_id = $1 and purpose = $2 order by created_at desc limit 1"
    return domain.signer.mail_token(UUID(str(await domain.value(query, user_id, purpose))))


async def change(domain: Domain, session: Claims, email: str) -> None:
    """Ask for another address, and prove it."""
    await domain.users.ask(UpdateUser(session.user_id, "Ada", email, session_id=session.session_id))
    await domain.users.ask(VerifyEmail(await token(domain, session.user_id, "change_email")))


async def test_address_deletion_and_export_need_a_password_given_lately(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    mine = await log_in(domain)
    exports = Exports(domain.database, domain.signer, domain.jobs)
    await domain.pass_time(STEP_UP_S + 1)
    edit = UpdateUser(mine.user_id, "Ada", "king@example.org", session_id=mine.session_id)
    with refused(AUTH_STEP_UP_REQUIRED):
        await domain.users.ask(edit)
    with refused(AUTH_STEP_UP_REQUIRED):
        await domain.users.ask(DeleteUser(mine.user_id, session_id=mine.session_id))
    with refused(AUTH_STEP_UP_REQUIRED):
        await exports.request(RequestExport(mine.user_id, mine.session_id))
    assert await domain.events() == []
    await domain.users.ask(UpdateUser(mine.user_id, "Ada King", "ada@example.org", session_id=mine.session_id))
    await domain.logins.ask(StepUp(mine.user_id, mine.session_id, PASSWORD))
    await domain.users.ask(edit)
    await exports.request(RequestExport(mine.user_id, mine.session_id))
    await domain.users.ask(DeleteUser(mine.user_id, session_id=mine.session_id))


@pytest.mark.parametrize(
    "change",
    [
        UpdateUser(EVE, "Eve", "king@example.org"),
        DeleteUser(EVE),
        ChangeUser(EVE, role=Role.ADMIN),
        ChangeUser(EVE, role=Role.EDITOR),
        ChangeUser(EVE, is_active=False),
    ],
    ids=["address", "deletion", "admin", "editor", "deactivation"],
)
async def test_what_an_admin_does_to_another_account_needs_a_password_given_lately(
    domain: Domain, change: UpdateUser | DeleteUser | ChangeUser
) -> None:
    await domain.person(Role.ADMIN, email="ada@example.org")
    await domain.person(Role.ADMIN)
    eve = await domain.person()
    mine = await log_in(domain)
    asked = msgspec.structs.replace(change, user_id=eve.user_id, session_id=mine.session_id)
    await domain.pass_time(STEP_UP_S + 1)
    with refused(AUTH_STEP_UP_REQUIRED):
        await domain.users.ask(asked)
    found = await domain.users.ask(GetUser(eve.user_id))
    assert (found.email, found.role, found.is_active) == (eve.email, eve.role, True)
    await domain.logins.ask(StepUp(mine.user_id, mine.session_id, PASSWORD))
    await domain.users.ask(asked)


async def test_the_same_address_in_another_case_needs_a_password_given_lately(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    mine = await log_in(domain)
    await domain.pass_time(STEP_UP_S + 1)
    edit = UpdateUser(mine.user_id, "Ada", "Ada@example.org", session_id=mine.session_id)
    with refused(AUTH_STEP_UP_REQUIRED):
        await domain.users.ask(edit)
    await domain.logins.ask(StepUp(mine.user_id, mine.session_id, PASSWORD))
    assert (await domain.users.ask(edit)).email == "Ada@example.org"


async def test_a_step_up_is_of_one_session_and_needs_the_right_password(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    mine, other = await log_in(domain), await log_in(domain)
    await domain.pass_time(STEP_UP_S + 1)
    with refused(AUTH_INVALID_CREDENTIALS):
        await domain.logins.ask(StepUp(mine.user_id, mine.session_id, "Wrong-Word-42"))
    await domain.logins.ask(StepUp(mine.user_id, mine.session_id, PASSWORD))
    with refused(AUTH_STEP_UP_REQUIRED):
        await domain.users.ask(DeleteUser(other.user_id, session_id=other.session_id))
    await domain.execute("update sessions set ended_at = now()")
    with refused(AUTH_SESSION_ENDED):
        await domain.logins.ask(StepUp(mine.user_id, mine.session_id, PASSWORD))
    with refused(AUTH_SESSION_ENDED):  # by another tab, after this one's request has begun
        await domain.users.ask(DeleteUser(mine.user_id, session_id=mine.session_id))


async def test_another_persons_session_steps_nobody_up(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    await domain.person(email="eve@example.org")
    ada, eve = await log_in(domain), await log_in(domain, "eve@example.org")
    await domain.pass_time(STEP_UP_S + 1)
    with refused(AUTH_SESSION_ENDED):
        await domain.logins.ask(StepUp(eve.user_id, ada.session_id, PASSWORD))
    with refused(AUTH_STEP_UP_REQUIRED):
        await domain.users.ask(DeleteUser(ada.user_id, session_id=ada.session_id))


async def test_a_change_of_address_ends_all_other_sessions_and_mails_a_way_back(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    other, mine = await log_in(domain), await log_in(domain)
    await change(domain, mine, "king@example.org")
    assert await domain.sessions.ask(Authenticate(mine.user_id, mine.session_id))
    with refused(AUTH_SESSION_ENDED):
        await domain.sessions.ask(Authenticate(other.user_id, other.session_id))
    undo = await domain.rows(
        "select email, expires_at - now() > interval '71 hours' as long from mail_tokens where purpose = 'undo_email'"
    )
    assert undo == [{"email": "ada@example.org", "long": True}]


async def test_the_way_back_leaves_the_taker_nothing(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    taker = await log_in(domain)
    await change(domain, taker, "taker@example.org")
    await domain.users.ask(UpdateUser(taker.user_id, "Ada", "other@example.org", session_id=taker.session_id))
    pending = await token(domain, taker.user_id, "change_email")
    await domain.answered("reset_password", "taker@example.org")
    reset = await token(domain, taker.user_id, "reset_password")
    user = await domain.users.ask(UndoEmailChange(await token(domain, taker.user_id, "undo_email")))
    assert user.email == "ada@example.org"
    with refused(AUTH_SESSION_ENDED):
        await domain.sessions.ask(Authenticate(taker.user_id, taker.session_id))
    for email in ("ada@example.org", "taker@example.org"):
        with refused(AUTH_INVALID_CREDENTIALS):
            await log_in(domain, email)
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(VerifyEmail(pending))
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.password_reset.ask(ResetPassword(reset, "Taker-Comes-Back-1"))
    await domain.password_reset.ask(
        ResetPassword(await token(domain, user.user_id, "reset_password"), "Lighthouse-Keeper-7")
    )
    await log_in(domain, password="Lighthouse-Keeper-7")


async def test_a_taker_who_changes_the_address_twice_cannot_come_back_by_the_second_way(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    taker = await log_in(domain)
    await change(domain, taker, "taker@example.org")
    first = await token(domain, taker.user_id, "undo_email")
    await change(domain, taker, "taker2@example.org")
    second = await token(domain, taker.user_id, "undo_email")
    assert first != second
    await domain.users.ask(UndoEmailChange(first))
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(UndoEmailChange(second))
    assert (await domain.users.ask(GetUser(taker.user_id))).email == "ada@example.org"


async def test_the_owner_comes_back_though_the_taker_went_back_first(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    taker = await log_in(domain)
    await change(domain, taker, "taker@example.org")
    first = await token(domain, taker.user_id, "undo_email")
    await change(domain, taker, "taker2@example.org")
    await domain.users.ask(UndoEmailChange(await token(domain, taker.user_id, "undo_email")))
    assert (await domain.users.ask(UndoEmailChange(first))).email == "ada@example.org"


async def test_of_sixteen_who_go_back_at_once_one_does(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    session = await log_in(domain)
    await change(domain, session, "king@example.org")
    undo = await token(domain, session.user_id, "undo_email")
    won, lost = await at_once(*(domain.users.ask(UndoEmailChange(undo)) for _ in range(16)))
    assert (len(won), lost) == (1, [AUTH_MAIL_TOKEN_INVALID] * 15)


async def test_the_way_back_is_closed_after_72_hours_and_where_somebody_else_has_proved_the_address(
    domain: Domain,
) -> None:
    await domain.person(email="ada@example.org")
    session = await log_in(domain)
    await change(domain, session, "king@example.org")
    undo = await token(domain, session.user_id, "undo_email")
    squatter = RegisterUser("ada@example.org", "Lighthouse-Keeper-7", "Eve", terms_accepted=True)
    eve = await domain.users.ask(squatter)
    await domain.users.ask(VerifyEmail(await token(domain, eve.user_id, "verify_email")))
    with refused(USERS_EMAIL_TAKEN):
        await domain.users.ask(UndoEmailChange(undo))
    await domain.execute("update users set deleted_at = now() where is_verified and email = 'ada@example.org'")
    await domain.users.ask(squatter)  # unproven, and so in nobody's way
    await domain.pass_time(72 * 3600 + 1)
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(UndoEmailChange(undo))
    await domain.pass_time(-2)
    await domain.users.ask(UndoEmailChange(undo))
    assert await domain.value("select password_hash from users where user_id = $1", session.user_id) == NO_PASSWORD
    assert await domain.value("select count(*) from users where deleted_at is null") == 1


@pytest.mark.parametrize("purpose", ["undo_email", "change_email", "verify_email"])
async def test_a_link_does_only_what_it_is_for(domain: Domain, purpose: str) -> None:
    await domain.person(email="ada@example.org")
    session = await log_in(domain)
    await change(domain, session, "king@example.org")
    undo = await token(domain, session.user_id, "undo_email")
    await domain.rows(
        "update mail_tokens set purpose = $1, email = case when $1 = 'verify_email' then null "
        "else 'ada@example.org' end where purpose = 'undo_email'",
        purpose,
    )
    wrong = VerifyEmail(undo) if purpose == "undo_email" else UndoEmailChange(undo)
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await domain.users.ask(wrong)
    assert (await domain.users.ask(GetUser(session.user_id))).email == "king@example.org"


async def test_for_how_long_a_change_can_be_undone_is_a_setting(domain: Domain) -> None:
    ada = await domain.person(email="ada@example.org")
    users = Users(
        domain.database, domain.passwords, domain.signer, domain.sessions, RegistrationPolicy(undo_ttl_s=60.0)
    )
    await users.edit(UpdateUser(ada.user_id, "Ada", "king@example.org"))
    await users.verify(VerifyEmail(await token(domain, ada.user_id, "change_email")))
    back = await token(domain, ada.user_id, "undo_email")
    await domain.pass_time(61)
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await users.undo(UndoEmailChange(back))
