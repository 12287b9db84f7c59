"""Who may have mails sent over Kafka: nobody, unless the operator names them."""

import asyncio
from typing import Any

import pytest
from kit.domain import Domain, consume, envelope

from callboard.actors.delivery.events import MAIL, MailRequested, TemplatedEmailRequested
from callboard.actors.delivery.mail_producers import QUERIES, MailProducers, parse_mail_producers
from callboard.actors.delivery.mail_queue import SEND_MAIL, MailQueue
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.ops.config.configuration import load
from callboard.ops.config.sources import ConfigError
from callboard.streams.consumers import RejectedError

MAILS = "select count(*) from mails"
SHOP = "/shop 3/hour example.org,*.example.net"


def asked(source: str = "/shop", to: str = "ada@example.org", event_id: str | None = None) -> Any:
    return envelope(MailRequested(to, "Hello", "A text"), event_id, source=source, topic=MAIL.name)


def mail_queue(domain: Domain, setting: str = SHOP) -> MailQueue:
    return MailQueue(domain.database, JobQueue([SEND_MAIL]), MailProducers(parse_mail_producers(setting)))


async def test_without_named_producers_nobody_has_a_mail_sent(domain: Domain) -> None:
    with pytest.raises(RejectedError) as refused:
        await mail_queue(domain, "").consume(consume(asked()))
    assert refused.value.rejection.reason == "not_allowed"
    assert await domain.value(MAILS) == 0


async def test_our_own_letters_need_no_producer(domain: Domain) -> None:
    user = await domain.person()
    await mail_queue(domain, "").consume(consume(envelope(TemplatedEmailRequested("content_published", user.user_id))))
    assert await domain.value(MAILS) == 1


@pytest.mark.parametrize(
    ("source", "to", "admitted"),
    [
        ("/shop", "ada@example.org", True),
        ("/shop", "ada@EXAMPLE.org", True),
        ("/shop", "ada@a.b.example.net", True),
        ("/shop", "ada@example.net", False),
        ("/shop", "ada@evilexample.org", False),
        ("/shop", "ada@evilexample.net", False),
        ("/shop", "ada@example.org.evil.example", False),
        ("/shop/", "ada@example.org", False),
        ("/SHOP", "ada@example.org", False),
        ("callboard", "ada@example.org", False),
    ],
)
async def test_a_producer_writes_in_its_own_name_to_its_own_domains(source: str, to: str, admitted: bool) -> None:
    rejection = MailProducers(parse_mail_producers(SHOP)).admit(asked(source, to))
    assert (rejection is None) == admitted
    assert rejection is None or rejection.reason == "not_allowed"


async def test_a_quota_holds_for_all_processes_and_a_mail_counts_once(domain: Domain) -> None:
    first, second = mail_queue(domain), mail_queue(domain)
    mails = [asked(event_id=str(number)) for number in range(3)]
    for box in (first, second):
        await box.consume(consume(*mails))
    for box in (first, second):
        with pytest.raises(RejectedError) as refused:
            await box.consume(consume(asked(event_id="4")))
        assert refused.value.rejection.reason == "over_quota"
    assert await domain.value(MAILS) == 3


async def test_mails_at_once_do_not_pass_the_quota_together(domain: Domain) -> None:
    asks = (mail_queue(domain).consume(consume(asked(event_id=str(number)))) for number in range(9))
    outcomes = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(isinstance(each, RejectedError) for each in outcomes) == 6
    assert await domain.value(MAILS) == 3


async def test_a_new_period_has_the_whole_quota_again(domain: Domain) -> None:
    await mail_queue(domain).consume(consume(*(asked(event_id=str(number)) for number in range(3))))
    await domain.execute("update mail_producer_usage set period_start = period_start - interval '1 hour'")
    await mail_queue(domain).consume(consume(*(asked(event_id=str(number)) for number in range(3, 6))))
    assert await domain.value(MAILS) == 6


async def test_a_producer_over_its_quota_costs_no_statement_until_the_period_ends(domain: Domain) -> None:
    box = mail_queue(domain, "/shop 1/day *; /forms 1/day *")
    await box.consume(consume(asked()))
    with pytest.raises(RejectedError):
        await box.consume(consume(asked()))
    rejection = box.producers.admit(asked())
    assert rejection is not None
    assert rejection.reason == "over_quota"
    assert box.producers.admit(asked("/forms")) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("/shop", "must give /shop a quota"),
        ("/shop 5", "must give /shop a quota"),
        ("/shop 0/hour *", "must give /shop a quota"),
        ("/shop 5/week *", "must give /shop a quota"),
        ("/shop 5/hour", "must give /shop the domains"),
        ("/shop 5/hour example org", "must give /shop the domains"),
        ("/shop 5/hour *example.org", "must give /shop the domains"),
        ("callboard 5/hour *", "must begin with a ce_source"),
        ("/shop 5/hour *; /shop 6/hour *", "must name /shop once"),
    ],
)
def test_a_bad_setting_is_refused_with_its_fault(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_mail_producers(text)
    with pytest.raises(ConfigError, match="MAIL_PRODUCERS must"):
        load({"MAIL_PRODUCERS": text})


def test_producers_stand_one_a_line_or_with_semicolons_between() -> None:
    one = parse_mail_producers("/shop 5/hour example.org , *.Example.net ; /forms 20/minute *;")
    assert one == parse_mail_producers("/shop 5/hour example.org,*.example.net\n\n  /forms 20/minute *\n")
    assert [(each.quota, each.period_s, each.domains) for each in one] == [
        (5, 3600, ("example.org", "*.example.net")),
        (20, 60, ("*",)),
    ]


async def test_every_query_is_prepared_against_the_schema(domain: Domain) -> None:
    async with domain.database.acquire() as connection:
        for query in (QUERIES.reserve, QUERIES.seconds_left):
            await connection.prepare(query.sql)
