"""The department polls."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from callboard.actors.department import Branch, Child, Department, Role
from callboard.actors.identity.events import USERS, UserDeleted
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.outside_client import OutsideClient, OutsideClientKeeper, OutsideSettings
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.infrastructure.retention import Retain
from callboard.actors.settings import SECRET, Line, Settings, WebAddress, in_vault
from callboard.runtime import Props, Ref, pool, worker
from callboard.streams.consumers import Consumer
from callboard_polls import moderation, polls


class PollSettings(Settings, frozen=True, kw_only=True):
    """Settings of polls."""

    max_options: Annotated[int, Meta(ge=2, le=20, description="the answers of a poll, at most")] = 8
    moderation_url: Annotated[WebAddress | None, Meta(description="the service that judges questions")] = None
    moderation_key: Annotated[
        Line, SECRET, in_vault("api_keys/moderation"), Meta(description="our key at that service")
    ] = ""
    moderation_is_near: Annotated[bool, Meta(description="whether that service may be in a private network")] = False


class PollNeeds(Struct, frozen=True):
    """The needs of polls."""

    infrastructure: Infrastructure


class PollRefs(Struct, frozen=True):
    """The reference to polls."""

    polls: Ref[polls.OpenPoll | polls.CastVote | polls.GetPoll]


def build(settings: PollSettings, needs: PollNeeds) -> Branch[PollRefs]:
    """Construct the actors."""
    shared = needs.infrastructure
    service = outside_service(settings)
    judge = moderation.Moderator(service).judge if service else moderation.approve
    poll_pool = pool("polls", Props(polls.Polls, shared, judge, max_options=settings.max_options), size=3)
    events = worker("poll_events", Props(polls.PollEvents, shared))
    return Branch(
        refs=PollRefs(poll_pool),
        children=(
            *([Child(worker("moderation", Props(OutsideClientKeeper, service)))] if service else []),
            Child(poll_pool),
            Child(events, Role.STREAMS),
        ),
        consumers=(Consumer(polls.CONSUMER, (USERS, polls.TOPIC), (UserDeleted, polls.PollClosed), events),),
        jobs=(job_pool(polls.CLOSE_POLL, Props(polls.PollCloser)),),
        figures=service.figures if service else (),
        breakers=(service.breaker,) if service else (),
    )


def outside_service(settings: PollSettings) -> OutsideClient | None:
    """Return the client of the service that judges questions; None without one."""
    if settings.moderation_url is None:
        return None
    headers = {"Authorization": f"Bearer {settings.moderation_key}"} if settings.moderation_key else {}
    return OutsideClient(
        "moderation",
        OutsideSettings(
            base_url=settings.moderation_url, headers=headers, within_s=1.0, allows_private=settings.moderation_is_near
        ),
    )


POLLS = Department(
    name="polls",
    settings=PollSettings,
    needs=PollNeeds,
    offers=PollRefs,
    build=build,
    events=(polls.POLL_CLOSED,),
    errors=(polls.POLLS_TOO_MANY_OPTIONS, polls.POLLS_NOT_FOUND, moderation.POLLS_REFUSED),
    limits=(polls.VOTE,),
    flags=(polls.ANONYMOUS,),
    jobs=(polls.CLOSE_POLL,),
    notifications=(polls.CLOSED,),
    retention=(Retain("polls.votes", table="poll_votes", column="cast_at", days=365),),
    personal_data=(polls.VOTES,),
    migrations=Path(__file__).parent / "migrations",
)
