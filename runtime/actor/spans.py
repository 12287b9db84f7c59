"""Spans: the parts of a trace, with their times. Nothing is recorded until a recorder is installed.

An ask in a sampled trace is a span by itself. Other work has its own: `with in_span("EXT bank pay", SpanKind.CLIENT):`,
or `begin_span` where its end is elsewhere. What becomes of ended spans is the recorder's business.
"""

import asyncio
import time
from enum import StrEnum
from random import Random
from typing import Any, ClassVar, Protocol

import msgspec

from callboard.runtime.actor.context import CURRENT

SET = "13579bdf"  # the last digits of flags whose lowest bit, sampled, is set
IDS = Random()  # noqa: S311 - ids are no secret
NO_ZERO = 1 << 64 | 1  # ids of zeros are invalid


class SpanKind(StrEnum):
    """The role of a span's work, in OpenTelemetry's words."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Recorder(Protocol):
    """A recorder decides which traces are sampled, and takes their spans."""

    def samples(self, trace_id: str, parent_flags: str | None) -> bool:
        """Whether to sample a trace: a new one, or one whose caller has sent these flags (two hexadecimal digits)."""
        ...

    def record(self, span: "Span") -> None:
        """Take a span that has ended. It must be quick, and must not raise."""


class Recording:
    """The recorder of this process."""

    recorder: ClassVar[Recorder | None] = None


def install_recorder(recorder: Recorder | None) -> None:
    """Record the spans of this process from now on; None ends that."""
    Recording.recorder = recorder


class Span(msgspec.Struct, eq=False):
    """A part of a trace. `traceparent` is its own, for what it causes; `parent_id` is None at the root of a trace.

    Times are in nanoseconds since 1970; `error` is the type of what it ended with, and never its text.
    """

    name: str
    kind: SpanKind
    traceparent: str
    parent_id: str | None
    started_ns: int
    attributes: dict[str, Any]
    ended_ns: int = 0
    error: str | None = None

    def end(self, error: BaseException | None = None) -> None:
        """End it now, once; a later end changes nothing."""
        if self.ended_ns:
            return
        self.ended_ns = time.time_ns()
        if error is not None:
            self.error = type(error).__name__
        if Recording.recorder is not None:
            Recording.recorder.record(self)

    def end_with(self, future: "asyncio.Future[Any]") -> None:
        """End it as a future has ended: a callback for that."""
        self.end(asyncio.CancelledError() if future.cancelled() else future.exception())


def is_sampled(traceparent: str | None) -> bool:
    """Whether the spans of this trace are recorded."""
    return traceparent is not None and traceparent[-1] in SET


def is_recorded() -> bool:
    """Whether what is being handled belongs to a trace whose spans are recorded."""
    return Recording.recorder is not None and (current := CURRENT.get()) is not None and is_sampled(current.traceparent)


def begin_span(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: dict[str, Any] | None = None,
    *,
    parent: str | None = None,
) -> Span | None:
    """Begin a span below `parent`, a traceparent, or below what is being handled; None unless it is to be recorded.

    It does not become the context: whoever sends something under it enters its traceparent.
    """
    if Recording.recorder is None:
        return None
    if parent is None:
        current = CURRENT.get()
        parent = None if current is None else current.traceparent
    if parent is None or parent[-1] not in SET:
        return None
    _, trace_id, parent_id, flags = parent.split("-", 3)
    own = f"00-{trace_id}-{IDS.getrandbits(64) | 1:016x}-{flags}"
    return Span(name, kind, own, parent_id, time.time_ns(), {} if attributes is None else attributes)


def begin_trace(name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: dict[str, Any] | None = None) -> Span | None:
    """Begin the root of a new trace; None unless that is sampled."""
    recorder = Recording.recorder
    if recorder is None:
        return None
    made = f"{IDS.getrandbits(192) | NO_ZERO:048x}"
    trace_id, span_id = made[:32], made[32:]
    if not recorder.samples(trace_id, None):
        return None
    return Span(name, kind, f"00-{trace_id}-{span_id}-01", None, time.time_ns(), attributes or {})


class in_span:  # noqa: N801 - it reads as what it does
    """Run a block in a span, which its error ends too; the block gets the span, or None if none is recorded.

    What the block sends keeps the context that it had: for calls of other servers, which get `span.traceparent`.
    """

    __slots__ = ("_attributes", "_kind", "_name", "_span")

    def __init__(self, name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: dict[str, Any] | None = None) -> None:
        self._name, self._kind, self._attributes = name, kind, attributes

    def __enter__(self) -> Span | None:
        self._span = begin_span(self._name, self._kind, self._attributes)
        return self._span

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if self._span is not None:
            self._span.end(error)
