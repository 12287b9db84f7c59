"""Email requests: asking is alike for every address, and what was acknowledged is answered once."""

from typing import Any, Literal

import pytest
from kit.domain import Domain, refused

from callboard.actors.errors import SERVER_OVERLOADED, SERVER_UNAVAILABLE
from callboard.actors.identity.email_requests import EMAIL_REQUEST, EmailRequests, RequestEmail
from callboard.actors.identity.email_verification import MAX_MAILS
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.runtime import Context, use_context

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LETTERS: tuple[Literal["reset_password"], Literal["verify_email"]] = ("reset_password", "verify_email")
RESET = RequestEmail("reset_password", "ada@example.org")


async def letters(domain: Domain) -> list[str]:
    return [value["letter"] for _, _, value in await domain.events("letter.requested")]


async def waiting(domain: Domain) -> int:
    return int(await domain.value("select count(*) from jobs"))


async def ask(domain: Domain, *asks: RequestEmail) -> None:
    for each in asks:
        await domain.email_requests.ask(each)


async def test_asking_does_the_same_statements_for_every_address_and_looks_at_no_account(domain: Domain) -> None:
    await domain.person(email="ada@example.org", is_verified=False)
    asks = [RequestEmail(letter, f"{who}@example.org") for letter in LETTERS for who in ("ada", "nobody")]
    heard: list[list[str]] = []
    await ask(domain, RESET)  # the count of what waits is then believed for a while
    requests = EmailRequests(domain.database, domain.jobs)
    for each in asks:
        with domain.overheard() as said:
            await requests.request(each)
        heard.append(said)
    assert all(said == heard[0] for said in heard)
    assert not any("users" in statement for said in heard for statement in said)


async def test_of_many_requests_each_is_answered_once_and_an_account_gets_no_more_mails(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    for each in range(10):
        await domain.person(email=f"a{each}@example.org", is_verified=False)
    await domain.person(email="new@example.org", is_verified=False)
    again = RequestEmail("verify_email", "new@example.org")
    await ask(domain, *[RESET, again] * (3 * MAX_MAILS))
    await ask(domain, *(RequestEmail("verify_email", f"a{each}@example.org") for each in range(10)))
    await domain.work()
    assert await waiting(domain) == 0
    assert sorted(await letters(domain)) == ["reset_password"] * MAX_MAILS + ["verify_email"] * (MAX_MAILS + 10)


async def test_an_address_without_an_account_is_kept_no_longer_than_until_it_is_looked_up_and_told_to_nobody(
    domain: Domain,
) -> None:
    await ask(
        domain, RequestEmail("reset_password", "nobody@example.org"), RequestEmail("verify_email", "not an address")
    )
    await domain.work()
    assert await waiting(domain) == 0
    assert await domain.events() == []
    assert await domain.value("select count(*) from dead_jobs") == 0


async def test_a_request_and_its_answer_are_one_transaction_and_one_that_fails_holds_up_no_other(
    domain: Domain,
) -> None:
    await domain.person(email="ada@example.org")
    await ask(domain, RESET, RequestEmail("reset_password", "nobody@example.org"))
    await domain.execute("alter table outbox add constraint broken check (type <> 'letter.requested')")
    try:
        await domain.work()
        assert await waiting(domain) == 1
        assert await domain.value("select count(*) from mail_tokens") == 0
    finally:
        await domain.execute("alter table outbox drop constraint broken")
    await domain.execute("update jobs set run_at = now()")
    await domain.work()
    assert (await waiting(domain), await letters(domain)) == (0, ["reset_password"])


async def test_more_than_so_many_are_refused_and_whatever_was_taken_is_answered(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.actors.infrastructure.job_queue.ROOM_TTL_S", 0.0)
    await ask(domain, RequestEmail("reset_password", "nobody@example.org"))
    await domain.execute(
        "insert into jobs (kind, priority, max_attempts, payload) "
        "select kind, priority, max_attempts, payload from jobs, generate_series(2, 10000)"
    )
    with refused(SERVER_OVERLOADED) as caught:
        await ask(domain, RESET)
    assert caught.value.retry_after_s
    await domain.execute("delete from jobs where job_id > (select min(job_id) + 10 from jobs)")
    await domain.work()
    await ask(domain, RESET)


async def test_one_that_was_not_answered_in_an_hour_is_not_answered_and_leaves_no_address(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    await ask(domain, RESET, RESET)
    await domain.execute(
        "update jobs set deadline = now() where job_id in (select job_id from jobs order by job_id limit 1)"
    )
    await domain.work()
    assert await letters(domain) == ["reset_password"]
    assert await domain.value("select count(*) from jobs") == 0
    assert await domain.value("select count(*) from dead_jobs") == 0


async def test_without_the_database_nothing_is_acknowledged() -> None:
    away: Any = EmailRequests(Database("postgresql://nowhere"), JobQueue([EMAIL_REQUEST]))
    with refused(SERVER_UNAVAILABLE):
        await away.request(RESET)


async def test_the_trace_of_who_asks_goes_on_in_the_letter(domain: Domain) -> None:
    await domain.person(email="ada@example.org")
    with use_context(Context(TRACE)):
        await domain.email_requests.ask(RESET)
    await domain.work()
    assert await domain.value("select traceparent from outbox") == TRACE
