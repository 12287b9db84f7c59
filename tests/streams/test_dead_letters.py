"""Dead letters: kept whole, once, and told of."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from callboard.actors.analytics.events import ACTIVITY
from callboard.actors.delivery.events import MAIL, PRIORITY, MailRequested, TemplatedEmailRequested
from callboard.actors.infrastructure.database import Database
from callboard.runtime import System, supervisor
from callboard.streams import dead_letters, lease, outbox, reconciler
from callboard.streams.cloudevents import Record, encode
from callboard.streams.consumers import Consumer, Expected, expected
from callboard.streams.dead_letters import Letter, count, list_dead_letters, record_dead_letters
from callboard.streams.event_parts import VALUE_LIMIT
from callboard.streams.record_processor import RecordProcessor
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(offset: int = 3, value: bytes = b"\x00\xff", at: datetime = AT) -> Record:
    return Record("activity.v1", 1, offset, at, b"key", value, (("x\x00", b"\x01"), ("y", None)))


def letter(record: Record, event_id: str | None = None) -> Letter:
    return Letter(record, "insight", "refused", "no\x00pe", "/web" if event_id else None, event_id)


async def test_the_same_record_read_twice_is_one_letter_and_one_notice(database: Database) -> None:
    async with database.transaction() as connection:
        assert await record_dead_letters(connection, [letter(record()), letter(record(4))], new_id=uuid4) == 2
        assert await record_dead_letters(connection, [letter(record())], new_id=uuid4) == 0
        assert await connection.fetchval("select count(*) from outbox where topic = 'activity.v1.dlq'") == 2
        assert await count(connection) == 2


async def test_a_broker_that_came_back_empty_does_not_hide_a_letter(database: Database) -> None:
    async with database.transaction() as connection:
        await record_dead_letters(connection, [letter(record())], new_id=uuid4)
        assert await record_dead_letters(connection, [letter(record(at=AT + timedelta(seconds=1)))], new_id=uuid4) == 1
        assert await record_dead_letters(connection, [letter(record(value=b"other"))], new_id=uuid4) == 1


async def test_a_letter_keeps_every_byte(database: Database) -> None:
    async with database.transaction() as connection:
        await record_dead_letters(connection, [letter(record())], new_id=uuid4)
        (kept,) = await list_dead_letters(connection)
        notice = msgspec.json.decode(await connection.fetchval("select value from outbox"))
    assert (kept.topic, kept.partition, kept.offset, kept.key, kept.value) == ("activity.v1", 1, 3, b"key", b"\x00\xff")
    assert kept.headers == [("x\\0", base64.b64encode(b"\x01").decode()), ("y", None)]
    assert (kept.consumer, kept.reason, kept.detail) == ("insight", "refused", "no pe")
    assert notice == {
        "dead_letter_id": str(kept.dead_letter_id),
        "consumer": "insight",
        "topic": "activity.v1",
        "partition": 1,
        "offset": 3,
        "reason": "refused",
        "detail": "no pe",
    }


async def test_a_large_value_is_kept_whole_and_the_notice_only_names_it(database: Database) -> None:
    large = b"x" * (VALUE_LIMIT + 1)
    async with database.transaction() as connection:
        await record_dead_letters(connection, [letter(record(value=large))], new_id=uuid4)
        (kept,) = await list_dead_letters(connection)
        notice = await connection.fetchval("select value from outbox")
    assert kept.value == large
    assert str(kept.dead_letter_id).encode() in notice
    assert len(notice) < 1000


async def test_an_event_that_was_consumed_is_no_dead_letter(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            "insert into consumed_events (consumer, source, event_id) values ('insight', '/web', 'e1')"
        )
        late = [letter(record(), "e1"), letter(record(4), "e2")]
        assert await record_dead_letters(connection, late, new_id=uuid4) == 1
        assert [each.offset for each in await list_dead_letters(connection)] == [4]


async def test_a_buried_event_counts_as_consumed(database: Database) -> None:
    async with database.transaction() as connection:
        await record_dead_letters(connection, [letter(record(), "e1"), letter(record(5))], new_id=uuid4)
        rows = await connection.fetch("select consumer, source, event_id from consumed_events")
    assert [tuple(row) for row in rows] == [("insight", "/web", "e1")]


async def test_letters_are_paged_newest_first_without_gaps(database: Database) -> None:
    async with database.transaction() as connection:
        await record_dead_letters(connection, [letter(record(offset)) for offset in range(5)], new_id=uuid4)
        seen: list[UUID] = []
        after = None
        while page := await list_dead_letters(connection, limit=2, after=after):
            seen += [each.dead_letter_id for each in page]
            after = (page[-1].created_at, page[-1].dead_letter_id)
    assert len(seen) == len(set(seen)) == 5


async def test_mail_past_its_deadline_is_buried_as_expired_and_no_other(stage: Any) -> None:
    consumer = Consumer("recorder", (MAIL, PRIORITY), (MailRequested,), stage.recorder)
    processor = RecordProcessor(consumer, stage.database, EventSigner(["a secret"]), StreamMetrics())
    now = datetime.now(UTC)
    ages_s = [(MAIL, 3605, 3605), (PRIORITY, 305, 305), (MAIL, -9e8, 3605)]  # the last one's producer says later
    records = [
        Record(topic.name, 0, number, now - timedelta(seconds=kept_s), None, *_mail(now - timedelta(seconds=age_s)))
        for number, (topic, age_s, kept_s) in enumerate(ages_s)
    ]
    async with System(supervisor("stage", stage.recorder)):
        await processor.process(records)
    assert await stage.count("select count(*) from dead_letters where reason = 'expired'") == 3
    assert await stage.count("select count(*) from consumed_events") == 3
    assert not stage.books.asked.is_set()


def _mail(occurred_at: datetime) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    event = MailRequested(to="a@b.example", subject="s", text="t")
    value, headers = encode(event, event_id=str(uuid4()), occurred_at=occurred_at, source="/tests")
    return value, tuple(headers)


def test_a_consumer_is_expected_to_record_what_it_accepts_on_the_topics_it_reads() -> None:
    ref: Any = None
    consumer = Consumer("mail", (MAIL, ACTIVITY), (MailRequested, TemplatedEmailRequested), ref)
    assert expected([consumer]) == (
        Expected("mail.v1", "mail.requested", "mail"),
        Expected("mail.v1", "letter.requested", "mail"),
    )


@pytest.mark.parametrize("module", [outbox, dead_letters, lease, reconciler])
async def test_every_query_is_prepared_against_the_schema(module: Any, database: Database) -> None:
    names = [name for name in module.QUERIES.available_queries if not name.endswith("_cursor")]
    assert names
    async with database.acquire() as connection:
        for name in names:
            await connection.prepare(getattr(module.QUERIES, name).sql)
