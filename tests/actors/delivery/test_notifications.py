"""Notifications: recorded once, numbered in the order of commits, bounded, read, and mailed as their user wants."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from kit.domain import Domain, consume, envelope, refused
from kit.mail_post import Post

from callboard.actors.delivery.errors import NOTIFICATIONS_NOT_FOUND
from callboard.actors.delivery.events import NOTIFICATIONS, NotificationRequested, TemplatedEmailRequested
from callboard.actors.delivery.notification_digest import SendDigests
from callboard.actors.delivery.notification_preferences import Digest, ReplacePreferences
from callboard.actors.delivery.notification_recorder import (
    CONSUMER,
    DIGEST_LETTER,
    MAX_DIGEST,
    NotificationRecorder,
    admits,
)
from callboard.actors.delivery.notifications import (
    CountUnread,
    ListNotifications,
    MarkAllRead,
    MarkRead,
    Notification,
)
from callboard.actors.delivery.notifier import KINDS
from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.infrastructure.notification_kinds import Channel, NotificationKind
from callboard.actors.infrastructure.principals import Principal
from callboard.ops.embedded.mail_catcher import Catcher
from callboard.runtime import Message, Props, System, supervisor, worker
from callboard.streams.cloudevents import Record, encode_value, signed_headers
from callboard.streams.consumers import Consumer
from callboard.streams.event_types import OUR_SOURCE, Envelope
from callboard.streams.record_processor import RecordProcessor
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics

PUBLISHED = "content_published"
KEEP = 200  # of each user, in these tests


class Question(msgspec.Struct, frozen=True):
    """The data of a kind of another package."""

    question: str


CLOSED = NotificationKind("polls.closed", Question, '"{question}" is closed.', "/polls", Channel.MAIL)
LOCKED = NotificationKind("locked", Question, "Locked.", security=True)


def asked(who: Principal | UUID, title: str = "A title", kind: str = PUBLISHED) -> Envelope:
    """A request for a notification about an article."""
    user_id = who.user_id if isinstance(who, Principal) else who
    data = {"content_id": str(uuid4()), "transition_id": "1", "title": title}
    return envelope(NotificationRequested(user_id, kind, data))


def written(request: Message, occurred_at: datetime, offset: int, signer: EventSigner) -> Record:
    """A request as our relay writes it."""
    value = encode_value(request)
    facts: Any = {"event_id": str(uuid4()), "source": OUR_SOURCE, "type": "notification.requested"}
    headers = signed_headers(signer, value, **facts, occurred_at=occurred_at, traceparent=None)
    return Record(NOTIFICATIONS.name, 0, offset, occurred_at, None, value, tuple(headers))


async def of(domain: Domain, who: Principal, **options: Any) -> list[Notification]:
    found = await domain.notifications.ask(ListNotifications(who.user_id, 1000, **options))
    return [each.notification for each in found]


async def prefers(domain: Domain, who: Principal, digest: Digest, **channels: Channel) -> None:
    await domain.preferences.ask(ReplacePreferences(who.user_id, digest, channels))


async def mails(domain: Domain) -> list[dict[str, Any]]:
    return [value for _, _, value in await domain.events("letter.requested")]


async def digested(domain: Domain) -> list[list[str]]:
    """The titles in each digest that was asked for, in their order."""
    query = "select data ->> 'title' as title from notifications where digest_id = $1 order by seq"
    ids = [UUID(mail["data"]["digest_id"]) for mail in await mails(domain) if mail["letter"] == "notification_digest"]
    return [[row["title"] for row in await domain.rows(query, digest_id)] for digest_id in ids]


async def send_digests(domain: Domain, period: Any = "daily") -> None:
    async with domain.database.transaction() as connection:
        await domain.jobs.enqueue(connection, SendDigests(period))
    await domain.work()


async def test_a_notification_is_listed_with_its_text_and_link_newest_first(domain: Domain) -> None:
    ada, eve = await domain.person(), await domain.person()
    first, second = asked(ada, "One"), asked(ada, "Two", "content_rejected")
    await domain.recorder.ask(consume(first, second))
    newest, oldest = await of(domain, ada)
    assert (newest.text, newest.kind) == ('An editor has sent "Two" back to you.', "content_rejected")
    assert isinstance(first.event, NotificationRequested)
    assert (oldest.text, oldest.link) == ('"One" is published.', f"/content/{first.event.data['content_id']}")
    assert await of(domain, eve) == []


async def test_a_notification_is_in_the_best_of_its_users_languages_wherever_it_is_read(domain: Domain) -> None:
    ada = await domain.person()
    await domain.recorder.ask(consume(asked(ada, "Boote")))
    streams = domain.built.refs(DeliveryRefs).streams
    for languages, text in (
        (["de-AT", "fr"], "»Boote« ist veröffentlicht."),
        (["es", "fr"], "« Boote » est publié."),
        (["en-GB", "de"], '"Boote" is published.'),
        (["es"], '"Boote" is published.'),
    ):
        await domain.execute("delete from user_profiles")
        await domain.rows("insert into user_profiles (user_id, languages) values ($1, $2)", ada.user_id, languages)
        (listed,) = await of(domain, ada)
        marked = await domain.notifications.ask(MarkRead(ada.user_id, listed.notification_id))
        (streamed,) = await streams.read(ada.user_id, 0)
        assert [listed.text, marked.text, streamed.notification.text] == [text] * 3


async def test_an_event_that_comes_again_or_several_times_at_once_is_one_notification_and_one_mail(
    domain: Domain,
) -> None:
    ada = await domain.person()
    batch = consume(*(asked(ada, str(number)) for number in range(5)))
    await asyncio.gather(*(domain.recorder.ask(batch) for _ in range(6)))
    assert len(await of(domain, ada)) == len(await mails(domain)) == 5
    await domain.execute("delete from consumed_events; delete from outbox")  # a replay, long after
    await domain.recorder.ask(batch)
    assert (len(await of(domain, ada)), await mails(domain)) == (5, [])


async def test_recorders_of_several_processes_number_each_user_s_notifications_without_a_gap(domain: Domain) -> None:
    people = [await domain.person() for _ in range(3)]
    batches = [consume(*(asked(who) for who in people[turn:] + people[:turn])) for turn in (0, 1, 2) for _ in range(8)]
    await asyncio.gather(*map(domain.recorder.ask, batches))
    for who in people:
        rows = await domain.rows("select seq from notifications where user_id = $1 order by seq", who.user_id)
        assert [row["seq"] for row in rows] == list(range(1, 25))


async def test_a_user_keeps_so_many_and_the_oldest_go_first(domain: Domain) -> None:
    ada = await domain.person()
    for start in range(0, KEEP + 30, 115):
        await domain.recorder.ask(consume(*(asked(ada, str(number)) for number in range(start, start + 115))))
    found = await of(domain, ada)
    assert len(found) == KEEP
    assert (found[0].data["title"], found[-1].data["title"]) == (str(KEEP + 29), "30")


async def test_what_a_user_wants_is_what_a_user_gets(domain: Domain) -> None:
    silent, quiet, loud, gone = [await domain.person() for _ in range(4)]
    await prefers(domain, silent, Digest.OFF, content_published=Channel.NONE)
    await prefers(domain, quiet, Digest.OFF, content_published=Channel.IN_APP)
    await domain.rows("update users set deleted_at = now() where user_id = $1", gone.user_id)
    await domain.recorder.ask(consume(*map(asked, (silent, quiet, loud, gone))))
    assert [len(await of(domain, who)) for who in (silent, quiet, loud, gone)] == [0, 1, 1, 0]
    (mail,) = await mails(domain)
    assert (mail["user_id"], mail["letter"]) == (str(loud.user_id), PUBLISHED)
    assert mail["data"].keys() == {"content_id", "transition_id"}, "the template's own data, and no text"


async def test_a_security_notification_comes_whatever_was_chosen(domain: Domain) -> None:
    ada = await domain.person()
    channels = msgspec.json.encode({LOCKED.name: "none", CLOSED.name: "none"}).decode()
    await domain.rows("insert into notification_settings (user_id, channels) values ($1, $2)", ada.user_id, channels)
    ref = worker(
        "own", Props(NotificationRecorder, domain.database, {LOCKED.name: LOCKED, CLOSED.name: CLOSED}, keep=9)
    )
    async with System(supervisor("root", ref)):
        for kind in (LOCKED, CLOSED):
            await ref.ask(consume(envelope(NotificationRequested(ada.user_id, kind.name, {"question": "Q"}))))
    assert [each.kind for each in await of(domain, ada)] == [LOCKED.name]


async def test_a_kind_without_a_template_of_its_own_is_mailed_as_a_digest_of_one(domain: Domain) -> None:
    ada = await domain.person()
    ref = worker("own", Props(NotificationRecorder, domain.database, {CLOSED.name: CLOSED}, keep=9))
    async with System(supervisor("root", ref)):
        await ref.ask(consume(envelope(NotificationRequested(ada.user_id, CLOSED.name, {"question": "Tea?"}))))
    (mail,) = await mails(domain)
    assert mail["letter"] == "notification_digest"
    query = "select digest_id = $1 from notifications"
    assert await domain.value(query, UUID(mail["data"]["digest_id"]))
    # The kind is declared by no department of this process any more: the row is shown without a text.
    assert [each.text for each in await of(domain, ada)] == [""]


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("gossip", {}, "no department declares notifications of kind 'gossip'"),
        (PUBLISHED, {"title": "T"}, "missing required field `content_id`"),
        (PUBLISHED, {"title": "T", "content_id": "x", "transition_id": "1"}, "UUID"),
    ],
)
def test_a_request_of_no_kind_or_with_other_data_is_rejected_with_its_reason(
    kind: str, data: dict[str, str], said: str
) -> None:
    admit = admits({each.name: each for each in KINDS})
    rejection = admit(envelope(NotificationRequested(uuid4(), kind, data)))
    assert rejection is not None
    assert said in rejection.detail
    assert admit(asked(uuid4())) is None


async def test_a_request_past_its_deadline_is_a_dead_letter_and_no_notification(domain: Domain) -> None:
    ada = await domain.person()
    signer = EventSigner(["a secret"])
    consumer = Consumer(CONSUMER, (NOTIFICATIONS,), (NotificationRequested,), domain.recorder, admits(domain.kinds))
    processor = RecordProcessor(consumer, domain.database, signer, StreamMetrics())
    now = datetime.now(UTC)
    for offset, age_s in enumerate((1805, 1700)):
        request = asked(ada, f"{age_s} s old").event
        await processor.process([written(request, now - timedelta(seconds=age_s), offset, signer)])
    assert [each.data["title"] for each in await of(domain, ada)] == ["1700 s old"]
    assert [row["reason"] for row in await domain.rows("select reason from dead_letters")] == ["expired"]


# Reading -------------------------------------------------------------------------------------------------------------


async def test_reading_is_idempotent_and_the_count_is_that_of_the_list(domain: Domain) -> None:
    ada, eve = await domain.person(), await domain.person()
    await domain.recorder.ask(consume(*(asked(who, str(n)) for n in range(3) for who in (ada, eve))))
    newest = (await of(domain, ada))[0]
    first = await domain.notifications.ask(MarkRead(ada.user_id, newest.notification_id))
    again = await domain.notifications.ask(MarkRead(ada.user_id, newest.notification_id))
    assert first.read_at is not None
    assert first == again
    assert (await domain.notifications.ask(CountUnread(ada.user_id))).unread == 2
    assert [each.data["title"] for each in await of(domain, ada, only_unread=True)] == ["1", "0"]
    for _ in range(2):
        assert (await domain.notifications.ask(MarkAllRead(ada.user_id))).unread == 0
        assert (await domain.notifications.ask(CountUnread(ada.user_id))).unread == 0
    assert (await of(domain, ada))[0].read_at == first.read_at
    assert (await domain.notifications.ask(CountUnread(eve.user_id))).unread == 3


async def test_nobody_reads_or_marks_anothers(domain: Domain) -> None:
    ada, eve = await domain.person(), await domain.person()
    await domain.recorder.ask(consume(asked(ada)))
    (hers,) = await of(domain, ada)
    for notification_id in (hers.notification_id, uuid4()):
        with refused(NOTIFICATIONS_NOT_FOUND):
            await domain.notifications.ask(MarkRead(eve.user_id, notification_id))
    assert (await domain.notifications.ask(CountUnread(ada.user_id))).unread == 1


async def test_pages_show_each_once_while_more_come(domain: Domain) -> None:
    ada = await domain.person()
    seen: list[str] = []
    before = None
    await domain.recorder.ask(consume(*(asked(ada, str(number)) for number in range(10))))
    for number in range(10, 15):
        page = await domain.notifications.ask(ListNotifications(ada.user_id, 2, before=before))
        seen += [each.notification.data["title"] for each in page]
        before = page[-1].seq
        await domain.recorder.ask(consume(asked(ada, str(number))))
    assert seen == [str(number) for number in reversed(range(10))]


# Digests -------------------------------------------------------------------------------------------------------------


async def test_a_digest_has_each_notification_once_and_none_is_lost_whoever_sends(domain: Domain) -> None:
    people = [await domain.person() for _ in range(4)]
    for who in people:
        await prefers(domain, who, Digest.DAILY)
    batches = [consume(*(asked(who, f"{turn}") for who in people)) for turn in range(20)]

    async def record() -> None:
        for batch in batches:
            await domain.recorder.ask(batch)

    async def gather() -> None:
        for _ in range(4):
            await send_digests(domain)

    await asyncio.gather(record(), gather())
    await send_digests(domain)
    found = await digested(domain)
    titles = sorted(title for digest in found for title in digest)
    assert titles == sorted(str(turn) for turn in range(20) for _ in people)
    assert all(len(digest) == len(set(digest)) for digest in found), "no digest has another's"
    assert await domain.value("select count(*) from notifications where waits") == 0
    await send_digests(domain)
    assert await digested(domain) == found, "nothing new, no mail"


async def test_each_period_sends_its_own_and_a_user_who_left_digests_gets_the_rest(domain: Domain) -> None:
    daily, weekly, left = [await domain.person() for _ in range(3)]
    await prefers(domain, daily, Digest.DAILY)
    await prefers(domain, weekly, Digest.WEEKLY)
    await prefers(domain, left, Digest.WEEKLY)
    await domain.recorder.ask(consume(asked(daily, "D"), asked(weekly, "W"), asked(left, "L")))
    await prefers(domain, left, Digest.OFF)
    await send_digests(domain, "daily")
    assert sorted(await digested(domain)) == [["D"], ["L"]]
    await send_digests(domain, "weekly")
    assert sorted(await digested(domain)) == [["D"], ["L"], ["W"]]


async def test_what_was_read_in_the_app_is_not_mailed(domain: Domain) -> None:
    ada = await domain.person()
    await prefers(domain, ada, Digest.DAILY)
    await domain.recorder.ask(consume(asked(ada, "Read"), asked(ada, "New")))
    await domain.notifications.ask(MarkRead(ada.user_id, (await of(domain, ada))[1].notification_id))
    await send_digests(domain)
    assert await digested(domain) == [["New"]]
    await domain.recorder.ask(consume(asked(ada, "Read too")))
    await domain.notifications.ask(MarkAllRead(ada.user_id))
    await send_digests(domain)
    assert await digested(domain) == [["New"]]


async def test_the_mail_of_a_digest_lists_its_user_s_notifications_alone(
    post: Post, domain: Domain, catcher: Catcher
) -> None:
    ada, eve = await domain.person(), await domain.person()
    for who in (ada, eve):
        await prefers(domain, who, Digest.DAILY)
    await domain.recorder.ask(consume(asked(ada, "Lanterns"), asked(ada, "Boats"), asked(eve, "Secret")))
    await send_digests(domain)
    requests = {UUID(mail["user_id"]): mail["data"] for mail in await mails(domain)}
    await post.send(await post.queue(TemplatedEmailRequested(DIGEST_LETTER, ada.user_id, requests[ada.user_id])))
    (caught,) = catcher.mails()
    assert (caught.to, caught.subject) == (ada.email, "2 notifications")
    assert caught.text.index('"Lanterns" is published.') < caught.text.index('"Boats" is published.')
    assert "Secret" not in caught.text
    another = await post.queue(TemplatedEmailRequested(DIGEST_LETTER, ada.user_id, requests[eve.user_id]))
    await post.send(another)
    assert (await post.row(another))["status"] == "dead"


async def test_what_waits_for_a_digest_is_kept_however_many_others_come(domain: Domain) -> None:
    ada = await domain.person()
    await prefers(domain, ada, Digest.DAILY, content_rejected=Channel.IN_APP)
    others = (asked(ada, str(number), "content_rejected") for number in range(KEEP + 10))
    await domain.recorder.ask(consume(asked(ada, "waits")))
    await domain.recorder.ask(consume(*others))
    assert await domain.value("select count(*) from notifications") == KEEP + 1
    await send_digests(domain)
    assert await digested(domain) == [["waits"]]


async def test_a_digest_that_is_full_is_sent_at_once(domain: Domain) -> None:
    ada = await domain.person()
    await prefers(domain, ada, Digest.WEEKLY)
    total = 2 * MAX_DIGEST + KEEP // 2
    for start in range(0, total, 100):
        await domain.recorder.ask(consume(*(asked(ada, str(number)) for number in range(start, start + 100))))
    assert [len(digest) for digest in await digested(domain)][-1] == MAX_DIGEST
    assert len(await mails(domain)) == total // MAX_DIGEST
    assert await domain.value("select count(*) from notifications") == KEEP
