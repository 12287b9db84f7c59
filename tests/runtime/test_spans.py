"""Spans: what the runtime tells a recorder of the asks in a sampled trace."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from kit.kept_spans import Kept, keeping_spans

from callboard.runtime import (
    Actor,
    AskTimeoutError,
    Context,
    Message,
    Props,
    Ref,
    Request,
    SpanKind,
    System,
    begin_span,
    begin_trace,
    current_context,
    in_span,
    on,
    pool,
    supervisor,
    use_context,
    worker,
)

TRACE, CALLER = "1" * 32, "2" * 16
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"


@pytest.fixture
def kept() -> Iterator[Kept]:
    with keeping_spans() as recorder:
        yield recorder


class Read(Request[str], frozen=True):
    pass


class Fail(Request[None], frozen=True):
    pass


class Hang(Request[None], frozen=True):
    pass


class Note(Message, frozen=True):
    pass


class Store(Actor[Read | Fail | Hang | Note]):
    def __init__(self) -> None:
        self.heard = asyncio.Event()
        self.seen: str | None = None

    @on(Read)
    def read(self, _message: Read) -> str:
        context = current_context()
        return (context and context.traceparent) or ""

    @on(Fail)
    async def fail(self, _message: Fail) -> None:
        raise LookupError("a secret of ada@example.org")

    @on(Hang)
    async def hang(self, _message: Hang) -> None:
        await asyncio.Event().wait()

    @on(Note)
    def note(self, _message: Note) -> None:
        pass


class Front(Actor[Read]):
    def __init__(self, store: Ref[Read | Fail | Hang | Note]) -> None:
        self.store = store

    @on(Read)
    async def read(self, _message: Read) -> str:
        return await self.store.ask(Read())


def tree() -> tuple[System, Ref[Read], Ref[Read | Fail | Hang | Note]]:
    store = pool("store", Store, size=2)
    front = worker("front", Props(Front, store))
    return System(supervisor("root", store, front)), front, store


async def test_each_ask_of_a_sampled_trace_is_a_span_below_the_one_that_made_it(kept: Kept) -> None:
    system, front, _ = tree()
    before = time.time_ns()
    async with system:
        with use_context(Context(SAMPLED)):
            seen = await front.ask(Read(), timeout_s=2.0)
    outer, inner = kept.named("ACTOR front Read"), kept.named("ACTOR store Read")
    assert (outer.parent_id, inner.parent_id) == (CALLER, outer.traceparent.split("-")[2])
    assert seen == inner.traceparent, "what the handler causes is below its own span"
    assert {span.traceparent.split("-")[1] for span in kept.spans} == {TRACE}
    assert before <= outer.started_ns <= inner.started_ns <= inner.ended_ns <= outer.ended_ns <= time.time_ns()
    assert outer.kind is SpanKind.INTERNAL
    assert outer.attributes["actor.path"] == "root/front"


async def test_an_actor_that_is_asked_without_a_pool_has_its_span_too(kept: Kept) -> None:
    lone = worker("lone", Store)
    async with System(supervisor("root", lone)):
        with use_context(Context(SAMPLED)):
            await lone.ask(Read())
    assert kept.named("ACTOR lone Read").parent_id == CALLER


async def test_the_deadline_goes_with_the_trace(kept: Kept) -> None:
    system, front, _ = tree()
    async with system:
        with use_context(Context(SAMPLED)):
            await front.ask(Read(), timeout_s=2.0)
    left = [kept.named(f"ACTOR {name} Read").attributes["deadline_ms"] for name in ("front", "store")]
    assert 2000 >= left[0] >= left[1] > 0


@pytest.mark.parametrize("context", [None, Context(), Context(UNSAMPLED)], ids=["none", "no trace", "not sampled"])
async def test_what_is_not_sampled_is_not_recorded(kept: Kept, context: Context | None) -> None:
    system, front, _ = tree()
    async with system:
        with use_context(context):
            seen = await front.ask(Read())
            assert begin_span("work") is None
            with in_span("work") as span:
                assert span is None
    assert kept.spans == []
    assert seen == (UNSAMPLED if context and context.traceparent else "")


async def test_without_a_recorder_a_trace_goes_on_as_it_was() -> None:
    system, front, _ = tree()
    async with system:
        with use_context(Context(SAMPLED)):
            assert await front.ask(Read()) == SAMPLED
            assert begin_span("work") is None
    assert begin_trace("work") is None


async def test_a_span_ends_with_the_type_of_its_error_and_without_its_text(kept: Kept) -> None:
    system, _, store = tree()
    async with system:
        with use_context(Context(SAMPLED)):
            with pytest.raises(Exception, match="a secret"):
                await store.ask(Fail())
            with pytest.raises(AskTimeoutError):
                await store.ask(Hang(), timeout_s=0.01)
            with pytest.raises(LookupError), in_span("work"):
                raise LookupError("ada@example.org")
    assert kept.named("ACTOR store Fail").error == "LookupError"
    assert kept.named("ACTOR store Hang").error == "AskTimeoutError"
    assert kept.named("work").error == "LookupError"
    assert not any("ada@" in repr(span) for span in kept.spans)


async def test_an_ask_that_its_caller_gives_up_has_an_end_too(kept: Kept) -> None:
    system, _, store = tree()
    async with system:
        with use_context(Context(SAMPLED)):
            asked = store.ask(Hang())
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.sleep(0)
        assert kept.named("ACTOR store Hang").error == "CancelledError"


async def test_cycles_are_found_in_recorded_traces_as_in_any(kept: Kept) -> None:
    class Mirror(Actor[Read]):
        @on(Read)
        async def read(self, _message: Read) -> str:
            return await self.ref.ask(Read())

    mirror = worker("mirror", Mirror)
    async with System(supervisor("root", mirror)):
        with use_context(Context(SAMPLED)), pytest.raises(Exception, match="ask cycle"):
            await mirror.ask(Read())
    assert all(span.error for span in kept.spans)


async def test_a_told_message_carries_the_trace_of_its_sender(kept: Kept) -> None:
    class Sender(Actor[Read]):
        @on(Read)
        async def read(self, _message: Read) -> str:
            await told.tell(Note())
            return await told.ask(Read())

    told, sender = worker("store", Store), worker("sender", Sender)
    async with System(supervisor("root", told, sender)):
        with use_context(Context(SAMPLED)):
            await sender.ask(Read())
    assert [span.name for span in kept.spans] == ["ACTOR store Read", "ACTOR sender Read"]


def test_a_new_trace_is_begun_only_if_it_is_sampled(kept: Kept) -> None:
    span = begin_trace("JOB sweep", SpanKind.CONSUMER, {"job.id": 1})
    assert span is not None
    version, trace_id, span_id, flags = span.traceparent.split("-")
    assert (version, len(trace_id), len(span_id), flags, span.parent_id) == ("00", 32, 16, "01", None)
    span.end()
    span.end(LookupError())
    assert kept.spans == [span], "a span ends once"
    assert span.error is None
    kept.wants = False
    assert begin_trace("JOB sweep") is None


async def test_an_ask_of_a_pool_outside_a_sampled_trace_takes_the_short_way(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with a pool that looked at the recorder alone: each ask cost a microsecond more."""
    stores = pool("stores", Store, size=1)
    async with System(supervisor("root", stores)):
        with use_context(Context(SAMPLED)):
            await stores.ask(Read())
        long_way = Ref.ask
        monkeypatch.setattr(Ref, "ask", lambda *_: pytest.fail("it took the long way"))
        with use_context(Context(UNSAMPLED)):
            await stores.ask(Read())
        await stores.ask(Read())
        monkeypatch.setattr(Ref, "ask", long_way)
    assert len(kept.spans) == 1
