"""Logging in: what is told to whom, how long it takes, and how often it may be tried."""

import asyncio
import statistics
import time
from typing import Any

import pytest
from argon2 import extract_parameters
from kit.domain import CHEAP_HASH, PASSWORD, POLICIES, Domain, at_once, log_in, refused, whoami

from callboard.actors.errors import ErrorCode, Problem
from callboard.actors.identity import authentication, password_hasher
from callboard.actors.identity.authentication import LogIn, credentials
from callboard.actors.identity.errors import (
    AUTH_ACCOUNT_LIMITED,
    AUTH_INACTIVE,
    AUTH_INVALID_CREDENTIALS,
    AUTH_UNVERIFIED,
)
from callboard.actors.identity.password_hasher import HASHER
from callboard.actors.identity.password_reset import ChangePassword
from callboard.actors.identity.sessions import OpenSession
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.token_signer import fingerprint

ATTEMPTS = POLICIES["account"].limit
NEW = "Paper-Boats-77"
PAIRS = 40


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
        check_needs_rehash = HASHER.check_needs_rehash

        @staticmethod
        def verify(password_hash: str, password: str) -> bool:
            work.append((extract_parameters(password_hash), len(password)))
            return HASHER.verify(password_hash, password)

    monkeypatch.setattr(password_hasher, "HASHER", Spy)
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
    domain: Domain, state: dict[str, bool], code: ErrorCode
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


# Races with a change of what was checked -----------------------------------------------------------------------------


async def test_a_login_whose_password_was_changed_meanwhile_opens_nothing(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    async with domain.database.acquire() as connection:
        checked = await credentials(connection, user.user_id)
    assert checked is not None
    current = await whoami(domain, await log_in(domain))
    await domain.password_reset.ask(ChangePassword(user.user_id, current.session_id, PASSWORD, NEW))
    with refused(AUTH_INVALID_CREDENTIALS):
        await domain.sessions.ask(OpenSession(user.user_id, checked.password_changed_at, "late", None))


async def test_a_login_waits_for_a_deactivation_under_way_and_sees_it(domain: Domain) -> None:
    user = await domain.person(email="ada@example.org")
    async with domain.database.acquire() as connection:
        checked = await credentials(connection, user.user_id)
    assert checked is not None
    async with domain.database.transaction() as connection:
        await connection.execute("update users set is_active = false")
        late = domain.sessions.ask(OpenSession(user.user_id, checked.password_changed_at, "late", None))
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        async with asyncio.timeout(5):
            while not await domain.value(waiting):  # noqa: ASYNC110 - another session of the server waits
                await asyncio.sleep(0)
        assert not late.done()
    with refused(AUTH_INVALID_CREDENTIALS):
        await late


async def test_a_renewed_hash_does_not_bring_an_old_password_back(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await domain.person(email="ada@example.org", password_hash=CHEAP_HASH)
    changed = HASHER.hash(NEW)

    renew = authentication.QUERIES.renew_hash

    async def late(connection: Any, **given: Any) -> None:
        await domain.rows("update users set password_hash = $1 where user_id = $2", changed, user.user_id)
        await renew(connection, **given)

    monkeypatch.setattr(authentication.QUERIES, "renew_hash", late)
    await log_in(domain)
    assert await domain.value("select password_hash from users") == changed


# How often -----------------------------------------------------------------------------------------------------------


async def attempt(domain: Domain, email: str, password: str, ip: str = "127.0.0.1") -> tuple[str, str]:
    """What a login is answered, as code and words."""
    try:
        await domain.logins.ask(LogIn(email, password, "a browser", ip))
    except Problem as problem:
        return problem.code.name, problem.message
    return "in", ""


async def test_failures_are_counted_by_account_and_network_in_whatever_spelling(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    spellings = ["ada@example.org", "ADA@example.org", "Ada@Example.ORG"]
    answers = [
        await attempt(domain, spellings[each % 3], "Wrong-Word-42", ip=f"10.0.0.{each}") for each in range(ATTEMPTS)
    ]
    assert {code for code, _ in answers} == {AUTH_INVALID_CREDENTIALS.name}
    # Also with the right password, or the limit would tell of it.
    assert (await attempt(domain, "ada@example.org", PASSWORD, ip="10.0.0.77"))[0] == AUTH_ACCOUNT_LIMITED.name
    assert await domain.value("select count(*) from sessions") == 0
    assert (await attempt(domain, "ada@example.org", PASSWORD, ip="10.0.1.1"))[0] == "in"


async def test_unknown_addresses_are_throttled_alike(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    for _ in range(ATTEMPTS + 2):
        known, unknown = [await attempt(domain, f"{who}@example.org", "Wrong-Word-42") for who in ("ada", "nobody")]
        assert known == unknown
    assert known[0] == AUTH_ACCOUNT_LIMITED.name


async def test_right_passwords_are_not_counted_and_what_is_counted_is_forgiven_with_time(domain: Domain) -> None:
    await domain.person(email="ada@example.org", password_hash=HASHER.hash(PASSWORD))
    for _ in range(ATTEMPTS - 1):
        assert (await attempt(domain, "ada@example.org", "Wrong-Word-42"))[0] == AUTH_INVALID_CREDENTIALS.name
    for _ in range(2 * ATTEMPTS):
        assert (await attempt(domain, "ada@example.org", PASSWORD))[0] == "in"
    assert (await attempt(domain, "ada@example.org", "Wrong-Word-42"))[0] == AUTH_INVALID_CREDENTIALS.name
    assert (await attempt(domain, "ada@example.org", PASSWORD))[0] == AUTH_ACCOUNT_LIMITED.name


async def test_one_account_that_is_throttled_leaves_the_others_alone(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    await domain.person(email="grace@example.org")
    for _ in range(ATTEMPTS):
        await attempt(domain, "ada@example.org", "Wrong-Word-42")
    assert (await attempt(domain, "grace@example.org", PASSWORD))[0] == "in"


async def test_many_at_once_get_no_more_tries_than_there_are_workers(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    most = ATTEMPTS + domain.logins.size - 1  # when the last one is counted, each other worker has one in progress
    _, lost = await at_once(
        *(domain.logins.ask(LogIn("ada@example.org", f"Guess-{each}", "", None)) for each in range(40))
    )
    assert ATTEMPTS <= lost.count(AUTH_INVALID_CREDENTIALS) <= most
    assert len(lost) == lost.count(AUTH_INVALID_CREDENTIALS) + lost.count(AUTH_ACCOUNT_LIMITED)


async def test_known_and_unknown_addresses_take_the_same_time(domain: Domain) -> None:
    """Each account is tried once, so that no throttle stands in the way. Nearly all of an attempt's time is its hash,
    counted by the processor: a busy machine does not change it.
    """
    true_hash = HASHER.hash(PASSWORD)
    for each in range(PAIRS):
        await domain.person(email=f"known-{each}@example.org", password_hash=true_hash)
    times: dict[str, list[float]] = {"known": [], "nobody": []}
    for each in range(PAIRS):
        for who in ("known", "nobody") if each % 2 else ("nobody", "known"):
            started = time.process_time()
            assert (await attempt(domain, f"{who}-{each}@example.org", "Wrong-Word-42"))[0] != "in"
            times[who].append(time.process_time() - started)
    known, unknown = (statistics.median(taken) for taken in times.values())
    assert abs(known - unknown) < 0.2 * max(known, unknown), (known, unknown)
