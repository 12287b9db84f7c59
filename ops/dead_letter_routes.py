"""The operator plane's routes of dead letters, of records, mails and jobs: list, show, replay, drop."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta

from callboard.actors.errors import REQUEST_CURSOR_INVALID, REQUEST_INVALID, FieldError, Problem
from callboard.actors.infrastructure.dead_letters import (
    DeadLetterChange,
    DeadLetterFilter,
    DeadLetters,
    DeadLetterView,
)
from callboard.actors.infrastructure.errors import DEAD_LETTERS_NOT_FOUND
from callboard.http.server.pagination import BY_TIME
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, Reply
from callboard.http.server.routing import Route
from callboard.ops.operator_routes import operator_route
from callboard.streams.event_types import UtcDatetime

MAX_LETTERS = 200  # in one request, which has ten seconds
MIN_RATE, MAX_RATE = 0.001, 1_000.0  # a second

Source = Literal["record", "job"]
Id = Annotated[str, Meta(max_length=60)]
Text = Annotated[str, Meta(max_length=200)]


class DeadLetterServices(Protocol):
    """The dependencies of these routes."""

    @property
    def letters(self) -> DeadLetters:
        """The dead letters, as operators see them."""


class DeadLetterQuery(Page, frozen=True, kw_only=True):
    """Filters of dead letters: `name` is a topic or a kind of jobs (`mail`); `all` includes those that were replayed,
    and jobs that were dropped.
    """

    cursor: Annotated[str, BY_TIME.meta] | None = None
    source: Source | None = None
    name: Text | None = None
    reason: Text | None = None
    since: UtcDatetime | None = None
    all: bool = False


class Selection(Body, frozen=True):
    """The letters of a change: their ids, or the filter of all that wait, which names a source at least."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=MAX_LETTERS)] | None = None
    source: Source | None = None
    name: Text | None = None
    reason: Text | None = None
    since: UtcDatetime | None = None
    most: Annotated[int, Meta(ge=1, le=MAX_LETTERS, description="Letters of the filter; ask again for more.")] = 100


class Replay(Selection, frozen=True):
    """Which letters to replay, and how many a second."""

    per_second: Annotated[float, Meta(ge=MIN_RATE, le=MAX_RATE)] = 10.0


async def list_letters(request: HttpRequest[None, DeadLetterQuery, DeadLetterServices]) -> PageReply[DeadLetterView]:
    """List the dead letters that wait for a decision, newest first."""
    query = request.query
    which = DeadLetterFilter(query.source, query.name, query.reason, query.since)
    before = BY_TIME.decode(query.cursor) if query.cursor else None
    found = await request.refs.letters.page(which, replayed=query.all, before=before, limit=query.limit + 1)
    return BY_TIME.page(found, query.limit, lambda last: (last.created_at, last.position))


async def show_letter(request: HttpRequest[None, None, DeadLetterServices]) -> Reply[DeadLetterView]:
    """Show a dead letter, with 64 KiB of its value at most."""
    return Reply(await request.refs.letters.show(request.text("id")))


async def replay_letters(request: HttpRequest[Replay, None, DeadLetterServices]) -> Reply[DeadLetterChange]:
    """Replay dead letters, oldest first. One that does not wait any more is left as it is."""
    ids = await _ids(request.refs.letters, request.body)
    return Reply(await request.refs.letters.replay(ids, per_second=request.body.per_second))


async def drop_letters(request: HttpRequest[Selection, None, DeadLetterServices]) -> Reply[DeadLetterChange]:
    """Drop dead letters: they cannot be replayed any more."""
    return Reply(await request.refs.letters.drop(await _ids(request.refs.letters, request.body)))


async def replay_letter(request: HttpRequest[None, None, DeadLetterServices]) -> Reply[DeadLetterChange]:
    """Replay a dead letter; one that does not wait any more is left as it is."""
    letters, letter_id = request.refs.letters, request.text("id")
    await letters.expect([letter_id])
    return Reply(await letters.replay([letter_id], per_second=MAX_RATE))


async def drop_letter(request: HttpRequest[None, None, DeadLetterServices]) -> Reply[DeadLetterChange]:
    """Drop a dead letter: it cannot be replayed any more."""
    letters, letter_id = request.refs.letters, request.text("id")
    await letters.expect([letter_id])
    return Reply(await letters.drop([letter_id]))


async def _ids(letters: DeadLetters, chosen: Selection) -> Sequence[str]:
    """Return the ids of a selection. Raises Problem for an unknown one, and for what selects nothing or twice."""
    if (chosen.ids is None) == (chosen.source is None):
        raise Problem(REQUEST_INVALID, details=(FieldError("ids", "give either ids, or a filter with a source"),))
    if chosen.ids is not None:
        await letters.expect(chosen.ids)
        return chosen.ids
    which = DeadLetterFilter(chosen.source, chosen.name, chosen.reason, chosen.since)
    return await letters.select(which, until=await letters.time(), limit=chosen.most)


ROUTES: tuple[Route[Any], ...] = (
    operator_route("GET", "/dead-letters", list_letters, "List dead letters", REQUEST_CURSOR_INVALID),
    operator_route("GET", "/dead-letters/{id}", show_letter, "A dead letter", DEAD_LETTERS_NOT_FOUND),
    operator_route("DELETE", "/dead-letters/{id}", drop_letter, "Drop a dead letter", DEAD_LETTERS_NOT_FOUND),
    operator_route("POST", "/dead-letters/{id}/replay", replay_letter, "Replay a dead letter", DEAD_LETTERS_NOT_FOUND),
    operator_route("POST", "/dead-letters/replay", replay_letters, "Replay dead letters", DEAD_LETTERS_NOT_FOUND),
    operator_route("POST", "/dead-letters/drop", drop_letters, "Drop dead letters", DEAD_LETTERS_NOT_FOUND),
)
