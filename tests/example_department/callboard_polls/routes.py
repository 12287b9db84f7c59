"""Polls over HTTP."""

from typing import Annotated

from msgspec import Meta

from callboard.http.server.request import Body, HttpRequest, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard_polls.department import PollRefs
from callboard_polls.polls import POLLS_TOO_MANY_OPTIONS, VOTE, CastVote, OpenPoll, Poll


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
        errors=(POLLS_TOO_MANY_OPTIONS,),
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
