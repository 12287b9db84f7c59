"""Consumers: the declarations of subscriptions, and the records that the reconciler expects of them."""

from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

from callboard.runtime import Message, Ref, Refusal
from callboard.streams.event_types import ConsumeEvents, Envelope, type_of
from callboard.streams.topics import Topic

RejectionReason = Literal["not_allowed", "over_quota"]


class Rejection(Struct, frozen=True):
    """The reason why an event is not given to its consumer: a word for the dead letter, and a sentence."""

    reason: RejectionReason
    detail: str


class RejectedError(Refusal):
    """A consumer raises this for a batch with an event that it rejects for a named reason."""

    def __init__(self, rejection: Rejection) -> None:
        self.rejection = rejection
        super().__init__(rejection.detail)


def _admit_all(_: Envelope) -> Rejection | None:
    return None


class Consumer(Struct, frozen=True):
    """A subscription: `ref` receives `ConsumeEvents` with those events of `topics` whose Struct is among `accepts`.

    `name` is the consumer of `deduplicate` and of the reconciler: it must never change. `admit` is called first,
    without the actor: an event that it rejects becomes a dead letter.
    """

    name: str
    topics: tuple[Topic, ...]
    accepts: tuple[type[Message], ...]
    ref: Ref[ConsumeEvents]
    admit: Callable[[Envelope], Rejection | None] = _admit_all


class Expected(Struct, frozen=True):
    """`consumer` must record every event of `type` on `topic`; the reconciler checks it."""

    topic: str
    type: str
    consumer: str


def expected(consumers: Iterable[Consumer]) -> tuple[Expected, ...]:
    """Return the records that all consumers together must write."""
    return tuple(
        Expected(topic.name, declared.name, consumer.name)
        for consumer in consumers
        for declared in map(type_of, consumer.accepts)
        for topic in declared.topics
        if topic in consumer.topics
    )
