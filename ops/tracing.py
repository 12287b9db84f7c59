"""Traces: which are sampled, and the spans that wait for their export. Set by OpenTelemetry's variables."""

import asyncio
from collections import Counter, deque

from callboard.actors.figures import Figure, by_label
from callboard.ops.config.settings import Config
from callboard.runtime import Backoff, Node, Props, Span, worker

LOW_HALF = 16  # of a trace id's digits: the half that a ratio is held against, as in OpenTelemetry's sampler


class Tracing:
    """The recorder of a process: a bounded queue of ended spans, which the exporter empties.

    `counts` has the recorded, the dropped (the queue was full), the sent and the refused.
    """

    def __init__(self, config: Config) -> None:
        self.name = config.otel_traces_sampler
        self.follows = self.name.startswith("parentbased_")
        ratio = {"always_on": 1.0, "always_off": 0.0}.get(
            self.name.removeprefix("parentbased_"), config.otel_traces_sampler_arg
        )
        bound = round(ratio * (1 << 64))
        self.below = f"{bound:016x}" if bound < 1 << 64 else "g"  # text, since reading a number costs twice as much
        self.most = config.otel_bsp_max_queue_size
        self.batch = min(config.otel_bsp_max_export_batch_size, self.most)
        self.queue: deque[Span] = deque()
        self.is_due = asyncio.Event()  # set when a batch is full
        self.counts: Counter[str] = Counter(dict.fromkeys(("recorded", "dropped", "sent", "refused"), 0))

    def samples(self, trace_id: str, parent_flags: str | None) -> bool:
        """See Recorder. A sampler `parentbased_…` follows the caller's decision."""
        if parent_flags is not None and self.follows:
            return bool(int(parent_flags, 16) & 1)
        return trace_id[LOW_HALF:] < self.below

    def record(self, span: Span) -> None:
        """See Recorder. With the exporter away the queue fills, and what follows is dropped: it costs nothing more."""
        if len(self.queue) >= self.most:
            self.counts["dropped"] += 1
            return
        self.counts["recorded"] += 1
        self.queue.append(span)
        if len(self.queue) >= self.batch:
            self.is_due.set()

    def take(self) -> list[Span]:
        """Take the oldest spans, one batch at most."""
        return [self.queue.popleft() for _ in range(min(len(self.queue), self.batch))]

    def figures(self) -> tuple[Figure, ...]:
        """Return its metrics."""
        return (
            Figure(
                "callboard_spans",
                "Spans of traces by outcome: recorded; dropped (the queue was full), sent, refused (by the receiver).",
                by_label(self.counts),
                ("outcome",),
            ),
            Figure(
                "callboard_spans_waiting",
                "Spans that wait for their export.",
                lambda: {(): float(len(self.queue))},
                is_counter=False,
            ),
        )


def trace_exporter(tracing: Tracing, config: Config, backoff: Backoff) -> Node:
    """Return the actor that exports. OpenTelemetry, which is optional, is imported here."""
    from callboard.ops.trace_export import TraceExporter  # noqa: PLC0415

    return worker("traces", Props(TraceExporter, tracing, config), backoff=backoff, shutdown_s=3.0)
