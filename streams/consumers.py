"""Consumers: the declarations of who wants which events, and what the reconciler may expect of them."""

from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

from callboard.runtime import Message, Ref, Refusal
from callboard.streams.event_types import ConsumeEvents, Envelope, type_of
from callboard.streams.topics import Topic

RejectionReason = Literal["not_allowed", "over_quota"]


class Rejection(Struct, frozen=True):
    """Why an event is not handed to its consumer: a word for the dead letter, and a sentence."""

    reason: RejectionReason
    detail: str


class RejectedError(Refusal):
    """Raised by a consumer for a batch that holds an event it does not take, for a reason that has a word."""

    def __init__(self, rejection: Rejection) -> None:
        self.rejection = rejection
        super().__init__(rejection.detail)


def _admit_all(_: Envelope) -> Rejection | None:
    return None


class Consumer(Struct, frozen=True):
    """A subscription: `ref` receives `ConsumeEvents` with those events of `topics` whose Struct is among `accepts`.

    `name` is what the actor passes to `fresh`, and what the reconciler looks for: it must never change. `admit` is
    asked first, without the actor: an event that it rejects becomes a dead letter.
    """

    name: str
    topics: tuple[Topic, ...]
    accepts: tuple[type[Message], ...]
    ref: Ref[ConsumeEvents]
    admit: Callable[[Envelope], Rejection | None] = _admit_all


class Expected(Struct, frozen=True):
    """That `consumer` records every event of `type` on `topic`; the reconciler sees to it."""

    topic: str
    type: str
    consumer: str


def expected(consumers: Iterable[Consumer]) -> tuple[Expected, ...]:
    """Return the records that the consumers together must write."""
    return tuple(
        Expected(topic.name, declared.name, consumer.name)
        for consumer in consumers
        for declared in map(type_of, consumer.accepts)
        for topic in declared.topics
        if topic in consumer.topics
    )
