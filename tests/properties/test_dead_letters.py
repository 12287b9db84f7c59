"""Dead letters of records and jobs are one list: shown, dropped, and replayed with effects once."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from kit.jobs import Note, Process, effect, effects, kind

from callboard.actors.analytics.events import ACTIVITY, ActivityRecorded
from callboard.actors.delivery.events import MAIL, MailRequested
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.dead_jobs import JobLetters
from callboard.actors.infrastructure.dead_letters import LISTED_BYTES, DeadLetterFilter, DeadLetters, DeadLetterView
from callboard.actors.infrastructure.dead_records import REPLAY_RECORD, RecordLetters, replay_pool
from callboard.actors.infrastructure.errors import DEAD_LETTERS_NOT_FOUND
from callboard.actors.infrastructure.job_admin import JobAdmin
from callboard.actors.infrastructure.job_kinds import Job, Outcome, Permanent
from callboard.actors.infrastructure.job_queue import JobQueue
from callboard.runtime import Actor, Intensity, Props, Refusal, System, on, supervisor, worker
from callboard.streams import record_processor
from callboard.streams.cloudevents import Record, encode
from callboard.streams.consumers import Consumer
from callboard.streams.event_types import ConsumeEvents
from callboard.streams.outbox import deduplicate
from callboard.streams.record_processor import RecordProcessor
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics

SIGNER = EventSigner(["a secret of these tests, and of no other"])
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ALL = DeadLetterFilter()
RECORDS = DeadLetterFilter("record")


class Recorder(Actor[ConsumeEvents]):
    """The consumer: an effect is a row. It refuses all while it is broken."""

    def __init__(self, database: Database, books: "Books") -> None:
        self.database = database
        self.books = books

    @on(ConsumeEvents)
    async def consume(self, message: ConsumeEvents) -> None:
        async with self.database.transaction() as connection:
            for envelope in await deduplicate(connection, "recorder", message.envelopes):
                self.books.seen.append((envelope.event_id, envelope.occurred_at))
                await connection.execute("insert into job_effects values (0, 0, $1)", envelope.event_id)
            if self.books.broken is not None:
                raise self.books.broken


class Books:
    """What is wrong with the recorder, and what it saw."""

    def __init__(self) -> None:
        self.broken: Exception | None = Refusal("broken")
        self.seen: list[tuple[str, datetime]] = []


class Desk:
    """One installation: a consumer, a job that can fail, and the dead letters of both."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.books = Books()
        self.metrics = StreamMetrics()
        self.recorder = worker("recorder", Props(Recorder, database, self.books))
        accepts = (ActivityRecorded, MailRequested)
        self.consumers = [Consumer("recorder", (ACTIVITY, MAIL), accepts, self.recorder)]
        self.jobs = Process(database, (kind(), self._work))
        self.jobs.handlers.append(replay_pool(database, self.consumers, SIGNER, self.metrics))
        self.jobs.queue = JobQueue([kind(), REPLAY_RECORD])
        self.letters = self.operator()

    def operator(self) -> DeadLetters:
        """The letters as one more operator sees them."""
        admin = JobAdmin(self.database, self.jobs.queue)
        return DeadLetters(self.database, RecordLetters(self.database, self.jobs.queue), JobLetters(admin))

    async def _work(self, job: Job[Note]) -> Outcome:
        return Permanent("broken 17") if self.books.broken is not None else await effect(job)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Desk"]:
        async with System(supervisor("desk", self.recorder, intensity=Intensity(50, 5.0))), self.jobs.working():
            yield self

    async def process(self, *records: Record) -> None:
        await RecordProcessor(self.consumers[0], self.database, SIGNER, self.metrics).process(records)

    async def replay(self, *ids: str) -> int:
        """Replay, and wait for the end; the number of replayed letters."""
        change = await self.letters.replay(ids, per_second=1000.0)
        await self.jobs.sweeper_once()  # an enqueue may have kept the next job of the key from its start
        await self.jobs.settled()
        return change.changed

    async def waiting(self, which: DeadLetterFilter = ALL) -> list[DeadLetterView]:
        return await self.letters.page(which, limit=100)

    async def select(self, which: DeadLetterFilter = RECORDS) -> list[str]:
        return await self.letters.select(which, until=await self.letters.time(), limit=100)


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def view(event_id: str, offset: int = 0, *, key: bytes = b"s", at: datetime | None = None) -> Record:
    now = datetime.now(UTC)
    event = ActivityRecorded(metric="page_views", value=1.0, subject_id="s", occurred_at=now)
    value, headers = encode(event, event_id=event_id, occurred_at=at or now, source="/web", traceparent=TRACE)
    return Record("activity.v1", 0, offset, now, key, value, tuple(headers))


def mail(event_id: str, occurred_at: datetime) -> Record:
    event = MailRequested(to="a@b.example", subject="s", text="t")
    value, headers = encode(event, event_id=event_id, occurred_at=occurred_at, source="/web")
    return Record("mail.v1", 0, 1, occurred_at, b"a@b.example", value, tuple(headers))


async def test_records_and_jobs_are_one_list_and_are_replayed_with_effects_once_when_the_cause_is_mended(
    desk: Desk,
) -> None:
    async with desk.open():
        await desk.process(view("e1"))
        await desk.jobs.put("n1")
        await desk.jobs.settled()
        job, record = await desk.waiting()  # newest first
        assert (record.source, record.name, record.reason, record.state) == (
            "record",
            "activity.v1",
            "refused",
            "waiting",
        )
        assert (job.source, job.name, job.reason, job.state) == ("job", "note", "broken #", "waiting")
        assert (record.event_source, record.event_id, record.traceparent) == ("/web", "e1", TRACE)
        assert dict(record.headers)["ce_id"] == base64.b64encode(b"e1").decode()
        assert (job.attempts, job.replays, record.attempts, record.replays) == (1, 0, 1, 0)
        assert (record.key, job.value) == ("s", '{"text":"n1"}')
        desk.books.broken = None
        assert await desk.replay(record.id, job.id) == 2
        assert await effects(desk.jobs) == {"e1": 1, "n1": 1}
        assert await desk.waiting() == []
        assert await desk.replay(record.id, job.id) == 0  # a second replay does nothing
        assert await effects(desk.jobs) == {"e1": 1, "n1": 1}
        done = await desk.letters.page(ALL, replayed=True, limit=10)
        assert [(each.state, each.id) for each in done] == [("replayed", job.id), ("replayed", record.id)]
        assert desk.metrics.replays == {("activity.v1", "done"): 1}
    rows = await desk.jobs.rows("select action, actor, detail from audit_log order by audit_id")
    assert [(row["action"], row["actor"]) for row in rows] == [
        ("dead_letter.replayed", "operator"),
        ("job.replayed", "operator"),
    ]
    assert msgspec.json.decode(rows[0]["detail"]) == {
        "id": record.id.partition(":")[2],
        "topic": "activity.v1",
        "reason": "refused",
        "replays": 1,
    }


@pytest.mark.parametrize("broken", [Refusal("still"), ZeroDivisionError("still")], ids=["refused", "failed"])
async def test_what_fails_again_is_the_same_dead_letter_with_its_count_and_its_effect_still_comes_once(
    desk: Desk, broken: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_processor, "_CRASH_RETRY_S", 0.0)
    async with desk.open():
        await desk.process(view("e1"))
        desk.books.broken = broken
        (first,) = await desk.waiting()
        for count in (1, 2):
            assert await desk.replay(first.id) == 1
            (again,) = await desk.waiting()
            assert (again.id, again.replays, again.attempts) == (first.id, count, count + 1)
            assert "still" in again.detail
            assert again.created_at > first.created_at
        assert desk.metrics.replays == {("activity.v1", "dead"): 2}
        desk.books.broken = None
        assert await desk.replay(first.id) == 1
        await desk.process(view("e1", 7))  # the same event, sent again by its producer
        assert await effects(desk.jobs) == {"e1": 1}
        assert await desk.waiting() == []


async def test_a_job_that_fails_again_is_a_dead_letter_again_with_its_count(desk: Desk) -> None:
    async with desk.open():
        await desk.jobs.put("n1")
        await desk.jobs.settled()
        for count in (1, 2):
            (dead,) = await desk.waiting()
            assert await desk.replay(dead.id) == 1
            (again,) = await desk.waiting()
            assert (again.replays, again.attempts, again.id != dead.id) == (count, 1, True)
            shown = await desk.letters.show(dead.id)
            assert (shown.state, f"job:{shown.replayed_as}") == ("replayed", again.id)


async def test_of_operators_who_replay_or_drop_the_same_letters_at_once_one_wins(desk: Desk) -> None:
    async with desk.open():
        await desk.process(*(view(f"e{n}", n) for n in range(5)))
        await desk.jobs.put("n1", "n2")
        await desk.jobs.settled()
        desk.books.broken = None
        ids = [each.id for each in await desk.waiting()]
        changes = await asyncio.gather(
            *(desk.operator().replay(ids, per_second=1000.0) for _ in range(3)), desk.operator().drop(ids[::-1])
        )
        assert sum(each.changed for each in changes) == len(ids)
        await desk.jobs.settled()
        replayed = sum(each.changed for each in changes[:3])
        assert sorted((await effects(desk.jobs)).values()) == [1] * replayed
        assert await desk.waiting() == []


async def test_a_filter_selects_the_oldest_first_and_never_those_that_fail_meanwhile(desk: Desk) -> None:
    async with desk.open():
        await desk.process(*(view(f"e{n}", n) for n in range(6)))
        until = await desk.letters.time()
        ids = await desk.letters.select(RECORDS, until=until, limit=4)
        assert await desk.replay(*ids) == 4  # all fail again
        rest = await desk.letters.select(RECORDS, until=until, limit=100)
        assert len(rest) == 2
        assert not set(ids) & set(rest)
        desk.books.broken = None
        desk.books.seen.clear()
        assert await desk.replay(*rest, *ids) == 6
        assert [event_id for event_id, _ in desk.books.seen] == [
            "e4",
            "e5",
            "e0",
            "e1",
            "e2",
            "e3",
        ]  # one key: in order


async def test_letters_are_filtered_by_source_name_reason_and_time(desk: Desk) -> None:
    async with desk.open():
        await desk.process(
            view("e1"), mail("m1", datetime.now(UTC)), Record("activity.v1", 0, 9, datetime.now(UTC), None, b"{")
        )
        await desk.jobs.put("n1")
        await desk.jobs.settled()

        async def found(**fields: Any) -> list[tuple[str, str]]:
            which = DeadLetterFilter(**fields)
            listed = await desk.waiting(which)
            assert sorted(each.id for each in listed) == sorted(await desk.select(which))
            return sorted((each.name, each.reason) for each in listed)

        assert len(await found()) == 4
        assert await found(source="job") == [("note", "broken #")]
        assert await found(source="record", name="mail.v1") == [("mail.v1", "refused")]
        assert await found(reason="malformed") == [("activity.v1", "malformed")]
        assert await found(name="note", reason="refused") == []
        assert await found(since=datetime.now(UTC) + timedelta(hours=1)) == []


async def test_pages_over_both_sources_have_each_letter_once(desk: Desk) -> None:
    async with desk.open():
        await desk.process(*(view(f"e{n}", n) for n in range(4)))
        await desk.jobs.put("a", "b", "c")
        await desk.jobs.settled()
        # All at one moment: only the ids order them.
        await desk.jobs.execute("update dead_letters set created_at = now() - interval '1 day'")
        await desk.jobs.execute("update dead_jobs set died_at = (select max(created_at) from dead_letters)")
        seen: list[str] = []
        before = None
        while page := await desk.letters.page(ALL, before=before, limit=2):
            seen += [each.id for each in page]
            before = (page[-1].created_at, page[-1].position)
        assert len(seen) == len(set(seen)) == 7


async def test_a_record_past_its_topics_deadline_has_the_whole_deadline_again_when_it_is_replayed(desk: Desk) -> None:
    async with desk.open():
        long_ago = datetime.now(UTC) - timedelta(days=3)
        await desk.process(mail("m1", long_ago))
        (letter,) = await desk.waiting()
        assert letter.reason == "expired"
        desk.books.broken = None
        assert await desk.replay(letter.id) == 1
        ((event_id, occurred_at),) = desk.books.seen
        assert event_id == "m1"
        assert occurred_at > long_ago + timedelta(days=2)


async def test_a_replay_makes_no_unsigned_event_a_signed_one(desk: Desk) -> None:
    async with desk.open():
        event = ActivityRecorded(metric="m", value=1.0, subject_id="s", occurred_at=datetime.now(UTC))
        value, headers = encode(event, event_id="forged", occurred_at=datetime.now(UTC))  # in our name
        await desk.process(Record("activity.v1", 0, 1, datetime.now(UTC), b"s", value, tuple(headers)))
        desk.books.broken = None
        (letter,) = await desk.waiting()
        await desk.replay(letter.id)
        (again,) = await desk.waiting()
        assert (again.id, again.reason, again.replays) == (letter.id, "unsigned", 1)
        assert desk.books.seen == []


async def test_a_letter_whose_consumer_is_gone_waits_again_and_is_listed_once(desk: Desk) -> None:
    async with desk.open():
        await desk.process(view("e1"))
        await desk.jobs.execute("update dead_letters set consumer = 'former'")
        (letter,) = await desk.waiting()
        await desk.replay(letter.id)
        (again,) = await desk.waiting()
        assert (again.id, again.reason, again.replays) == (letter.id, "failed", 1)
        assert "former" in again.detail


async def test_a_long_value_is_cut_in_the_list_and_shown_further_alone(desk: Desk) -> None:
    async with desk.open():
        value = "é".encode() * LISTED_BYTES + b"\xff"
        await desk.process(Record("activity.v1", 0, 1, datetime.now(UTC), b"\xff", value))
        (listed,) = await desk.waiting()
        assert listed.is_cut
        assert (listed.value, listed.value_bytes) == ("é" * (LISTED_BYTES // 2), len(value))
        assert (listed.key, listed.key_base64) == (None, base64.b64encode(b"\xff").decode())
        shown = await desk.letters.show(listed.id)
        assert (shown.is_cut, shown.value, base64.b64decode(shown.value_base64 or "")) == (False, None, value)


async def test_dropped_letters_are_not_replayed_and_both_are_audited(desk: Desk) -> None:
    async with desk.open():
        await desk.process(view("e1"))
        await desk.jobs.put("n1")
        await desk.jobs.settled()
        ids = [each.id for each in await desk.waiting()]
        assert (await desk.letters.drop(ids)).changed == 2
        assert (await desk.letters.drop(ids)).changed == 0
        desk.books.broken = None
        assert await desk.replay(*ids) == 0
        assert await desk.waiting() == []
        assert await effects(desk.jobs) == {}
    actions = [row["action"] for row in await desk.jobs.rows("select action from audit_log order by audit_id")]
    assert sorted(actions) == ["dead_letter.dropped", "job.discarded"]


@pytest.mark.parametrize(
    "letter_id",
    ["", "record", "record:", "record:x", f"record:{UUID(int=7)}", "job:", "job:1", "job:²", f"job:{2**63}", "no:1"],
)
async def test_an_id_of_no_letter_is_named(desk: Desk, letter_id: str) -> None:
    checks: Sequence[Any] = (desk.letters.show(letter_id), desk.letters.expect([letter_id]))
    for check in checks:
        with pytest.raises(Problem) as caught:
            await check
        assert caught.value.code is DEAD_LETTERS_NOT_FOUND
