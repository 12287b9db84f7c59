"""Logging in, and who a session speaks for."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from argon2 import extract_parameters
from domain import CHEAP_HASH, PASSWORD, Domain, refused

from callboard.actors import passwords
from callboard.actors.access import Identity, Role
from callboard.actors.errors import (
    AUTH_INACTIVE,
    AUTH_INVALID_CREDENTIALS,
    AUTH_SESSION_ENDED,
    AUTH_UNVERIFIED,
    Code,
    Problem,
)
from callboard.actors.logins import LogIn
from callboard.actors.passwords import HASHER
from callboard.actors.sessions import Authenticate, Login
from callboard.actors.tokens import fingerprint
from callboard.actors.users import ChangeUser


async def log_in(domain: Domain, email: str = "ada@example.org", password: str = PASSWORD) -> Login:
    return await domain.logins.ask(LogIn(email, password, "a browser", "127.0.0.1"))


async def whoami(domain: Domain, login: Login) -> Identity:
    claims = domain.signer.read(login.access_token)
    return await domain.sessions.ask(Authenticate(claims.user_id, claims.session_id))


async def test_the_right_password_opens_a_session(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain, "ADA@example.org")
    assert (login.user_id, login.email, login.expires_in) == (user.user_id, "ada@example.org", 900)
    identity = await whoami(domain, login)
    assert (identity.user_id, identity.email, identity.role) == (user.user_id, "ada@example.org", Role.MEMBER)
    (row,) = await domain.rows("select * from sessions")
    assert row["session_id"] == identity.session_id
    (token,) = await domain.rows("select * from refresh_tokens")
    assert (token["session_id"], token["refresh_hash"]) == (identity.session_id, fingerprint(login.refresh_token))
    assert (row["device"], str(row["ip"])) == ("a browser", "127.0.0.1")


async def test_each_login_is_a_session_of_its_own(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    logins = await asyncio.gather(*(log_in(domain) for _ in range(4)))
    assert len({login.refresh_token for login in logins}) == 4
    assert len({(await whoami(domain, login)).session_id for login in logins}) == 4


async def test_a_device_with_a_very_long_name_is_let_in(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    await domain.logins.ask(LogIn("ada@example.org", PASSWORD, "x" * 5000, "::1"))
    assert await domain.value("select length(device) from sessions") == 400


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD.lower(), PASSWORD + " ", "x" * 4000])
async def test_a_wrong_password_is_refused(domain: Domain, password: str) -> None:
    await domain.person(email="ada@example.org")
    with refused(AUTH_INVALID_CREDENTIALS):
        await log_in(domain, password=password)
    assert await domain.value("select count(*) from sessions") == 0


async def test_an_unknown_address_costs_the_same_hashing_and_gets_the_same_answer(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    await domain.person(email="ada@example.org", password_hash=HASHER.hash(PASSWORD))
    work: list[Any] = []

    class Spy:
        @staticmethod
        def verify(password_hash: str, password: str) -> bool:
            work.append((extract_parameters(password_hash), len(password)))
            return HASHER.verify(password_hash, password)

    monkeypatch.setattr(passwords, "HASHER", Spy)
    answers = []
    for email in ("ada@example.org", "nobody@example.org", "not an address"):
        with pytest.raises(Problem) as caught:
            await log_in(domain, email, "Wrong-Word-42")
        answers.append((caught.value.code, caught.value.message, caught.value.details))
    assert answers == [answers[0]] * 3
    assert work == [work[0]] * 3


async def test_the_password_that_nobody_has_opens_nothing(domain: Domain) -> None:
    with refused(AUTH_INVALID_CREDENTIALS):
        await log_in(domain, "nobody@example.org", "a password that nobody has, checked where there is no account")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ({"is_verified": False}, AUTH_UNVERIFIED),
        ({"is_active": False}, AUTH_INACTIVE),
        ({"is_verified": False, "is_active": False}, AUTH_INACTIVE),
    ],
)
async def test_the_state_of_an_account_is_told_only_with_the_right_password(
    domain: Domain, state: dict[str, bool], code: Code
) -> None:
    await domain.person(email="ada@example.org", **state)
    with refused(AUTH_INVALID_CREDENTIALS):
        await log_in(domain, password="Wrong-Word-42")
    with refused(code):
        await log_in(domain)
    assert await domain.value("select count(*) from sessions") == 0


async def test_a_deleted_account_is_as_unknown_as_any(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    await domain.execute("update users set deleted_at = now()")
    with refused(AUTH_INVALID_CREDENTIALS):
        await log_in(domain)


async def test_a_hash_of_older_parameters_is_renewed_by_the_login_that_proves_the_password(domain: Domain) -> None:
    await domain.person(email="ada@example.org", password_hash=CHEAP_HASH)
    with refused(AUTH_INVALID_CREDENTIALS):
        await log_in(domain, password="Wrong-Word-42")
    assert await domain.value("select password_hash from users") == CHEAP_HASH
    await log_in(domain)
    renewed = await domain.value("select password_hash from users")
    assert extract_parameters(renewed) == extract_parameters(HASHER.hash("x"))
    await log_in(domain)
    assert await domain.value("select password_hash from users") == renewed


async def test_a_damaged_hash_lets_nobody_in_and_breaks_nothing(domain: Domain) -> None:
    await domain.person(email="ada@example.org", password_hash="$argon2id$damaged")
    with refused(AUTH_INVALID_CREDENTIALS):
        await log_in(domain)


async def test_a_new_role_is_in_force_at_the_next_request(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await domain.users.ask(ChangeUser(user.user_id, role=Role.EDITOR))
    assert (await whoami(domain, login)).role is Role.EDITOR


async def test_a_deactivated_account_is_out_at_the_next_request_and_has_to_log_in_again(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await whoami(domain, login)
    await domain.users.ask(ChangeUser(user.user_id, is_active=False))
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)
    await domain.users.ask(ChangeUser(user.user_id, is_active=True))
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)
    await whoami(domain, await log_in(domain))


@pytest.mark.parametrize(
    "end",
    [
        "update sessions set ended_at = now()",
        "update sessions set expires_at = now()",
        "delete from sessions",
        "update users set deleted_at = now()",
    ],
)
async def test_an_ended_session_speaks_for_nobody(domain: Domain, end: str) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await domain.execute(end)
    with refused(AUTH_SESSION_ENDED):
        await whoami(domain, login)


async def test_a_session_speaks_only_for_its_own_user(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    other = await domain.person()
    session_id = (await whoami(domain, await log_in(domain))).session_id
    for user_id, session in ((other.user_id, session_id), (uuid4(), session_id), (other.user_id, uuid4())):
        with refused(AUTH_SESSION_ENDED):
            await domain.sessions.ask(Authenticate(user_id, session))
