"""The department polls."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from callboard.actors.department import Branch, Child, Department, Role
from callboard.actors.identity.events import USERS, UserDeleted
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.infrastructure.retention import Retain
from callboard.runtime import Props, Ref, pool, worker
from callboard.streams.consumers import Consumer
from callboard_polls import polls


class PollSettings(Struct, frozen=True, kw_only=True):
    """Settings of polls."""

    max_options: Annotated[int, Meta(ge=2, le=20, description="the answers of a poll, at most")] = 8


class PollNeeds(Struct, frozen=True):
    """The needs of polls."""

    infrastructure: Infrastructure


class PollRefs(Struct, frozen=True):
    """The reference to polls."""

    polls: Ref[polls.OpenPoll | polls.CastVote]


def build(settings: PollSettings, needs: PollNeeds) -> Branch[PollRefs]:
    """Construct the actors."""
    shared = needs.infrastructure
    poll_pool = pool("polls", Props(polls.Polls, shared, max_options=settings.max_options), size=3)
    events = worker("poll_events", Props(polls.PollEvents, shared))
    return Branch(
        refs=PollRefs(poll_pool),
        children=(Child(poll_pool), Child(events, Role.STREAMS)),
        consumers=(Consumer(polls.CONSUMER, (USERS, polls.TOPIC), (UserDeleted, polls.PollClosed), events),),
        jobs=(job_pool(polls.CLOSE_POLL, Props(polls.PollCloser)),),
    )


POLLS = Department(
    name="polls",
    settings=PollSettings,
    needs=PollNeeds,
    offers=PollRefs,
    build=build,
    events=(polls.POLL_CLOSED,),
    errors=(polls.POLLS_TOO_MANY_OPTIONS,),
    limits=(polls.VOTE,),
    flags=(polls.ANONYMOUS,),
    jobs=(polls.CLOSE_POLL,),
    notifications=(polls.CLOSED,),
    retention=(Retain("polls.votes", table="poll_votes", column="cast_at", days=365),),
    personal_data=(polls.VOTES,),
    migrations=Path(__file__).parent / "migrations",
)
