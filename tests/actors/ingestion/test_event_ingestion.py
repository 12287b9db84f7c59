"""Ingestion: what a key allows is written once, all of a request or nothing, and never in our name."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.audited import From, entries, request
from kit.domain import Domain, at_once, refused

from callboard.actors.analytics.events import ActivityRecorded
from callboard.actors.delivery.events import MailRequested
from callboard.actors.delivery.mail_producers import parse_mail_producer
from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.errors import REQUEST_INVALID
from callboard.actors.identity.events import UserDeleted
from callboard.actors.ingestion.errors import EVENTS_NOT_ALLOWED, EVENTS_QUOTA, KEYS_INVALID
from callboard.actors.ingestion.event_ingestion import HOUR_S, IngestEvents, path_of, wait_for_room_s
from callboard.actors.ingestion.producer_keys import MAX_NETWORKS, CreateKey, KeyUses, RevokeKey
from callboard.actors.ingestion.refs import IngestionRefs
from callboard.runtime import Message
from callboard.streams.event_types import OUR_SOURCE, derive_id, type_of
from callboard.streams.outbox import ProducedEvent

NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)


def event(event_id: str = "1", source: str = "/web", data: Message | None = None, **more: Any) -> ProducedEvent:
    data = data or ActivityRecorded("page_views", 1.0, "s", NOW)
    return ProducedEvent(event_id, source, type_of(data), msgspec.json.encode(data), data, **more)


class Producer:
    """A key, and the events that it sends."""

    def __init__(self, domain: Domain) -> None:
        self.refs = domain.built.refs(IngestionRefs)
        self.key_id = uuid4()

    async def get_key(self, **more: Any) -> "Producer":
        given = {"types": ("activity.recorded", "mail.requested"), "sources": ("/web", "/app/*")} | more
        self.key_id = (await self.refs.keys.ask(CreateKey(f"key {self.key_id}", **given))).key_id
        return self

    async def send(self, *events: ProducedEvent, mode: Any = "batch") -> list[str]:
        report = await self.refs.ingestion.ask(IngestEvents(self.key_id, mode, events))
        return [each.status for each in report]


@pytest.fixture
async def producer(domain: Domain) -> Producer:
    return await Producer(domain).get_key()


async def rows(domain: Domain) -> list[dict[str, Any]]:
    return await domain.rows("select * from outbox order by outbox_id")


async def test_events_stand_in_the_outbox_as_the_producer_sent_them(domain: Domain, producer: Producer) -> None:
    first = event("a:1", "/app/1", time=NOW, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    assert await producer.send(first, event("2")) == ["accepted", "accepted"]
    one, two = await rows(domain)
    assert (one["source"], one["ce_id"], one["ce_time"], one["value"]) == ("/app/1", "a:1", NOW, first.data)
    assert (one["topic"], one["key"], one["type"]) == ("activity.v1", "s", "activity.recorded")
    assert (one["traceparent"], two["ce_time"]) == (first.traceparent, None)
    assert abs(one["occurred_at"] - datetime.now(UTC)) < timedelta(minutes=5)  # ours: the relay counts by it


async def test_events_are_counted_by_their_outcome(domain: Domain, producer: Producer) -> None:
    few = await Producer(domain).get_key(hourly_events=2)
    await producer.send(event(), event("2"))
    await producer.send(event())
    with refused(EVENTS_NOT_ALLOWED):
        await producer.send(event(source="/elsewhere"), event("3"))
    await few.send(event("4"), event("5"))
    with refused(EVENTS_QUOTA):
        await few.send(event("6"))
    await few.refs.keys.ask(RevokeKey(few.key_id))
    with refused(KEYS_INVALID):
        await few.send(event("7"))
    counts = domain.figures("ingestion", "callboard_ingested_events")
    assert counts == {"accepted": 4, "duplicate": 1, "not_allowed": 2, "over_quota": 1, "revoked": 1}


async def test_the_use_of_a_key_is_in_the_audit_log_with_each_network_and_once(
    domain: Domain, producer: Producer
) -> None:
    for number, ip in enumerate(("203.0.113.7", "203.0.113.7", "2001:db8::1", "2001:db8::2")):
        with request(From(ip=ip)):
            await producer.send(event(str(number)))
    with request(From(ip="203.0.113.8")), refused(EVENTS_NOT_ALLOWED):
        await producer.send(event(source="/elsewhere"))
    used = await entries(domain, action="key.used")
    assert [each.ip for each in used] == ["2001:db8::1", "203.0.113.7"]
    assert {each.detail["key_id"] for each in used} == {str(producer.key_id)}


def test_a_use_is_new_once_an_hour_and_networks_are_bounded() -> None:
    uses, key_id, later = KeyUses(), uuid4(), NOW + timedelta(hours=1)
    for number in range(MAX_NETWORKS):
        assert uses.is_new(key_id, NOW, str(number))
        uses.add(key_id, NOW, str(number))
    assert not uses.is_new(key_id, NOW, "0")
    assert not uses.is_new(key_id, NOW, "another")
    assert uses.is_new(uuid4(), NOW, "0")
    assert uses.is_new(key_id, later, "0")
    uses.add(key_id, later, "1")
    assert uses.is_new(key_id, later, "0")


async def test_an_event_is_known_by_its_source_and_id(domain: Domain, producer: Producer) -> None:
    assert await producer.send(event(), event("1", "/app/1"), event()) == ["accepted", "accepted", "duplicate"]
    assert await producer.send(event()) == ["duplicate"]
    assert await producer.send(event(), event("2")) == ["duplicate", "accepted"]
    assert [(row["source"], row["ce_id"]) for row in await rows(domain)] == [
        ("/web", "1"),
        ("/app/1", "1"),
        ("/web", "2"),
    ]


async def test_of_many_requests_with_the_same_events_at_once_each_event_is_new_once(
    domain: Domain, producer: Producer
) -> None:
    other = await Producer(domain).get_key()
    events = [event(str(number)) for number in range(20)]
    sent = [each.send(*order) for each in (producer, other) for order in (events, events[::-1]) * 3]
    won, lost = await at_once(*sent)
    assert lost == []
    assert sum(statuses.count("accepted") for statuses in won) == 20
    assert len(await rows(domain)) == 20


async def test_no_id_of_a_producer_takes_the_place_of_an_id_of_ours(domain: Domain) -> None:
    """Ours are derived from two parts, and unique: whoever could choose one would keep our event from being written."""
    wide = await Producer(domain).get_key(sources=("*",))
    await wide.send(event("7", "poll.closed"))
    (row,) = await rows(domain)
    assert row["event_id"] not in (derive_id("poll.closed", "7"), derive_id("7", "poll.closed"))


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        (event("3", "/other"), "[1].source"),
        (event("3", "/web/1"), "[1].source"),
        (event("3", "/app"), "[1].source"),
        (event("3", OUR_SOURCE), "[1].source"),
        (event("3", data=UserDeleted(UUID(int=1))), "[1].type"),
    ],
)
async def test_one_event_that_the_key_does_not_allow_refuses_all(
    domain: Domain, producer: Producer, bad: ProducedEvent, path: str
) -> None:
    with refused(EVENTS_NOT_ALLOWED) as caught:
        await producer.send(event("1"), bad, event("2"))
    assert [each.field for each in caught.value.details] == [path]
    assert await rows(domain) == []


async def test_our_source_is_refused_to_a_key_of_every_source(domain: Domain) -> None:
    wide = await Producer(domain).get_key(sources=("*", "call*"))
    with refused(EVENTS_NOT_ALLOWED):
        await wide.send(event("1", OUR_SOURCE))
    assert await wide.send(event("1", "callboards")) == ["accepted"]


async def test_no_row_of_a_key_opens_what_only_we_write(domain: Domain, producer: Producer) -> None:
    await domain.execute("update producer_keys set types = types || '{user.deleted}', sources = '{*,callboard}'")
    for bad in (event("1", data=UserDeleted(UUID(int=1))), event("1", OUR_SOURCE)):
        with refused(EVENTS_NOT_ALLOWED):
            await producer.send(bad)
    assert await rows(domain) == []


async def test_a_type_that_the_key_does_not_name_is_refused(domain: Domain) -> None:
    narrow = await Producer(domain).get_key(types=("mail.requested",))
    with refused(EVENTS_NOT_ALLOWED) as caught:
        await narrow.send(event(), mode="binary")
    assert [each.field for each in caught.value.details] == ["ce-type"]


async def test_a_revoked_key_sends_nothing_more_even_if_it_was_authenticated_before(
    domain: Domain, producer: Producer
) -> None:
    await producer.refs.keys.ask(RevokeKey(producer.key_id))
    with refused(KEYS_INVALID):
        await producer.send(event())
    assert await rows(domain) == []


async def test_mails_keep_to_the_rules_of_mail_producers(domain: Domain, producer: Producer) -> None:
    mail = event("1", "/web", MailRequested(to="ada@example.org", subject="s", text="t"))
    with refused(EVENTS_NOT_ALLOWED):
        await producer.send(mail)
    domain.built.refs(DeliveryRefs).mail_producers.replace([parse_mail_producer("/web", "5/hour example.org")])
    assert await producer.send(mail) == ["accepted"]
    with refused(EVENTS_NOT_ALLOWED):
        await producer.send(event("2", "/web", MailRequested(to="ada@example.net", subject="s", text="t")))
    with refused(EVENTS_NOT_ALLOWED):
        await producer.send(event("3", "/app/1", MailRequested(to="ada@example.org", subject="s", text="t")))
    assert [row["key"] for row in await rows(domain)] == ["ada@example.org"]


async def test_a_mail_that_nobody_would_send_any_more_is_refused(domain: Domain, producer: Producer) -> None:
    domain.built.refs(DeliveryRefs).mail_producers.replace([parse_mail_producer("/web", "5/hour *")])
    late = event(
        data=MailRequested(to="a@b.example", subject="s", text="t"), time=datetime.now(UTC) - timedelta(hours=2)
    )
    with refused(REQUEST_INVALID) as caught:
        await producer.send(late)
    assert [each.field for each in caught.value.details] == ["[0].time"]
    assert await producer.send(event("2", time=datetime(1999, 1, 1, tzinfo=UTC))) == [
        "accepted"
    ]  # activity may be late


# Quota ---------------------------------------------------------------------------------------------------------------


async def test_a_quota_counts_new_events_and_undoes_what_exceeds_it(domain: Domain) -> None:
    few = await Producer(domain).get_key(hourly_events=3)
    await few.send(event("1"), event("2"))
    await few.send(event("1"), event("2"))  # duplicates are free
    with refused(EVENTS_QUOTA) as caught:
        await few.send(event("3"), event("4"))
    assert caught.value.retry_after_s is not None
    assert 1 <= caught.value.retry_after_s <= 2 * HOUR_S
    assert await few.send(event("3")) == ["accepted"]
    assert len(await rows(domain)) == 3


async def test_a_quota_counts_bytes_too(domain: Domain) -> None:
    size = len(event().data)
    few = await Producer(domain).get_key(hourly_bytes=2 * size)
    await few.send(event("1"), event("2"))
    with refused(EVENTS_QUOTA):
        await few.send(event("3"))


async def test_what_never_fits_is_not_told_to_wait(domain: Domain) -> None:
    few = await Producer(domain).get_key(hourly_events=1)
    with refused(EVENTS_NOT_ALLOWED) as caught:
        await few.send(event("1"), event("2"))
    assert "divide" in caught.value.message


async def test_simultaneous_requests_do_not_exceed_a_quota_together(domain: Domain) -> None:
    few = await Producer(domain).get_key(hourly_events=5)
    won, lost = await at_once(*(few.send(event(str(number))) for number in range(12)))
    assert (len(won), set(lost)) == (5, {EVENTS_QUOTA})
    assert len(await rows(domain)) == 5


async def test_the_hour_before_counts_by_its_overlap(domain: Domain) -> None:
    few = await Producer(domain).get_key(hourly_events=10)
    await few.send(*(event(str(number)) for number in range(10)))
    await domain.execute("update producer_keys set period = period - interval '2 hours'")
    assert await few.send(event("a")) == ["accepted"]
    (row,) = await domain.rows("select used_events, previous_events, used_at from producer_keys")
    assert (row["used_events"], row["previous_events"]) == (1, 0)
    assert row["used_at"] is not None


@given(
    used=st.integers(1, 1000),
    previous=st.integers(0, 1000),
    count=st.integers(1, 100),
    most=st.integers(100, 1000),
    elapsed_s=st.floats(0, HOUR_S - 1),
)
def test_after_the_wait_it_fits_and_not_long_before(
    used: int, previous: int, count: int, most: int, elapsed_s: float
) -> None:
    previous, before = min(previous, most), min(used, most)  # what was counted did fit
    wait_s = wait_for_room_s(before + count, previous, count, most, elapsed_s)

    def fits(after_s: float) -> bool:
        at_s = elapsed_s + after_s
        if at_s < HOUR_S:
            return before + count + previous * (HOUR_S - at_s) / HOUR_S <= most + 1e-6
        return count + before * max(2 * HOUR_S - at_s, 0) / HOUR_S <= most + 1e-6

    assert fits(wait_s)
    assert wait_s <= 1.0 or not fits(wait_s - 1.0)


@pytest.mark.parametrize(
    ("mode", "field", "path"),
    [
        ("batch", "id", "[3].id"),
        ("batch", "data.value", "[3].data.value"),
        ("structured", "data.value", "data.value"),
        ("binary", "id", "ce-id"),
        ("binary", "data.value", "value"),
        ("binary", "data", ""),
    ],
)
def test_a_path_is_that_of_the_request(mode: Any, field: str, path: str) -> None:
    assert path_of(mode, 3, field) == path
