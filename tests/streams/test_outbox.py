"""The outbox and the memory of consumers: both live and die with the caller's transaction."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest

from callboard.actors.delivery.events import MAIL, PRIORITY, TemplatedEmailRequested
from callboard.actors.editorial.events import CONTENT
from callboard.actors.identity.events import UserVerified
from callboard.actors.infrastructure.database import Database
from callboard.ops.departments import OURS
from callboard.runtime import Context, use_context
from callboard.streams.event_types import EVENTS, Envelope
from callboard.streams.outbox import deduplicate, emit
from callboard.streams.topics import TOPICS

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


def envelope(event_id: str, source: str = "/web") -> Envelope:
    return Envelope(event_id, source, "user.verified", "users.v1", AT, None, UserVerified(UUID(int=1)))


async def test_an_event_is_written_if_and_only_if_its_transaction_commits(database: Database) -> None:
    async with database.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await emit(connection, UserVerified(uuid4()), event_id=uuid4())
        await transaction.rollback()
    async with database.transaction() as connection:
        assert await connection.fetchval("select count(*) from outbox") == 0
        await emit(connection, UserVerified(uuid4()), event_id=uuid4())
    async with database.acquire() as connection:
        assert await connection.fetchval("select count(*) from outbox") == 1


async def test_a_row_carries_key_value_trace_and_time(database: Database) -> None:
    user_id, event_id = uuid4(), uuid4()
    letter = TemplatedEmailRequested("verify_email", user_id, {"name": "Ada"})
    async with database.transaction() as connection:
        with use_context(Context(traceparent=TRACE)):
            await emit(connection, letter, topic=PRIORITY, event_id=event_id, occurred_at=AT)
        row = await connection.fetchrow("select * from outbox")
    assert (row["event_id"], row["topic"], row["key"]) == (event_id, "priority.v1", str(user_id))
    assert (row["type"], row["traceparent"], row["occurred_at"]) == ("letter.requested", TRACE, AT)
    assert row["value"] == b'{"letter":"verify_email","user_id":"%s","data":{"name":"Ada"}}' % str(user_id).encode()


async def test_an_event_travels_only_on_its_topics(database: Database) -> None:
    letter = TemplatedEmailRequested("welcome", uuid4())
    async with database.transaction() as connection:
        await emit(connection, letter, event_id=uuid4())
        assert await connection.fetchval("select topic from outbox") == MAIL.name
        with pytest.raises(ValueError, match=r"does not travel on content\.v1"):
            await emit(connection, letter, event_id=uuid4(), topic=CONTENT)


async def test_an_event_id_is_written_once(database: Database) -> None:
    event_id = uuid4()
    async with database.acquire() as connection:
        await emit(connection, UserVerified(uuid4()), event_id=event_id)
        with pytest.raises(asyncpg.UniqueViolationError):
            await emit(connection, UserVerified(uuid4()), event_id=event_id)


async def test_fresh_gives_each_event_once_in_its_order_for_each_consumer(database: Database) -> None:
    batch = [envelope("2"), envelope("1"), envelope("2"), envelope("1", "/other")]
    async with database.transaction() as connection:
        assert await deduplicate(connection, "mail", batch) == [batch[0], batch[1], batch[3]]
        assert await deduplicate(connection, "mail", [envelope("3"), *batch]) == [envelope("3")]
        assert await deduplicate(connection, "insight", batch[:1]) == batch[:1]
        assert await deduplicate(connection, "mail", []) == []


async def test_what_was_rolled_back_is_new_again(database: Database) -> None:
    async with database.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await deduplicate(connection, "mail", [envelope("1")])
        await transaction.rollback()
    async with database.transaction() as connection:
        assert await deduplicate(connection, "mail", [envelope("1")]) == [envelope("1")]


def test_every_event_type_has_a_topic_a_key_and_a_meaning() -> None:
    for declared in (event for each in OURS for event in each.events):
        assert EVENTS[declared.name] is declared
        assert declared.key in declared.struct.__struct_fields__
        assert declared.meaning
        assert all(TOPICS[topic.name] is topic for topic in declared.topics)
