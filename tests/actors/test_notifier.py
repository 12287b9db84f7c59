"""The notifier: what has happened to an article becomes one letter to its author."""

import asyncio
from uuid import uuid4

import pytest
from domain import Domain, consume, envelope

from callboard.streams import events
from callboard.streams.events import ContentEvent

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


@pytest.mark.parametrize(
    ("kind", "letter", "note"),
    [
        (events.ContentPublished, "content_published", None),
        (events.ContentRejected, "content_rejected", "Too long"),
    ],
)
async def test_the_author_gets_a_letter(
    domain: Domain, kind: type[ContentEvent], letter: str, note: str | None
) -> None:
    event = happened(kind, note)
    await domain.notifier.ask(consume(envelope(event)))
    data = {"title": "A title", "content_id": str(event.content_id), "note": note or ""}
    assert await domain.events() == [
        ("mail.v1", "letter.requested", {"letter": letter, "user_id": str(event.author_id), "data": data})
    ]


@pytest.mark.parametrize("kind", OTHERS)
async def test_what_an_author_need_not_hear_of_is_no_letter(domain: Domain, kind: type[ContentEvent]) -> None:
    await domain.notifier.ask(consume(envelope(happened(kind)), envelope(events.UserVerified(uuid4()))))
    assert await domain.events() == []
    assert await domain.value("select count(*) from consumed_events") == 2


async def test_an_event_that_comes_again_or_several_times_at_once_is_one_letter(domain: Domain) -> None:
    batch = consume(*(envelope(happened(events.ContentPublished)) for _ in range(5)))
    await asyncio.gather(*(domain.notifier.ask(batch) for _ in range(6)))
    assert len(await domain.events()) == 5


async def test_the_letters_id_follows_from_the_events(domain: Domain) -> None:
    event = envelope(happened(events.ContentRejected))
    await domain.notifier.ask(consume(event))
    first = await domain.value("select event_id from outbox")
    await domain.execute("delete from outbox; delete from consumed_events")
    await domain.notifier.ask(consume(event))
    assert await domain.value("select event_id from outbox") == first
    assert first != event.event_id
