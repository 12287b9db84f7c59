"""Strangers who guess a password do not lock its owner out, and many networks together gain little."""

from uuid import uuid4

import pytest
from kit.domain import CHEAP_HASH, PASSWORD, POLICIES, Domain, refused

from callboard.actors.errors import Problem
from callboard.actors.identity import department
from callboard.actors.identity.authentication import LogIn, StepUp, credentials_from
from callboard.actors.identity.department import IDENTITY
from callboard.actors.identity.email_verification import add_token
from callboard.actors.identity.errors import AUTH_ACCOUNT_LIMITED, AUTH_INVALID_CREDENTIALS
from callboard.actors.identity.known_devices import KNOWN_DAYS, device_of, make_device_token, network_of
from callboard.actors.identity.password_reset import ResetPassword
from callboard.actors.identity.sessions import LoginResult
from callboard.actors.infrastructure.retention import RetentionRule
from callboard.ops.config.departments import read_ours
from callboard.ops.config.sources import Reader
from callboard.ops.departments import declared_by

OWNERS = "198.51.100.7"
TOTAL = POLICIES["account_total"].limit
EACH = POLICIES["account"].limit


async def log_in(domain: Domain, password: str = PASSWORD, ip: str = OWNERS, device: str | None = None) -> LoginResult:
    return await domain.logins.ask(LogIn("ada@example.org", password, "a browser", ip, device))


async def guess(domain: Domain, ip: str) -> str:
    """What a wrong password is answered."""
    with pytest.raises(Problem) as caught:
        await log_in(domain, "Wrong-Word-42", ip)
    return caught.value.code.name


async def storm(domain: Domain) -> None:
    """Guess from as many networks as it takes to be refused from all."""
    for network in range(TOTAL // EACH + 1):
        for _ in range(EACH):
            await guess(domain, f"10.0.{network}.1")
    assert await guess(domain, "10.1.0.1") == AUTH_ACCOUNT_LIMITED.name


async def test_wrong_passwords_from_three_addresses_do_not_lock_the_owner_out(domain: Domain) -> None:
    await domain.person(email="ada@example.org", password_hash=CHEAP_HASH)
    for _ in range(11):
        for ip in ("203.0.113.1", "192.0.2.2", "2001:db8::1"):
            await guess(domain, ip)
        await log_in(domain)


async def test_a_botnet_is_throttled_for_the_account_and_the_known_network_is_not(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    await log_in(domain)
    await storm(domain)
    with refused(AUTH_ACCOUNT_LIMITED):
        await log_in(domain, ip="192.0.2.55")
    await log_in(domain, ip="198.51.100.200")  # the same /24


async def test_a_device_that_has_logged_in_before_is_not_locked_out_in_any_network(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    device = (await log_in(domain)).device_token
    await storm(domain)
    for _ in range(EACH):
        await guess(domain, "192.0.2.55")
    login = await log_in(domain, ip="192.0.2.55", device=device)
    assert login.device_token == device


async def test_guesses_with_a_device_token_have_a_count_of_their_own(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    device = (await log_in(domain)).device_token
    for _ in range(EACH):
        with refused(AUTH_INVALID_CREDENTIALS):
            await log_in(domain, "Wrong-Word-42", device=device)
    with refused(AUTH_ACCOUNT_LIMITED):
        await log_in(domain, device=device)
    await log_in(domain)


async def test_a_device_token_of_another_account_or_made_up_is_nothing(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    await storm(domain)
    others = make_device_token(domain.signer, uuid4())
    for token in (others, "", ".", "x.y", f"{'0' * 32}.x", "é" * 64):
        with refused(AUTH_ACCOUNT_LIMITED):
            await log_in(domain, ip="192.0.2.55", device=token)
    user_id = uuid4()
    good = make_device_token(domain.signer, user_id)
    assert device_of(domain.signer, user_id, good)
    assert device_of(domain.signer, user_id, good[:-1]) is None
    assert device_of(domain.signer, user_id, f"{'0' * 32}.{good.partition('.')[2]}") is None


async def test_a_mailed_reset_is_not_locked_out_by_others(domain: Domain) -> None:
    who = await domain.person(email="ada@example.org")
    for _ in range(EACH):
        await guess(domain, OWNERS)  # from the owner's own network, too
    await storm(domain)
    async with domain.database.transaction() as connection:
        await add_token(connection, domain.signer, who.user_id, "reset_password")
    await domain.password_reset.ask(ResetPassword(await domain.mail_token(who.user_id), "Lighthouse-Keeper-7", OWNERS))
    await storm(domain)
    await log_in(domain, "Lighthouse-Keeper-7")


async def test_a_network_is_known_for_so_long_after_it_was_seen(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    await log_in(domain)
    await domain.pass_time((KNOWN_DAYS + 1) * 86400)
    await storm(domain)
    with refused(AUTH_ACCOUNT_LIMITED):
        await log_in(domain)


def rules_as_configured(domain: Domain, days: str) -> dict[str, RetentionRule]:
    reader = Reader({"UNPROVEN_ACCOUNT_DAYS": days, "KNOWN_DEVICE_DAYS": days})
    configured = {"identity": read_ours(IDENTITY, reader)}
    declared = declared_by([IDENTITY], configured)
    built = department._retention(configured["identity"].settings, domain.built.declared)
    return {rule.name: rule for rule in (*declared.retention, *built)}


async def test_for_how_long_a_network_is_known_and_an_account_unproved_is_a_setting(domain: Domain) -> None:
    who = await domain.person(email="ada@example.org")
    await log_in(domain)
    await domain.registered("eve@example.org")
    await domain.pass_time(2 * 86400)
    async with domain.database.acquire() as connection:
        for days, known in ((1, False), (3, True)):
            _, is_known = await credentials_from(connection, who.email, OWNERS, days)
            assert is_known is known
        rule_of = {days: rules_as_configured(domain, str(days)) for days in (1, 3)}
        for name in ("unproven_accounts", "known_networks"):
            assert [await rule_of[days][name].purge(connection, 10) for days in (3, 1)] == [0, 1]


async def test_a_step_up_is_counted_by_its_session_and_locked_out_by_nobody_else(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    mine, theirs = [domain.signer.read((await log_in(domain)).access_token) for _ in range(2)]
    await storm(domain)
    for _ in range(EACH):
        with refused(AUTH_INVALID_CREDENTIALS):
            await domain.logins.ask(StepUp(mine.user_id, mine.session_id, "Wrong-Word-42"))
    with refused(AUTH_ACCOUNT_LIMITED):
        await domain.logins.ask(StepUp(mine.user_id, mine.session_id, PASSWORD))
    await domain.logins.ask(StepUp(theirs.user_id, theirs.session_id, PASSWORD))


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", None),
        ("", None),
        (None, None),
    ],
)
def test_a_network_is_what_one_subscriber_may_have(ip: str | None, network: str | None) -> None:
    assert network_of(ip) == network
