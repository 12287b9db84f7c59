"""REGISTRATION_CONFLICT=conceal: whoever cannot read a mailbox learns nothing of whose address it is."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.domain import PASSWORD, Domain, refused

from callboard.actors.errors import Problem
from callboard.actors.identity.authentication import LogIn, Logins
from callboard.actors.identity.email_verification import MAX_MAILS, RegistrationPolicy
from callboard.actors.identity.errors import AUTH_INVALID_CREDENTIALS, AUTH_UNVERIFIED
from callboard.actors.identity.users import RegisterUser, UpdateUser, Users
from callboard.runtime import Props, Ref, System, pool, supervisor


class CallboardProcess:
    """The two actors that strangers ask, with everything concealed."""

    def __init__(self, users: Ref[Any], logins: Ref[Any]) -> None:
        self.users = users
        self.logins = logins

    async def register(self, email: str) -> None:
        await self.users.ask(RegisterUser(email, PASSWORD, "Some Body", terms_accepted=True))


@pytest.fixture
async def site(domain: Domain) -> AsyncIterator[CallboardProcess]:
    shared = (domain.database, domain.passwords, domain.signer, domain.sessions)
    users = pool("users", Props(Users, *shared, RegistrationPolicy(conceal=True)), size=2)
    checks = (domain.database, domain.passwords, domain.sessions, domain.limits, domain.failed_logins)
    logins = pool("logins", Props(Logins, *checks, signer=domain.signer, conceal=True), size=2)
    async with System(supervisor("concealing", users, logins)):
        yield CallboardProcess(users, logins)


async def test_to_register_and_log_in_tells_nothing_of_an_address(domain: Domain, site: CallboardProcess) -> None:
    await domain.person(email="taken@example.org", password_hash="")
    for email in ("taken@example.org", "free@example.org", "free@example.org"):
        await site.register(email)
        with refused(AUTH_INVALID_CREDENTIALS) as caught:
            await site.logins.ask(LogIn(email, PASSWORD, "test", None))
        assert caught.value.message == AUTH_INVALID_CREDENTIALS.meaning


async def test_where_nothing_is_concealed_the_right_password_is_told_what_is_missing(domain: Domain) -> None:
    await domain.registered()
    with refused(AUTH_UNVERIFIED):
        await domain.logins.ask(LogIn("ada@example.org", PASSWORD, "test", None))


async def test_letters_to_the_owner_of_a_taken_address_are_limited_and_the_answer_stays_the_same(
    domain: Domain, site: CallboardProcess
) -> None:
    owner = await domain.person(email="taken@example.org")
    for _ in range(MAX_MAILS + 3):
        await site.register("taken@example.org")
    letters = [value for _, _, value in await domain.events("letter.requested")]
    assert [each["letter"] for each in letters] == ["address_taken"] * MAX_MAILS
    assert {each["user_id"] for each in letters} == {str(owner.user_id)}


async def test_a_change_of_address_tells_no_more_than_a_registration_does(
    domain: Domain, site: CallboardProcess
) -> None:
    await domain.person(email="taken@example.org")
    await domain.registered("unproven@example.org")
    answers = []
    for email in ("taken@example.org", "unproven@example.org", "free@example.org"):
        who = await domain.person()
        try:
            answers.append((await site.users.ask(UpdateUser(who.user_id, "Ada", email))).full_name)
        except Problem as problem:
            answers.append(problem.code.name)
    assert answers == ["Ada"] * 3


async def test_a_registration_takes_the_same_statements_whoever_has_the_address_and_however_often_it_was_asked_for(
    domain: Domain, site: CallboardProcess
) -> None:
    """So it takes the same time; tests/faults/drill_alike.py measures it."""
    await domain.person(email="taken@example.org")
    await site.register("unproven@example.org")
    said: dict[str, list[str]] = {}
    for email in ("taken@example.org", "unproven@example.org", "free@example.org"):
        for nth in range(MAX_MAILS + 2):
            with domain.overheard() as statements:
                await site.register(email)
            said[f"{email} {nth}"] = [form(each) for each in statements if not any(part in each for part in OTHERS)]
    first = next(iter(said.values()))
    assert len(first) > 10
    for which, statements in said.items():
        assert statements == first, which


# The driver asks for types that it meets first, and active users are counted at times.
OTHERS = ("jit", "typeinfo", "count(distinct user_id)")


def form(statement: str) -> str:
    """A statement's verb and table; a savepoint without its name, and its end, which is a release or a rollback."""
    words = re.sub(r"__asyncpg\w+", "", statement.lower()).split()
    return "end" if words[0] in ("release", "rollback") else " ".join(words[:3])
