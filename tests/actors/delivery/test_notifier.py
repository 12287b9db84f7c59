"""The notifier: what has happened to an article becomes one notification of its author."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from kit.domain import Domain, consume, envelope

from callboard.actors.delivery.notifier import QUERIES
from callboard.actors.editorial import events
from callboard.actors.editorial.events import ContentEvent
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.identity.events import UserVerified
from callboard.actors.infrastructure.principals import Role
from callboard.streams.event_types import Envelope, type_of

OTHERS = [
    events.ContentCreated,
    events.ContentEdited,
    events.ContentSubmitted,
    events.ContentApproved,
    events.ContentArchived,
    events.ContentRestored,
    events.ContentDeleted,
]


def happened(kind: type[ContentEvent], note: str | None = None) -> ContentEvent:
    return kind(uuid4(), uuid4(), "A title", uuid4(), 3, note)


async def told(domain: Domain, kind: type[ContentEvent], note: str | None = None) -> Envelope:
    """An article to which this has happened, by the editorial history, and the event of it."""
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    content = await domain.draft(author)
    await domain.move(content.content_id, Action.SUBMIT_FOR_REVIEW, author)
    if kind is events.ContentRejected:
        await domain.move(content.content_id, Action.REJECT, editor, note)
    else:
        await domain.move(content.content_id, Action.APPROVE, editor)
        await domain.move(content.content_id, Action.PUBLISH, editor, note)
    query = "select event_id, occurred_at, value from outbox where type = $1 and key = $2"
    (row,) = await domain.rows(query, type_of(kind).name, str(content.content_id))
    event = msgspec.json.decode(row["value"], type=kind)
    return envelope(event, str(row["event_id"]), source="callboard", occurred_at=row["occurred_at"])


async def requests(domain: Domain) -> list[dict[str, Any]]:
    return [value for _, _, value in await domain.events("notification.requested")]


@pytest.mark.parametrize(
    ("kind", "name", "note"),
    [
        (events.ContentPublished, "content_published", None),
        (events.ContentRejected, "content_rejected", "Too long"),
    ],
)
async def test_the_author_is_notified(domain: Domain, kind: type[ContentEvent], name: str, note: str | None) -> None:
    event = await told(domain, kind, note)
    await domain.notifier.ask(consume(event))
    content = event.event
    assert isinstance(content, ContentEvent)
    query = "select transition_id::text from content_transitions where action in ('publish', 'reject')"
    # The note is read when the mail is written.
    data = {
        "content_id": str(content.content_id),
        "transition_id": await domain.value(query),
        "title": "A title",
    }
    request = {"user_id": str(content.author_id), "kind": name, "data": data}
    assert await domain.events("notification.requested") == [("notifications.v1", "notification.requested", request)]


@pytest.mark.parametrize("kind", OTHERS)
async def test_what_an_author_need_not_hear_of_is_no_notification(domain: Domain, kind: type[ContentEvent]) -> None:
    await domain.notifier.ask(consume(envelope(happened(kind)), envelope(UserVerified(uuid4()))))
    assert await domain.events() == []
    assert await domain.value("select count(*) from consumed_events") == 2


@pytest.mark.parametrize("kind", [events.ContentPublished, events.ContentRejected])
async def test_an_event_that_the_editorial_history_does_not_know_is_no_notification(
    domain: Domain, kind: type[ContentEvent]
) -> None:
    await domain.notifier.ask(consume(envelope(happened(kind, "Pay at https://evil.example"))))
    genuine = await told(domain, kind)
    await domain.notifier.ask(consume(msgspec.structs.replace(genuine, event_id="2", occurred_at=datetime.now(UTC))))
    assert await requests(domain) == []


async def test_author_title_and_note_are_those_of_the_rows_and_not_of_the_event(domain: Domain) -> None:
    genuine = await told(domain, events.ContentRejected, "Too long")
    assert isinstance(genuine.event, ContentEvent)
    forged = msgspec.structs.replace(genuine.event, author_id=uuid4(), title="You won", note="https://evil.example")
    await domain.notifier.ask(consume(msgspec.structs.replace(genuine, event=forged)))
    (request,) = await requests(domain)
    assert request["user_id"] == str(genuine.event.author_id)
    assert request["data"]["title"] == "A title"
    assert set(request["data"]) == {"content_id", "transition_id", "title"}
    assert (
        await domain.value(
            "select note from content_transitions where transition_id = $1", int(request["data"]["transition_id"])
        )
        == "Too long"
    )


async def test_an_event_that_comes_again_or_several_times_at_once_is_one_notification(domain: Domain) -> None:
    batch = consume(*[await told(domain, events.ContentPublished) for _ in range(5)])
    await asyncio.gather(*(domain.notifier.ask(batch) for _ in range(6)))
    assert len(await requests(domain)) == 5


async def test_the_requests_id_follows_from_the_events(domain: Domain) -> None:
    event = await told(domain, events.ContentRejected)
    await domain.notifier.ask(consume(event))
    first = await domain.value("select event_id from outbox where type = 'notification.requested'")
    await domain.execute("delete from outbox; delete from consumed_events")
    await domain.notifier.ask(consume(event))
    assert await domain.value("select event_id from outbox") == first
    assert first != event.event_id


async def test_every_query_is_prepared_against_the_schema(domain: Domain) -> None:
    async with domain.database.acquire() as connection:
        await connection.prepare(QUERIES.transition.sql)
