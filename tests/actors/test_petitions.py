"""Petitions: asking is alike for every address, and what was written down is answered once, whoever dies meanwhile."""

import asyncio
from typing import Any, Literal

import asyncpg
import pytest
from domain import Domain, refused

from callboard.actors import petitions
from callboard.actors.addresses import MAX_LETTERS
from callboard.actors.database import Database
from callboard.actors.errors import SERVER_OVERLOADED, SERVER_UNAVAILABLE
from callboard.actors.janitor import CleanUp, Janitor
from callboard.actors.petitions import AskForLetter, Clerk, Petitions, TakeUp
from callboard.runtime import Context, System, supervisor, use_context, worker

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LETTERS: tuple[Literal["reset_password"], Literal["verify_email"]] = ("reset_password", "verify_email")
RESET = AskForLetter("reset_password", "ada@example.org")


class Nobody:
    """A clerk that does nothing but count how often it is woken."""

    def __init__(self) -> None:
        self.woken = 0

    def tell_nowait(self, _message: TakeUp) -> None:
        self.woken += 1


class Front:
    """Writes petitions down, and no clerk of its own takes them up."""

    def __init__(self, database: Database) -> None:
        self.nobody: Any = Nobody()
        self.petitions = Petitions(database, self.nobody)

    async def ask(self, *asks: AskForLetter) -> None:
        for each in asks:
            await self.petitions.ask(each)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clerk looks by itself, the domain's neither: these tests say who takes up what, and when."""
    monkeypatch.setattr(petitions, "LOOK_EVERY_S", 3600.0)


@pytest.fixture
def front(database: Database) -> Front:
    return Front(database)


def clerk(domain: Domain) -> Clerk:
    return Clerk(domain.database, domain.signer)


async def letters(domain: Domain) -> list[str]:
    return [value["letter"] for _, _, value in await domain.events("letter.requested")]


async def waiting(domain: Domain) -> int:
    return int(await domain.value("select count(*) from petitions"))


async def test_asking_does_the_same_statements_for_every_address_and_looks_at_no_account(
    domain: Domain, front: Front
) -> None:
    await domain.person(email="ada@example.org", is_verified=False)
    asks = [AskForLetter(letter, f"{who}@example.org") for letter in LETTERS for who in ("ada", "nobody")]
    for ask in asks:
        with domain.overheard() as said:
            await front.ask(ask)
        assert said == [petitions.QUERIES.add_petition.sql]
    assert front.nobody.woken == len(asks)
    assert "users" not in petitions.QUERIES.add_petition.sql


async def test_a_petition_is_answered_at_once_by_the_clerk_it_wakes(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    mine = worker("waked clerk", Clerk, domain.database, domain.signer)
    async with System(supervisor("clerks", mine)), asyncio.timeout(5):
        await Petitions(domain.database, mine).ask(RESET)
        while not await letters(domain):  # noqa: ASYNC110 - what the clerk does is seen in PostgreSQL
            await asyncio.sleep(0)
    assert await letters(domain) == ["reset_password"]


async def test_what_a_process_has_left_is_answered_by_the_next(
    domain: Domain, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(petitions, "LOOK_EVERY_S", 0.01)
    await domain.person(email="ada@example.org")
    await front.ask(RESET)
    async with System(supervisor("clerks", worker("next clerk", Clerk, domain.database, domain.signer))):
        async with asyncio.timeout(5):
            while await waiting(domain):  # noqa: ASYNC110 - the same
                await asyncio.sleep(0)
    assert await letters(domain) == ["reset_password"]


async def test_of_many_clerks_each_petition_is_answered_by_one_and_an_account_gets_no_more_mails(
    domain: Domain, front: Front
) -> None:
    await domain.person(email="ada@example.org")
    for each in range(10):
        await domain.person(email=f"a{each}@example.org", is_verified=False)
    await domain.person(email="new@example.org", is_verified=False)
    again = AskForLetter("verify_email", "new@example.org")
    await front.ask(*[RESET, again] * (3 * MAX_LETTERS))
    await front.ask(*(AskForLetter("verify_email", f"a{each}@example.org") for each in range(10)))
    taken = await asyncio.gather(*(clerk(domain).take_up(TakeUp()) for _ in range(8)))
    assert sum(taken) == 6 * MAX_LETTERS + 10
    assert sorted(await letters(domain)) == ["reset_password"] * MAX_LETTERS + ["verify_email"] * (MAX_LETTERS + 10)


async def test_an_address_without_an_account_is_kept_no_longer_than_until_it_is_looked_up_and_told_to_nobody(
    domain: Domain, front: Front
) -> None:
    await front.ask(AskForLetter("reset_password", "nobody@example.org"))
    await front.ask(AskForLetter("verify_email", "not an address"))
    assert await clerk(domain).take_up(TakeUp()) == 2
    assert await waiting(domain) == 0
    assert await domain.events() == []


async def test_a_petition_and_its_answer_are_one_transaction_and_one_that_fails_holds_up_no_other(
    domain: Domain, front: Front
) -> None:
    await domain.person(email="ada@example.org")
    await front.ask(RESET, AskForLetter("reset_password", "nobody@example.org"))
    await domain.execute("alter table outbox add constraint broken check (type <> 'letter.requested')")
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            await clerk(domain).take_up(TakeUp())
        assert await waiting(domain) == 2
        assert await domain.value("select count(*) from mail_tokens") == 0
        assert await clerk(domain).take_up(TakeUp()) == 1  # the other one
    finally:
        await domain.execute("alter table outbox drop constraint broken")
    await domain.execute("update petitions set due_at = now()")  # the claim lapses
    assert await clerk(domain).take_up(TakeUp()) == 1
    assert (await waiting(domain), await letters(domain)) == (0, ["reset_password"])


async def test_a_claim_holds_until_it_lapses_and_what_was_answered_meanwhile_is_not_answered_again(
    domain: Domain, front: Front
) -> None:
    await domain.person(email="ada@example.org")
    await front.ask(RESET)
    async with domain.database.acquire() as connection:
        slow = await petitions.QUERIES.claim_petition(connection, lease_s=5.0, ttl_s=60.0)
    assert await clerk(domain).take_up(TakeUp()) == 0
    await domain.execute("update petitions set due_at = now()")
    assert await clerk(domain).take_up(TakeUp()) == 1
    await clerk(domain)._answer(slow["petition_id"])
    assert await letters(domain) == ["reset_password"]


async def test_more_than_so_many_are_refused_and_whatever_was_taken_is_answered(
    domain: Domain, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(petitions, "MAX_WAITING", 3)
    await front.ask(*[AskForLetter("reset_password", "nobody@example.org")] * 3)
    with refused(SERVER_OVERLOADED) as caught:
        await front.ask(RESET)
    assert caught.value.retry_after_s
    assert await clerk(domain).take_up(TakeUp()) == 3
    await front.ask(RESET)


async def test_one_that_was_not_answered_in_an_hour_is_not_answered_and_thrown_away(
    domain: Domain, front: Front
) -> None:
    await domain.person(email="ada@example.org")
    await front.ask(RESET, RESET)
    await domain.execute(
        "update petitions set created_at = now() - interval '1 hour' where petition_id in "
        "(select petition_id from petitions limit 1)"
    )
    assert await clerk(domain).take_up(TakeUp()) == 1
    assert await waiting(domain) == 1
    await Janitor(domain.database).clean_up(CleanUp())
    assert await waiting(domain) == 0


async def test_without_the_database_nothing_is_acknowledged(front: Front) -> None:
    away = Front(Database("postgresql://nowhere"))
    with refused(SERVER_UNAVAILABLE):
        await away.ask(RESET)
    assert away.nobody.woken == front.nobody.woken == 0


async def test_the_trace_of_who_asks_goes_on_in_the_letter(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    with use_context(Context(TRACE)):
        await domain.petitions.ask(RESET)
    await domain.clerk.ask(TakeUp())
    assert await domain.value("select traceparent from outbox") == TRACE
