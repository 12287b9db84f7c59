"""Polls: their messages, their event, and the actors."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from msgspec import Struct

from callboard.actors.delivery.events import NotificationRequested
from callboard.actors.errors import ErrorCode, ErrorKind, Problem
from callboard.actors.identity.events import UserDeleted
from callboard.actors.infrastructure.feature_flags import FeatureFlag
from callboard.actors.infrastructure.job_kinds import Job, JobKind, Outcome, on_job
from callboard.actors.infrastructure.notification_kinds import Channel, NotificationKind
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.runtime import Actor, Message, Request, on
from callboard.streams.event_types import ConsumeEvents, declare_event, derive_id
from callboard.streams.outbox import deduplicate, emit
from callboard.streams.topics import declare_topic
from callboard_polls.moderation import Judge

POLLS_NOT_FOUND = ErrorCode("POLLS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such poll.")
POLLS_TOO_MANY_OPTIONS = ErrorCode("POLLS_TOO_MANY_OPTIONS_001", ErrorKind.INVALID, "A poll has fewer options.")
VOTE = RateLimit("polls.vote", limit=5, window_s=60)
ANONYMOUS = FeatureFlag("polls.anonymous")
TOPIC = declare_topic("polls.v1", "poll id", "polls: closed")
CONSUMER = "polls"  # the consumer: its name must never change


class PollClosed(Message, frozen=True):
    """Nobody can vote any more."""

    poll_id: UUID


POLL_CLOSED = declare_event("poll.closed", PollClosed, "poll_id", TOPIC)


class PollNotification(Struct, frozen=True):
    """What the author of a poll is told."""

    poll_id: UUID
    question: str


CLOSED = NotificationKind(
    "polls.closed", PollNotification, 'Your poll "{question}" is closed.', "/polls/{poll_id}", Channel.MAIL
)


class ClosePoll(Struct, frozen=True):
    """The job that closes a poll."""

    poll_id: UUID


CLOSE_POLL = JobKind("polls.close", ClosePoll)


class Poll(Struct, frozen=True):
    """A question."""

    poll_id: UUID
    question: str


class PollState(Struct, frozen=True):
    """A question, and whether it is closed."""

    poll_id: UUID
    question: str
    is_closed: bool


class GetPoll(Request[PollState], frozen=True):
    """Show a poll. Raises Problem(POLLS_NOT_FOUND)."""

    poll_id: UUID


class OpenPoll(Request[Poll], frozen=True):
    """Ask a question. Raises Problem(POLLS_TOO_MANY_OPTIONS, POLLS_REFUSED)."""

    poll_id: UUID
    author_id: UUID
    question: str
    options: int


class CastVote(Request[None], frozen=True):
    """Choose an option."""

    poll_id: UUID
    user_id: UUID
    option: int


class Polls(Actor[OpenPoll | CastVote | GetPoll]):
    """Opens polls, shows them and takes votes."""

    def __init__(self, shared: Infrastructure, judge: Judge, *, max_options: int) -> None:
        self.shared = shared
        self.judge = judge
        self.max_options = max_options

    @on(OpenPoll)
    async def open(self, message: OpenPoll) -> Poll:
        """Open a poll; a job closes it in a while."""
        if message.options > self.max_options:
            raise Problem(POLLS_TOO_MANY_OPTIONS)
        await self.judge(message.question)  # before a connection is taken
        async with self.shared.database.transaction() as connection:
            insert = "insert into polls (poll_id, author_id, question) values ($1, $2, $3)"
            await connection.execute(insert, message.poll_id, message.author_id, message.question)
            await self.shared.jobs.enqueue(connection, ClosePoll(message.poll_id))
        return Poll(message.poll_id, message.question)

    @on(GetPoll)
    async def get(self, message: GetPoll) -> PollState:
        """Show a poll."""
        select = "select poll_id, question, closed_at is not null as is_closed from polls where poll_id = $1"
        async with self.shared.database.acquire() as connection:
            row = await connection.fetchrow(select, message.poll_id)
        if row is None:
            raise Problem(POLLS_NOT_FOUND)
        return PollState(**row)

    @on(CastVote)
    async def vote(self, message: CastVote) -> None:
        """Take a vote; without a name if the flag says so."""
        voter = None if self.shared.flags.is_enabled(ANONYMOUS) else message.user_id
        async with self.shared.database.acquire() as connection:
            insert = "insert into poll_votes (poll_id, user_id, option) values ($1, $2, $3)"
            await connection.execute(insert, message.poll_id, voter, message.option)


class PollCloser(Actor[Job[ClosePoll]]):
    """Works on the jobs."""

    @on_job
    async def close(self, job: Job[ClosePoll]) -> Outcome:
        """Close the poll, tell of it, and notify its author, in the transaction of the job's end."""
        close = "update polls set closed_at = now() where poll_id = $1 returning author_id, question"
        async with job.finish() as connection:
            poll_id = job.payload.poll_id
            poll = await connection.fetchrow(close, poll_id)
            await emit(connection, PollClosed(poll_id), event_id=derive_id("poll.closed", str(poll_id)))
            data = {"poll_id": str(poll_id), "question": poll["question"]}
            told = NotificationRequested(poll["author_id"], CLOSED.name, data)
            await emit(connection, told, event_id=derive_id("poll.closed", str(poll_id), "notification"))
        return None


class PollEvents(Actor[ConsumeEvents]):
    """Notes that the closing of a poll was told, and takes the names from the votes of deleted accounts."""

    def __init__(self, shared: Infrastructure) -> None:
        self.shared = shared

    @on(ConsumeEvents)
    async def consume(self, message: ConsumeEvents) -> None:
        """Act once on each event."""
        async with self.shared.database.transaction() as connection:
            for envelope in await deduplicate(connection, CONSUMER, message.envelopes):
                match envelope.event:
                    case PollClosed(poll_id=poll_id):
                        await connection.execute("update polls set told_at = now() where poll_id = $1", poll_id)
                    case UserDeleted(user_id=user_id):
                        await erase_votes(connection, user_id, 1_000_000)
                    case _:
                        pass


async def export_votes(connection: Any, user_id: UUID, after: str | None, limit: int) -> AsyncIterator[Any]:
    """A page of a person's votes."""
    query = """
        select ctid::text as cursor, row_to_json(v)::text as document from poll_votes v
        where user_id = $1 and ($2::text is null or ctid > $2::tid) order by ctid limit $3
    """
    for row in await connection.fetch(query, user_id, after, limit):
        yield row


async def erase_votes(connection: Any, user_id: UUID, limit: int) -> int:
    """Take the name from so many votes; how many they were."""
    query = """
        with gone as (
            update poll_votes set user_id = null
            where ctid in (select ctid from poll_votes where user_id = $1 limit $2) returning 1
        )
        select count(*) from gone
    """
    return int(await connection.fetchval(query, user_id, limit))


VOTES = PersonalData("votes", {"poll_votes": ("user_id", "option")}, export_votes, erase_votes)
