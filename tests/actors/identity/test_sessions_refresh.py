"""Refresh tokens: one use each, one child each, and the end of the session for who comes with one too late."""

import asyncio
import logging

import pytest
from kit.domain import Domain, at_once, log_in, refused, whoami

from callboard.actors.identity.errors import AUTH_REFRESH_INVALID, AUTH_SESSION_ENDED
from callboard.actors.identity.sessions import (
    GRACE_S,
    REUSE_S,
    SESSION_TTL_S,
    LoginResult,
    RefreshSession,
    RevokeSession,
)
from callboard.actors.identity.users import ChangeUser
from callboard.actors.infrastructure.token_signer import Signer, fingerprint


async def refresh(domain: Domain, token: str) -> LoginResult:
    return await domain.sessions.ask(RefreshSession(token, "127.0.0.2"))


async def test_a_refresh_gives_a_new_pair_of_the_same_session_and_prolongs_it(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    before = await whoami(domain, login)
    await domain.pass_time(1000)
    pair = await refresh(domain, login.refresh_token)
    assert (pair.user_id, pair.email, pair.full_name) == (user.user_id, "ada@example.org", "Some One")
    assert {pair.access_token, pair.refresh_token}.isdisjoint({login.access_token, login.refresh_token})
    claims = domain.signer.read(pair.access_token)
    assert (claims.user_id, claims.session_id) == (user.user_id, before.session_id)
    (session,) = await domain.rows("select *, expires_at - now() as left from sessions")
    assert SESSION_TTL_S - 60 < session["left"].total_seconds() <= SESSION_TTL_S
    assert str(session["ip"]) == "127.0.0.2"
    tokens = await domain.rows("select * from refresh_tokens order by spent_at")
    assert [token["refresh_hash"] for token in tokens] == [
        fingerprint(login.refresh_token),
        fingerprint(pair.refresh_token),
    ]


async def test_the_same_token_gives_the_same_child_for_a_while_also_in_another_process(
    domain: Domain, other: Domain
) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    child = (await refresh(domain, login.refresh_token)).refresh_token
    await domain.pass_time(REUSE_S - 1)
    assert (await refresh(other, login.refresh_token)).refresh_token == child
    grandchild = (await refresh(other, child)).refresh_token
    assert (await refresh(domain, login.refresh_token)).refresh_token == child
    assert (await refresh(domain, child)).refresh_token == grandchild
    assert await domain.value("select count(*) from refresh_tokens") == 3


@pytest.mark.parametrize("generations", [1, 2, 5])
async def test_any_earlier_token_that_comes_later_ends_the_session_in_every_process(
    domain: Domain, other: Domain, generations: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await domain.person(email="ada@example.org")
    login = newest = await log_in(domain)
    for _ in range(generations):
        newest = await refresh(domain, newest.refresh_token)
    for _ in range(2):
        await whoami(other, newest)
    await domain.pass_time(REUSE_S)
    other.passed_s = domain.passed_s
    await whoami(other, newest)
    with refused(AUTH_REFRESH_INVALID):
        await refresh(domain, login.refresh_token)
    for process in (domain, other):
        with refused(AUTH_SESSION_ENDED):
            await whoami(process, newest)
    with refused(AUTH_REFRESH_INVALID):
        await refresh(other, newest.refresh_token)
    assert str(domain.signer.read(login.access_token).session_id) in caplog.text
    for secret in (login.refresh_token, newest.refresh_token, newest.access_token):
        assert secret not in caplog.text


async def test_a_theft_ends_no_other_session_of_the_user(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    stolen, other = [await log_in(domain) for _ in range(2)]
    await refresh(domain, stolen.refresh_token)
    await domain.pass_time(REUSE_S)
    with refused(AUTH_REFRESH_INVALID):
        await refresh(domain, stolen.refresh_token)
    await whoami(domain, await refresh(domain, other.refresh_token))


async def test_of_sixteen_at_once_in_two_processes_all_get_the_one_child(domain: Domain, other: Domain) -> None:
    await domain.person(email="ada@example.org")
    token = (await log_in(domain)).refresh_token
    for _ in range(3):
        won, lost = await at_once(*(refresh(process, token) for process in (domain, other) * 8))
        assert lost == []
        assert len({login.refresh_token for login in won}) == 1
        token = won[0].refresh_token
    assert await domain.value("select count(*) from refresh_tokens") == 4
    assert await domain.value("select count(*) from refresh_tokens where spent_at is null") == 1


async def test_of_a_refresh_and_a_logout_at_once_the_logout_wins(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    for _ in range(8):
        login = await log_in(domain)
        session_id = domain.signer.read(login.access_token).session_id
        won, _ = await at_once(
            refresh(domain, login.refresh_token), domain.sessions.ask(RevokeSession(user.user_id, session_id))
        )
        assert True in won
        for pair in (login, *(each for each in won if isinstance(each, LoginResult))):
            with refused(AUTH_REFRESH_INVALID):
                await refresh(domain, pair.refresh_token)
            with refused(AUTH_SESSION_ENDED):
                await whoami(domain, pair)


async def test_a_token_is_taken_a_little_past_its_expiry_and_no_longer(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await domain.pass_time(SESSION_TTL_S + GRACE_S - 5)
    login = await refresh(domain, login.refresh_token)
    await whoami(domain, login)
    await domain.pass_time(SESSION_TTL_S + GRACE_S)
    with refused(AUTH_REFRESH_INVALID):
        await refresh(domain, login.refresh_token)


async def test_a_theft_is_noticed_past_the_expiry_too(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    child = await refresh(domain, login.refresh_token)
    await domain.pass_time(SESSION_TTL_S + 1)
    for token in (login.refresh_token, child.refresh_token):
        with refused(AUTH_REFRESH_INVALID):
            await refresh(domain, token)


@pytest.mark.parametrize(
    "spoil",
    [
        "update sessions set ended_at = now()",
        "update users set is_active = false",
        "update users set deleted_at = now()",
        "delete from sessions",
    ],
)
async def test_every_token_that_is_not_good_is_refused_alike(domain: Domain, spoil: str) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    await domain.execute(spoil)
    refusals = []
    for token in (login.refresh_token, "", "é", "x" * 128, login.access_token):
        with refused(AUTH_REFRESH_INVALID) as caught:
            await refresh(domain, token)
        refusals.append((caught.value.message, caught.value.details, caught.value.retry_after_s))
    assert refusals == [refusals[0]] * 5


async def test_a_user_who_is_deactivated_while_a_refresh_waits_does_not_get_it(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    for _ in range(8):
        login = await log_in(domain)
        won, lost = await at_once(
            refresh(domain, login.refresh_token), domain.users.ask(ChangeUser(user.user_id, is_active=False))
        )
        for pair in (login, *(each for each in won if isinstance(each, LoginResult))):
            with refused(AUTH_REFRESH_INVALID):
                await refresh(domain, pair.refresh_token)
        assert set(lost) <= {AUTH_REFRESH_INVALID}
        await domain.users.ask(ChangeUser(user.user_id, is_active=True))


async def test_a_repeat_across_a_rotation_of_the_signing_key_gives_the_same_child(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    child = (await refresh(domain, login.refresh_token)).refresh_token
    earlier = domain.signer._keys
    domain.signer._keys = Signer("n" * 64, issuer="callboard", access_ttl_s=900)._keys
    try:  # the earlier key is gone: another child must not come into being
        with refused(AUTH_REFRESH_INVALID):
            await refresh(domain, login.refresh_token)
    finally:
        domain.signer._keys = earlier
    assert (await refresh(domain, login.refresh_token)).refresh_token == child


async def test_retention_leaves_what_can_still_tell_of_a_theft(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    login = await log_in(domain)
    pairs = [login]
    for _ in range(3):
        pairs.append(await refresh(domain, pairs[-1].refresh_token))
    await domain.pass_time(SESSION_TTL_S)
    await domain.clean_up()
    assert await domain.value("select count(*) from refresh_tokens") == 4
    await domain.pass_time(2 * 24 * 3600)
    await domain.clean_up()
    assert await domain.value("select count(*) from refresh_tokens") == 1
    await domain.pass_time(SESSION_TTL_S)
    await domain.clean_up()
    assert await domain.value("select count(*) from sessions") == 0
    assert await domain.value("select count(*) from refresh_tokens") == 0


async def test_two_sessions_refreshed_at_once_do_not_touch_each_other(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    logins = [await log_in(domain) for _ in range(8)]
    pairs = await asyncio.gather(*(refresh(domain, login.refresh_token) for login in logins))
    assert [(await whoami(domain, pair)).session_id for pair in pairs] == [
        (await whoami(domain, login)).session_id for login in logins
    ]
