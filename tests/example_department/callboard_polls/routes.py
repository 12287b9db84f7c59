"""Polls over HTTP."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from callboard.http.server.request import Body, HttpRequest, Reply
from callboard.http.server.routing import Access, Deprecation, Route, Routes
from callboard_polls.department import PollRefs
from callboard_polls.moderation import POLLS_REFUSED
from callboard_polls.polls import (
    POLLS_NOT_FOUND,
    POLLS_TOO_MANY_OPTIONS,
    VOTE,
    CastVote,
    GetPoll,
    OpenPoll,
    Poll,
    PollState,
)

# Version 2 of a poll says whether it is closed: the first stays beside it for six months at least.
GOING = Deprecation(datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 6, 1, tzinfo=UTC))


class NewPoll(Body, frozen=True, kw_only=True):
    """A question, and how many answers there are."""

    question: Annotated[str, Meta(min_length=1, max_length=300, examples=["Tea or coffee?"])]
    options: Annotated[int, Meta(ge=2, le=100)]


class NewVote(Body, frozen=True, kw_only=True):
    """A choice."""

    option: Annotated[int, Meta(ge=1, le=100)]


async def open_poll(request: HttpRequest[NewPoll, None, PollRefs]) -> Reply[Poll]:
    """Open a poll."""
    body = request.body
    message = OpenPoll(request.new_id, request.identity.user_id, body.question, body.options)
    return Reply(await request.refs.polls.ask(message))


async def show_poll_v1(request: HttpRequest[None, None, PollRefs]) -> Reply[Poll]:
    """Show a poll's question."""
    found = await request.refs.polls.ask(GetPoll(request.uuid("poll_id")))
    return Reply(Poll(found.poll_id, found.question))


async def show_poll(request: HttpRequest[None, None, PollRefs]) -> Reply[PollState]:
    """Show a poll."""
    return Reply(await request.refs.polls.ask(GetPoll(request.uuid("poll_id"))))


async def vote(request: HttpRequest[NewVote, None, PollRefs]) -> Reply[None]:
    """Vote."""
    await request.refs.polls.ask(CastVote(request.uuid("poll_id"), request.identity.user_id, request.body.option))
    return Reply(None)


ROUTES = Routes(
    PollRefs,
    Route(
        "POST",
        "/polls",
        open_poll,
        summary="Open a poll",
        tag="polls",
        access=Access.USER,
        status=201,
        errors=(POLLS_TOO_MANY_OPTIONS, POLLS_REFUSED),
    ),
    Route(
        "GET",
        "/polls/{poll_id}",
        show_poll_v1,
        summary="Show a question",
        tag="polls",
        access=Access.USER,
        errors=(POLLS_NOT_FOUND,),
        deprecated=GOING,
    ),
    Route(
        "GET",
        "/polls/{poll_id}",
        show_poll,
        summary="Show a poll",
        tag="polls",
        access=Access.USER,
        errors=(POLLS_NOT_FOUND,),
        version=2,
    ),
    Route(
        "POST",
        "/polls/{poll_id}/votes",
        vote,
        summary="Vote",
        tag="polls",
        access=Access.USER,
        status=204,
        limit=VOTE,
    ),
)
