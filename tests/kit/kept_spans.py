"""A recorder of spans that keeps them for a test to look at."""

from collections.abc import Iterator
from contextlib import contextmanager

from callboard.runtime import Span, install_recorder


class Kept:
    """Keeps what it gets, and samples what `wants` says."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.wants = True

    def samples(self, _trace_id: str, _parent_flags: str | None) -> bool:
        return self.wants

    def record(self, span: Span) -> None:
        self.spans.append(span)

    def named(self, name: str) -> Span:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@contextmanager
def keeping_spans() -> Iterator[Kept]:
    """Install a recorder for the block."""
    recorder = Kept()
    install_recorder(recorder)
    try:
        yield recorder
    finally:
        install_recorder(None)
