"""Streams of notifications: nothing missed and nothing twice, whatever happens in between; bounded; ended in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.domain import Domain, consume, envelope, log_in, refused, whoami

from callboard.actors.delivery import notification_streams
from callboard.actors.delivery.errors import NOTIFICATIONS_TOO_MANY_STREAMS
from callboard.actors.delivery.events import NotificationRequested
from callboard.actors.delivery.notification_streams import (
    BATCH,
    Bounds,
    End,
    NotificationStreams,
    StreamWatcher,
    Subscription,
)
from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.identity.sessions import RevokeSession
from callboard.actors.infrastructure.principals import Principal
from callboard.http.api.notification_stream import event_id_of, read_event_id
from callboard.runtime import Props, System, supervisor, worker
from callboard.streams.event_types import Envelope

WITHIN_S = 20.0


def asked(who: Principal, title: str) -> Envelope:
    data = {"content_id": str(uuid4()), "transition_id": "1", "title": title}
    return envelope(NotificationRequested(who.user_id, "content_published", data))


@asynccontextmanager
async def watched(domain: Domain, **bounds: int) -> AsyncIterator[NotificationStreams]:
    """The streams of a process. They are not rung: only the look of each interval finds what is new."""
    streams = NotificationStreams(domain.database, domain.kinds, Bounds(**bounds), 3600.0)
    ended_among = domain.built.refs(IdentityRefs).living_sessions.ended_among
    async with System(supervisor("root", worker("watcher", Props(StreamWatcher, streams, ended_among)))):
        yield streams


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notification_streams, "TICK_S", 0.01)
    monkeypatch.setattr(notification_streams, "PACE_S", 0.0)


async def session(domain: Domain) -> tuple[Principal, UUID]:
    """Somebody who is logged in, and the session."""
    who = await domain.person()
    login = await log_in(domain, who.email)
    found = await whoami(domain, login)
    return found, found.session_id


async def titles(subscription: Subscription, count: int) -> list[str]:
    """The titles of the next notifications, so many at least."""
    found: list[str] = []
    async with asyncio.timeout(WITHIN_S):
        while len(found) < count:
            batch = await subscription.next()
            assert batch is not None
            found += [each.notification.data["title"] for each in batch]
    return found


async def the_end(subscription: Subscription) -> End | None:
    async with asyncio.timeout(WITHIN_S):
        while await subscription.next() is not None:
            pass
    return subscription.end_reason


async def test_a_stream_begins_now_and_goes_on_with_what_comes(domain: Domain) -> None:
    ada, session_id = await session(domain)
    eve, _ = await session(domain)
    await domain.recorder.ask(consume(asked(ada, "before")))
    async with watched(domain) as streams:
        subscription, start = await streams.open(ada.user_id, session_id, "a")
        assert (start.position, start.unread, start.is_resumed) == (1, 1, False)
        await domain.recorder.ask(consume(asked(eve, "hers"), asked(ada, "first"), asked(ada, "second")))
        assert await titles(subscription, 2) == ["first", "second"]
        subscription.close()
        assert len(streams) == 0


async def test_a_client_that_comes_and_goes_misses_nothing_and_gets_nothing_twice(domain: Domain) -> None:
    """Recorders of several processes commit meanwhile, and each time it comes to another process."""
    ada, session_id = await session(domain)
    total = 150

    async def record() -> None:
        await asyncio.gather(*(domain.recorder.ask(consume(asked(ada, str(number)))) for number in range(total)))

    async with watched(domain) as one, watched(domain) as other:
        subscription, start = await one.open(ada.user_id, session_id, "a")
        subscription.close()
        position, found, recording = start.position, list[str](), asyncio.create_task(record())
        for turn in range(1000):
            subscription, start = await (one, other)[turn % 2].open(ada.user_id, session_id, "a", after=position)
            assert start.is_resumed
            assert start.position == position
            async with asyncio.timeout(WITHIN_S):
                batch = await subscription.next()
            subscription.close()
            assert batch is not None
            found += [each.notification.data["title"] for each in batch]
            position = batch[-1].seq if batch else position
            if len(found) >= total:
                break
        await recording
    assert sorted(found, key=int) == [str(number) for number in range(total)]


async def test_a_backlog_comes_in_pieces_and_none_is_read_before_the_last_is_taken(domain: Domain) -> None:
    ada, session_id = await session(domain)
    await domain.recorder.ask(consume(*(asked(ada, str(number)) for number in range(3 * BATCH + 1))))
    async with watched(domain) as streams:
        subscription, _ = await streams.open(ada.user_id, session_id, "a", after=0)
        async with asyncio.timeout(WITHIN_S):
            first = await subscription.next()
        assert first is not None
        assert (len(first), streams.sent) == (BATCH, BATCH)
        assert len(await titles(subscription, 2 * BATCH + 1)) == 2 * BATCH + 1


@pytest.mark.parametrize(
    ("after", "position", "is_resumed"),
    [(None, 5, False), (5, 5, True), (3, 3, True), (2, 2, True), (1, 1, False), (99, 5, False)],
)
async def test_a_gap_is_told_and_a_position_that_never_was_is_none(
    domain: Domain, after: int | None, position: int, is_resumed: bool
) -> None:
    """Of five the first two are gone: who has seen the second has missed nothing, who has seen the first has."""
    ada, session_id = await session(domain)
    await domain.recorder.ask(consume(*(asked(ada, str(number)) for number in range(1, 6))))
    await domain.execute("delete from notifications where seq < 3")
    async with watched(domain) as streams:
        _, start = await streams.open(ada.user_id, session_id, "a", after=after)
        assert (start.position, start.is_resumed) == (position, is_resumed)


def test_the_id_of_another_user_s_event_or_any_other_text_is_no_position() -> None:
    ada, eve = uuid4(), uuid4()
    assert read_event_id(event_id_of(7, ada), ada) == 7
    for text in (event_id_of(7, eve), "7", "", None, f"-1.{ada.hex[:12]}", f"{10**30}.{ada.hex[:12]}", "\u0667.x"):
        assert read_event_id(text, ada) is None


async def test_a_user_and_an_address_have_so_many_streams_and_a_closed_one_makes_room(domain: Domain) -> None:
    people = [await session(domain) for _ in range(3)]
    async with watched(domain, per_user=2, per_address=3) as streams:
        (ada, hers), (eve, other), (bob, third) = people
        opened = [await streams.open(ada.user_id, hers, address) for address in "ab"]
        with refused(NOTIFICATIONS_TOO_MANY_STREAMS):
            await streams.open(ada.user_id, hers, "c")
        opened += [await streams.open(eve.user_id, other, "a") for _ in range(2)]
        with refused(NOTIFICATIONS_TOO_MANY_STREAMS):
            await streams.open(bob.user_id, third, "a")
        assert dict(streams.refused) == {"user": 1, "address": 1}
        for _ in range(2):
            opened[0][0].close()
        await streams.open(bob.user_id, third, "a")
        await streams.open(ada.user_id, hers, "c")
        assert len(streams) == 5
        assert {figure.name: figure.read() for figure in streams.figures}["callboard_notification_streams"] == {(): 5.0}


async def test_opening_that_fails_leaves_no_room_taken(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, session_id = await session(domain)
    async with watched(domain, per_user=1) as streams:
        with monkeypatch.context() as patch:
            patch.setattr(domain.database.unavailable, "is_set", lambda: True)
            for _ in range(3):
                with refused(SERVER_UNAVAILABLE):
                    await streams.open(ada.user_id, session_id, "a")
        await streams.open(ada.user_id, session_id, "a")


@pytest.mark.parametrize("how", ["logout", "ban", "deletion", "expiry"])
async def test_a_stream_ends_with_its_session_and_no_other_does(domain: Domain, how: str) -> None:
    ada, session_id = await session(domain)
    eve, other = await session(domain)
    async with watched(domain) as streams:
        ended = [(await streams.open(ada.user_id, session_id, "a"))[0] for _ in range(2)]
        kept, _ = await streams.open(eve.user_id, other, "a")
        if how == "logout":
            await domain.sessions.ask(RevokeSession(ada.user_id, session_id))
        else:
            change = {
                "ban": "update users set is_active = false where user_id = $1",
                "deletion": "update users set deleted_at = now() where user_id = $1",
                "expiry": "update sessions set expires_at = now() where user_id = $1",
            }[how]
            await domain.rows(change, ada.user_id)
        assert [await the_end(each) for each in ended] == [End.SESSION, End.SESSION]
        await domain.recorder.ask(consume(asked(eve, "still")))
        assert await titles(kept, 1) == ["still"]
        for each in (*ended, kept):
            each.close()
        assert dict(streams.ended) == {End.SESSION: 2, End.CLOSED: 1}


async def test_a_silent_stream_beats_and_an_old_one_ends(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notification_streams, "HEARTBEAT_S", 0.02)
    ada, session_id = await session(domain)
    async with watched(domain) as streams, asyncio.timeout(WITHIN_S):
        subscription, _ = await streams.open(ada.user_id, session_id, "a", life_s=0.2)
        assert [await subscription.next() for _ in range(2)] == [(), ()]
        assert await the_end(subscription) is End.AGE


async def test_while_postgresql_is_away_a_stream_waits_and_beats_and_then_goes_on(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notification_streams, "HEARTBEAT_S", 0.02)
    ada, session_id = await session(domain)
    async with watched(domain) as streams, asyncio.timeout(WITHIN_S):
        subscription, _ = await streams.open(ada.user_id, session_id, "a")
        await domain.recorder.ask(consume(asked(ada, "meanwhile")))

        async def away(*_: Any) -> Any:
            raise Problem(SERVER_UNAVAILABLE)

        with monkeypatch.context() as patch:
            patch.setattr(streams, "read", away)
            assert [await subscription.next() for _ in range(3)] == [(), (), ()]
        assert await titles(subscription, 1) == ["meanwhile"]


async def test_a_process_without_a_stream_asks_postgresql_nothing(domain: Domain) -> None:
    ada, session_id = await session(domain)
    async with watched(domain) as streams:
        (await streams.open(ada.user_id, session_id, "a"))[0].close()
        assert not streams.occupied.is_set()
